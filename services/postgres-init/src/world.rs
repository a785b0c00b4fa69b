//! Looks and changes: the one part that talks to servers.
//!
//! Every change is made under an advisory lock in database `rollcall`, after looking and deciding again: what two runs,
//! or two environments, decided at the same time is done by one of them, and the other sees it done.

mod change;
pub mod facts;
mod look;
mod passwords;
mod questions;
mod registry;

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::converge::{Fault, Plan, Reconcile};
use chassis::secret::{SecretError, SecretStore};
use lifecycle::document::SecretKey;
use lifecycle::{Component, Evidence, Kind};
use postgres::{ErrorKind, REGISTRY, Server, Session};
use tokio::time::Instant;

use crate::ident::IdentError;
use crate::plan::{self, Step};
use crate::spec::ServerSpec;
use facts::{Password, Shared, World};

/// How long logging in may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the server may work on a statement; and, with the way there and back, how long it is waited for.
const STATEMENT: Duration = Duration::from_mins(1);
const ANSWER: Duration = Duration::from_secs(65);
/// How long an idle session is used again, and how many are kept: as many as work side by side.
const KEPT: Duration = Duration::from_secs(5);
const KEPT_AT_MOST: usize = 4;
/// How often a change is tried when somebody else changes the same thing.
const TRIES: usize = 8;

/// What can go wrong while looking or changing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server, or the way to it.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// The administrator is not let in.
    #[error("{}: {} (SQLSTATE {}); write the administrator's password into {secret} key `{key}`, or correct `admin` in the document", .error.place, .error.said, .error.code)]
    Admin {
        /// What the server says.
        error: Box<postgres::Error>,
        /// Where the password was read.
        secret: Box<Component>,
        /// The key.
        key: String,
    },
    /// A secret.
    #[error(transparent)]
    Secret(Box<SecretError>),
    /// A name that cannot be quoted.
    #[error(transparent)]
    Ident(#[from] IdentError),
    /// Deciding again under the lock came to a refusal.
    #[error("{0}")]
    Refused(String),
    /// Deciding again under the lock came to no decision.
    #[error("{0}")]
    Pending(String),
    /// Somebody else holds the lock.
    #[error("somebody else has been changing {what} for {} s; try again, or see who holds an advisory lock in database `{REGISTRY}`", .after.as_secs())]
    Locked {
        /// What is locked.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The lock was not there when it was to be released.
    #[error("the lock on {0} was lost while it was held; point `host` to the server itself, not to a pooler")]
    LockLost(String),
    /// The server told facts that are not understood.
    #[error("what the server says about {what} is not understood: {said}")]
    Facts {
        /// About what.
        what: &'static str,
        /// Why not.
        said: String,
    },
}

impl From<SecretError> for Error {
    fn from(error: SecretError) -> Self {
        Error::Secret(Box::new(error))
    }
}

impl Error {
    /// Somebody else changes the same thing.
    fn is_race(&self) -> bool {
        matches!(self, Error::Postgres(error) if error.kind == ErrorKind::Concurrent)
    }
}

impl Fault for Error {
    fn is_transient(&self) -> bool {
        match self {
            Error::Postgres(error) => error.is_transient(),
            Error::Secret(error) => error.is_transient(),
            Error::Pending(_) | Error::Locked { .. } => true,
            Error::Admin { .. }
            | Error::Ident(_)
            | Error::Refused(_)
            | Error::LockLost(_)
            | Error::Facts { .. } => false,
        }
    }

    fn code(&self) -> String {
        match self {
            Error::Postgres(error) => error.code.clone(),
            Error::Admin { error, .. } => error.code.clone(),
            _ => String::new(),
        }
    }
}

/// The administrator's login failed: a login role's advice would be wrong for it.
fn not_admitted(error: postgres::Error, password: &SecretKey) -> Error {
    match error.kind {
        ErrorKind::Login => Error::Admin {
            error: Box::new(error),
            secret: Box::new(password.secret.clone()),
            key: password.key.clone(),
        },
        _ => Error::Postgres(error),
    }
}

/// A server that is looked at and changed.
pub struct PostgresTarget {
    secrets: SecretStore,
    idle: Mutex<Vec<(Session, Instant)>>,
}

impl fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTarget").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

impl PostgresTarget {
    /// A server whose credentials are read from `secrets`, anew for each connection.
    pub fn new(secrets: SecretStore) -> Self {
        PostgresTarget { secrets, idle: Mutex::default() }
    }

    /// Logs in as the administrator.
    async fn open(&self, spec: &ServerSpec, database: &str) -> Result<Session, Error> {
        let server = self.server(spec).await?;
        let password = self.password(&spec.admin.password).await?;
        let name = format!("rollcall postgres-init/{}", spec.environment.name);
        let session = Session::open(&server, &spec.admin.role, Some(&password), database, &name, CONNECT);
        let mut session =
            session.await.map_err(|error| not_admitted(error, &spec.admin.password))?.within(ANSWER);
        session
            .execute(format!(
                "SET lock_timeout = '5s'; SET statement_timeout = '{}s'; SET idle_in_transaction_session_timeout = '60s'; \
                 SET search_path = pg_catalog; SET standard_conforming_strings = on",
                STATEMENT.as_secs()
            ))
            .await?;
        Ok(session)
    }

    async fn server(&self, spec: &ServerSpec) -> Result<Server, Error> {
        Ok(Server::resolve(&spec.component, &spec.connection, &spec.namespace, &self.secrets).await?)
    }

    async fn password(&self, key: &SecretKey) -> Result<chassis::SecretValue, Error> {
        Ok(self.secrets.password(&key.secret, &key.key).await?)
    }

    /// A session in database `rollcall`: an idle one, or a new one.
    async fn session(&self, spec: &ServerSpec) -> Result<Session, Error> {
        match self.idle() {
            Some(session) => Ok(session),
            None => self.open(spec, REGISTRY).await,
        }
    }

    fn idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().ok()?;
        idle.retain(|(_, since)| since.elapsed() < KEPT);
        idle.pop().map(|(session, _)| session)
    }

    /// Keeps a session in database `rollcall` that is in order.
    fn keep(&self, session: Session) {
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < KEPT_AT_MOST
        {
            idle.push((session, Instant::now()));
        }
    }

    async fn attempt(&self, spec: &ServerSpec, step: &Step) -> Result<(), Error> {
        let mut session = self.registry(spec).await?;
        let key = match spec.database(&step.component) {
            Some(database) => registry::Key::Database(&database.name),
            None => registry::Key::Server,
        };
        registry::lock(&mut session, key).await?;
        let world = self.look(spec, &mut session, look::Depth::Shared).await?;
        let plan = plan::plan(spec, &world);
        let result = if let Some(note) = plan.refusals.first() {
            Err(Error::Refused(note.text.clone()))
        } else if let Some(note) = plan.pending.first() {
            Err(Error::Pending(note.text.clone()))
        } else if plan.steps.contains(step) || step.change.is_inside() {
            // What is inside was not looked at again: these changes do no harm where they are made already.
            Ok(self.change(spec, &world, &mut session, step).await?)
        } else {
            Ok(())
        };
        registry::unlock(&mut session, key).await?;
        self.keep(session);
        result
    }
}

impl Reconcile for PostgresTarget {
    type Spec = ServerSpec;
    type World = World;
    type Step = Step;
    type Error = Error;

    fn components(spec: &ServerSpec) -> Vec<Component> {
        let databases = spec.databases.iter().map(|database| database.component.clone());
        std::iter::once(spec.component.clone()).chain(databases).collect()
    }

    fn only(spec: &ServerSpec, component: &Component) -> ServerSpec {
        spec.only(component)
    }

    fn reports_only(spec: &ServerSpec, component: &Component) -> bool {
        spec.database(component).map_or(spec.report_only, |database| database.report_only)
    }

    /// A new server of the newest version that has every extension, and Secrets that are all there.
    fn nothing(spec: &ServerSpec) -> World {
        let logins = spec.databases.iter().map(|database| &database.app).chain(&spec.observer);
        World {
            shared: Shared {
                version: 180_000,
                superuser: true,
                available: spec.databases.iter().flat_map(|database| database.extensions.clone()).collect(),
                ..Shared::default()
            },
            passwords: logins.map(|login| (login.role.clone(), Password::Given)).collect(),
            ..World::default()
        }
    }

    async fn observe(&self, spec: &ServerSpec) -> Result<World, Error> {
        self.observe_all(spec).await
    }

    fn plan(spec: &ServerSpec, world: &World) -> Plan<Step> {
        plan::plan(spec, world)
    }

    async fn apply(&self, spec: &ServerSpec, step: &Step) -> Result<(), Error> {
        let spec = spec.only(&step.component);
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        for _ in 1..TRIES {
            match self.attempt(&spec, step).await {
                Err(error) if error.is_race() => tokio::time::sleep(backoff.next_delay()).await,
                other => return other,
            }
        }
        self.attempt(&spec, step).await
    }

    fn evidence(spec: &ServerSpec, world: &World, component: &Component) -> Evidence {
        let level = if component.kind() == Kind::Database { "provisioned" } else { "accepting" };
        let mut evidence = Evidence::level(level).with("started", &world.shared.started);
        evidence.latency = world.latency;
        if let Some(identifier) = &world.shared.system_identifier {
            evidence = evidence.with("system_identifier", identifier);
        }
        match spec.database(component).and_then(|database| world.database(&database.name)) {
            Some(database) => evidence.with("oid", database.oid.to_string()),
            None => evidence,
        }
    }
}
