//! The dialect of Flyway: its names of files, its checksums, its history table and its lock, so that it can go on where
//! Flyway was, and Flyway where it was.

pub mod checksum;
pub(crate) mod history;
pub mod name;
mod placeholder;
pub mod plan;
mod resolve;
pub mod version;

use std::collections::BTreeMap;

use crate::guard::Allow;
use crate::problem::{Problem, Severity};
use crate::quote::identifier;
use crate::source::Sources;
pub use plan::{Plan, Step, World, plan};
pub use resolve::{Kind, Migration, foreign_tables, resolve};
pub use version::Version;

/// What Flyway's own settings of these names say; [`Settings::default`] has Flyway's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "Flyway's settings, one to one")]
pub struct Settings {
    /// The history table.
    pub table: String,
    /// The schemas that are migrated, each with its own history.
    pub schemas: Vec<String>,
    /// Names are looked up in the schema alone, as a URL with `?currentSchema=` makes it; otherwise in it first, as Flyway's
    /// own setting makes it.
    pub current_schema: bool,
    /// Folders of the sources; empty is all of them.
    pub locations: Vec<String>,
    /// A schema that holds something and has no history is taken to be at `baseline_version`.
    pub baseline_on_migrate: bool,
    /// That version.
    pub baseline_version: String,
    /// A version lower than the highest that has run is run all the same.
    pub out_of_order: bool,
    /// What has run and has no file any more is no error.
    pub ignore_missing: bool,
    /// A schema that is not there is made.
    pub create_schemas: bool,
    /// What stands for `${name}`.
    pub placeholders: BTreeMap<String, String>,
    /// `${…}` is replaced.
    pub placeholder_replacement: bool,
    /// Nothing above this version is run.
    pub target: Option<String>,
    /// Which files may destroy what is there already.
    pub allow: Allow,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            table: "flyway_schema_history".to_owned(),
            schemas: vec!["public".to_owned()],
            current_schema: false,
            locations: Vec::new(),
            baseline_on_migrate: false,
            baseline_version: "1".to_owned(),
            out_of_order: false,
            ignore_missing: false,
            create_schemas: true,
            placeholders: BTreeMap::new(),
            placeholder_replacement: true,
            target: None,
            allow: Allow::Nothing,
        }
    }
}

/// What is known of where migrations run, for `${flyway:…}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The schema.
    pub schema: String,
    /// The database.
    pub database: String,
    /// Who runs them.
    pub user: String,
}

/// Everything that would be refused whatever is in the database, and what is worth knowing, without asking a server.
pub fn check(sources: &Sources, settings: &Settings) -> Vec<Problem> {
    let (migrations, mut problems) = read(sources, settings);
    // Where it has run already it is not refused.
    let warned = |problem| Problem { severity: Severity::Warned, ..problem };
    problems.extend(migrations.iter().filter_map(plan::mixed).map(warned));
    problems
}

/// The migrations of files that are named as Flyway's, and what of them is wrong or worth knowing in any dialect.
pub(crate) fn read(sources: &Sources, settings: &Settings) -> (Vec<Migration>, Vec<Problem>) {
    let place = Place { schema: settings.schemas.first().cloned().unwrap_or_default(), ..Place::default() };
    let mut problems = settings.problems();
    problems.extend(resolve::left_out(sources, settings));
    let migrations = resolve(sources, settings, &place).unwrap_or_else(|refused| {
        problems.extend(refused);
        Vec::new()
    });
    problems.extend(resolve::shapes(&migrations));
    problems.extend(foreign_tables(&migrations).into_iter().map(|(name, (file, line))| {
        let text = format!(
            "uses table `{name}`, which none of these files makes: whoever makes it has to be migrated before"
        );
        Problem::warned(file, Some(line), text)
    }));
    (migrations, problems)
}

impl Settings {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.schemas.is_empty() {
            problems.push(Problem::refused("", None, "no schema is named; name at least one"));
        }
        for version in std::iter::once(&self.baseline_version).chain(&self.target) {
            problems.extend(Version::parse(version).err().map(|error| Problem::refused("", None, error)));
        }
        problems
    }
}

/// The lock of a history table, the same that Flyway takes: its magic number and Java's `hashCode` of the table's quoted
/// name (`PostgreSQLAdvisoryLockTemplate`, `PostgreSQLConnection.lock`).
pub fn lock_number(schema: &str, table: &str) -> i64 {
    /// "Flyway" in ASCII.
    const MAGIC: i64 = 77_431_708_279_161;
    let name = format!("{}.{}", identifier(schema), identifier(table));
    let hash =
        name.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    MAGIC + i64::from(hash)
}

#[cfg(test)]
mod tests;
