//! How the administrator logs in: to whoever keeps what a session sets and locks for that session, and to nobody else.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lifecycle::document::SecretKey;
use postgres::{ErrorKind, REGISTRY, Session, UNTOLD};

use super::{CONNECT, Error, PostgresTarget, application};
use crate::spec::ServerSpec;

/// How long the server may work on a statement; and, with the way there and back, how long it is waited for.
const STATEMENT: Duration = Duration::from_mins(1);
pub(super) const ANSWER: Duration = Duration::from_secs(65);
/// Whether database `rollcall` takes connections; NULL where it is not there.
const TAKES: &str = "SELECT (SELECT datallowconn FROM pg_database WHERE datname = $1)";

/// What is known of the way to a server.
#[derive(Default)]
pub(super) struct Known {
    /// The databases in which sessions were proven to stay their own.
    proven: Mutex<BTreeSet<String>>,
    /// Whether a pooler that keeps the reasons of failed logins to itself is on the way.
    untold: AtomicBool,
}

impl PostgresTarget {
    /// Logs in as the administrator. Where locks are kept it is proven first that they would be: behind a pooler that shares
    /// connections there is no session.
    pub(super) async fn open(&self, spec: &ServerSpec, database: &str) -> Result<Session, Error> {
        if database == REGISTRY && self.known.untold.load(Ordering::Relaxed) {
            Box::pin(self.foresee(spec)).await?;
        }
        let mut session = match self.log_in(spec, database).await {
            Err(Error::Postgres(error)) if database == REGISTRY && error.code == UNTOLD => {
                self.known.untold.store(true, Ordering::Relaxed);
                Box::pin(self.foresee(spec)).await?;
                return Err(error.into());
            }
            other => other?,
        };
        if [REGISTRY, "postgres"].contains(&database) {
            Box::pin(self.prove(spec, &mut session)).await?;
        }
        session.execute(settings()).await?;
        Ok(session)
    }

    /// Proves, once for each database, that its sessions stay their own.
    pub(super) async fn prove(&self, spec: &ServerSpec, session: &mut Session) -> Result<(), Error> {
        let database = session.place().database.clone();
        if self.known.proven.lock().unwrap_or_else(PoisonError::into_inner).contains(&database) {
            return Ok(());
        }
        let mut other = self.log_in(spec, &database).await?;
        session.proves_own(&mut other).await?;
        other.close().await;
        self.known.proven.lock().unwrap_or_else(PoisonError::into_inner).insert(database);
        Ok(())
    }

    /// Behind a pooler: fails as a login to database `rollcall` would, with the server's own reason, which only the server's
    /// catalog tells there.
    async fn foresee(&self, spec: &ServerSpec) -> Result<(), Error> {
        let mut session = self.log_in(spec, "postgres").await?;
        Box::pin(self.prove(spec, &mut session)).await?;
        let takes: Option<bool> = {
            let (connection, within) = session.parts();
            within.judge(sqlx::query_scalar(TAKES).bind(REGISTRY).fetch_one(connection)).await?
        };
        let mut place = session.place().clone();
        session.close().await;
        REGISTRY.clone_into(&mut place.database);
        let (kind, said) = match takes {
            Some(true) => return Ok(()),
            Some(false) => (ErrorKind::Closed, "the database takes no connections"),
            None => (ErrorKind::NoDatabase, "the database does not exist"),
        };
        Err(postgres::Error::new(kind, &place, said).into())
    }

    async fn log_in(&self, spec: &ServerSpec, database: &str) -> Result<Session, Error> {
        let server = self.server(spec).await?;
        let password = self.password(&spec.admin.password).await?;
        let name =
            if self.takes_down { "rollcall postgres-init teardown".to_owned() } else { application(spec) };
        let session = Session::open(&server, &spec.admin.role, Some(&password), database, &name, CONNECT);
        Ok(session.await.map_err(|error| not_admitted(error, &spec.admin.password))?.within(ANSWER))
    }
}

/// What a session begins with, in one statement: many are opened.
fn settings() -> String {
    let settings = [
        ("lock_timeout", "5s".to_owned()),
        ("statement_timeout", format!("{}s", STATEMENT.as_secs())),
        ("idle_in_transaction_session_timeout", "60s".to_owned()),
        ("idle_session_timeout", "0".to_owned()),
        ("search_path", "pg_catalog".to_owned()),
        ("standard_conforming_strings", "on".to_owned()),
    ];
    let settings: Vec<String> = settings
        .into_iter()
        .map(|(name, value)| format!("pg_catalog.set_config('{name}', '{value}', false)"))
        .collect();
    format!("SELECT {}", settings.join(", "))
}

/// The administrator's login failed: a login role's advice would be wrong for it.
pub(super) fn not_admitted(error: postgres::Error, password: &SecretKey) -> Error {
    match error.kind {
        ErrorKind::Login => Error::Admin {
            error: Box::new(error),
            secret: Box::new(password.secret.clone()),
            key: password.key.clone(),
        },
        _ => Error::Postgres(error),
    }
}
