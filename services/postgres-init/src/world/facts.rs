//! What is: the facts of one server, as observed. Pure data; a part of it comes as JSON from the server.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// What is on a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// The server and its shared catalogs.
    pub shared: Shared,
    /// How database `rollcall` stands.
    pub registry: Registry,
    /// The ownership records of what the spec names.
    pub records: Vec<Record>,
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
    /// Which of the wanted extensions the server has.
    pub available: BTreeSet<String>,
}

/// A database that exists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
}

/// A role that exists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
    /// The databases in which it begins as another role, as `database=role`.
    pub acts_as: BTreeSet<String>,
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
}

/// What is inside a database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inside {
    /// The extensions it has.
    pub extensions: BTreeSet<String>,
    /// Whether its schema `public` is open: everybody may create in it, or its owner may not.
    pub public_open: bool,
    /// What the login role will be able to do with what the owner makes, as `r:SELECT`; and `public:USAGE`.
    pub privileges: BTreeSet<String>,
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

    /// The record of a role, whichever kind of role.
    pub fn role_record(&self, name: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.kind != Kind::Database && record.name == name)
    }
}
