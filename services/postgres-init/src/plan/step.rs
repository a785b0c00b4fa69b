//! One change to one component. Steps hold names, never a secret.

use std::fmt;

use lifecycle::Component;

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
    /// Take powers from a role, or set whether it may log in.
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
    /// Create an extension.
    Extension {
        /// The extension.
        name: String,
    },
    /// Let the login role use what the owner made and will make.
    Privileges {
        /// The login role.
        role: String,
        /// The owner.
        owner: String,
    },
    /// Let the login role connect.
    Admit {
        /// The login role.
        role: String,
        /// The database.
        name: String,
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
        matches!(self, Change::ClosePublic { .. } | Change::Extension { .. } | Change::Privileges { .. })
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
            Change::Extension { name } => write!(f, "create extension `{name}`"),
            Change::Privileges { role, owner } => write!(f, "let role `{role}` use what `{owner}` makes"),
            Change::Admit { role, name } => write!(f, "let role `{role}` connect to database `{name}`"),
            Change::Finish { name } => write!(f, "record that database `{name}` is finished"),
        }
    }
}

impl chassis::converge::Step for Step {
    fn component(&self) -> &Component {
        &self.component
    }
}
