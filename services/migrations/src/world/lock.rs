//! A lock on a connection of its own: no statement of a migration can let it go, and no `CREATE INDEX CONCURRENTLY` waits
//! for whoever waits for it.

use std::time::Duration;

use rand::RngExt;
use sqlx::{Connection, PgConnection};
use tokio::time::Instant;

use super::{Connect, answered, connect};
use crate::Error;

/// How often the lock is tried. A session that waited in `pg_advisory_lock` would hold a snapshot, for which the holder's
/// `CREATE INDEX CONCURRENTLY` would wait for ever.
const TRY: Duration = Duration::from_millis(200);

/// An advisory lock that is held until it is released, or its connection ends.
pub(crate) struct Lock {
    connection: PgConnection,
    number: i64,
    what: String,
}

impl Lock {
    /// Takes the lock, within `within`.
    pub(crate) async fn take(
        to: &impl Connect,
        database: &str,
        number: i64,
        what: String,
        within: Duration,
    ) -> Result<Lock, Error> {
        let mut connection = connect(to, database, None).await?;
        // It says nothing for as long as a statement runs on the other connection.
        let quiet = sqlx::raw_sql("SET idle_session_timeout = 0").execute(&mut connection);
        answered(quiet).await.map_err(Error::server(format!("taking {what}")))?;
        let begun = Instant::now();
        loop {
            let tried = sqlx::query_scalar("SELECT pg_catalog.pg_try_advisory_lock($1)")
                .bind(number)
                .persistent(false);
            let tried = answered(tried.fetch_one(&mut connection)).await;
            if tried.map_err(Error::server(format!("taking {what}")))? {
                return Ok(Lock { connection, number, what });
            }
            if begun.elapsed() >= within {
                return Err(Error::Busy { what, waited: within });
            }
            let jitter = rand::rng().random_range(0.5..1.5);
            tokio::time::sleep(TRY.mul_f64(jitter)).await;
        }
    }

    /// The connection that holds it, for records that are written beside what runs.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Makes sure that it is still ours: a connection that was cut has let it go.
    pub(crate) async fn check(&mut self) -> Result<(), Error> {
        let held = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
             AND pid = pg_catalog.pg_backend_pid() AND (classid::bigint << 32) | objid::bigint = $1)";
        let held = sqlx::query_scalar(held).bind(self.number).persistent(false);
        let held = answered(held.fetch_one(&mut self.connection)).await;
        if held.unwrap_or(false) { Ok(()) } else { Err(Error::LostLock(self.what.clone())) }
    }

    /// Lets it go.
    pub(crate) async fn release(self) {
        // A connection that does not hear goodbye ends all the same, and its locks with it.
        let _ = self.connection.close().await;
    }
}
