//! Where migrations meet a server: connections, one statement at a time, locks that are tried and never waited in, and the
//! histories of each dialect.

mod flyway;
mod glance;
mod history;
mod index;
mod journal;
mod lock;
mod look;
mod native;
mod psql;
mod session;
mod units;
mod writers;

use std::time::Duration;

use sqlx::PgConnection;

use crate::Error;
pub use flyway::migrate as migrate_flyway;
pub use glance::{Glance, catalog, glance_flyway, glance_native, glance_psql};
pub use journal::Journal;
pub use native::migrate as migrate_native;
pub use psql::migrate as migrate_psql;
pub use writers::{ONLY_ITS_OWNER, only_its_owner_writes};

/// Makes connections. Whoever has the credentials says who may be connected as whom; every connection logs no statement.
pub trait Connect: Sync {
    /// A new connection to a database: as `user`, or as whoever migrates it where none is named.
    fn connect(
        &self,
        database: &str,
        user: Option<&str>,
    ) -> impl Future<Output = Result<PgConnection, sqlx::Error>> + Send;
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until the lock is ours.
    pub lock: Duration,
    /// One statement.
    pub statement: Duration,
}

impl Default for Limits {
    /// Flyway tries its lock 50 times, a second apart. An index on a large table takes hours.
    fn default() -> Self {
        Limits { lock: Duration::from_secs(50), statement: Duration::from_hours(6) }
    }
}

/// A login takes milliseconds; a server that is starting refuses it at once.
const LOGIN: Duration = Duration::from_secs(30);

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// In this order; empty when nothing was to be done.
    pub done: Vec<String>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
}

pub(crate) async fn connect(
    connect: &impl Connect,
    database: &str,
    user: Option<&str>,
) -> Result<PgConnection, Error> {
    let doing = || match user {
        Some(user) => format!("connecting to database `{database}` as `{user}`"),
        None => format!("connecting to database `{database}`"),
    };
    match tokio::time::timeout(LOGIN, connect.connect(database, user)).await {
        Ok(connected) => connected.map_err(Error::server(doing())),
        Err(_) => Err(Error::Server { doing: doing(), said: crate::error::Said::words("no answer in time") }),
    }
}

/// A question of our own, which a server that is well answers at once.
pub(crate) async fn answered<T>(
    question: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    const WITHIN: Duration = Duration::from_mins(1);
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {WITHIN:?}"));
    tokio::time::timeout(WITHIN, question).await.unwrap_or_else(|_| Err(late().into()))
}
