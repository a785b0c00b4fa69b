//! Decides what is to be done about one migration. No I/O.

use std::fmt;

use chassis::converge::{self, Awaits, Note, Plan};
use lifecycle::Component;

use super::spec::MigrationSpec;
use crate::world::ledger::State;

/// How many of the things that a run would do are named in a line.
const NAMED: usize = 12;

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// What must come first, with the reason.
    pub waits: Option<(Component, String)>,
    /// Why it must not be run.
    pub refused: Option<String>,
    /// What the files say about the database.
    pub files: Seen,
    /// What the database says about the migration.
    pub mark: Option<Mark>,
    /// What the server's ledger says about it.
    pub ledger: Ledger,
    /// Why it failed before: the files and the database are what they were then.
    pub failed: Option<String>,
}

/// What the files say about the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The files are here.
    Here {
        /// What would be done.
        steps: Vec<String>,
        /// What refuses it.
        refusals: Vec<String>,
        /// What is worth knowing.
        warnings: Vec<String>,
    },
    /// The files are somewhere else; says where they are not.
    Elsewhere(String),
}

impl Default for Seen {
    fn default() -> Self {
        Seen::Here { steps: Vec::new(), refusals: Vec::new(), warnings: Vec::new() }
    }
}

/// How a migration stands, as it is written down in its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// It ran to its end.
    pub done: bool,
    /// What was asked for, as a hash.
    pub hash: String,
}

/// How a migration stands, as it is written down in the server's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Ledger {
    /// Nobody here may write there.
    #[default]
    Closed,
    /// Nothing is written there.
    Empty,
    /// This is.
    Holds {
        /// How it stands.
        state: State,
        /// What was asked for, as a hash.
        hash: String,
        /// It was this very database.
        same_database: bool,
    },
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The migration.
    pub component: Component,
    /// What to do.
    pub change: Change,
}

/// What to do about a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Run what has not run yet.
    Migrate {
        /// The database.
        database: String,
        /// What that is.
        what: Vec<String>,
    },
    /// Write down in the database that it is done.
    Mark,
    /// Write down in the server's ledger that it is done.
    Record,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Migrate { database, what } => {
                let more = what.len().saturating_sub(NAMED);
                write!(f, "migrate database `{database}`: {}", what[..what.len() - more].join(", "))?;
                if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
            Change::Mark => f.write_str("mark in its database that it is done"),
            Change::Record => f.write_str("write into the ledger that it is done"),
        }
    }
}

impl converge::Step for Step {
    fn component(&self) -> &Component {
        &self.component
    }
}

/// What is to be done.
pub fn plan(spec: &MigrationSpec, world: &World) -> Plan<Step> {
    let (component, mut plan) = (&spec.component, Plan::default());
    if let Some(why) = &world.refused {
        plan.refusals.push(Note::new(component, why));
        return plan;
    }
    if let Some((first, why)) = &world.waits {
        let note = Note::new(component, format_args!("{why}; {first} comes first"));
        plan.pending.push(note.awaiting(Awaits::Component(first.clone())));
        return plan;
    }
    let mut changes = Vec::new();
    let marked = world.mark.as_ref().is_some_and(|mark| mark.done && mark.hash == spec.hash);
    match &world.files {
        Seen::Elsewhere(_) if marked => {}
        Seen::Elsewhere(why) => {
            let text = format!(
                "{why}; whoever has its files runs it: postgres-init migrate --component {component}"
            );
            plan.pending.push(Note::new(component, text).awaiting(Awaits::Others));
            return plan;
        }
        Seen::Here { steps, refusals, warnings } => {
            plan.drift.extend(warnings.iter().map(|text| Note::new(component, text)));
            plan.refusals.extend(refusals.iter().map(|text| Note::new(component, text)));
            if let Some(failed) = &world.failed {
                let text = format!(
                    "failed: {failed}; it runs again by itself when its files or its database's schema change, and by hand: postgres-init migrate --component {component}"
                );
                plan.refusals.push(Note::new(component, text));
            }
            if !plan.refusals.is_empty() {
                return plan;
            }
            if !steps.is_empty() {
                let database = spec.database().name.clone();
                changes.push(Change::Migrate { database, what: steps.clone() });
            }
            if !marked || !steps.is_empty() {
                changes.push(Change::Mark);
            }
        }
    }
    let recorded = match &world.ledger {
        // Who reads the records goes by the mark then.
        Ledger::Closed => true,
        Ledger::Empty => false,
        Ledger::Holds { state, hash, same_database } => {
            state.is_done() && *hash == spec.hash && *same_database && changes.is_empty()
        }
    };
    if !recorded {
        changes.push(Change::Record);
    }
    plan.steps = changes.into_iter().map(|change| Step { component: component.clone(), change }).collect();
    plan
}

#[cfg(test)]
mod tests;
