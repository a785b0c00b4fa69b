//! Database `rollcall`: locks and ownership records. It belongs to no environment and is closed to everybody else.

use std::time::Duration;

use chassis::backoff::Backoff;
use lifecycle::Component;
use postgres::{ErrorKind, REGISTRY, Session};
use sqlx::AssertSqlSafe;
use tokio::time::Instant;

use super::facts::Registry;
use super::{Error, PostgresTarget, delegated, history, ledger};
use crate::spec::ServerSpec;

/// How long somebody else's lock is waited for.
const LOCK: Duration = Duration::from_mins(1);
/// How often it is tried to open what several have made at once.
const OPENINGS: u32 = 20;
/// The class of our advisory locks: "roll" and "cal\0" in ASCII. The first is for what all databases share.
const SERVER: i32 = 0x726f_6c6c;
const DATABASE: i32 = 0x6361_6c00;

/// What a lock is on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key<'a> {
    /// What all databases share: database `rollcall`, observers.
    Server,
    /// One database with its roles.
    Database(&'a str),
    /// A role that reads several databases.
    Role(&'a str),
}

impl<'a> Key<'a> {
    /// What is locked while a component is changed.
    pub(super) fn of(spec: &'a ServerSpec, component: &Component) -> Key<'a> {
        match (spec.database(component), spec.role(component)) {
            (Some(database), _) => Key::Database(&database.name),
            (None, Some(role)) => Key::Role(&role.login.role),
            (None, None) => Key::Server,
        }
    }

    fn parts(self) -> (i32, String) {
        match self {
            Key::Server => (SERVER, String::new()),
            Key::Database(name) => (DATABASE, name.to_owned()),
            // Names of databases hold no slash.
            Key::Role(name) => (DATABASE, format!("role/{name}")),
        }
    }

    fn what(self) -> String {
        match self {
            Key::Server => format!("database `{REGISTRY}`"),
            Key::Database(name) => format!("database `{name}`"),
            Key::Role(name) => format!("role `{name}`"),
        }
    }
}

/// Takes a lock, polling: a session that blocks in `pg_advisory_lock` holds back what others build concurrently.
pub(super) async fn lock(session: &mut Session, key: Key<'_>) -> Result<(), Error> {
    let begun = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));
    while !call(session, "pg_try_advisory_lock", key).await? {
        if begun.elapsed() > LOCK {
            return Err(Error::Locked { what: key.what(), after: begun.elapsed() });
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
    Ok(())
}

/// Releases a lock, and notices when it was not held: behind a pooler the session may be another one.
pub(super) async fn unlock(session: &mut Session, key: Key<'_>) -> Result<(), Error> {
    if call(session, "pg_advisory_unlock", key).await? { Ok(()) } else { Err(Error::LockLost(key.what())) }
}

async fn call(session: &mut Session, function: &'static str, key: Key<'_>) -> Result<bool, Error> {
    let (class, name) = key.parts();
    let (connection, within) = session.parts();
    let sql = AssertSqlSafe(format!("SELECT {function}($1, hashtext($2))"));
    Ok(within.judge(sqlx::query_scalar(sql).bind(class).bind(name).fetch_one(connection)).await?)
}

/// How database `rollcall` stands, seen from inside it.
pub(super) async fn state(session: &mut Session) -> Result<Registry, Error> {
    let (connection, within) = session.parts();
    let (foreign, complete, closed): (Option<String>, bool, bool) =
        within.judge(sqlx::query_as(STATE).fetch_one(connection)).await?;
    Ok(stands(foreign, complete, closed))
}

/// What [`STATE`] answers, in one word.
pub(super) fn stands(foreign: Option<String>, complete: bool, closed: bool) -> Registry {
    match (foreign, complete, closed) {
        (Some(why), ..) => Registry::Foreign(why),
        (None, true, true) => Registry::Ready,
        (None, true, false) => Registry::Open,
        (None, false, _) => Registry::Unfinished,
    }
}

/// Whether there is a table of records, seen from inside database `rollcall`.
pub(super) async fn has_records(session: &mut Session) -> Result<bool, Error> {
    let (connection, within) = session.parts();
    let asked = sqlx::query_scalar("SELECT to_regclass('rollcall.owned') IS NOT NULL");
    Ok(within.judge(asked.fetch_one(connection)).await?)
}

/// Asks catalogs only: why it is somebody else's, whether it is complete, whether it is closed to everybody else.
pub(super) const STATE: &str = "
SELECT CASE
         WHEN NOT trusted THEN 'it belongs to role ' || quote_ident(owner)
         WHEN owned IS NOT NULL AND owned_by <> datdba THEN 'its table of records belongs to somebody else'
         WHEN owned IS NULL AND strangers > 0 THEN 'it holds other things'
       END,
       owned IS NOT NULL AND shaped AND to_regclass('rollcall.mine') IS NOT NULL AND to_regclass('rollcall.done') IS NOT NULL
         AND to_regclass('rollcall.history') IS NOT NULL AND to_regclass('rollcall.delegated') IS NOT NULL, closed
FROM (
  SELECT d.datdba, o.rolname AS owner, o.rolsuper OR o.rolname = current_user AS trusted,
         to_regclass('rollcall.owned') AS owned,
         (SELECT c.relowner FROM pg_class c WHERE c.oid = to_regclass('rollcall.owned')) AS owned_by,
         4 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = to_regclass('rollcall.owned') AND NOT a.attisdropped
               AND a.attname IN ('system_identifier', 'adopted_at', 'converged', 'leaving_since')) AS shaped,
         (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\\_%') AS strangers,
         NOT EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE a.grantee = 0) AS closed
  FROM pg_database d JOIN pg_roles o ON o.oid = d.datdba
  WHERE d.datname = current_database()
) facts";

/// The tables and the view. Columns are only ever added, with defaults: older versions work beside. `mine` shows an observer what belongs to its own environment.
const SETUP: &str = "
REVOKE ALL ON DATABASE rollcall FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS rollcall;
CREATE TABLE IF NOT EXISTS rollcall.owned (
  kind text NOT NULL CHECK (kind IN ('database', 'role', 'observer')),
  name text NOT NULL,
  environment_uid uuid NOT NULL,
  environment_name text NOT NULL,
  fragment text NOT NULL,
  component text NOT NULL,
  oid oid NOT NULL,
  login text,
  spec_hash text,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  PRIMARY KEY (kind, name)
);
ALTER TABLE rollcall.owned ADD COLUMN IF NOT EXISTS system_identifier text,
  ADD COLUMN IF NOT EXISTS adopted_at timestamptz,
  ADD COLUMN IF NOT EXISTS converged text[] NOT NULL DEFAULT '{}',
  ADD COLUMN IF NOT EXISTS leaving_since timestamptz,
  ADD COLUMN IF NOT EXISTS found_at timestamptz;
CREATE OR REPLACE VIEW rollcall.mine WITH (security_barrier) AS
  SELECT kind, name, fragment, component, oid, login, spec_hash, created_at, finished_at FROM rollcall.owned
  WHERE environment_uid IN (SELECT o.environment_uid FROM rollcall.owned o WHERE o.kind = 'observer' AND o.name = current_user);
GRANT USAGE ON SCHEMA rollcall TO PUBLIC;
GRANT SELECT ON rollcall.mine TO PUBLIC;
COMMENT ON DATABASE rollcall IS 'Rollcall: locks and ownership records of all environments on this server';
";

/// Only a superuser may: nothing can be made in `public`, and no observer can hold our locks.
const SETUP_AS_SUPERUSER: &str = "
DROP SCHEMA IF EXISTS public;
DO $$
DECLARE lock regprocedure;
BEGIN
  FOR lock IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname LIKE 'pg\\_%advisory%' LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', lock);
  END LOOP;
END $$;
";

impl PostgresTarget {
    /// A session in database `rollcall`, which is made where it is missing.
    pub(crate) async fn registry(&self, spec: &ServerSpec) -> Result<Session, Error> {
        let mut session = match self.session(spec).await {
            Err(Error::Postgres(error))
                if matches!(error.kind, ErrorKind::NoDatabase | ErrorKind::Closed) =>
            {
                self.create(spec).await?;
                self.open(spec, REGISTRY).await?
            }
            other => other?,
        };
        match state(&mut session).await? {
            Registry::Ready => return Ok(session),
            Registry::Foreign(why) => {
                return Err(Error::Refused(format!("database `{REGISTRY}` is not Rollcall's own: {why}")));
            }
            Registry::Missing | Registry::Unfinished | Registry::Open => {}
        }
        may_make(spec)?;
        lock(&mut session, Key::Server).await?;
        if matches!(state(&mut session).await?, Registry::Unfinished | Registry::Open) {
            let superuser: bool = {
                let (connection, within) = session.parts();
                let asked = sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user");
                within.judge(asked.fetch_one(connection)).await?
            };
            let closing = if superuser { SETUP_AS_SUPERUSER } else { "" };
            session
                .execute(format!("{SETUP}{}{}{}{closing}", ledger::SETUP, history::SETUP, delegated::SETUP))
                .await?;
        }
        unlock(&mut session, Key::Server).await?;
        Ok(session)
    }

    /// Makes the empty database, closed from its first moment on: nobody may connect before PUBLIC has lost its rights.
    async fn create(&self, spec: &ServerSpec) -> Result<(), Error> {
        may_make(spec)?;
        let mut session = self.open(spec, "postgres").await?;
        let made = session
            .execute("CREATE DATABASE rollcall TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false")
            .await;
        match made {
            // Somebody else made it at the same time.
            Err(error) if error.kind != ErrorKind::Concurrent => return Err(error.into()),
            _ => {}
        }
        let owner: Option<String> = {
            let (connection, within) = session.parts();
            let stranger = "SELECT o.rolname::text FROM pg_database d JOIN pg_roles o ON o.oid = d.datdba \
                            WHERE d.datname = 'rollcall' AND NOT o.rolsuper AND o.rolname <> current_user";
            within.judge(sqlx::query_scalar(stranger).fetch_optional(connection)).await?
        };
        if let Some(owner) = owner {
            return Err(Error::Refused(format!(
                "database `{REGISTRY}` belongs to role `{owner}`; rename or remove it"
            )));
        }
        let open =
            "REVOKE ALL ON DATABASE rollcall FROM PUBLIC; ALTER DATABASE rollcall ALLOW_CONNECTIONS true";
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let mut left = OPENINGS;
        // Several that make it at once open it at once: whoever is beaten does it again.
        loop {
            left -= 1;
            match session.execute(open).await {
                Err(error) if error.kind == ErrorKind::Concurrent && left > 0 => {
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                ended => break ended?,
            }
        }
        session.close().await;
        Ok(())
    }
}

fn may_make(spec: &ServerSpec) -> Result<(), Error> {
    if spec.report_only {
        return Err(Error::Pending(format!(
            "fragment `{}`, which declares {}, is in mode report",
            spec.fragment, spec.component
        )));
    }
    Ok(())
}
