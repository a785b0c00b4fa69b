//! From scripts and a journal to what is to be done: install, go on, upgrade, roll back, or take what is there. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::chain::{Direction, chain, links};
use super::interpret::several;
use super::{Placed, Script, Step, Variables, exported};
use crate::guard::{Allow, Before, Present};
use crate::journal::{Entry, Fate, State, Unit, resume};
use crate::problem::Problem;
use crate::source::{Sources, resolve};
use crate::statement::classify;

/// How scripts are brought to a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The folder of the sources that scripts are started in.
    pub folder: String,
    /// What makes it where nothing is there yet, in this order; paths in that folder.
    pub scripts: Vec<String>,
    /// The version that is wanted, and that those scripts make.
    pub version: String,
    /// The database that scripts begin in.
    pub database: String,
    /// The database that they make or fill, and a schema in it: where that is, they have run.
    pub target: (String, String),
    /// The folder of the sources that upgrades and rollbacks are in, as `1.1_to_1.2_upgrade.sql`; they are started in the
    /// folder above it when that folder is called `sql`, as MOSIP's are.
    pub upgrades: Option<String>,
    /// What runs before an upgrade, by that one's path, and as a part of it: scripts, each with the database it begins in, as
    /// MOSIP's `…-support.sql`, which copy rows out of other databases.
    pub before: BTreeMap<String, Vec<(String, String)>>,
    /// Where the target is there and nothing is written down, it is taken to be at this version.
    pub baseline: Option<String>,
    /// A newer version may be rolled back.
    pub rollback: bool,
    /// What stands for `:name`.
    pub variables: Variables,
    /// Which scripts may destroy what is there already.
    pub allow: Allow,
    /// What a person has found out about a statement of which a run that was cut has left unknown whether it ran. For one run,
    /// never in a document.
    pub decided: Option<Fate>,
}

/// What is on the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// The target is there.
    pub exists: bool,
    /// The journal's entries, in the order of their ids.
    pub journal: Vec<Entry>,
    /// What became of the transaction that an open entry had begun.
    pub fate: Option<Fate>,
    /// What is in each database.
    pub present: BTreeMap<String, Present>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write down that this version is there.
    Baseline(String),
    /// Run a script.
    Run(Run),
}

/// A script that is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its path in the sources.
    pub script: String,
    /// The database that it begins in.
    pub database: String,
    /// What it does.
    pub steps: Vec<Placed>,
    /// How many of these an earlier run has done.
    pub done: usize,
    /// That run.
    pub entry: Option<i64>,
    /// The version that is there afterwards.
    pub version: Option<String>,
    /// The files that it consists of.
    pub files: Vec<String>,
    /// What was there before it began, for what its queries answer with is only known when they are run.
    pub before: Before,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Baseline(version) => write!(f, "baseline at version {version}"),
            Action::Run(Run { script, done: 0, .. }) => write!(f, "run {script}"),
            Action::Run(Run { script, done, .. }) => write!(f, "go on with {script} after step {done}"),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// Why nothing is done, if there is any; and what is worth knowing.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// Whether nothing may be done.
    pub fn is_refused(&self) -> bool {
        self.problems.iter().any(Problem::refuses)
    }
}

/// Everything that would be refused whatever is on the server, and what is worth knowing, without asking one: the scripts
/// and every upgrade and rollback.
pub fn check(sources: &Sources, settings: &Settings) -> Vec<Problem> {
    let mut problems = settings.problems();
    for path in settings.paths().into_iter().chain(settings.chains(sources)) {
        match settings.interpreted(sources, &path) {
            Ok(script) => problems.extend(script.warnings),
            Err(refused) => problems.extend(refused),
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

/// Every database that the scripts connect to, with the one they begin in and the target's.
pub fn databases(sources: &Sources, settings: &Settings) -> Vec<String> {
    let mut found = vec![settings.database.clone(), settings.target.0.clone()];
    for path in settings.paths().into_iter().chain(settings.chains(sources)) {
        if let Ok(script) = settings.interpreted(sources, &path) {
            found.extend(script.databases().map(str::to_owned));
        }
    }
    found.sort();
    found.dedup();
    found
}

impl Settings {
    fn problems(&self) -> Vec<Problem> {
        let refused = |text: &str| Some(Problem::refused("", None, text));
        let none = [
            self.scripts.is_empty().then(|| refused("no script is named")).flatten(),
            self.version.is_empty().then(|| refused("no version is named")).flatten(),
            self.database.is_empty().then(|| refused("no database to begin in is named")).flatten(),
        ];
        none.into_iter().flatten().collect()
    }

    /// The scripts' paths in the sources; one that leads out of them is one that is not there.
    fn paths(&self) -> Vec<String> {
        self.scripts
            .iter()
            .map(|script| resolve(&self.folder, script).unwrap_or_else(|| script.clone()))
            .collect()
    }

    fn chains(&self, sources: &Sources) -> Vec<String> {
        let folder = self.upgrades.as_deref();
        let both = [Direction::Upgrade, Direction::Rollback];
        let links =
            folder.into_iter().flat_map(|folder| both.map(|way| links(sources, folder, way))).flatten();
        links.map(|link| link.file).collect()
    }

    /// What a script would do, with what runs before it.
    fn interpreted(&self, sources: &Sources, script: &str) -> Result<Script, Vec<Problem>> {
        let folder = self.started_in(script);
        let before = self.before.get(script).map(Vec::as_slice).unwrap_or_default();
        let mut scripts: Vec<(Option<&str>, &str)> =
            before.iter().map(|(database, path)| (Some(database.as_str()), path.as_str())).collect();
        scripts.push(((!before.is_empty()).then_some(&self.database), script));
        several(sources, &scripts, &folder, &self.variables)
    }

    /// Where a script is started, which is where `\i` and `\copy` look files up.
    fn started_in(&self, script: &str) -> String {
        let upgrades = self.upgrades.as_deref().map(|folder| folder.trim_matches('/'));
        match upgrades {
            Some(folder) if script.starts_with(folder) && !self.paths().iter().any(|path| path == script) => {
                let above =
                    folder.strip_suffix("sql").filter(|above| above.is_empty() || above.ends_with('/'));
                above.unwrap_or(folder).trim_end_matches('/').to_owned()
            }
            _ => self.folder.trim_matches('/').to_owned(),
        }
    }
}

/// Decides.
pub fn plan(sources: &Sources, world: &World, settings: &Settings) -> Plan {
    let mut plan = Plan { problems: settings.problems(), ..Plan::default() };
    let scripts = settings.paths();
    let closed = |entry: &&Entry| !entry.is_open();
    let open = world.journal.iter().find(|entry| entry.is_open());
    let mut current = world.journal.iter().filter(closed).rev().find_map(|entry| entry.version.clone());
    if let Some(entry) = open {
        let fate = world.fate.filter(|fate| *fate != Fate::Forgotten).or(settings.decided).or(world.fate);
        plan.go_on(sources, settings, entry, fate);
        current = entry.version.clone().or(current);
    }
    let begun = |script: &String| world.journal.iter().any(|entry| entry.script == *script);
    match (&current, &settings.baseline) {
        (Some(_), _) => {}
        // Some of the scripts have run: the others are left.
        (None, _) if world.journal.iter().any(|entry| scripts.contains(&entry.script)) || !world.exists => {
            for (n, script) in scripts.iter().enumerate().filter(|(_, script)| !begun(script)) {
                let version = (n + 1 == scripts.len()).then(|| settings.version.clone());
                plan.run(sources, settings, script, version);
            }
            current = Some(settings.version.clone());
        }
        (None, Some(version)) => {
            plan.actions.push(Action::Baseline(version.clone()));
            current = Some(version.clone());
        }
        (None, None) => plan.problems.push(Problem::refused(
            "",
            None,
            format!(
                "schema `{}` is in database `{}` and nothing says which version it is; name that in `baseline`",
                settings.target.1, settings.target.0
            ),
        )),
    }
    if let Some(current) = current.filter(|current| *current != settings.version) {
        plan.lead(sources, settings, &current);
    }
    let before = before(sources, world, settings, &plan);
    plan.guard(settings, &before);
    plan
}

impl Plan {
    fn run(&mut self, sources: &Sources, settings: &Settings, script: &str, version: Option<String>) {
        if let Some(run) = self.interpreted(sources, settings, script, version) {
            self.actions.push(Action::Run(run));
        }
    }

    fn interpreted(
        &mut self,
        sources: &Sources,
        settings: &Settings,
        script: &str,
        version: Option<String>,
    ) -> Option<Run> {
        match settings.interpreted(sources, script) {
            Ok(Script { steps, files, warnings }) => {
                self.problems.extend(warnings);
                let files = files.into_iter().collect();
                let database = settings.database.clone();
                Some(Run {
                    script: script.to_owned(),
                    database,
                    steps,
                    done: 0,
                    entry: None,
                    version,
                    files,
                    before: Before::default(),
                })
            }
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        }
    }

    fn go_on(&mut self, sources: &Sources, settings: &Settings, entry: &Entry, fate: Option<Fate>) {
        let Some(mut run) = self.interpreted(sources, settings, &entry.script, entry.version.clone()) else {
            return;
        };
        match resume(entry, &units(sources, &run.steps), fate) {
            Ok(done) => {
                self.problems.extend(exported::again(&run.steps, done).err().into_iter().flatten());
                (run.done, run.entry) = (done, Some(entry.id));
                self.actions.push(Action::Run(run));
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    /// From the version that is there to the one that is wanted.
    fn lead(&mut self, sources: &Sources, settings: &Settings, current: &str) {
        let found =
            |way| settings.upgrades.as_deref().map(|folder| links(sources, folder, way)).unwrap_or_default();
        let (up, down) = (found(Direction::Upgrade), found(Direction::Rollback));
        let wanted = settings.version.as_str();
        let back = chain(&down, current, wanted);
        let newer = back.is_some() || chain(&up, wanted, current).is_some();
        let way = match (chain(&up, current, wanted), back) {
            (Some(way), _) => way,
            (None, Some(way)) if settings.rollback => way,
            (None, _) if newer && !settings.rollback => {
                let text = format!(
                    "version {current} is there, newer than {wanted}; switch `rollback` on to go back"
                );
                self.problems.push(Problem::warned("", None, text));
                return;
            }
            _ => {
                let text = format!(
                    "version {current} is there, and no files lead from it to {wanted}; add them, or correct the version"
                );
                self.problems.push(Problem::refused("", None, text));
                return;
            }
        };
        for link in way {
            self.run(sources, settings, &link.file, Some(link.to.clone()));
        }
    }

    fn guard(&mut self, settings: &Settings, before: &Before) {
        let mut refused = Vec::new();
        for action in &mut self.actions {
            let Action::Run(run) = action else { continue };
            run.before = Before { allowed: settings.allow.allows(&run.script), ..before.clone() };
            for (database, placed) in placed(&run.database, &run.steps).skip(run.done) {
                if let Step::Execute { sql, .. } = &placed.step {
                    let problems = run.before.refuses(database, &classify(sql), &placed.file, placed.line);
                    refused.extend(problems);
                }
            }
        }
        self.problems.extend(refused);
    }
}

/// Steps, each with the database that it is in.
fn placed<'s>(begins_in: &'s str, steps: &'s [Placed]) -> impl Iterator<Item = (&'s str, &'s Placed)> {
    steps.iter().scan(begins_in, |database, placed| {
        if let Step::Connect { database: Some(to), .. } = &placed.step {
            *database = to;
        }
        Some((*database, placed))
    })
}

/// What was there without the tables that earlier runs of the scripts have made that are now gone on with, or of the scripts before
/// those while the first version is not complete.
fn before(sources: &Sources, world: &World, settings: &Settings, plan: &Plan) -> Before {
    let mut before = Before { databases: world.present.clone(), allowed: false };
    let mut take = |begins_in: &str, steps: &[Placed]| {
        for (database, placed) in placed(begins_in, steps) {
            if let Step::Execute { sql, .. } = &placed.step {
                for made in classify(sql).creates {
                    before.forget(database, &made);
                }
            }
        }
    };
    for action in &plan.actions {
        if let Action::Run(run) = action {
            take(&run.database, &run.steps[..run.done]);
        }
    }
    let incomplete = world.journal.iter().all(|entry| entry.is_open() || entry.version.is_none());
    for script in settings.paths().iter().filter(|_| incomplete) {
        let ran = world.journal.iter().any(|entry| entry.script == *script && entry.state == State::Done);
        if ran && let Ok(script) = settings.interpreted(sources, script) {
            take(&settings.database, &script.steps);
        }
    }
    before
}

/// A script's steps, as the journal knows them. Rows that come from a file are what that holds now.
pub fn units(sources: &Sources, steps: &[Placed]) -> Vec<Unit> {
    let unit = |placed: &Placed| {
        let other =
            |identity: String| Unit { file: placed.file.clone(), line: placed.line, identity, class: None };
        match &placed.step {
            Step::Execute { sql, rows } => {
                Unit::statement(&placed.file, placed.line, sql, rows.as_deref(), placed.secret)
            }
            Step::Generate { sql } => other(if placed.secret { placed.to_string() } else { sql.clone() }),
            Step::CopyFrom { sql, path } => {
                let rows = sources.get(path).map(|bytes| crate::journal::sha256([bytes])).unwrap_or_default();
                Unit { class: Some(classify(sql)), ..other(format!("{sql}\0{path}\0{rows}")) }
            }
            _ => other(placed.to_string()),
        }
    };
    steps.iter().map(unit).collect()
}
