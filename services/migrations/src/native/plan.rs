//! From files and a journal to what is to be done. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::{Settings, checksum, units};
use crate::flyway::{Kind, Migration, Version};
use crate::guard::Present;
use crate::journal::{Entry, Fate, State, resume};
use crate::problem::Problem;
use crate::script::known;

/// What is in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// The journal's entries, in the order of their ids; none when there is no journal.
    pub journal: Option<Vec<Entry>>,
    /// What became of the transaction that an open entry had begun.
    pub fate: Option<Fate>,
    /// What is there.
    pub present: Present,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the journal.
    CreateJournal,
    /// Write down that everything up to this version is there.
    Baseline(Version),
    /// Run a migration.
    Apply {
        /// Which.
        migration: Migration,
        /// How many of its statements an earlier run has done.
        done: usize,
        /// That run.
        entry: Option<i64>,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::CreateJournal => f.write_str("create the journal"),
            Step::Baseline(version) => write!(f, "baseline at version {version}"),
            Step::Apply { migration, done: 0, .. } => write!(f, "run {}", migration.file),
            Step::Apply { migration, done, .. } => {
                write!(f, "go on with {} after statement {done}", migration.file)
            }
        }
    }
}

/// What is to be done.
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

/// Decides.
pub fn plan(world: &World, migrations: &[Migration], settings: &Settings) -> Plan {
    let mut plan = Plan::default();
    let empty = Vec::new();
    let entries = world.journal.as_ref().unwrap_or(&empty);
    if world.journal.is_none() {
        plan.steps.push(Step::CreateJournal);
    }
    let mut baseline = None;
    if entries.is_empty()
        && let Some(version) = settings.baseline.as_deref().and_then(|text| Version::parse(text).ok())
    {
        plan.steps.push(Step::Baseline(version.clone()));
        baseline = Some(version);
    }
    let written = |state: State| entries.iter().filter(move |entry| entry.state == state);
    let versions = |state| written(state).filter_map(|entry| Version::parse(entry.version.as_deref()?).ok());
    let baseline = baseline.max(versions(State::Baseline).max());
    let highest = versions(State::Done).max();
    // Of several runs of a repeatable one the last counts.
    let last: BTreeMap<&str, &Entry> = entries
        .iter()
        .filter(|entry| entry.state != State::Baseline)
        .map(|entry| (entry.script.as_str(), entry))
        .collect();
    plan.missing(&last, migrations, highest.as_ref(), settings);
    for migration in migrations {
        if matches!(migration.kind, Kind::Baseline(_)) {
            let text = "baselines are files of the dialect `flyway`; name the version in `baseline`";
            plan.problems.push(Problem::refused(&migration.file, None, text));
            continue;
        }
        let before = migration.version().is_some_and(|version| Some(version) <= baseline.as_ref());
        match last.get(migration.script.as_str()) {
            Some(entry) if entry.is_open() => plan.go_on(migration, entry, known_fate(world, settings)),
            Some(entry) if entry.checksum == checksum(migration) => {}
            Some(_) if migration.kind == Kind::Repeatable => plan.begin(migration),
            Some(_) => plan.problems.push(Problem::refused(
                &migration.file,
                None,
                "has changed since it ran; restore the file and put the change into a new one",
            )),
            None if before => {}
            None if migration.version().is_some_and(|version| Some(version) < highest.as_ref())
                && !settings.out_of_order =>
            {
                plan.problems.push(Problem::refused(
                    &migration.file,
                    None,
                    "has not run, but later versions have; switch `out_of_order` on, or give it a later version",
                ));
            }
            None => plan.begin(migration),
        }
    }
    plan.guard(&world.present, settings);
    plan
}

/// What the server knows counts before what a person says.
fn known_fate(world: &World, settings: &Settings) -> Option<Fate> {
    world.fate.filter(|fate| *fate != Fate::Forgotten).or(settings.decided).or(world.fate)
}

impl Plan {
    fn begin(&mut self, migration: &Migration) {
        self.steps.push(Step::Apply { migration: migration.clone(), done: 0, entry: None });
    }

    fn go_on(&mut self, migration: &Migration, entry: &Entry, fate: Option<Fate>) {
        let resumed =
            units(migration).and_then(|units| resume(entry, &units, fate).map_err(|problem| vec![problem]));
        match resumed {
            Ok(done) => {
                self.steps.push(Step::Apply { migration: migration.clone(), done, entry: Some(entry.id) });
            }
            Err(problems) => self.problems.extend(problems),
        }
    }

    fn missing(
        &mut self,
        last: &BTreeMap<&str, &Entry>,
        migrations: &[Migration],
        highest: Option<&Version>,
        settings: &Settings,
    ) {
        let newest = migrations.iter().filter_map(Migration::version).max();
        for (script, entry) in last {
            if migrations.iter().any(|migration| migration.script == *script) {
                continue;
            }
            let version = entry.version.as_deref().and_then(|text| Version::parse(text).ok());
            let newer = version.is_some() && version.as_ref() > newest && version.as_ref() <= highest;
            if newer {
                let text = "has run and is newer than all files: these are older than the database";
                self.problems.push(Problem::warned(*script, None, text));
            } else if !settings.ignore_missing || entry.is_open() {
                let text = "has run, but is not there any more; add the file or its location, or switch `ignore_missing` on";
                self.problems.push(Problem::refused(*script, None, text));
            }
        }
    }

    fn guard(&mut self, present: &Present, settings: &Settings) {
        let path = [settings.schema.clone(), "public".to_owned()];
        for step in &self.steps {
            let Step::Apply { migration, done, .. } = step else { continue };
            if settings.allow.allows(&migration.script) {
                continue;
            }
            let all = known(&migration.file, &migration.text).unwrap_or_default();
            let (ran, left) = all.split_at((*done).min(all.len()));
            let before = present.without(ran.iter().flat_map(|known| &known.class.creates), &path);
            self.problems.extend(left.iter().flat_map(|known| {
                before.refuses(&known.class, &path, &migration.file, known.statement.line)
            }));
        }
    }
}
