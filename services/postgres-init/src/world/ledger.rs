//! The ledger in database `rollcall`: what was done once in an environment, and how it ended. Only who looks after the server
//! writes it; the environment's observer reads of it what is its own.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::Component;
use postgres::{REGISTRY, Session};
use sqlx::Row;
use uuid::Uuid;

use super::delegated::namespaces;
use super::{Error, PostgresTarget};
use crate::spec::ServerSpec;

/// The table, one row for each run, and the view that shows an observer the last run of each component of its environment.
pub(super) const SETUP: &str = "
CREATE TABLE IF NOT EXISTS rollcall.ledger (
  run bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  environment_uid uuid NOT NULL,
  environment_name text NOT NULL,
  fragment text NOT NULL,
  component text NOT NULL,
  state text NOT NULL CHECK (state IN ('running', 'failed', 'done', 'baseline')),
  hash text NOT NULL,
  inputs text NOT NULL DEFAULT '',
  database oid,
  by text NOT NULL DEFAULT '',
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz,
  exit int,
  output text NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS ledger_component ON rollcall.ledger (environment_uid, component, run);
CREATE OR REPLACE VIEW rollcall.done WITH (security_barrier) AS
  SELECT DISTINCT ON (component) component, fragment, state, hash, database, started_at, finished_at, exit, output FROM rollcall.ledger
  WHERE environment_uid IN (SELECT o.environment_uid FROM rollcall.owned o WHERE o.kind = 'observer' AND o.name = current_user)
  ORDER BY component, run DESC;
GRANT SELECT ON rollcall.done TO PUBLIC;
";

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has begun, and nobody has written down how it ended.
    Running,
    /// It failed.
    Failed,
    /// It ran to its end.
    Done,
    /// It was said to be done, and did not run.
    Baseline,
}

impl State {
    /// As it is written down.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Failed => "failed",
            State::Done => "done",
            State::Baseline => "baseline",
        }
    }

    fn parse(text: &str) -> Option<State> {
        [State::Running, State::Failed, State::Done, State::Baseline]
            .into_iter()
            .find(|state| state.as_str() == text)
    }

    /// Whether it is there.
    pub fn is_done(self) -> bool {
        matches!(self, State::Done | State::Baseline)
    }
}

/// A run as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its number; later ones have higher numbers.
    pub number: i64,
    /// The fragment that it was run for.
    pub fragment: String,
    /// That is known to stand as accepted.
    pub accepted: bool,
    /// How it stands.
    pub state: State,
    /// What was asked for, as a hash.
    pub hash: String,
    /// What went into it, as a hash.
    pub inputs: String,
    /// The database that it worked on is still the one that is there; true where it worked on none.
    pub same_database: bool,
    /// Who ran it.
    pub by: String,
    /// When it began, in the server's words.
    pub started: String,
    /// How its process ended.
    pub exit: Option<i32>,
    /// The end of what it printed.
    pub output: String,
}

/// What is written down of a run.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// What ran.
    pub component: &'a Component,
    /// The fragment that declares it.
    pub fragment: &'a str,
    /// How it stands.
    pub state: State,
    /// What was asked for, as a hash.
    pub hash: &'a str,
    /// What went into it, as a hash.
    pub inputs: &'a str,
    /// The database that it works on.
    pub database: Option<&'a str>,
    /// Who runs it.
    pub by: &'a str,
    /// How its process ended.
    pub exit: Option<i32>,
    /// The end of what it printed, without secrets.
    pub output: &'a str,
}

/// $1 the environment's uid, $2 component names, $3 for each of them the fragment that declares it, empty for any, $4 the fragments whose
/// runs are none of others'. What is
/// finished and still is what it was.
const RECORDED: &str = "
SELECT o.component FROM rollcall.owned o JOIN pg_catalog.pg_database d ON d.datname = o.name AND d.oid = o.oid
WHERE o.environment_uid = $1::uuid AND o.kind = 'database' AND o.finished_at IS NOT NULL AND o.component = ANY($2)
UNION
SELECT component FROM (
  SELECT DISTINCT ON (component) component, state, database, fragment FROM rollcall.ledger
  WHERE environment_uid = $1::uuid AND component = ANY($2) ORDER BY component, run DESC) last
  JOIN unnest($2, $3::text[]) AS asked(component, fragment) USING (component)
WHERE (asked.fragment IN ('', last.fragment) OR last.fragment <> ALL ($4)) AND state IN ('done', 'baseline') AND (database IS NULL OR database IN (SELECT oid FROM pg_catalog.pg_database))";

const LATEST: &str = "
SELECT run, state, hash, inputs, database IS NULL OR coalesce(database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = $3), false),
  by, started_at::text, exit, output, fragment
FROM rollcall.ledger WHERE environment_uid = $1::uuid AND component = $2 ORDER BY run DESC LIMIT 1";

/// $1 the environment's uid, $2 a database; none for any. A table without the column that came last is read too.
const OLDER: &str = "
SELECT EXISTS (SELECT FROM rollcall.owned o WHERE environment_uid = $1::uuid AND kind = 'database' AND ($2::text IS NULL OR name = $2)
  AND (adopted_at IS NOT NULL OR to_jsonb(o) ->> 'found_at' IS NOT NULL))";

const ADD: &str = "
INSERT INTO rollcall.ledger (environment_uid, environment_name, fragment, component, state, hash, inputs, database, by, exit, output, finished_at)
VALUES ($1::uuid, $2, $3, $4, $5, $6, $7, (SELECT oid FROM pg_catalog.pg_database WHERE datname = $8), $9, $10, $11,
  CASE WHEN $5 <> 'running' THEN clock_timestamp() END)
RETURNING run";

/// So many runs of a component are kept, the last ones.
const RUNS: i64 = 100;

const PRUNE: &str = "
DELETE FROM rollcall.ledger WHERE environment_uid = $1::uuid AND component = $2 AND run <= (
  SELECT run FROM rollcall.ledger WHERE environment_uid = $1::uuid AND component = $2 ORDER BY run DESC OFFSET $3 LIMIT 1)";

impl PostgresTarget {
    /// Which of these databases, migrations and steps are finished, by the records of the server. What is given a fragment does not
    /// count where another one of the `declared` or accepted ran it last; one that is neither any more has left it.
    pub(crate) async fn recorded(
        &self,
        spec: &ServerSpec,
        environment: Uuid,
        components: &BTreeMap<Component, Option<String>>,
        declared: &BTreeSet<String>,
    ) -> Result<BTreeSet<Component>, Error> {
        let Some(mut session) = self.ledger(spec).await? else { return Ok(BTreeSet::new()) };
        let names: Vec<String> = components.keys().map(Component::to_string).collect();
        let fragments: Vec<&str> =
            components.values().map(|one| one.as_deref().unwrap_or_default()).collect();
        let mut standing: Vec<String> = declared.iter().cloned().collect();
        if components.values().any(Option::is_some) {
            standing.extend(namespaces(spec, &mut session).await?.into_keys());
        }
        let (connection, within) = session.parts();
        let asked = sqlx::query_scalar::<_, String>(RECORDED).bind(environment.to_string());
        let asked = asked.bind(names).bind(fragments).bind(standing);
        let found = within.judge(asked.fetch_all(connection)).await?;
        session.close().await;
        Ok(found.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The last run of a component that works on `database`; none where there was none.
    pub(crate) async fn latest(
        &self,
        spec: &ServerSpec,
        component: &Component,
        database: Option<&str>,
    ) -> Result<Option<Run>, Error> {
        let Some(mut session) = self.ledger(spec).await? else { return Ok(None) };
        let found = latest(&mut session, spec, component, database).await?;
        session.close().await;
        Ok(found)
    }

    /// Writes a run down; its number. Database `rollcall` is made where it is missing.
    pub(crate) async fn enter(&self, spec: &ServerSpec, entry: &Entry<'_>) -> Result<i64, Error> {
        let mut session = self.registry(spec).await?;
        let number = add(&mut session, spec, entry).await?;
        session.close().await;
        Ok(number)
    }

    /// A session in database `rollcall`; none where there is no ledger yet.
    async fn ledger(&self, spec: &ServerSpec) -> Result<Option<Session>, Error> {
        let mut session = match self.open(spec, REGISTRY).await {
            Err(Error::Postgres(error))
                if matches!(error.kind, postgres::ErrorKind::NoDatabase | postgres::ErrorKind::Closed) =>
            {
                return Ok(None);
            }
            other => other?,
        };
        let (connection, within) = session.parts();
        let asked = sqlx::query_scalar("SELECT to_regclass('rollcall.ledger') IS NOT NULL");
        if within.judge(asked.fetch_one(connection)).await? {
            return Ok(Some(session));
        }
        session.close().await;
        Ok(None)
    }
}

/// The class of the locks that versions before this one took, beside a hash of 32 bits: "step" in ASCII. It is held too, shared, so that
/// theirs and ours keep each other out, and ours whose names have one hash do not.
const BEFORE: i32 = 0x7374_6570;

/// What is locked for a component of an environment.
struct Key {
    number: i64,
    before: String,
}

impl Key {
    fn of(spec: &ServerSpec, component: &Component) -> Key {
        let (uid, component) = (spec.environment.uid.to_string(), component.to_string());
        let hash = lifecycle::sha256_hex(&["what runs once", &uid, &component]);
        // Sixteen hexadecimal digits are 64 bits.
        let number = u64::from_str_radix(&hash[..16], 16).unwrap_or_default().cast_signed();
        Key { number, before: format!("{uid}/{component}") }
    }
}

/// Tries to take the lock of a component, which lasts as long as the session.
pub(crate) async fn try_lock(
    session: &mut Session,
    spec: &ServerSpec,
    component: &Component,
) -> Result<bool, Error> {
    let key = Key::of(spec, component);
    let (connection, within) = session.parts();
    let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(key.number);
    let taken: bool = within.judge(asked.fetch_one(connection)).await?;
    if !taken {
        return Ok(false);
    }
    let (connection, within) = session.parts();
    let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock_shared($1, hashtext($2))");
    let shared: bool = within.judge(asked.bind(BEFORE).bind(&key.before).fetch_one(connection)).await?;
    if !shared {
        let (connection, within) = session.parts();
        let asked = sqlx::query("SELECT pg_advisory_unlock($1)").bind(key.number);
        within.judge(asked.execute(connection)).await?;
    }
    Ok(shared)
}

/// Gives that lock back.
pub(crate) async fn unlock(
    session: &mut Session,
    spec: &ServerSpec,
    component: &Component,
) -> Result<(), Error> {
    let key = Key::of(spec, component);
    let (connection, within) = session.parts();
    let asked =
        sqlx::query_scalar("SELECT pg_advisory_unlock_shared($1, hashtext($2)) AND pg_advisory_unlock($3)");
    let asked = asked.bind(BEFORE).bind(&key.before).bind(key.number);
    let was_held: bool = within.judge(asked.fetch_one(connection)).await?;
    if was_held { Ok(()) } else { Err(Error::LockLost(component.to_string())) }
}

/// How many steps were ever run for a fragment of an environment, over a session in database `rollcall`.
pub(crate) async fn steps(session: &mut Session, spec: &ServerSpec, fragment: &str) -> Result<usize, Error> {
    let (connection, within) = session.parts();
    let asked = sqlx::query_scalar::<_, i64>(
        "SELECT count(DISTINCT component) FROM rollcall.ledger
         WHERE environment_uid = $1::uuid AND fragment = $2 AND component LIKE 'step/%'",
    );
    let asked = asked.bind(spec.environment.uid.to_string()).bind(fragment);
    let count = within.judge(asked.fetch_one(connection)).await?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Whether what a step works on, a database or anything of the environment on this server, was there before its records: it was taken
/// over, or restored and bound by hand. Over a session in database `rollcall`.
pub(crate) async fn older(
    session: &mut Session,
    spec: &ServerSpec,
    database: Option<&str>,
) -> Result<bool, Error> {
    let (connection, within) = session.parts();
    let asked = sqlx::query_scalar(OLDER).bind(spec.environment.uid.to_string()).bind(database);
    Ok(within.judge(asked.fetch_one(connection)).await?)
}

/// The last run of a component, over a session in database `rollcall`.
pub(crate) async fn latest(
    session: &mut Session,
    spec: &ServerSpec,
    component: &Component,
    database: Option<&str>,
) -> Result<Option<Run>, Error> {
    let (connection, within) = session.parts();
    let asked =
        sqlx::query(LATEST).bind(spec.environment.uid.to_string()).bind(component.to_string()).bind(database);
    let row = within.judge(asked.fetch_optional(connection)).await?;
    let run = |row: sqlx::postgres::PgRow| -> Result<Run, sqlx::Error> {
        let state: String = row.try_get(1)?;
        Ok(Run {
            accepted: false,
            number: row.try_get(0)?,
            // What a newer version wrote is not known to be done.
            state: State::parse(&state).unwrap_or(State::Running),
            hash: row.try_get(2)?,
            inputs: row.try_get(3)?,
            same_database: row.try_get(4)?,
            by: row.try_get(5)?,
            started: row.try_get(6)?,
            exit: row.try_get(7)?,
            output: row.try_get(8)?,
            fragment: row.try_get(9)?,
        })
    };
    let unknown = |error: sqlx::Error| Error::Facts { what: "its ledger", said: error.to_string() };
    row.map(run).transpose().map_err(unknown)
}

/// Writes a run down, over a session in database `rollcall`; runs of it that are long past go.
pub(crate) async fn add(session: &mut Session, spec: &ServerSpec, entry: &Entry<'_>) -> Result<i64, Error> {
    let (connection, within) = session.parts();
    let query = sqlx::query_scalar(ADD)
        .bind(spec.environment.uid.to_string())
        .bind(&spec.environment.name)
        .bind(entry.fragment)
        .bind(entry.component.to_string())
        .bind(entry.state.as_str())
        .bind(entry.hash)
        .bind(entry.inputs)
        .bind(entry.database)
        .bind(entry.by)
        .bind(entry.exit)
        .bind(entry.output);
    let number = within.judge(query.fetch_one(connection)).await?;
    let (connection, within) = session.parts();
    let query = sqlx::query(PRUNE)
        .bind(spec.environment.uid.to_string())
        .bind(entry.component.to_string())
        .bind(RUNS);
    within.judge(query.execute(connection)).await?;
    Ok(number)
}

/// Writes down how a run ended, over a session in database `rollcall`.
pub(crate) async fn finish(
    session: &mut Session,
    number: i64,
    state: State,
    exit: Option<i32>,
    output: &str,
) -> Result<(), Error> {
    let (connection, within) = session.parts();
    let query = sqlx::query(
        "UPDATE rollcall.ledger SET state = $2, exit = $3, output = $4, finished_at = clock_timestamp() WHERE run = $1 AND state = 'running'",
    );
    let query = query.bind(number).bind(state.as_str()).bind(exit).bind(output);
    within.judge(query.execute(connection)).await?;
    Ok(())
}
