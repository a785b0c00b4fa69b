//! The module's half: asks for what its documents cannot make by themselves, and sees to it that its roles let it in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::exit::chain;
use chassis::grpc::{Traced, channel, show};
use chassis::secret::SecretStore;
use chassis::wire::{ComponentState, Fragment};
use chassis::{Context, Exit, Failure};
use lifecycle::document::{Document, Environment};
use lifecycle::{Component, Kind, Phase};
use postgres::{ErrorKind, Server, Session};
use rollcall_proto::provisioning::v1 as pb;
use rollcall_proto::provisioning::v1::delegation_client::DelegationClient;
use rollcall_proto::provisioning::v1::provision_response::Update;
use tokio::time::Instant;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tracing::{info, warn};

use super::conviction::{Conviction, goes_on};
use super::part::part;
use crate::migrate::spec::connection;
use crate::scram::Verifier;
use crate::spec::{self, Login};

/// How long one login may take.
const CONNECT: Duration = Duration::from_secs(10);
/// What is waited for is said again this often (design §9).
const SAID_AGAIN: Duration = Duration::from_secs(30);
/// Whoever makes things does not answer for so long before a module that has what it needs starts without (design §9).
const AWAY: Duration = Duration::from_secs(10);

/// Has made what these documents declare on servers that others look after, and ends when every component is ready and every
/// role lets its module in; or when something never will be.
pub(crate) async fn provision(
    environment: &Environment,
    address: &str,
    context: &Context,
) -> Result<(), Failure> {
    let secrets = context.secrets_of(environment)?;
    let asker = Arc::new(Asker::new(environment, address, secrets, context)?);
    let mut failures = Vec::new();
    for document in parts(environment) {
        if let Err(failure) = asker.fragment(&document).await {
            failures.push(failure);
        }
    }
    match failures.iter().map(|failure| failure.exit).min_by_key(|exit| *exit as u8) {
        None => Ok(()),
        Some(exit) => {
            let texts: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
            Err(Failure::new(exit, texts.join("\n")))
        }
    }
}

/// The parts of fragments that these documents cannot make by themselves.
fn parts(environment: &Environment) -> Vec<Document> {
    let parts = environment.sources().map(|source| theirs(environment, &source.document));
    parts.filter(|part| !(part.databases.is_empty() && part.roles.is_empty())).collect()
}

/// What of a document others make: on servers of which no document here names an administrator.
pub(crate) fn theirs(environment: &Environment, document: &Document) -> Document {
    let own: BTreeSet<Component> = spec::specs(environment).into_keys().collect();
    part(document, |server| !own.contains(&Component::new(Kind::Postgres, server)))
}

/// The environment in which no migration needs what was asked for: that is there by now, and nobody here could see it.
pub(crate) fn without_made(environment: &Environment) -> Environment {
    let made: BTreeSet<Component> = parts(environment)
        .iter()
        .flat_map(|part| {
            part.databases.keys().map(|name| Component::new(Kind::Database, name)).collect::<Vec<_>>()
        })
        .collect();
    let sources = environment.sources().cloned().map(|mut source| {
        for migration in source.document.migrations.values_mut() {
            migration.needs.retain(|need| !made.contains(&need.component));
        }
        source
    });
    Environment::merge(sources).environment.unwrap_or_else(|| environment.clone())
}

/// How long something is waited for, said on every change and every 30 s.
#[derive(Debug)]
pub(crate) struct Patience {
    backoff: Backoff,
    said: String,
    at: Instant,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Patience { backoff: Backoff::probing(), said: String::new(), at: Instant::now() }
    }

    pub(crate) async fn wait(&mut self, what: &str, why: &str) {
        if self.said != why || self.at.elapsed() >= SAID_AGAIN {
            info!(what, "waits: {why}");
            why.clone_into(&mut self.said);
            self.at = Instant::now();
        }
        tokio::time::sleep(self.backoff.next_delay()).await;
    }
}

/// Whoever asks.
pub(crate) struct Asker<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) address: String,
    channel: Channel,
    pub(crate) secrets: SecretStore,
    pub(crate) context: &'a Context,
}

/// What came of a request.
enum Outcome {
    /// Everything is ready.
    Ready,
    /// It was only reported what would be done.
    Reported,
    /// Nobody answers, and every role lets its module in.
    Degraded,
}

/// A login role and how it stands.
enum Entry {
    Open,
    /// It was not refused, and is not in: its database is missing or closed.
    Outside,
    Closed(Verifier, postgres::Error),
}

impl<'a> Asker<'a> {
    pub(crate) fn new(
        environment: &'a Environment,
        address: &str,
        secrets: SecretStore,
        context: &'a Context,
    ) -> Result<Self, Failure> {
        let wrong = |error| Failure::usage(format!("ROLLCALL_POSTGRES_INIT: {address}: {}", chain(&error)));
        let channel = channel(address).map_err(wrong)?;
        Ok(Asker { environment, address: address.to_owned(), channel, secrets, context })
    }

    pub(crate) fn stub(&self) -> DelegationClient<InterceptedService<Channel, Traced>> {
        DelegationClient::with_interceptor(self.channel.clone(), Traced)
    }

    pub(crate) async fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        show(&mut request, self.context.settings.hub_token_file.as_deref()).await;
        request
    }

    pub(crate) fn source(&self) -> String {
        self.context.source()
    }

    /// One fragment: made, and then its roles, whose passwords only we know.
    async fn fragment(&self, document: &Document) -> Result<(), Failure> {
        if !matches!(self.until_settled(document, Vec::new()).await?, Outcome::Ready) {
            return Ok(());
        }
        let shut = self.shut(document).await?;
        if shut.is_empty() {
            return Ok(());
        }
        for (role, _) in &shut {
            info!(
                role,
                "does not let its module in with the password of its Secret, so it is given that one"
            );
        }
        if !matches!(self.until_settled(document, shut).await?, Outcome::Ready) {
            return Ok(());
        }
        match self.shut(document).await?.first() {
            None => Ok(()),
            Some((role, _)) => Err(Failure::new(
                Exit::NeverWorks,
                format!(
                    "role `{role}` was given the password that its Secret holds and does not let its module in; see `pg_hba.conf` of the \
                     server, and whether somebody else sets its password"
                ),
            )),
        }
    }

    /// The roles that do not let us in with the passwords of their Secrets, each with a verifier of that password.
    async fn shut(&self, document: &Document) -> Result<Vec<(String, Verifier)>, Failure> {
        let mut shut = Vec::new();
        for server in document.uses.postgres.keys() {
            for (component, login, database) in
                spec::logins_of(self.environment, &document.fragment.name, server)
            {
                let server = Component::new(Kind::Postgres, server);
                let mut patience = Patience::new();
                loop {
                    match self.enter(document, &server, &login, &database).await {
                        Ok(Entry::Open | Entry::Outside) => break,
                        Ok(Entry::Closed(verifier, error)) => {
                            tracing::debug!(%component, "{error}");
                            shut.push((login.role.clone(), verifier));
                            break;
                        }
                        Err(failure) if failure.exit == Exit::TryAgain => {
                            patience.wait(&component.to_string(), &failure.message).await;
                        }
                        Err(failure) => return Err(failure),
                    }
                }
            }
        }
        Ok(shut)
    }

    /// Whether every role lets its module into its database, and there is one.
    async fn is_let_in(&self, document: &Document) -> bool {
        let mut any = false;
        for server in document.uses.postgres.keys() {
            let component = Component::new(Kind::Postgres, server);
            for (_, login, database) in spec::logins_of(self.environment, &document.fragment.name, server) {
                let entry = self.enter(document, &component, &login, &database).await;
                if !matches!(entry, Ok(Entry::Open)) {
                    return false;
                }
                any = true;
            }
        }
        any
    }

    async fn enter(
        &self,
        document: &Document,
        server: &Component,
        login: &Login,
        database: &str,
    ) -> Result<Entry, Failure> {
        let failed = |transient: bool, text: String| {
            Failure::new(if transient { Exit::TryAgain } else { Exit::NeverWorks }, text)
        };
        let secret = |error: chassis::secret::SecretError| failed(error.is_transient(), chain(&error));
        let key = &login.password;
        let password = self.secrets.password(&key.secret, &key.key).await.map_err(secret)?;
        let verifier = Verifier::of(password.expose_text().unwrap_or_default())
            .map_err(|why| failed(false, format!("{} key `{}` {why}", key.secret, key.key)))?;
        let (spec, namespace) = connection(self.environment, document, server)
            .ok_or_else(|| Failure::usage(format!("no document here says how {server} is reached")))?;
        let server = Server::resolve(server, &spec, &namespace, &self.secrets).await.map_err(secret)?;
        let opened =
            Session::open(&server, &login.role, Some(&password), database, "rollcall postgres-init", CONNECT)
                .await;
        match opened {
            Ok(session) => {
                session.close().await;
                Ok(Entry::Open)
            }
            Err(error) => match error.kind {
                ErrorKind::NoDatabase | ErrorKind::NoConnect | ErrorKind::Closed => Ok(Entry::Outside),
                ErrorKind::Login => Ok(Entry::Closed(verifier, error)),
                _ => Err(failed(error.is_transient(), error.to_string())),
            },
        }
    }

    /// Asks until everything is settled.
    async fn until_settled(
        &self,
        document: &Document,
        verifiers: Vec<(String, Verifier)>,
    ) -> Result<Outcome, Failure> {
        let what = format!("fragment `{}`", document.fragment.name);
        let mut patience = Patience::new();
        let mut conviction = Conviction::new(&self.context.settings);
        let mut away: Option<Instant> = None;
        loop {
            let mut heard = false;
            let status = match self.once(document, &verifiers, &mut heard).await {
                Ok(outcome) => return outcome,
                Err(status) => status,
            };
            if conviction.is_hopeless(&status, heard, Instant::now()) {
                return Err(Failure::new(
                    Exit::NeverWorks,
                    format!("{what}: {} refuses it: {}", self.address, status.message()),
                ));
            }
            if heard || !matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) {
                away = None;
            } else if away.get_or_insert_with(Instant::now).elapsed() >= AWAY
                && verifiers.is_empty()
                && self.is_let_in(document).await
            {
                warn!(
                    what,
                    "degraded: {} does not answer ({}), so nobody knows whether everything is as it is declared; every role lets its \
                     module in, so that starts",
                    self.address,
                    plainly(&status)
                );
                return Ok(Outcome::Degraded);
            }
            if goes_on(&status, heard) {
                patience = Patience::new();
            }
            patience.wait(&what, &format!("{}: {}", self.address, plainly(&status))).await;
        }
    }

    /// One request. `Err` when it came to no end, and whether anything was `heard` before.
    async fn once(
        &self,
        document: &Document,
        verifiers: &[(String, Verifier)],
        heard: &mut bool,
    ) -> Result<Result<Outcome, Failure>, Status> {
        let fragment =
            Fragment::try_from(document).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let verifiers = verifiers.iter().map(|(role, verifier)| pb::RoleVerifier {
            role: role.clone(),
            verifier: verifier.expose().to_owned(),
        });
        let message = pb::ProvisionRequest {
            fragment: Some((&fragment).into()),
            verifiers: verifiers.collect(),
            source: self.source(),
        };
        let mut updates = self.stub().provision(self.request(message).await).await?.into_inner();
        let mut states = std::collections::BTreeMap::new();
        loop {
            let Some(update) = updates.message().await? else {
                return Err(Status::unavailable("it ended before everything was settled"));
            };
            *heard = true;
            match update.update {
                Some(Update::Line(line)) => info!(component = line.component, "{}", line.text),
                Some(Update::State(state)) => {
                    let state = ComponentState::try_from(state)
                        .map_err(|error| Status::internal(error.to_string()))?;
                    tell(&state);
                    states.insert(state.component.clone(), state);
                }
                Some(Update::Settled(_)) => break,
                // A newer server says more.
                None => {}
            }
        }
        let own = |state: &&ComponentState| state.component.kind() != Kind::Postgres;
        let refused: Vec<String> = states
            .values()
            .filter(own)
            .filter(|state| state.phase == Some(Phase::Failed))
            .map(|state| format!("{}: {}", state.component, state.reason))
            .collect();
        if !refused.is_empty() {
            return Ok(Err(Failure::new(Exit::NeverWorks, refused.join("\n"))));
        }
        if let Some(missing) = components(document).find(|component| !states.contains_key(component)) {
            return Err(Status::unavailable(format!("nothing was said of {missing}")));
        }
        let ready = states.values().filter(own).all(|state| state.phase == Some(Phase::Ready));
        Ok(Ok(if ready { Outcome::Ready } else { Outcome::Reported }))
    }
}

/// A status for people: its code, what was said, and what that came of.
pub(crate) fn plainly(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    if let Some(cause) = std::error::Error::source(status) {
        text = format!("{text}: {}", chain(cause));
    }
    text
}

/// What is asked for with a document.
fn components(document: &Document) -> impl Iterator<Item = Component> {
    let databases = document.databases.keys().map(|name| Component::new(Kind::Database, name));
    databases.chain(document.roles.keys().map(|name| Component::new(Kind::Role, name)))
}

fn tell(state: &ComponentState) {
    let component = &state.component;
    match state.phase {
        Some(Phase::Ready) => info!(%component, "ready"),
        Some(phase @ (Phase::Failed | Phase::Working)) => warn!(%component, "{phase}: {}", state.reason),
        Some(phase) => info!(%component, "{phase}: {}", state.reason),
        None => info!(%component, "{}", state.reason),
    }
}
