//! Looks and changes: the one part that talks to servers.
//!
//! Every change is made under an advisory lock in database `rollcall`, after looking and deciding again: what two runs,
//! or two environments, decided at the same time is done by one of them, and the other sees it done.

mod audit;
mod change;
mod converge;
mod crossing;
pub(crate) mod delegated;
pub mod facts;
mod history;
mod hold;
pub mod ledger;
mod login;
mod look;
mod marks;
mod passwords;
mod questions;
mod registry;
pub mod teardown;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use chassis::converge::{Fault, Making, Plan, Reconcile};
use chassis::provision::Change;
use chassis::secret::{SecretError, SecretStore};
use lifecycle::document::SecretKey;
use lifecycle::{Component, Evidence, Kind};
use postgres::{Encryption, ErrorKind, REGISTRY, Server, Session};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::ident::IdentError;
use crate::plan::{self, Step};
use crate::spec::ServerSpec;
use facts::{Available, Password, Reach, SettingFacts, Shared, World};

pub use audit::Access;
pub use converge::{Client, Converging};

/// How long logging in may take.
const CONNECT: Duration = Duration::from_secs(10);
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
    /// Others use what is to be changed, all the while.
    #[error("{what}: others held it for as long as this was tried ({said}); run it again, at a quieter hour")]
    Busy {
        /// What was to be done.
        what: String,
        /// What the server says.
        said: String,
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
    /// The server has answered, or was not asked: what is connected still is.
    fn is_an_answer(&self) -> bool {
        match self {
            Error::Postgres(error) => !error.code.is_empty(),
            _ => true,
        }
    }

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
            Error::Pending(_) | Error::Locked { .. } | Error::Busy { .. } => true,
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

/// What a session calls itself.
fn application(spec: &ServerSpec) -> String {
    format!("rollcall postgres-init/{}", spec.environment.name)
}

/// A server that is looked at and changed.
pub struct PostgresTarget {
    secrets: SecretStore,
    /// Who changes it, for its history.
    source: String,
    /// It only takes down: whoever takes down is not taken for somebody who provisions.
    takes_down: bool,
    idle: Mutex<Vec<(Session, Instant)>>,
    known: login::Known,
    proven: passwords::Proven,
    /// For sessions that are only for one question each: so many of a process at once.
    turns: Semaphore,
}

impl fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTarget").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

impl PostgresTarget {
    /// A server whose credentials are read from `secrets`, anew for each connection.
    pub fn new(secrets: SecretStore) -> Self {
        PostgresTarget {
            secrets,
            source: "postgres-init".to_owned(),
            takes_down: false,
            idle: Mutex::default(),
            known: login::Known::default(),
            proven: passwords::Proven::default(),
            turns: Semaphore::new(look::AT_ONCE),
        }
    }

    /// The same, changed by this process: `<service>/<instance>`.
    #[must_use]
    pub fn of(self, source: String) -> Self {
        PostgresTarget { source, ..self }
    }

    /// The same, to take down what is there.
    #[must_use]
    pub fn taking_down(self) -> Self {
        PostgresTarget { takes_down: true, ..self }
    }

    async fn server(&self, spec: &ServerSpec) -> Result<Server, Error> {
        let server =
            Server::resolve(&spec.component, &spec.connection, &spec.namespace, &self.secrets).await?;
        Ok(if spec.prefers_tls { Server { tls: Encryption::Prefer, ..server } } else { server })
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

    /// Lets go of the sessions that are idle.
    pub(crate) fn rest(&self) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.clear();
        }
    }

    /// Keeps a session in database `rollcall` that is in order.
    fn keep(&self, session: Session) {
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < KEPT_AT_MOST
        {
            idle.push((session, Instant::now()));
        }
    }
}

impl Reconcile for PostgresTarget {
    type Spec = ServerSpec;
    type World = World;
    type Step = Step;
    type Error = Error;

    fn components(spec: &ServerSpec) -> Vec<Component> {
        let databases = spec.databases.iter().map(|database| database.component.clone());
        let roles = spec.roles.iter().map(|role| role.component.clone());
        std::iter::once(spec.component.clone()).chain(databases).chain(roles).collect()
    }

    fn only(spec: &ServerSpec, component: &Component) -> ServerSpec {
        spec.only(component)
    }

    fn reports_only(spec: &ServerSpec, component: &Component) -> bool {
        let database = spec.database(component).map(|database| database.report_only);
        let role = spec.role(component).map(|role| role.report_only);
        database.or(role).unwrap_or(spec.report_only)
    }

    fn leaves(spec: &ServerSpec, world: &World, component: &Component) -> Option<&'static str> {
        match spec.database(component) {
            Some(database) => plan::leaves(spec, database, world).then_some("left as it is"),
            None if spec.role(component).is_some() => None,
            None => plan::leaves_all(spec, world).then_some("left as it is, for nothing is to be recorded"),
        }
    }

    /// A new server of the newest version that has every extension, and Secrets that are all there.
    fn nothing(spec: &ServerSpec) -> World {
        let extensions = spec.databases.iter().flat_map(|database| &database.extensions);
        let available = extensions.map(|extension| Available {
            name: extension.name.clone(),
            version: extension.version.clone().unwrap_or_default(),
            default: extension.version.is_none(),
            ..Available::default()
        });
        let settings = spec.settings().into_iter().map(|name| SettingFacts {
            name,
            context: Some("user".to_owned()),
            may: true,
        });
        World {
            shared: Shared {
                version: 180_000,
                superuser: true,
                available: available.collect(),
                settings: settings.collect(),
                reach: spec.reaches().then(Reach::default),
                ..Shared::default()
            },
            passwords: spec
                .logins()
                .into_iter()
                .map(|(login, _)| (login.role, Password::Given))
                .chain(spec.delegated_logins().into_iter().map(|(role, _)| (role, Password::Delegated)))
                .collect(),
            ..World::default()
        }
    }

    async fn observe(&self, spec: &ServerSpec) -> Result<World, Error> {
        self.observe_all(spec).await
    }

    fn begins(&self) -> u64 {
        let hash = lifecycle::sha256_hex(&[&self.source]);
        u64::from_str_radix(&hash[..16], 16).unwrap_or_default()
    }

    fn plan(spec: &ServerSpec, world: &World) -> Plan<Step> {
        plan::plan(spec, world)
    }

    async fn apply(&self, spec: &ServerSpec, step: &Step) -> Result<(), Error> {
        let made = self.make_held(spec, std::slice::from_ref(step), &|_| {}).await;
        made.map_err(|(_, error)| error)
    }

    async fn make(
        &self,
        spec: &ServerSpec,
        steps: &[Step],
        tell: &(dyn Fn(Making<'_>) + Sync),
    ) -> Result<(), (usize, Error)> {
        self.make_held(spec, steps, tell).await
    }

    async fn history(
        &self,
        spec: &ServerSpec,
        components: &BTreeSet<Component>,
        limit: usize,
    ) -> Result<Option<Vec<Change>>, Error> {
        let mut session = self.session(spec).await?;
        let changes = history::read(&mut session, spec, components, limit).await?;
        self.keep(session);
        Ok(Some(changes))
    }

    fn evidence(spec: &ServerSpec, world: &World, component: &Component) -> Evidence {
        let level = if component.kind() == Kind::Postgres { "accepting" } else { "provisioned" };
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
