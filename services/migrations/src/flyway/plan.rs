//! From files and a history to what is to be done. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Settings;
use super::resolve::{Kind, Migration};
use super::version::Version;
use crate::guard::Present;
use crate::problem::Problem;
use crate::script::known;
use crate::statement::Name;

/// A row of a history table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The order in which it was written.
    pub installed_rank: i32,
    /// None for repeatable migrations.
    pub version: Option<String>,
    /// The description.
    pub description: String,
    /// `SQL`, `BASELINE`, `SCHEMA`, `DELETE`, `JDBC`, …
    pub kind: String,
    /// The file's path in its location.
    pub script: String,
    /// The checksum.
    pub checksum: Option<i32>,
    /// Whether it ran to its end.
    pub success: bool,
}

/// Another history table of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherHistory {
    /// Its name.
    pub table: String,
    /// The scripts it records.
    pub scripts: BTreeSet<String>,
}

/// What is in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// The schema is there.
    pub exists: bool,
    /// It holds something.
    pub holds_something: bool,
    /// The rows of its history, in the order of their ranks; none when there is no such table.
    pub history: Option<Vec<Row>>,
    /// What else looks like a history in it.
    pub others: Vec<OtherHistory>,
    /// Its tables, and those of other schemas.
    pub present: Present,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the schema and say so in the history.
    CreateSchema,
    /// Make the history table.
    CreateHistory,
    /// Record that everything up to this version is there.
    Baseline(Version),
    /// Run a migration and record it.
    Apply(Migration),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::CreateSchema => f.write_str("create the schema"),
            Step::CreateHistory => f.write_str("create the history table"),
            Step::Baseline(version) => write!(f, "baseline at version {version}"),
            Step::Apply(migration) => write!(f, "run {}", migration.file),
        }
    }
}

/// What is to be done for one schema.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// Why nothing is done, if there is any; and what is worth knowing.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// Whether nothing may be done.
    pub fn is_refused(&self) -> bool {
        self.problems.iter().any(Problem::refuses)
    }
}

/// Decides for one schema.
pub fn plan(schema: &str, world: &World, migrations: &[Migration], settings: &Settings) -> Plan {
    let mut plan = Plan { problems: settings.problems(), ..Plan::default() };
    let baseline = Version::parse(&settings.baseline_version).ok();
    let begun;
    let rows: &[Row] = if let Some(rows) = &world.history {
        rows
    } else {
        begun = plan.begin(schema, world, settings, migrations, baseline.as_ref());
        &begun
    };
    let history = History::read(rows, &mut plan.problems);
    history.validate(migrations, settings, &mut plan.problems);
    let pending = history.pending(migrations, settings, &mut plan.problems);
    if world.history.is_none() && world.holds_something {
        plan.problems.extend(already_there(schema, world, &pending));
    }
    plan.problems.extend(destroys(schema, world, &pending, settings));
    plan.steps.extend(pending.into_iter().cloned().map(Step::Apply));
    plan
}

impl Plan {
    /// There is no history yet. What it begins with.
    fn begin(
        &mut self,
        schema: &str,
        world: &World,
        settings: &Settings,
        migrations: &[Migration],
        baseline: Option<&Version>,
    ) -> Vec<Row> {
        let mut refuse = |text: String| self.problems.push(Problem::refused("", None, text));
        let table = &settings.table;
        for other in &world.others {
            if let Some(ours) = migrations.iter().find(|m| other.scripts.contains(&m.script)) {
                refuse(format!(
                    "schema `{schema}` has no history `{table}`, but `{}` records {}: name that table in the settings, or rename it",
                    other.table, ours.script
                ));
            }
        }
        if !world.exists {
            if !settings.create_schemas {
                refuse(format!("there is no schema `{schema}`; make it, or let it be made"));
            }
            self.steps.push(Step::CreateSchema);
        } else if world.holds_something && !settings.baseline_on_migrate {
            refuse(format!(
                "schema `{schema}` holds something and has no history `{table}`: check the table's name, or switch `baseline_on_migrate` on"
            ));
        }
        self.steps.push(Step::CreateHistory);
        match baseline {
            Some(version) if world.holds_something => {
                self.steps.push(Step::Baseline(version.clone()));
                vec![baseline_row(version)]
            }
            _ => Vec::new(),
        }
    }
}

/// The row that Flyway writes for a baseline.
pub(crate) fn baseline_row(version: &Version) -> Row {
    Row {
        installed_rank: 1,
        version: Some(version.to_string()),
        description: "<< Flyway Baseline >>".to_owned(),
        kind: "BASELINE".to_owned(),
        script: "<< Flyway Baseline >>".to_owned(),
        checksum: None,
        success: true,
    }
}

/// A history, read.
struct History<'a> {
    /// What has run, without what was undone or deleted.
    versions: BTreeMap<Version, &'a Row>,
    /// The last run of each repeatable migration, by description.
    repeatable: BTreeMap<&'a str, &'a Row>,
    baseline: Option<Version>,
    last: Option<Version>,
}

impl<'a> History<'a> {
    fn read(rows: &'a [Row], problems: &mut Vec<Problem>) -> Self {
        let mut history =
            History { versions: BTreeMap::new(), repeatable: BTreeMap::new(), baseline: None, last: None };
        for row in rows {
            if !row.success {
                problems.push(Problem::refused(&row.script, None, failed(row)));
            }
            let Some(version) = &row.version else {
                if row.kind == "DELETE" {
                    history.repeatable.remove(row.description.as_str());
                } else if row.kind != "SCHEMA" {
                    history.repeatable.insert(&row.description, row);
                }
                continue;
            };
            let version = match Version::parse(version) {
                Ok(version) => version,
                Err(error) => {
                    problems.push(Problem::refused(&row.script, None, format!("in the history: {error}")));
                    continue;
                }
            };
            if matches!(row.kind.as_str(), "DELETE" | "UNDO_SQL") {
                history.versions.remove(&version);
                continue;
            }
            if matches!(row.kind.as_str(), "BASELINE" | "INIT" | "SQL_BASELINE") {
                history.baseline = history.baseline.max(Some(version.clone()));
            }
            history.versions.insert(version, row);
        }
        history.last = history.versions.keys().next_back().cloned();
        history
    }

    /// What has run must be what the files say.
    fn validate(&self, migrations: &[Migration], settings: &Settings, problems: &mut Vec<Problem>) {
        let versioned: BTreeMap<&Version, &Migration> = migrations
            .iter()
            .filter_map(|m| if let Kind::Versioned(version) = &m.kind { Some((version, m)) } else { None })
            .collect();
        let newest = versioned.keys().next_back().copied();
        for (version, row) in &self.versions {
            if Some(version) <= self.baseline.as_ref()
                || matches!(row.kind.as_str(), "SCHEMA" | "BASELINE" | "INIT")
            {
                continue;
            }
            match versioned.get(version) {
                Some(migration) => problems.extend(differs(row, migration)),
                None if Some(version) > newest => problems.push(Problem::warned(
                    &row.script,
                    None,
                    format!("version {version} has run and is newer than all files: these are older than the database"),
                )),
                None => problems.extend(missing(row, settings)),
            }
        }
        for (description, row) in &self.repeatable {
            if !migrations.iter().any(|m| m.kind == Kind::Repeatable && m.description == *description) {
                problems.extend(missing(row, settings));
            }
        }
    }

    fn pending<'m>(
        &self,
        migrations: &'m [Migration],
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) -> Vec<&'m Migration> {
        let target = settings.target.as_deref().and_then(|target| Version::parse(target).ok());
        let within = |version: &Version| target.as_ref().is_none_or(|target| version <= target);
        let untouched = self.versions.is_empty() && self.repeatable.is_empty();
        let all = || migrations.iter().filter(|m| m.version().is_none_or(within));
        let start = all().rfind(|m| untouched && matches!(m.kind, Kind::Baseline(_)));
        let baseline = start.and_then(Migration::version).or(self.baseline.as_ref());
        let mut pending: Vec<&Migration> = start.into_iter().collect();
        for migration in all() {
            match &migration.kind {
                Kind::Versioned(version)
                    if Some(version) <= baseline || self.versions.contains_key(version) => {}
                Kind::Versioned(version) if Some(version) < self.last.as_ref() && !settings.out_of_order => {
                    problems.push(Problem::refused(
                        &migration.file,
                        None,
                        format!(
                            "version {version} has not run, but later ones have; switch `out_of_order` on, or give it a later version"
                        ),
                    ));
                }
                Kind::Versioned(_) => pending.push(migration),
                Kind::Repeatable => {
                    let row = self.repeatable.get(migration.description.as_str());
                    let same = |row: &&Row| {
                        row.checksum == Some(migration.checksum)
                            || row.checksum == Some(migration.raw_checksum)
                    };
                    if !row.is_some_and(same) {
                        pending.push(migration);
                    }
                }
                Kind::Baseline(_) => {}
            }
        }
        pending
    }
}

fn failed(row: &Row) -> String {
    format!(
        "the history says that it failed (rank {}): see what it has left behind, put that right, and delete the row",
        row.installed_rank
    )
}

fn missing(row: &Row, settings: &Settings) -> Option<Problem> {
    let what =
        row.version.as_ref().map_or_else(|| format!("`{}`", row.description), |v| format!("version {v}"));
    let text = format!(
        "{what} has run, but has no file; add the file or its location, or switch `ignore_missing` on"
    );
    (!settings.ignore_missing).then(|| Problem::refused(&row.script, None, text))
}

fn differs(row: &Row, migration: &Migration) -> Option<Problem> {
    let refused = |text| Some(Problem::refused(&migration.file, None, text));
    if row.kind != "SQL" {
        return refused(format!(
            "the history says that it was `{}`, not `SQL`; is it the right history?",
            row.kind
        ));
    }
    if row.checksum != Some(migration.checksum) {
        let recorded = row.checksum.map_or_else(|| "none".to_owned(), |checksum| checksum.to_string());
        return refused(format!(
            "has changed since it ran: the history has checksum {recorded}, the file {}; restore the file and put the change into a new one",
            migration.checksum
        ));
    }
    if row.description != migration.description {
        return refused(format!("the history calls it `{}`; restore the file's name", row.description));
    }
    None
}

/// Tables that pending files make and that are there although no history says so: the history is elsewhere.
fn already_there(schema: &str, world: &World, pending: &[&Migration]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for migration in pending {
        for known in known(&migration.file, &migration.text).unwrap_or_default() {
            let there = |name: &&Name| world.present.tables.contains(&name.or_in(schema));
            problems.extend(known.class.creates.iter().filter(there).map(|name| {
                Problem::refused(
                    &migration.file,
                    Some(known.statement.line),
                    format!("makes table `{name}`, which is there already, and no history says how; check the history table's name, or baseline at the version that is there"),
                )
            }));
        }
    }
    problems
}

/// What pending files would destroy of what was there before.
fn destroys(schema: &str, world: &World, pending: &[&Migration], settings: &Settings) -> Vec<Problem> {
    let public = (!settings.current_schema).then(|| "public".to_owned());
    let path: Vec<String> = std::iter::once(schema.to_owned()).chain(public).collect();
    let mut problems = Vec::new();
    for migration in pending.iter().filter(|m| !settings.allow.allows(&m.script)) {
        for known in known(&migration.file, &migration.text).unwrap_or_default() {
            problems.extend(world.present.refuses(
                &known.class,
                &path,
                &migration.file,
                known.statement.line,
            ));
        }
    }
    problems
}
