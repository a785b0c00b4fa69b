//! One change to one component. Steps hold names, never a secret.

use std::collections::BTreeMap;
use std::fmt;

use lifecycle::Component;
use lifecycle::document::Extension;

use crate::adopt::word;
use crate::spec::Rights;
use crate::world::facts::Kind;

/// One idempotent change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The component it belongs to.
    pub component: Component,
    /// What is changed.
    pub change: Change,
}

/// What is changed. Names are physical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make database `rollcall` and close it.
    Registry,
    /// Make the role through which the hub observes.
    Observer {
        /// The role.
        role: String,
    },
    /// Let the observer connect to database `rollcall`.
    OpenRegistry {
        /// The role.
        role: String,
    },
    /// Make a role that owns, with its record.
    Owner {
        /// The role.
        role: String,
    },
    /// Make a role that logs in, with its record.
    Login {
        /// The role.
        role: String,
    },
    /// Make a group whose members read a database, with its record.
    Group {
        /// The group.
        role: String,
    },
    /// Bound how many sessions a role may have.
    RoleLimit {
        /// The role.
        role: String,
        /// How many.
        limit: u16,
    },
    /// Set what a role's sessions begin with.
    RoleSettings {
        /// The role.
        role: String,
        /// In which database; in all when absent.
        database: Option<String>,
        /// The settings that differ.
        settings: BTreeMap<String, String>,
    },
    /// Set powers of a role, take them, or set whether it may log in.
    Attributes {
        /// The role.
        role: String,
        /// The attributes to set, in the words of ALTER ROLE.
        set: Vec<String>,
    },
    /// Give a role the password its Secret holds.
    Password {
        /// The role.
        role: String,
    },
    /// Make a database.
    Database {
        /// The database.
        name: String,
    },
    /// Close a database to everybody, and record it.
    Seal {
        /// The database.
        name: String,
    },
    /// Bound how many sessions a database takes.
    DatabaseLimit {
        /// The database.
        name: String,
        /// How many.
        limit: u16,
    },
    /// Set what every session in a database begins with.
    DatabaseSettings {
        /// The database.
        name: String,
        /// The settings that differ.
        settings: BTreeMap<String, String>,
    },
    /// Let the login role act as the owner in its database.
    ActAsOwner {
        /// The login role.
        role: String,
        /// The owner.
        owner: String,
    },
    /// End that the login role acts as the owner.
    NotAsOwner {
        /// The login role.
        role: String,
        /// The owner.
        owner: String,
    },
    /// End that everybody may create in schema `public`.
    ClosePublic {
        /// The owner, who still may.
        owner: String,
    },
    /// Make a schema.
    Schema {
        /// The schema.
        name: String,
        /// The role that owns it.
        owner: String,
    },
    /// Create an extension.
    Extension(Extension),
    /// Bring an extension to another version.
    Update {
        /// The extension.
        name: String,
        /// The version.
        version: String,
    },
    /// Give a role its rights with what others made and will make.
    Privileges {
        /// The role.
        role: String,
        /// Whose things they are.
        makers: Vec<String>,
        /// The rights.
        rights: &'static Rights,
    },
    /// Let a role that is not the module's connect.
    Connect {
        /// The role.
        role: String,
        /// The database.
        name: String,
    },
    /// Make a role a member of the readers of a database.
    Join {
        /// The role.
        role: String,
        /// The group.
        group: String,
    },
    /// End that a role is a member of a group of this environment.
    Leave {
        /// The role.
        role: String,
        /// The group.
        group: String,
    },
    /// Record that a role that reads several databases is finished.
    FinishRole {
        /// The role.
        role: String,
    },
    /// Let the login role connect.
    Admit {
        /// The login role.
        role: String,
        /// The database.
        name: String,
    },
    /// Record a thing under the name that somebody gave it.
    Renamed {
        /// What it is.
        kind: Kind,
        /// The name it was recorded under.
        from: String,
        /// The name it has.
        to: String,
        /// What identifies it.
        oid: i64,
    },
    /// Record a thing for the component that declares it now, where the one it was recorded for is declared no more.
    Reassign {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
        /// The component it was recorded for.
        from: String,
    },
    /// Record that the database is finished.
    Finish {
        /// The database.
        name: String,
    },
}

impl Change {
    /// Whether it is made inside a database, over a connection to it.
    pub fn is_inside(&self) -> bool {
        matches!(
            self,
            Change::ClosePublic { .. }
                | Change::Schema { .. }
                | Change::Extension(_)
                | Change::Update { .. }
                | Change::Privileges { .. }
        )
    }

    /// The roles that who makes it must be allowed to change, or to make others members of.
    pub fn governs(&self) -> Vec<&str> {
        match self {
            Change::Attributes { role, .. }
            | Change::Password { role }
            | Change::RoleLimit { role, .. }
            | Change::RoleSettings { role, .. } => vec![role],
            Change::ActAsOwner { role, owner } | Change::NotAsOwner { role, owner } => vec![role, owner],
            Change::Join { group, .. } | Change::Leave { group, .. } => vec![group],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Registry => {
                write!(f, "make database `{}` for locks and ownership records", postgres::REGISTRY)
            }
            Change::Observer { role } => write!(f, "make role `{role}`, which observes"),
            Change::OpenRegistry { role } => {
                write!(f, "let role `{role}` connect to database `{}`", postgres::REGISTRY)
            }
            Change::Owner { role } => write!(f, "make role `{role}`, which owns and cannot log in"),
            Change::Login { role } => write!(f, "make role `{role}`, which logs in"),
            Change::Attributes { role, set } => write!(f, "set {} on role `{role}`", set.join(" ")),
            Change::Password { role } => {
                write!(f, "set the password of role `{role}` to what its Secret holds")
            }
            Change::Database { name } => write!(f, "make database `{name}`"),
            Change::Seal { name } => {
                write!(f, "close database `{name}` to everybody, and record it")
            }
            Change::ActAsOwner { role, owner } => write!(f, "let role `{role}` act as `{owner}`"),
            Change::NotAsOwner { role, owner } => write!(f, "end that role `{role}` acts as `{owner}`"),
            Change::ClosePublic { owner } => write!(f, "let only `{owner}` create in schema `public`"),
            Change::Group { role } => {
                write!(f, "make role `{role}`, whose members read and which cannot log in")
            }
            Change::RoleLimit { role, limit } => write!(f, "let role `{role}` have {limit} sessions at once"),
            Change::RoleSettings { role, database, settings } => {
                write!(f, "set {} for role `{role}`", names(settings))?;
                database.iter().try_for_each(|database| write!(f, " in database `{database}`"))
            }
            Change::DatabaseLimit { name, limit } => {
                write!(f, "let database `{name}` take {limit} sessions at once")
            }
            Change::DatabaseSettings { name, settings } => {
                write!(f, "set {} for database `{name}`", names(settings))
            }
            Change::Schema { name, owner } => write!(f, "make schema `{name}` of role `{owner}`"),
            Change::Extension(Extension { name, version, schema }) => {
                write!(f, "create extension `{name}`")?;
                version.iter().try_for_each(|version| write!(f, " in version {version}"))?;
                schema.iter().try_for_each(|schema| write!(f, " in schema `{schema}`"))
            }
            Change::Update { name, version } => write!(f, "bring extension `{name}` to version {version}"),
            Change::Privileges { role, makers, rights } => {
                let verb = if *rights == crate::spec::READS { "read" } else { "use" };
                let verb_of = if makers.len() == 1 { "makes" } else { "make" };
                write!(f, "let role `{role}` {verb} what `{}` {verb_of}", makers.join("`, `"))
            }
            Change::Renamed { kind, from, to, .. } => {
                write!(
                    f,
                    "record {0} `{to}` under this name, which was recorded as {0} `{from}`",
                    word(*kind)
                )
            }
            Change::Reassign { kind, name, from } => {
                write!(f, "record {} `{name}` here, which was recorded for {from}", word(*kind))
            }
            Change::Join { role, group } => write!(f, "make role `{role}` a member of `{group}`"),
            Change::Leave { role, group } => write!(f, "end that role `{role}` is a member of `{group}`"),
            Change::FinishRole { role } => write!(f, "record that role `{role}` is finished"),
            Change::Admit { role, name } | Change::Connect { role, name } => {
                write!(f, "let role `{role}` connect to database `{name}`")
            }
            Change::Finish { name } => write!(f, "record that database `{name}` is finished"),
        }
    }
}

/// The names of settings; their values are left to the document.
fn names(settings: &BTreeMap<String, String>) -> String {
    settings.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

impl chassis::converge::Step for Step {
    fn component(&self) -> &Component {
        &self.component
    }
}
