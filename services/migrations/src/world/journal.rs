//! The journal's table.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{answered, only_its_owner_writes};
use crate::Error;
use crate::error::Said;
use crate::journal::{Begun, Entry, Fate, State};
use crate::quote::identifier;

/// A journal's table, by the name of what is migrated: several may share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// The schema it is in; made if it is not there.
    pub schema: String,
    /// The table; made if it is not there.
    pub table: String,
    /// What is migrated.
    pub migration: String,
}

/// Begun entries are written before anything runs.
pub(super) struct NewEntry<'a> {
    pub(super) script: &'a str,
    pub(super) version: Option<&'a str>,
    pub(super) checksum: &'a str,
    pub(super) state: State,
    pub(super) done: usize,
    pub(super) prefix: &'a str,
}

impl Journal {
    fn name(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.table))
    }

    fn failed(&self, doing: &str) -> impl FnOnce(sqlx::Error) -> Error + use<> {
        Error::server(format!("{doing} the journal {}", self.name()))
    }

    /// The number of the lock under which it is written: of the table and what is migrated, apart from Flyway's and all others.
    pub(super) fn lock_number(&self) -> i64 {
        let digest = crate::journal::sha256([self.name().as_bytes(), self.migration.as_bytes()]);
        // Sixty bits of it.
        i64::from_str_radix(&digest[..15], 16).unwrap_or_default()
    }

    /// Its entries, in the order of their ids; none when there is no such table.
    pub(super) async fn read(&self, connection: &mut PgConnection) -> Result<Option<Vec<Entry>>, Error> {
        let there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2)";
        let there = sqlx::query_scalar(there).bind(&self.schema).bind(&self.table).persistent(false);
        let there: bool =
            answered(there.fetch_one(&mut *connection)).await.map_err(self.failed("looking for"))?;
        if !there {
            return Ok(None);
        }
        let sql = format!(
            "SELECT id, script, version, checksum, state, done, prefix, begun, transaction FROM {} WHERE migration = $1 ORDER BY id",
            self.name()
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(&self.migration).persistent(false);
        let rows = answered(rows.fetch_all(connection)).await.map_err(self.failed("reading"))?;
        rows.iter().map(|row| self.entry(row)).collect::<Result<_, _>>().map(Some)
    }

    fn entry(&self, row: &sqlx::postgres::PgRow) -> Result<Entry, Error> {
        let unreadable = |said: String| Error::Server {
            doing: format!("reading the journal {}", self.name()),
            said: Said::words(said),
        };
        let count =
            |n: i32| usize::try_from(n).map_err(|_| unreadable(format!("{n} is no number of statements")));
        let read = |row: &sqlx::postgres::PgRow| -> Result<_, sqlx::Error> {
            let begun: Option<i32> = row.try_get(7)?;
            let state: String = row.try_get(4)?;
            let done: i32 = row.try_get(5)?;
            let entry = Entry {
                id: row.try_get(0)?,
                script: row.try_get(1)?,
                version: row.try_get(2)?,
                checksum: row.try_get(3)?,
                state: State::Running,
                done: 0,
                prefix: row.try_get(6)?,
                begun: None,
            };
            Ok((entry, state, done, begun, row.try_get::<Option<String>, _>(8)?))
        };
        let (entry, state, done, begun, transaction) = read(row).map_err(self.failed("reading"))?;
        let state = State::parse(&state).ok_or_else(|| unreadable(format!("`{state}` is no state")))?;
        let begun = begun.map(count).transpose()?.map(|unit| Begun { unit, transaction });
        Ok(Entry { state, done: count(done)?, begun, ..entry })
    }

    /// What became of the transaction that an open entry had begun.
    pub(super) async fn fate(
        connection: &mut PgConnection,
        entries: &[Entry],
    ) -> Result<Option<Fate>, Error> {
        let open = entries
            .iter()
            .filter(|entry| entry.is_open())
            .find_map(|entry| entry.begun.as_ref()?.transaction.clone());
        let Some(transaction) = open else { return Ok(None) };
        let asked = sqlx::query_scalar("SELECT pg_catalog.pg_xact_status($1::xid8)")
            .bind(transaction)
            .persistent(false);
        let status: Option<String> = answered(asked.fetch_one(connection))
            .await
            .map_err(Error::server("asking what became of a transaction"))?;
        Ok(Some(match status.as_deref() {
            Some("committed") => Fate::Committed,
            Some("aborted") => Fate::Aborted,
            Some("in progress") => Fate::Running,
            _ => Fate::Forgotten,
        }))
    }

    /// Makes the table, and the schema where that is missing.
    pub(super) async fn create(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let (name, schema) = (self.name(), identifier(&self.schema));
        let sql = format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE IF NOT EXISTS {name} (
                 id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 migration text NOT NULL,
                 script text NOT NULL,
                 version text,
                 checksum text NOT NULL,
                 state text NOT NULL CHECK (state IN ('running', 'failed', 'done', 'baseline')),
                 done int NOT NULL,
                 prefix text NOT NULL,
                 begun int,
                 transaction text,
                 code text,
                 run_by text NOT NULL DEFAULT current_user,
                 started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                 ended_at timestamptz
             );
             {}",
            only_its_owner_writes(&name)
        );
        answered(sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection))
            .await
            .map(drop)
            .map_err(self.failed("making"))
    }

    /// Writes a new entry; its id.
    pub(super) async fn add(
        &self,
        connection: &mut PgConnection,
        entry: &NewEntry<'_>,
    ) -> Result<i64, Error> {
        let sql = format!(
            "INSERT INTO {} (migration, script, version, checksum, state, done, prefix, ended_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $5 IN ('done', 'baseline') THEN clock_timestamp() END) RETURNING id",
            self.name()
        );
        let query = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&self.migration)
            .bind(entry.script)
            .bind(entry.version)
            .bind(entry.checksum)
            .bind(entry.state.as_str())
            .bind(number(entry.done))
            .bind(entry.prefix)
            .persistent(false);
        answered(query.fetch_one(connection)).await.map_err(self.failed("writing to"))
    }

    /// Writes how a run stands.
    pub(super) async fn update(
        &self,
        connection: &mut PgConnection,
        entry: &Entry,
        code: Option<&str>,
    ) -> Result<(), Error> {
        let sql = format!(
            "UPDATE {} SET state = $2, done = $3, prefix = $4, begun = $5, transaction = $6, code = $7, checksum = $8, \
             ended_at = CASE WHEN $2 = 'running' THEN NULL ELSE clock_timestamp() END WHERE id = $1",
            self.name()
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(entry.id)
            .bind(entry.state.as_str())
            .bind(number(entry.done))
            .bind(&entry.prefix)
            .bind(entry.begun.as_ref().map(|begun| number(begun.unit)))
            .bind(entry.begun.as_ref().and_then(|begun| begun.transaction.as_deref()))
            .bind(code)
            .bind(&entry.checksum)
            .persistent(false);
        answered(query.execute(connection)).await.map(drop).map_err(self.failed("writing to"))
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
