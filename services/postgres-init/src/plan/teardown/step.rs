//! One change of a teardown. Steps hold names and what identifies things, never a secret.

use std::fmt;

/// What is changed. Names are physical; a thing is changed only while it is the one with this oid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Let nobody into a database any more, and record that it is being torn down: it can be taken back until the drop.
    Close {
        /// The database.
        name: String,
        /// What identifies it.
        oid: i64,
    },
    /// End the sessions in it.
    End {
        /// The database.
        name: String,
        /// What identifies it.
        oid: i64,
        /// Roles of ours whose sessions may only be ended by who is a member of them, as the administrator becomes for that.
        borrow: Vec<String>,
    },
    /// Drop it, with all that is in it. Its record is taken away at the end of the teardown.
    DropDatabase {
        /// The database.
        name: String,
        /// What identifies it.
        oid: i64,
    },
    /// Take away the record of a database that is gone.
    ForgetDatabase {
        /// The database.
        name: String,
    },
    /// Open a database again whose teardown was begun.
    Reopen {
        /// The database.
        name: String,
        /// What identifies it.
        oid: i64,
    },
    /// Drop a role and its record.
    DropRole {
        /// The role.
        name: String,
        /// What identifies it.
        oid: i64,
    },
    /// Take away the record of a role that is gone.
    ForgetRole {
        /// The role.
        name: String,
    },
    /// Drop the environment's observer and its record.
    DropObserver {
        /// The role.
        name: String,
        /// What identifies it.
        oid: i64,
    },
}

impl Change {
    /// The thing it is about, and what identifies it; none where it is about records alone.
    pub fn thing(&self) -> Option<(&str, i64)> {
        match self {
            Change::Close { name, oid }
            | Change::End { name, oid, .. }
            | Change::DropDatabase { name, oid }
            | Change::Reopen { name, oid }
            | Change::DropRole { name, oid }
            | Change::DropObserver { name, oid } => Some((name, *oid)),
            Change::ForgetDatabase { .. } | Change::ForgetRole { .. } => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Close { name, .. } => write!(f, "let nobody into database `{name}` any more"),
            Change::End { name, .. } => write!(f, "end the sessions in database `{name}`"),
            Change::DropDatabase { name, oid } => {
                write!(f, "drop database `{name}` (oid {oid}) with all that is in it")
            }
            Change::ForgetDatabase { name } => {
                write!(f, "take away the record of database `{name}`, which is gone")
            }
            Change::Reopen { name, .. } => {
                write!(f, "open database `{name}` again, whose teardown was begun")
            }
            Change::DropRole { name, .. } => write!(f, "drop role `{name}`"),
            Change::ForgetRole { name } => write!(f, "take away the record of role `{name}`, which is gone"),
            Change::DropObserver { name, .. } => write!(f, "drop role `{name}`, which observed"),
        }
    }
}
