//! Our own dialect: files named as Flyway's, remembered by SHA-256, resumed at the statement.

pub mod plan;
#[cfg(test)]
mod tests;

use crate::flyway::{self, Migration, Place};
use crate::guard::Allow;
use crate::journal::{Fate, Unit, sha256};
use crate::problem::Problem;
use crate::script::known;
use crate::source::Sources;
pub use plan::{Plan, Step, World, plan};

/// How files are brought into a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The schema that names without one are looked up in first, and where the journal is.
    pub schema: String,
    /// The journal's table.
    pub table: String,
    /// Folders of the sources; empty is all of them.
    pub locations: Vec<String>,
    /// Where nothing is written down yet, everything up to this version is taken to be there.
    pub baseline: Option<String>,
    /// A version lower than the highest that has run is run all the same.
    pub out_of_order: bool,
    /// What has run and has no file any more is no error.
    pub ignore_missing: bool,
    /// Which files may destroy what is there already.
    pub allow: Allow,
    /// What a person has found out about a statement of which a run that was cut has left unknown whether it ran. For one run,
    /// never in a document.
    pub decided: Option<Fate>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            schema: "public".to_owned(),
            table: "rollcall_history".to_owned(),
            locations: Vec::new(),
            baseline: None,
            out_of_order: false,
            ignore_missing: false,
            allow: Allow::Nothing,
            decided: None,
        }
    }
}

impl Settings {
    fn as_flyways(&self) -> flyway::Settings {
        flyway::Settings {
            locations: self.locations.clone(),
            schemas: vec![self.schema.clone()],
            placeholder_replacement: false,
            ..flyway::Settings::default()
        }
    }
}

/// Everything that would be refused whatever is in the database, and what is worth knowing, without asking a server.
pub fn check(sources: &Sources, settings: &Settings) -> Vec<Problem> {
    let (_, mut problems) = flyway::read(sources, &settings.as_flyways());
    problems.extend(settings.baseline.iter().filter_map(|version| {
        flyway::Version::parse(version).err().map(|error| Problem::refused("", None, error))
    }));
    problems
}

/// The migrations of all locations: versions first, in their order, then repeatable ones by description.
pub fn resolve(sources: &Sources, settings: &Settings) -> Result<Vec<Migration>, Vec<Problem>> {
    flyway::resolve(sources, &settings.as_flyways(), &Place::default())
}

/// SHA-256 of a migration's text.
pub fn checksum(migration: &Migration) -> String {
    sha256([migration.text.as_bytes()])
}

/// A migration's statements, as the journal knows them.
pub fn units(migration: &Migration) -> Result<Vec<Unit>, Vec<Problem>> {
    let unit = |known: crate::script::Known<'_>| {
        let statement = known.statement;
        Unit::statement(&migration.file, statement.line, statement.sql, statement.data, false)
    };
    Ok(known(&migration.file, &migration.text)?.into_iter().map(unit).collect())
}
