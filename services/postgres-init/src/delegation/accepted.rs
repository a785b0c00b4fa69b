//! The fragments that were accepted, and the environment with them: read from the servers, and written there first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::exit::chain;
use chassis::grpc::Identity;
use chassis::secret::SecretStore;
use chassis::shutdown::Shutdown;
use lifecycle::document::{Document, Environment};
use lifecycle::{Component, Kind};
use tokio::sync::watch;
use tracing::{info, warn};

use super::judge::{Denied, judge};
use super::{rules, union};
use crate::spec::{self, Given, ServerSpec};
use crate::world::delegated::{Accepting, Kept};
use crate::world::{Error, PostgresTarget};

/// What was accepted on the servers that delegate.
#[derive(Debug)]
pub(crate) struct Accepted {
    mounted: Environment,
    secrets: SecretStore,
    source: String,
    servers: BTreeMap<Component, Delegating>,
    /// What stands on each server; a server is missing until it was read.
    kept: Mutex<BTreeMap<Component, Vec<Kept>>>,
    joined: watch::Sender<Environment>,
}

/// A server that delegates.
#[derive(Debug)]
struct Delegating {
    target: PostgresTarget,
    /// Its own part.
    spec: ServerSpec,
    /// Held from reading what stands there until it is learned, so that nothing older is learned later; and so that many who
    /// ask take one session.
    alone: tokio::sync::Mutex<()>,
}

/// The fragments of an environment that are not among the mounted ones: those that asked.
pub(crate) fn delegated(environment: &Environment, mounted: &Environment) -> BTreeSet<String> {
    let names = |of: &Environment| -> BTreeSet<String> {
        of.sources().map(|source| source.document.fragment.name.clone()).collect()
    };
    names(environment).difference(&names(mounted)).cloned().collect()
}

/// Whether a fragment is in an environment, in this version.
fn holds(environment: &Environment, asked: &Document) -> bool {
    environment.sources().any(|source| source.document == *asked)
}

impl Accepted {
    /// Nothing yet, beside the mounted documents.
    pub(crate) fn new(mounted: &Environment, secrets: &SecretStore, source: &str) -> Self {
        let delegates: BTreeSet<Component> = mounted
            .postgres()
            .filter(|server| !server.spec.delegate.is_empty())
            .map(|server| server.component)
            .collect();
        let servers = spec::specs(mounted).into_iter().filter(|(server, _)| delegates.contains(server));
        let servers = servers.map(|(server, spec)| {
            let spec = ServerSpec { observer: None, ..spec.only(&server) };
            let target = PostgresTarget::new(secrets.only(spec.reads())).of(source.to_owned());
            (server, Delegating { target, spec, alone: tokio::sync::Mutex::default() })
        });
        Accepted {
            mounted: mounted.clone(),
            secrets: secrets.clone(),
            source: source.to_owned(),
            servers: servers.collect(),
            kept: Mutex::default(),
            joined: watch::Sender::new(mounted.clone()),
        }
    }

    /// The environment with what joined it, at any time.
    pub(crate) fn joined(&self) -> watch::Receiver<Environment> {
        self.joined.subscribe()
    }

    /// The environment of the documents that are mounted.
    pub(crate) fn mounted(&self) -> &Environment {
        &self.mounted
    }

    /// How the Secrets of the mounted documents are read.
    pub(crate) fn secrets(&self) -> &SecretStore {
        &self.secrets
    }

    /// Who works here: `<service>/<instance>`.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Reads what was accepted, again and again: other instances accept too.
    pub(crate) async fn keep(&self, resync: Duration, shutdown: Shutdown) {
        let mut backoff = Backoff::reconnecting();
        let mut said = String::new();
        while !shutdown.is_requested() {
            let delay = match self.refresh().await {
                Ok(()) => {
                    backoff.reset();
                    said.clear();
                    resync
                }
                Err(error) => {
                    let text = chain(&error);
                    if text != said {
                        warn!("what modules asked for cannot be read yet: {text}");
                        said = text;
                    }
                    backoff.next_delay()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = shutdown.requested() => {}
            }
        }
    }

    async fn refresh(&self) -> Result<(), Error> {
        let mut failed = None;
        for (server, Delegating { target, spec, alone }) in &self.servers {
            let _alone = alone.lock().await;
            match target.kept(spec).await {
                Ok(kept) => self.learn(server, kept),
                // One server that is away does not hide what stands on the others.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// This stands on a server.
    fn learn(&self, server: &Component, kept: Vec<Kept>) {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(server) == Some(&kept) {
            return;
        }
        all.insert(server.clone(), kept);
        let latest = latest(&all);
        drop(all);
        let union::Joined { environment, left, .. } = union::join(&self.mounted, &latest);
        for why in left.values().flatten() {
            warn!("left out: {why}");
        }
        self.joined.send_if_modified(|joined| {
            let changed = *joined != environment;
            *joined = environment;
            changed
        });
    }

    /// The versions of fragments that count.
    pub(crate) fn latest(&self) -> Vec<Kept> {
        latest(&self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a fragment, where the environment allows it and lets the caller ask for it, in the place of an earlier version of it. The
    /// environment with it.
    pub(crate) async fn accept(
        &self,
        asked: &Document,
        by: &str,
        caller: Option<&Identity>,
    ) -> Result<Environment, Denied> {
        if let Some(environment) = self.standing(asked) {
            return Ok(environment);
        }
        if let Some(server) = self.servers.keys().find(|server| !self.was_read(server)) {
            return Err(Denied::Later(format!("what was accepted on {server} was not read yet")));
        }
        // What needs no server to be refused.
        judge(&self.mounted, &self.latest(), asked, caller)?;
        let text = asked.canonical_json().map_err(|error| Denied::Never(error.to_string()))?;
        for name in rules::servers(asked) {
            let found = self.servers.iter().find(|(server, _)| server.name() == name);
            let Some((server, Delegating { target, spec, alone })) = found else {
                return Err(Denied::Never(format!("postgres/{name} delegates nothing")));
            };
            let _alone = alone.lock().await;
            let mut accepting = target.accepting(spec).await?;
            self.learn(server, accepting.kept.clone());
            judge(&self.mounted, &self.latest(), asked, caller)?;
            self.whose(&mut accepting, asked, caller).await?;
            self.bounds(&name, &mut accepting, asked, caller).await?;
            let kept = accepting.write(asked, &text, by).await?;
            self.learn(server, kept);
        }
        info!(fragment = asked.fragment.name, namespace = asked.fragment.namespace, "accepted, from {by}");
        let environment = self.joined.borrow().clone();
        if holds(&environment, asked) {
            return Ok(environment);
        }
        let mut left = union::join(&self.mounted, &self.latest()).left;
        let why = left.remove(&asked.fragment.name).map(|why| why.join("\n"));
        Err(why.map_or_else(
            || Denied::Later("another version of it was accepted at the same time".to_owned()),
            Denied::Clash,
        ))
    }

    /// The environment, where this very version stands on every server that it asks something of, and joined.
    fn standing(&self, asked: &Document) -> Option<Environment> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = rules::servers(asked).iter().all(|name| {
            let kept = kept.get(&Component::new(Kind::Postgres, name));
            kept.is_some_and(|kept| kept.iter().any(|kept| kept.document.as_ref() == Some(asked)))
        });
        drop(kept);
        let joined = self.joined.borrow();
        (stands && holds(&joined, asked)).then(|| joined.clone())
    }

    /// What was made for a fragment of this name goes only to whom the documents name, unless it was asked for like this before.
    async fn whose(
        &self,
        accepting: &mut Accepting<'_>,
        asked: &Document,
        caller: Option<&Identity>,
    ) -> Result<(), Denied> {
        let name = &asked.fragment.name;
        if accepting.stands(name) || rules::is_named(&self.mounted, asked, caller) {
            return Ok(());
        }
        if accepting.was_made(name).await? {
            return Err(Denied::Never(format!(
                "things were made for fragment `{name}`, and it does not stand as accepted, so it did not ask for \
                 them; to hand them to namespace {}, name the fragment under `fragments` of the rule that delegates to it",
                asked.fragment.namespace
            )));
        }
        Ok(())
    }

    /// What is recorded counts until somebody drops it, whatever newer versions declare.
    async fn bounds(
        &self,
        server: &str,
        accepting: &mut Accepting<'_>,
        asked: &Document,
        caller: Option<&Identity>,
    ) -> Result<(), Denied> {
        let namespace = &asked.fragment.namespace;
        let recorded = accepting.recorded(&asked.fragment.name, namespace).await?;
        let there: Vec<&Kept> = accepting.kept.iter().filter(|kept| kept.namespace == *namespace).collect();
        let refused = rules::refusals_here(&self.mounted, server, &there, recorded, asked, caller);
        if refused.is_empty() { Ok(()) } else { Err(Denied::Never(refused.join("\n"))) }
    }

    fn was_read(&self, server: &Component) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).contains_key(server)
    }

    /// What should be of one fragment, on each server, and what makes it.
    pub(crate) fn targets(
        &self,
        environment: &Environment,
        fragment: &str,
    ) -> Vec<(PostgresTarget, ServerSpec)> {
        let delegated = delegated(environment, &self.mounted);
        let specs = spec::specs(environment).into_values().map(|spec| {
            let databases = spec.databases.iter().filter(|database| database.fragment == fragment);
            let roles = spec.roles.iter().filter(|role| role.fragment == fragment);
            ServerSpec {
                observer: None,
                databases: databases.cloned().collect(),
                roles: roles.cloned().collect(),
                delegated: delegated.clone(),
                // What others declare no more is not told to who asks for this one.
                given: Given { fragments: [fragment.to_owned()].into(), ..spec.given.clone() },
                ..spec
            }
        });
        let specs = specs.filter(|spec| !(spec.databases.is_empty() && spec.roles.is_empty()));
        let target = |spec: ServerSpec| {
            (PostgresTarget::new(self.secrets.only(spec.reads())).of(self.source.clone()), spec)
        };
        specs.map(target).collect()
    }
}

/// Of a fragment that stands on several servers the version that was accepted last; those that were there first come first.
fn latest(kept: &BTreeMap<Component, Vec<Kept>>) -> Vec<Kept> {
    let mut latest: BTreeMap<&str, Kept> = BTreeMap::new();
    for one in kept.values().flatten() {
        let known = latest.entry(&one.fragment).or_insert_with(|| one.clone());
        if known.namespace != one.namespace {
            // Accepted by two who had not heard of each other.
            if (one.first, &one.namespace) < (known.first, &known.namespace) {
                *known = one.clone();
            }
            continue;
        }
        let first = known.first.min(one.first);
        if known.accepted < one.accepted {
            *known = one.clone();
        }
        known.first = first;
    }
    let mut latest: Vec<Kept> = latest.into_values().collect();
    latest.sort_by(|a, b| (a.first, &a.fragment).cmp(&(b.first, &b.fragment)));
    latest
}
