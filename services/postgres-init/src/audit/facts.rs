//! What an audit saw of a server, as JSON from the server. Pure data.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::world::facts::Registry;

/// What was seen of a server and of the inside of its databases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The server and its shared catalogs.
    pub shared: Shared,
    /// The kind of password each role has; none where verifiers may not be read.
    pub verifiers: Option<BTreeMap<String, Verifier>>,
    /// The lines of `pg_hba.conf` that count; none where they may not be read.
    pub rules: Option<Vec<Rule>>,
    /// The cluster's identifier, where it may be read.
    pub system_identifier: Option<String>,
    /// How database `rollcall` stands.
    pub registry: Registry,
    /// All ownership records; none where they could not be read.
    pub records: Option<Vec<Recorded>>,
    /// What was seen inside databases, by their names, or why nothing was.
    pub inside: BTreeMap<String, Result<Inside, String>>,
    /// Who is known to administer the server, besides whoever asks and the role that `initdb` made.
    pub administrators: BTreeSet<String>,
}

/// The server and its shared catalogs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// `server_version_num`, for example 180006.
    pub version: u32,
    /// The setting `wal_level`.
    pub wal_level: String,
    /// The setting `max_wal_senders`.
    pub max_wal_senders: u32,
    /// The setting `max_replication_slots`.
    pub max_replication_slots: u32,
    /// Who asked.
    pub asker: String,
    /// All roles.
    pub roles: Vec<Role>,
    /// All memberships.
    pub memberships: Vec<Membership>,
    /// All databases.
    pub databases: Vec<Database>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "the attributes of a role are that many")]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What identifies it; 10 is the one that `initdb` made.
    pub oid: i64,
    /// LOGIN.
    pub login: bool,
    /// SUPERUSER.
    pub superuser: bool,
    /// CREATEDB.
    pub createdb: bool,
    /// CREATEROLE.
    pub createrole: bool,
    /// REPLICATION.
    pub replication: bool,
    /// BYPASSRLS.
    pub bypassrls: bool,
    /// INHERIT.
    pub inherit: bool,
    /// Its comment.
    pub comment: Option<String>,
}

/// That a role is a member of another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The role.
    pub role: String,
    /// Who is a member of it.
    pub member: String,
    /// The member may let others be members.
    pub admin: bool,
    /// The member has the role's privileges without more.
    pub inherit: bool,
    /// The member may act as the role.
    pub set: bool,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// What identifies it.
    pub oid: i64,
    /// Who owns it.
    pub owner: String,
    /// Whether it takes connections.
    pub open: bool,
    /// Whether it is marked as a template, which whoever has CREATEDB may copy.
    pub template: bool,
    /// Its comment.
    pub comment: Option<String>,
    /// Who may do what, as `grantee=PRIVILEGE`; PUBLIC is the empty grantee. Without the owner's own.
    pub grants: BTreeSet<String>,
}

/// What kind of password a role has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verifier {
    /// None.
    None,
    /// SCRAM-SHA-256.
    Scram,
    /// An md5 hash.
    Md5,
    /// Another.
    Other,
}

/// A line of `pg_hba.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its number.
    pub line: i32,
    /// `local`, `host`, `hostssl` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// Databases, or words such as `all` and `replication`.
    pub database: Vec<String>,
    /// Roles, `all`, `+group`, or a pattern that begins with a slash.
    pub user: Vec<String>,
    /// From where; none for `local`.
    pub address: Option<String>,
    /// Its mask.
    pub netmask: Option<String>,
    /// `trust`, `reject`, `scram-sha-256` and so on.
    pub method: String,
}

/// An ownership record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// `database`, `role` or `observer`.
    pub kind: String,
    /// The thing's name.
    pub name: String,
    /// The environment's uid.
    pub environment_uid: String,
    /// The environment's name.
    pub environment_name: String,
    /// The fragment.
    pub fragment: String,
    /// The component.
    pub component: String,
    /// What identified the thing when it was recorded.
    pub oid: i64,
    /// The cluster it was recorded on, where that was known.
    pub system_identifier: Option<String>,
    /// The classes that were converged, where the thing was adopted; none where Rollcall made it.
    pub adopted: Option<BTreeSet<String>>,
}

/// What is inside a database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inside {
    /// How many tables, views and sequences each role owns, without those of extensions.
    pub owners: BTreeMap<String, u64>,
    /// Who may insert into tables and not use their sequences.
    pub sequences: Vec<Hole>,
    /// Who is promised tables by default privileges of a role that does not make them.
    pub defaults: Vec<Hole>,
}

/// What somebody was meant to be able to use and cannot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hole {
    /// Who cannot.
    pub role: String,
    /// How many.
    pub count: u64,
    /// One of them.
    pub example: String,
    /// Who made it.
    pub of: String,
}

impl Shared {
    /// The role called `name`.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// The database called `name`.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.iter().find(|database| database.name == name)
    }
}

impl Database {
    /// Whether everybody may connect.
    pub fn is_public(&self) -> bool {
        self.open && self.grants.contains("=CONNECT")
    }

    /// Whether `grantee` itself was given a privilege.
    pub fn gives(&self, grantee: &str, privilege: &str) -> bool {
        self.grants.contains(&format!("{grantee}={privilege}"))
    }

    /// Databases that every server has; they hold nobody's data, and by default everybody may connect to them.
    pub fn is_maintenance(&self) -> bool {
        ["postgres", "template0", "template1"].contains(&self.name.as_str())
    }
}
