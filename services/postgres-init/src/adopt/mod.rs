//! Taking over what exists, in steps that are each planned: record whose it is, then converge one class at a time. And the way
//! back, and what to do with a clone. Pure: what is and what is asked in, what to do out.

mod converge;
mod hold;
mod marks;
pub mod moves;
#[cfg(test)]
mod tests;

use std::fmt;

use chassis::converge::{Note, Plan};
use clap::ValueEnum;
use lifecycle::Component;
use serde::{Deserialize, Serialize};

use crate::audit::facts::Recorded;
use crate::spec::ServerSpec;
use crate::world::facts::{Kind, World};
pub use converge::{Crossing, Cut, Leave, Sessions, cut};
pub use hold::{Held, class_of, hold, is_held, records};
pub use marks::{Selected, rebind, record, release};

/// A class of what is converged, each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Powers that no module needs are taken from its role.
    Attributes,
    /// The database and what is in it get one owner that nobody logs in as.
    Ownership,
    /// What the login role may do is granted as it is to a database that Rollcall makes; sessions to come act as the owner.
    Grants,
    /// Only who is let in may connect.
    PublicConnect,
}

impl Class {
    /// All of them, in the order in which they are best converged.
    pub const ALL: [Class; 4] = [Class::Attributes, Class::Ownership, Class::Grants, Class::PublicConnect];

    /// Its name on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Class::Attributes => "attributes",
            Class::Ownership => "ownership",
            Class::Grants => "grants",
            Class::PublicConnect => "public-connect",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One change of our marks; nothing else is touched by it, but the observer and database `rollcall`, which are marks themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkStep {
    /// The component whose mark it is.
    pub component: Component,
    /// What is changed.
    pub mark: Mark,
}

/// What is changed of a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// Record that a thing is this fragment's, as it was found.
    Adopt {
        /// What it is.
        kind: Kind,
        /// Its name on the server.
        name: String,
        /// The fragment that gets it.
        fragment: String,
        /// What identifies it: only this very thing is recorded.
        oid: i64,
    },
    /// Record that another thing than the one that was recorded is meant by now.
    Rebind {
        /// What it is.
        kind: Kind,
        /// Its name on the server.
        name: String,
        /// The fragment that has it from now on.
        fragment: String,
        /// What identifies it.
        oid: i64,
    },
    /// Take away the record of a database that is gone, so that an empty one is made.
    Forget {
        /// Its name on the server.
        name: String,
    },
    /// Take away the record of a thing, and our comment on it; the thing stays.
    Release {
        /// What it is.
        kind: Kind,
        /// Its name on the server.
        name: String,
    },
    /// Take away the environment's observer: it was only ever ours.
    DropObserver {
        /// The role.
        role: String,
        /// What identifies it.
        oid: i64,
    },
    /// Take away database `rollcall`, which holds no record any more.
    DropRegistry,
}

/// Decides about marks, from the documents' part, what was seen, and all records.
pub type Decide<'a> = &'a (dyn Fn(&ServerSpec, &World, &[Recorded]) -> Plan<MarkStep> + Sync);

/// A kind of thing, in the word for people.
pub(crate) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Database => "database",
        Kind::Role | Kind::Observer => "role",
    }
}

/// A kind of thing, in the word of records.
pub(crate) fn stored(kind: Kind) -> &'static str {
    match kind {
        Kind::Database => "database",
        Kind::Role => "role",
        Kind::Observer => "observer",
    }
}

impl fmt::Display for MarkStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mark {
            Mark::Adopt { kind, name, fragment, oid } => {
                write!(
                    f,
                    "record that {} `{name}` (oid {oid}) is fragment `{fragment}`'s, as it is",
                    word(*kind)
                )
            }
            Mark::Rebind { kind, name, fragment, oid } => {
                write!(
                    f,
                    "record that {} `{name}` is by now the one with oid {oid}, fragment `{fragment}`'s",
                    word(*kind)
                )
            }
            Mark::Forget { name } => {
                write!(f, "forget that there was a database `{name}`; `apply` makes an empty one")
            }
            Mark::Release { kind, name } => {
                write!(f, "take our mark from {} `{name}`, which stays as it is", word(*kind))
            }
            Mark::DropObserver { role, .. } => {
                write!(f, "drop role `{role}`, which observed for this environment")
            }
            Mark::DropRegistry => {
                write!(f, "drop database `{}`, which holds no ownership record any more", postgres::REGISTRY)
            }
        }
    }
}

impl chassis::converge::Step for MarkStep {
    fn component(&self) -> &Component {
        &self.component
    }
}

/// A plan in which a component is refused with these words.
fn refuse(plan: &mut Plan<MarkStep>, component: &Component, text: impl fmt::Display) {
    plan.refusals.push(Note::new(component, text));
}
