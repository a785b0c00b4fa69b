//! Looks at a migration and runs it.

use std::sync::{Mutex, PoisonError};

use chassis::converge::{Fault, Plan, Reconcile};
use chassis::secret::{SecretError, SecretStore};
use lifecycle::{Component, Evidence};
use migrations::world::{catalog, glance_flyway, glance_native, glance_psql};
use migrations::world::{migrate_flyway, migrate_native, migrate_psql};
use migrations::{Glance, Limits, Problem, Sources};
use sqlx::AssertSqlSafe;

use super::connect::{AsOwner, Obstacle};
use super::files::{self, Found};
use super::plan::{self, Change, Ledger, Mark, Seen, Step, World};
use super::spec::{Dialect, MigrationSpec, SCHEMA};
use crate::world::ledger::{Entry, State};
use crate::world::{self, PostgresTarget};

/// What can go wrong with a migration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server, the way to it, or a Secret.
    #[error(transparent)]
    World(#[from] world::Error),
    /// The migration itself.
    #[error(transparent)]
    Migration(#[from] migrations::Error),
    /// What is to be run changed since it was decided.
    #[error("{0}")]
    Changed(String),
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        Error::World(error.into())
    }
}

impl From<SecretError> for Error {
    fn from(error: SecretError) -> Self {
        Error::World(error.into())
    }
}

impl Fault for Error {
    fn is_transient(&self) -> bool {
        match self {
            Error::World(error) => error.is_transient(),
            Error::Migration(error) => error.is_transient(),
            Error::Changed(_) => true,
        }
    }

    fn code(&self) -> String {
        match self {
            Error::World(error) => error.code(),
            Error::Migration(error) => error.code().to_owned(),
            Error::Changed(_) => String::new(),
        }
    }
}

/// A migration that failed, and the world in which it did.
#[derive(Debug, Clone)]
struct Failed {
    text: String,
    /// What the files and the database were then; none until they are looked at again.
    seen: Option<String>,
}

/// A migration that is looked at and run.
#[derive(Debug)]
pub struct MigrationTarget {
    secrets: SecretStore,
    failed: Mutex<Option<Failed>>,
    /// Who runs it, for the ledger.
    by: String,
}

impl MigrationTarget {
    /// A migration whose files and credentials are read from `secrets`; `by` is who runs it.
    pub fn new(secrets: SecretStore, by: impl Into<String>) -> Self {
        MigrationTarget { secrets, failed: Mutex::default(), by: by.into() }
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Option<Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it failed with, if the world is what it was then. Where it is not, that is forgotten.
    fn failed_in(&self, seen: &str) -> Option<String> {
        let mut failed = self.failure();
        let found = failed.as_mut()?;
        if found.seen.get_or_insert_with(|| seen.to_owned()) == seen {
            return Some(found.text.clone());
        }
        *failed = None;
        None
    }

    async fn look(&self, spec: &MigrationSpec) -> Result<World, Error> {
        let mut world = World::default();
        if let Some(waits) = spec.needs.unmet(spec.environment.uid, &self.secrets).await? {
            return Ok(World { waits: Some(waits), ..world });
        }
        let to = AsOwner::of(spec, &self.secrets).await?;
        match to.obstacle().await? {
            None => {}
            Some((_, Obstacle::Never(why))) => return Ok(World { refused: Some(why), ..world }),
            Some((entrance, Obstacle::NotYet(why))) => {
                return Ok(World { waits: Some((entrance.component.clone(), why)), ..world });
            }
        }
        world.mark = read_mark(&to, spec).await?;
        world.ledger = self.ledger(spec).await?;
        world.files = match files::read(spec, &self.secrets).await? {
            Found::Elsewhere(why) => Seen::Elsewhere(why),
            Found::Unfit(why) => Seen::Here { steps: Vec::new(), refusals: vec![why], warnings: Vec::new() },
            Found::NotYet(map, error) => {
                return Ok(World { waits: Some((map, error.to_string())), ..world });
            }
            Found::Here(sources) => {
                let (glance, seen) = self.glance(spec, &to, &sources).await?;
                world.failed = self.failed_in(&seen);
                let (refused, warned): (Vec<Problem>, Vec<Problem>) =
                    glance.problems.into_iter().partition(Problem::refuses);
                let lines = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
                Seen::Here { steps: glance.steps, refusals: lines(refused), warnings: lines(warned) }
            }
        };
        Ok(world)
    }

    /// What would be done; and a text that is the same as long as files and database are.
    async fn glance(
        &self,
        spec: &MigrationSpec,
        to: &AsOwner,
        sources: &Sources,
    ) -> Result<(Glance, String), Error> {
        let dialect = files::with_secrets(&spec.dialect, &self.secrets).await?;
        let wrong = files::problems(spec, &dialect, sources);
        if wrong.iter().any(Problem::refuses) {
            return Ok((Glance { steps: Vec::new(), problems: wrong }, String::new()));
        }
        let (database, name, limits) = (&spec.database().name, spec.component.to_string(), Limits::default());
        let seen = match &dialect {
            Dialect::Native(settings) => glance_native(to, database, &name, sources, settings, limits).await,
            Dialect::Flyway(settings) => glance_flyway(to, database, sources, settings, limits).await,
            Dialect::Psql { settings, .. } => {
                glance_psql(to, database, &spec.journal(), sources, settings, limits).await
            }
        };
        let glance = match seen {
            Ok(glance) => glance,
            Err(migrations::Error::Refused(problems)) => Glance { steps: Vec::new(), problems },
            Err(error) => return Err(error.into()),
        };
        let mut facts = vec![sources.hash(), spec.hash.clone()];
        for entrance in &spec.databases {
            facts.push(catalog(to, &entrance.name).await?);
        }
        facts.extend(glance.steps.iter().cloned());
        let facts: Vec<&str> = facts.iter().map(String::as_str).collect();
        Ok((glance, lifecycle::sha256_hex(&facts)))
    }

    async fn ledger(&self, spec: &MigrationSpec) -> Result<Ledger, Error> {
        let Some(server) = spec.needs.server(&spec.server) else { return Ok(Ledger::Closed) };
        let target = PostgresTarget::new(self.secrets.clone());
        let last = target.latest(server, &spec.component, Some(&spec.database().name)).await?;
        Ok(last.map_or(Ledger::Empty, |run| Ledger::Holds {
            state: run.state,
            hash: run.hash,
            same_database: run.same_database,
        }))
    }

    async fn record(&self, spec: &MigrationSpec, state: State, output: &str) -> Result<(), Error> {
        let Some(server) = spec.needs.server(&spec.server) else { return Ok(()) };
        let entry = Entry {
            component: &spec.component,
            fragment: &spec.fragment,
            state,
            hash: &spec.hash,
            inputs: "",
            database: Some(&spec.database().name),
            by: &self.by,
            exit: None,
            output,
        };
        PostgresTarget::new(self.secrets.clone()).enter(server, &entry).await?;
        Ok(())
    }

    async fn migrate(&self, spec: &MigrationSpec) -> Result<(), Error> {
        let to = AsOwner::of(spec, &self.secrets).await?;
        // Asked again: between deciding and doing somebody may have given the login more.
        if let Some((_, Obstacle::NotYet(why) | Obstacle::Never(why))) = to.obstacle().await? {
            return Err(Error::Changed(why));
        }
        let Found::Here(sources) = files::read(spec, &self.secrets).await? else {
            return Err(Error::Changed("its files are not here any more".to_owned()));
        };
        let dialect = files::with_secrets(&spec.dialect, &self.secrets).await?;
        let wrong = files::problems(spec, &dialect, &sources);
        if wrong.iter().any(Problem::refuses) {
            return Err(migrations::Error::Refused(wrong).into());
        }
        // Before anything changes nobody may think any more that it is done.
        mark(&to, spec, false).await?;
        self.record(spec, State::Running, "").await?;
        let (database, name, limits) = (&spec.database().name, spec.component.to_string(), Limits::default());
        let ran = match &dialect {
            Dialect::Native(settings) => {
                migrate_native(&to, database, &name, &sources, settings, limits).await
            }
            Dialect::Flyway(settings) => migrate_flyway(&to, database, &sources, settings, limits).await,
            Dialect::Psql { settings, .. } => {
                migrate_psql(&to, database, &spec.journal(), &sources, settings, limits).await
            }
        };
        let Err(error) = ran else { return Ok(()) };
        if !error.is_transient() {
            let text = error.to_string();
            if let Err(unwritten) = self.record(spec, State::Failed, &text).await {
                tracing::warn!(component = %spec.component, "that it failed could not be written down: {unwritten}");
            }
            *self.failure() = Some(Failed { text, seen: None });
        }
        Err(error.into())
    }
}

const HAS_MARKS: &str = "SELECT to_regclass('rollcall.migrated') IS NOT NULL";

async fn read_mark(to: &AsOwner, spec: &MigrationSpec) -> Result<Option<Mark>, Error> {
    let mut session = to.session().await?;
    let (connection, within) = session.parts();
    let there = sqlx::query_scalar(HAS_MARKS).persistent(false);
    let there: bool = within.judge(there.fetch_one(connection)).await?;
    let mut found = None;
    if there {
        let (connection, within) = session.parts();
        let asked = sqlx::query_as("SELECT done, hash FROM rollcall.migrated WHERE migration = $1")
            .bind(spec.component.to_string())
            .persistent(false);
        let row: Option<(bool, String)> = within.judge(asked.fetch_optional(connection)).await?;
        found = row.map(|(done, hash)| Mark { done, hash });
    }
    session.close().await;
    Ok(found)
}

/// Writes into the database how its migration stands, for whoever logs in to it: a module sees there that its schema is ready.
/// Who acts as the owner could write there itself, and would wrong nobody but his own modules.
async fn mark(to: &AsOwner, spec: &MigrationSpec, done: bool) -> Result<(), Error> {
    let mut session = to.session().await?;
    session
        .execute(format!(
            "CREATE SCHEMA IF NOT EXISTS {SCHEMA};
             CREATE TABLE IF NOT EXISTS {SCHEMA}.migrated (
               migration text PRIMARY KEY, done bool NOT NULL, hash text NOT NULL, changed_at timestamptz NOT NULL DEFAULT now());
             GRANT USAGE ON SCHEMA {SCHEMA} TO PUBLIC; GRANT SELECT ON {SCHEMA}.migrated TO PUBLIC;
             {}",
            migrations::world::only_its_owner_writes(&format!("{SCHEMA}.migrated"))
        ))
        .await?;
    let (connection, within) = session.parts();
    let sql = format!(
        "INSERT INTO {SCHEMA}.migrated (migration, done, hash) VALUES ($1, $2, $3) \
         ON CONFLICT (migration) DO UPDATE SET done = excluded.done, hash = excluded.hash, changed_at = now()"
    );
    let write = sqlx::query(AssertSqlSafe(sql))
        .bind(spec.component.to_string())
        .bind(done)
        .bind(&spec.hash)
        .persistent(false);
    within.judge(write.execute(connection)).await?;
    session.close().await;
    Ok(())
}

impl Reconcile for MigrationTarget {
    type Spec = MigrationSpec;
    type World = World;
    type Step = Step;
    type Error = Error;

    fn components(spec: &MigrationSpec) -> Vec<Component> {
        vec![spec.component.clone()]
    }

    fn only(spec: &MigrationSpec, _: &Component) -> MigrationSpec {
        spec.clone()
    }

    fn reports_only(spec: &MigrationSpec, _: &Component) -> bool {
        spec.report_only
    }

    /// An empty database: what the files would do there, only a look at them tells.
    fn nothing(spec: &MigrationSpec) -> World {
        let files = spec.sources.iter().map(|files| match &files.place {
            super::spec::FilesAt::Directory(folder) => format!("the files in {}", folder.display()),
            super::spec::FilesAt::ConfigMap(map) => format!("the files in {map}"),
        });
        let steps = files.collect();
        let files = Seen::Here { steps, refusals: Vec::new(), warnings: Vec::new() };
        let ledger = if spec.needs.server(&spec.server).is_some() { Ledger::Empty } else { Ledger::Closed };
        World { files, ledger, ..World::default() }
    }

    async fn observe(&self, spec: &MigrationSpec) -> Result<World, Error> {
        self.look(spec).await
    }

    fn plan(spec: &MigrationSpec, world: &World) -> Plan<Step> {
        plan::plan(spec, world)
    }

    async fn apply(&self, spec: &MigrationSpec, step: &Step) -> Result<(), Error> {
        match step.change {
            Change::Migrate { .. } => self.migrate(spec).await,
            Change::Mark => mark(&AsOwner::of(spec, &self.secrets).await?, spec, true).await,
            Change::Record => self.record(spec, State::Done, "").await,
        }
    }

    fn evidence(spec: &MigrationSpec, world: &World, _: &Component) -> Evidence {
        let evidence = Evidence::level("migrated").with("database", &spec.database().name);
        match &world.files {
            Seen::Elsewhere(_) => evidence.with("seen", "in its database"),
            Seen::Here { .. } => evidence,
        }
    }
}
