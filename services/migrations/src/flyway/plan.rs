//! From files and a history to what is to be done. Pure.

use std::collections::BTreeSet;
use std::fmt;

use super::Settings;
use super::history::{History, Row, baseline_row};
use super::resolve::Migration;
use super::version::Version;
use crate::guard::Present;
use crate::problem::Problem;
use crate::script::known;
use crate::statement::Name;

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
    let history = History::read(rows, migrations, &mut plan.problems);
    history.validate(migrations, settings, &mut plan.problems);
    let pending = history.pending(migrations, settings, &mut plan.problems);
    if world.history.is_none() && world.holds_something {
        plan.problems.extend(already_there(schema, world, &pending));
    }
    plan.problems.extend(destroys(schema, world, &pending, settings));
    plan.problems.extend(pending.iter().filter_map(|migration| mixed(migration)));
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

/// As Flyway's `mixed`, which is off where nothing is said.
pub(super) fn mixed(migration: &Migration) -> Option<Problem> {
    let text = "has statements that cannot run in a transaction beside others that can, and what a run that is cut in between has done \
                nobody would know: put this one into a file of its own, or write `executeInTransaction=false` into a file of the \
                same name with `.conf` after it";
    migration.mixed.map(|line| Problem::refused(&migration.file, Some(line), text))
}
