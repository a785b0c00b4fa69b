//! What is: the facts of one server, as observed. Pure data; a part of it comes as JSON from the server.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::adopt::Class;

/// What is on a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// The server and its shared catalogs.
    pub shared: Shared,
    /// How database `rollcall` stands.
    pub registry: Registry,
    /// The ownership records of what the spec names.
    pub records: Vec<Record>,
    /// The fragments of this environment that asked for what they have here, each with the namespace whose it is.
    pub delegated: BTreeMap<String, String>,
    /// What was seen inside databases, by their names, or why nothing was; those that were not looked into are absent.
    pub inside: BTreeMap<String, Result<Inside, Blind>>,
    /// How passwords stand, by role.
    pub passwords: BTreeMap<String, Password>,
    /// How long looking took.
    pub latency: std::time::Duration,
}

/// The server and its shared catalogs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// `server_version_num`, for example 180006.
    pub version: u32,
    /// Whether the administrator is a superuser.
    pub superuser: bool,
    /// Whether the administrator may read password verifiers.
    pub reads_verifiers: bool,
    /// Whether the server is in recovery.
    pub recovering: bool,
    /// When the server started.
    pub started: String,
    /// The cluster's identifier, where it may be read.
    #[serde(skip)]
    pub system_identifier: Option<String>,
    /// The databases that the spec names, those that exist.
    pub databases: Vec<DatabaseFacts>,
    /// The roles that the spec names, those that exist.
    pub roles: Vec<RoleFacts>,
    /// The powers of the administrator, in the words of [`RoleFacts::powers`].
    pub powers: BTreeSet<String>,
    /// The versions that the server has of the wanted extensions and of what they require.
    pub available: Vec<Available>,
    /// The wanted settings.
    pub settings: Vec<SettingFacts>,
    /// What a role with a power beyond LOGIN could reach, where one is wanted.
    pub reach: Option<Reach>,
}

/// A version of an extension that the server has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Available {
    /// The extension.
    pub name: String,
    /// The version.
    pub version: String,
    /// Whether it is the one that is made when none is named.
    pub default: bool,
    /// Whether only a superuser can make it: it needs one and is not trusted.
    pub superuser: bool,
    /// The schema it has to be in, where it is not for others to say.
    pub schema: Option<String>,
    /// The extensions it requires.
    pub requires: BTreeSet<String>,
}

/// A setting as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingFacts {
    /// Its name, in lower case.
    pub name: String,
    /// Who may change it and when (`pg_settings.context`); none where the server does not know it.
    pub context: Option<String>,
    /// Whether the administrator may set what not everybody may.
    pub may: bool,
}

/// What a role with a power beyond LOGIN could reach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// The databases of the server that take connections or are templates, without `template0`, `template1`, `postgres` and `rollcall`.
    pub databases: Vec<Reached>,
    /// The lines of `pg_hba.conf` that are about replication connections, in their order; none where they may not be read.
    pub hba: Option<Vec<HbaRule>>,
    /// Whether what a slot keeps back is bounded (`max_slot_wal_keep_size`), so that a forgotten one cannot fill the disk.
    pub slots_bounded: bool,
}

/// A database of the server, whoever's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// Its name.
    pub name: String,
    /// What identifies it.
    pub oid: i64,
    /// Whether every role may connect.
    pub open: bool,
    /// Whether it is marked as a template, which whoever may make databases may copy.
    pub template: bool,
    /// Which of the wanted roles that are there may connect, superusers left out.
    pub lets_in: BTreeSet<String>,
}

/// A line of `pg_hba.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HbaRule {
    /// Its number in the file.
    pub line: i32,
    /// `local`, `host`, `hostssl`, `hostnossl`, `hostgssenc` or `hostnogssenc`.
    pub kind: String,
    /// The roles it is for, as written.
    pub users: Vec<String>,
    /// The addresses it is for; none for `local`.
    pub address: Option<String>,
    /// How whoever comes proves who they are; `reject` where nobody gets in.
    pub method: String,
}

/// A database that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// What identifies it.
    pub oid: i64,
    /// Who owns it.
    pub owner: String,
    /// Whether it takes connections.
    pub open: bool,
    /// Who may do what, as `grantee=PRIVILEGE`; PUBLIC is the empty grantee. Without the owner's own.
    pub grants: BTreeSet<String>,
    /// How many sessions it takes; -1 for any number.
    pub limit: i32,
    /// What every session in it begins with, as `name=value`.
    pub settings: BTreeSet<String>,
    /// Its encoding and locale.
    pub text: TextFacts,
}

/// How a database holds and orders text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFacts {
    /// The encoding.
    pub encoding: String,
    /// `c` for libc, `i` for ICU, `b` for the built-in one (`pg_database.datlocprovider`).
    pub provider: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The locale of ICU or the built-in provider.
    pub locale: Option<String>,
    /// The version of the collation that the database was made with; none where the provider has no versions.
    pub version: Option<String>,
    /// The version that the provider has now.
    pub provided: Option<String>,
}

/// A role that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleFacts {
    /// Its name.
    pub name: String,
    /// What identifies it.
    pub oid: i64,
    /// LOGIN.
    pub login: bool,
    /// The powers it has, of SUPERUSER, CREATEDB, CREATEROLE, REPLICATION and BYPASSRLS.
    pub powers: BTreeSet<String>,
    /// The roles it is a member of and may act as.
    pub member_of: BTreeSet<String>,
    /// The roles that it can make anybody a member of, itself too (ADMIN OPTION).
    pub admin_of: BTreeSet<String>,
    /// The databases in which it begins as another role, as `database=role`.
    pub acts_as: BTreeSet<String>,
    /// How many sessions it may have; -1 for any number.
    pub limit: i32,
    /// What its sessions begin with: in which database (empty for all), and `name=value`. Without as whom they begin.
    pub settings: BTreeSet<(String, String)>,
    /// Whether the administrator may change it and make others its members.
    pub governed: bool,
}

/// How database `rollcall` stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Registry {
    /// It does not exist.
    #[default]
    Missing,
    /// It was begun and not finished.
    Unfinished,
    /// It has its records, and is open to everybody.
    Open,
    /// It is as it should be.
    Ready,
    /// Somebody else's database has this name; says why.
    Foreign(String),
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A database.
    Database,
    /// An owner or a login role.
    Role,
    /// An environment's observer.
    Observer,
}

/// An ownership record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What it is about.
    pub kind: Kind,
    /// The thing's name on the server.
    pub name: String,
    /// The environment's uid.
    pub environment_uid: String,
    /// The environment's name, for people.
    pub environment_name: String,
    /// The fragment.
    pub fragment: String,
    /// The component.
    pub component: String,
    /// What identified the thing when it was made.
    pub oid: i64,
    /// The hash of the spec that was finished; none while it is being made.
    pub spec_hash: Option<String>,
    /// It was finished once.
    pub finished: bool,
    /// The cluster on which it was recorded; none where that could not be read.
    pub system_identifier: Option<String>,
    /// The classes that were converged, where the thing was adopted; none where Rollcall made it.
    pub adopted: Option<BTreeSet<Class>>,
    /// A teardown of it was begun and is not finished.
    #[serde(default)]
    pub leaving: bool,
    /// What is known of what has this oid now, whatever its name; none where there is nothing.
    #[serde(default)]
    pub now: Option<Now>,
    /// The name it was recorded under, where somebody has renamed the thing since.
    #[serde(skip)]
    pub renamed_from: Option<String>,
}

/// What has a recorded oid now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Now {
    /// Its name.
    pub name: String,
    /// A role that logs in.
    pub login: bool,
    /// The roles that it is a member of.
    pub member_of: BTreeSet<String>,
}

impl Record {
    /// Whether the thing was adopted and is not yet converged in every class.
    pub fn is_held(&self) -> bool {
        self.adopted.as_ref().is_some_and(|converged| converged.len() < Class::ALL.len())
    }

    /// Whether this class of the thing is as it was found.
    pub fn holds(&self, class: Class) -> bool {
        self.adopted.as_ref().is_some_and(|converged| !converged.contains(&class))
    }

    /// What the thing is called by now, where it was renamed. An oid tells which thing it is only on the cluster where it was recorded.
    pub fn renamed_to(&self, identifier: Option<&String>) -> Option<&str> {
        let here = self.system_identifier.is_some() && self.system_identifier.as_ref() == identifier;
        let now = self.now.as_ref().filter(|now| here && now.name != self.name)?;
        Some(&now.name)
    }

    /// Whether it was recorded on another cluster than the one that says this of itself.
    pub fn is_elsewhere(&self, identifier: Option<&String>) -> bool {
        self.system_identifier.as_ref().zip(identifier).is_some_and(|(then, now)| then != now)
    }
}

/// What is inside a database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inside {
    /// The extensions it has.
    pub extensions: BTreeMap<String, Installed>,
    /// Whether its schema `public` is open: everybody may create in it, or its owner may not.
    pub public_open: bool,
    /// The owners of the wanted schemas that are there.
    pub schemas: BTreeMap<String, String>,
    /// Who will have which rights with what whom makes, as `maker>grantee:r:SELECT`.
    pub defaults: BTreeSet<String>,
    /// Who lacks a wanted right with something that is there, as `grantee:r:SELECT`.
    pub lacking: BTreeSet<String>,
    /// Things in `public` and the wanted schemas that belong to nobody of this database, as `public.people of role x`. Some of
    /// them, where they are many.
    pub strange: Vec<String>,
}

/// An extension that a database has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Its version.
    pub version: String,
    /// The schema it is in.
    pub schema: String,
}

/// Why a database could not be looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blind {
    /// The error.
    pub why: String,
    /// Trying again may help.
    pub transient: bool,
}

/// How a role's password stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// The Secret is there; the role is not, or was not asked.
    Given,
    /// The role logs in with it.
    Fits,
    /// The role has another one.
    Differs,
    /// The role has one, and whether it is this one could not be seen; says why.
    Unseen(String),
    /// It is the business of the module that asked for the role, which alone knows it.
    Delegated,
    /// The Secret is not there yet; says which.
    Pending(String),
    /// What the Secret holds can be no password; says why.
    Unfit(String),
}

impl World {
    /// The database called `name`.
    pub fn database(&self, name: &str) -> Option<&DatabaseFacts> {
        self.shared.databases.iter().find(|database| database.name == name)
    }

    /// The role called `name`.
    pub fn role(&self, name: &str) -> Option<&RoleFacts> {
        self.shared.roles.iter().find(|role| role.name == name)
    }

    /// The record of a database.
    pub fn database_record(&self, name: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.kind == Kind::Database && record.name == name)
    }

    /// Whether there could be no record that was not seen: database `rollcall` was looked into, or does not exist.
    pub fn marks_were_read(&self) -> bool {
        match self.registry {
            Registry::Ready | Registry::Open | Registry::Unfinished => true,
            // It may exist and have taken no connection.
            Registry::Missing => self.database(postgres::REGISTRY).is_none(),
            Registry::Foreign(_) => false,
        }
    }

    /// The record of a role, whichever kind of role.
    pub fn role_record(&self, name: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.kind != Kind::Database && record.name == name)
    }
}
