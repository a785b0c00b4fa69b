//! Probes: how a component's readiness is observed. Each is a definition (what is asked, of whom, for which answer) and
//! one bounded look. A probe passes only on the answer it asks for; whatever else happens is "not yet", with the state
//! it was found in and the error in the peer's own words.

mod client;
mod greeting;
mod grpc;
mod http;
mod kafka;
mod keycloak;
mod net;
mod postgres;
mod secret;
mod tcp;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use chassis::secret::SecretStore;
use lifecycle::{Component, Evidence};
use tokio::time::{Instant, timeout};

pub use client::Client;
pub use grpc::Grpc;
pub use http::Http;
pub use kafka::Kafka;
pub use keycloak::Keycloak;
pub use postgres::{Authority, Encryption, Login, Migrated, Observed, Password, Server};
pub use secret::Secret;
pub use tcp::Tcp;

/// How long one look may take. Long enough for TLS and SASL across zones; a peer that is slower is not ready.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// A probe's definition. Two equal definitions see the same, so one prober serves both. Holds no secret value in
/// `Display` and `Debug`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp(Tcp),
    /// An HTTP GET is answered as expected.
    Http(Http),
    /// `grpc.health.v1` says SERVING.
    Grpc(Grpc),
    /// Keycloak serves a realm.
    Keycloak(Keycloak),
    /// Keycloak lets a client in.
    Client(Client),
    /// A `PostgreSQL` server takes connections.
    Server(Server),
    /// A role logs in to a database and could write.
    Login(Login),
    /// A migration is done, as a module's own login sees it in its database.
    Migrated(Migrated),
    /// A database and its roles are there, or something is done, as the hub's observer sees it.
    Observed(Observed),
    /// A Kafka cluster has its brokers, or a topic its leaders.
    Kafka(Kafka),
    /// A Secret holds its keys.
    Secret(Secret),
}

impl Probe {
    /// The Secrets and ConfigMaps that a look reads.
    pub fn reads(&self) -> BTreeSet<Component> {
        match self {
            // Whether a server takes connections is seen before any certificate is.
            Probe::Tcp(_) | Probe::Http(_) | Probe::Grpc(_) | Probe::Keycloak(_) | Probe::Server(_) => {
                BTreeSet::new()
            }
            Probe::Client(probe) => probe.reads().cloned().collect(),
            Probe::Login(probe) => probe.server.reads().chain(probe.password.reads()).cloned().collect(),
            Probe::Migrated(Migrated { login, .. }) => {
                login.server.reads().chain(login.password.reads()).cloned().collect()
            }
            Probe::Observed(probe) => probe.server.reads().chain(probe.password.reads()).cloned().collect(),
            Probe::Kafka(probe) => probe.reads().cloned().collect(),
            Probe::Secret(probe) => [probe.secret.clone()].into(),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Tcp(probe) => probe.fmt(f),
            Probe::Http(probe) => probe.fmt(f),
            Probe::Grpc(probe) => probe.fmt(f),
            Probe::Keycloak(probe) => probe.fmt(f),
            Probe::Client(probe) => probe.fmt(f),
            Probe::Server(probe) => probe.fmt(f),
            Probe::Login(probe) => probe.fmt(f),
            Probe::Migrated(probe) => probe.fmt(f),
            Probe::Observed(probe) => probe.fmt(f),
            Probe::Kafka(probe) => probe.fmt(f),
            Probe::Secret(probe) => probe.fmt(f),
        }
    }
}

/// In which state something that is not ready was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Its name has no address.
    Unresolved,
    /// Nothing listens, or the way there is closed.
    Refused,
    /// No answer within [`DEADLINE`].
    TimedOut,
    /// It answers, but not in the way of something that works: starting up, another protocol, a broken connection.
    Rejecting,
    /// It does not let us in.
    Denied,
    /// It works and does not have what is asked for.
    Absent,
    /// It says itself that it is not well, or gives another answer than asked for.
    Unhealthy,
    /// It could not be looked at.
    Unknown,
    /// Whoever looks has no way to: somebody else has to tell.
    Unobservable,
}

impl State {
    /// The state's name.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Unresolved => "unresolved",
            State::Refused => "refused",
            State::TimedOut => "timed out",
            State::Rejecting => "rejecting",
            State::Denied => "denied",
            State::Absent => "absent",
            State::Unhealthy => "unhealthy",
            State::Unknown => "unknown",
            State::Unobservable => "unobservable",
        }
    }

    /// What a person should look at; nothing where the error says it itself.
    pub fn advice(self) -> &'static str {
        match self {
            State::Unresolved => "check the host's name; does its Service exist, and in which namespace?",
            State::Refused => "check that it is started and that host and port are right",
            State::TimedOut => {
                "check that it does not hang, and that no firewall or NetworkPolicy drops the packets"
            }
            State::Rejecting => "look into its log: it is reached and does not serve",
            State::Denied => {
                "check user, password and permissions; or what would make the role has not run yet"
            }
            State::Absent => "check the name; or what would make it has not run yet",
            State::Unhealthy => "look into its log: it answers and says that it is not ready",
            State::Unknown => "mend what keeps the waiter itself from looking",
            State::Unobservable => "",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A probe that did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{state}: {error}")]
pub struct NotYet {
    /// The state it was found in.
    pub state: State,
    /// The error in the peer's own words. Never a secret value.
    pub error: String,
    /// The error's code as the peer gives it: an SQLSTATE, an HTTP status; empty when there is none.
    pub code: String,
    /// It will never work by itself.
    pub never: bool,
    /// It says nothing about what was looked at: whoever looked was not let near it.
    pub blind: bool,
}

impl NotYet {
    /// Not yet: found in `state`, because of `error`.
    pub fn new(state: State, error: impl fmt::Display) -> Self {
        NotYet {
            state,
            error: error.to_string(),
            code: String::new(),
            never: false,
            blind: matches!(state, State::Unknown | State::Unobservable),
        }
    }

    /// The same with the peer's error code.
    #[must_use]
    pub fn code(self, code: impl fmt::Display) -> Self {
        NotYet { code: code.to_string(), ..self }
    }

    /// The same, and it will never work by itself.
    #[must_use]
    pub fn never(self) -> Self {
        NotYet { never: true, ..self }
    }

    /// The same, and it says nothing about what was looked at.
    #[must_use]
    pub fn blind(self) -> Self {
        NotYet { blind: true, ..self }
    }

    /// No answer within [`DEADLINE`].
    fn timed_out() -> Self {
        NotYet::new(State::TimedOut, format!("no answer within {} s", DEADLINE.as_secs()))
    }

    /// What was seen, as evidence.
    pub fn evidence(&self) -> Evidence {
        Evidence { error: self.to_string(), error_code: self.code.clone(), ..Evidence::default() }
    }
}

/// Looks once, within [`DEADLINE`]. Reads what [`Probe::reads`] names, and nothing else.
pub async fn probe(probe: &Probe, secrets: &SecretStore) -> Result<Evidence, NotYet> {
    let started = Instant::now();
    let secrets = &secrets.only(probe.reads());
    let look = async {
        match probe {
            Probe::Tcp(probe) => probe.look().await,
            Probe::Http(probe) => probe.look().await,
            Probe::Grpc(probe) => probe.look().await,
            Probe::Keycloak(probe) => probe.look().await,
            Probe::Client(probe) => probe.look(secrets).await,
            Probe::Server(probe) => probe.look().await,
            Probe::Login(probe) => probe.look(secrets).await,
            Probe::Migrated(probe) => probe.look(secrets).await,
            Probe::Observed(probe) => probe.look(secrets).await,
            Probe::Kafka(probe) => probe.look(secrets).await,
            Probe::Secret(probe) => probe.look(secrets).await,
        }
    };
    match timeout(DEADLINE, look).await {
        Ok(seen) => seen.map(|evidence| Evidence { latency: started.elapsed(), ..evidence }),
        Err(_) => Err(NotYet::timed_out()),
    }
}

/// Gives rustls its cryptography, once for the process. Whoever comes second keeps what is there.
fn install_crypto() {
    // It fails only when a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
pub(crate) mod faults;
