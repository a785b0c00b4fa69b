//! What a teardown sees of a server, as JSON from the server. Pure data.

use serde::Deserialize;

use crate::world::facts::Record;

/// What is this environment's on a server, and what holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// `server_version_num`, for example 180006.
    pub version: u32,
    /// Who asks.
    pub admin: String,
    /// The cluster's identifier, where it may be read.
    #[serde(skip)]
    pub system_identifier: Option<String>,
    /// The records of this environment, and those of the names that its documents declare, whosever.
    pub records: Vec<Record>,
    /// The databases of these records and of the documents, those that exist.
    pub databases: Vec<Database>,
    /// The roles of these records and of the documents, those that exist.
    pub roles: Vec<Role>,
    /// The sessions in these databases or of these roles.
    pub sessions: Vec<Session>,
    /// All replication slots.
    pub slots: Vec<Slot>,
    /// The prepared transactions in these databases.
    pub prepared: Vec<Prepared>,
    /// The subscriptions in these databases.
    pub subscriptions: Vec<Subscription>,
    /// What these roles own or may do, and where (`pg_shdepend`).
    pub uses: Vec<Use>,
    /// What roles that are not this environment's own or may do in these databases.
    pub guests: Vec<Guest>,
    /// How many runs the ledger holds of this environment.
    #[serde(skip)]
    pub runs: i64,
    /// Where else somebody provisions for this environment at this moment: applications with addresses.
    pub provisioners: Vec<String>,
}

/// A database that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "what is known of a database is that much")]
pub struct Database {
    /// Its name.
    pub name: String,
    /// What identifies it.
    pub oid: i64,
    /// Who owns it.
    pub owner: String,
    /// A drop of it was cut off: nothing but another drop can be done to it (`datconnlimit` -2).
    pub invalid: bool,
    /// Whether it is a template.
    pub template: bool,
    /// Whether it takes connections.
    pub open: bool,
    /// Whether the administrator may drop it.
    pub governed: bool,
}

/// A role that exists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What identifies it.
    pub oid: i64,
    /// REPLICATION.
    pub replicates: bool,
    /// Whether the administrator may drop it and make itself its member.
    pub governed: bool,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// In which database; none for a physical replication connection.
    pub database: Option<String>,
    /// Whose.
    pub role: String,
    /// What it says that it is.
    pub application: String,
    /// From where; none where the administrator may not see it.
    pub address: Option<String>,
    /// Since when, in the server's words; none where the administrator may not see it.
    pub since: Option<String>,
    /// Whether the administrator may end it as it is.
    pub ends: bool,
}

/// A replication slot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// The database it decodes; none for a physical one.
    pub database: Option<String>,
    /// Who uses it now; none where nobody does.
    pub role: Option<String>,
}

/// A prepared transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// Its global identifier.
    pub gid: String,
    /// In which database.
    pub database: String,
    /// Whose.
    pub owner: String,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// In which database.
    pub database: String,
}

/// What a role owns or may do in a database, or with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// The role.
    pub role: String,
    /// In which database; none for what all share.
    pub database: Option<String>,
    /// How many things.
    pub things: i64,
}

/// A role of others that owns or may use something in a database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// In which database.
    pub database: String,
    /// The role.
    pub role: String,
    /// Whether it owns any of them.
    pub owns: bool,
    /// How many things.
    pub things: i64,
    /// The environment whose role it is, where that is recorded.
    pub environment: Option<String>,
}

impl Facts {
    pub(crate) fn database(&self, name: &str) -> Option<&Database> {
        self.databases.iter().find(|database| database.name == name)
    }

    pub(crate) fn role(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }
}
