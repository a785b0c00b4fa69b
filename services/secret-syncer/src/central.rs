//! The central secret-syncer: one for a cluster, with rights over all of it, that obeys `namespace_selector` and carries only
//! what the owner of the original has given to the namespace of the copy.
//!
//! Opt-in, and no other process may do what it does: whoever knows the names of its namespaces needs no such rights.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::settings::Settings;
use chassis::{Exit, Failure};
use kubernetes::Cluster;
use lifecycle::document::{Environment, ModuleKeys, Namespaces, Origin};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use crate::Store;

/// What fails is tried again after 100 ms, growing to this.
const AGAIN: Duration = Duration::from_secs(10);

/// The namespaces that selectors choose from; none where nobody may look at them. Clones share what was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Central(Option<Seen>);

#[derive(Debug, Clone)]
struct Seen {
    cluster: Cluster,
    namespaces: Arc<Mutex<Namespaces>>,
}

impl Central {
    /// Looks at the namespaces of the store's cluster, which may take until a deadline.
    pub(crate) async fn open(store: &Store, settings: &Settings) -> Result<Self, Failure> {
        let Store::Kubernetes(store) = store else {
            return Err(Failure::usage(
                "--central chooses namespaces of a cluster, so there is no offline plan for it; leave out --offline",
            ));
        };
        let cluster = store.cluster().clone();
        let looking = first_look(&cluster);
        let namespaces = match settings.deadline {
            None => looking.await?,
            Some(deadline) => tokio::time::timeout(deadline, looking).await.map_err(|_| {
                Failure::new(Exit::Deadline, format!("the namespaces were not seen within {deadline:?}"))
            })??,
        };
        Ok(Central(Some(Seen { cluster, namespaces: Arc::new(Mutex::new(namespaces)) })))
    }

    /// The environment with each chosen namespace spelled out.
    pub(crate) fn resolve(&self, environment: &Environment) -> Result<Environment, Failure> {
        if let Some(seen) = &self.0 {
            let beyond = beyond(environment);
            if !beyond.is_empty() {
                return Err(Failure::usage(format!(
                    "the central secret-syncer generates and copies Secrets and ConfigMaps and does nothing else, because its rights span the cluster; give to one of the environment's own: {}",
                    beyond.join(", ")
                )));
            }
            let (resolved, contested) = environment.choose(&seen.namespaces());
            for object in contested {
                warn!(%object, "is chosen by several, and made by none of them; let their labels choose apart");
            }
            return Ok(resolved);
        }
        let choosing = environment.choosing();
        if choosing.is_empty() {
            return Ok(environment.clone());
        }
        Err(Failure::usage(format!(
            "only the central secret-syncer (--central, of chart `cluster`) may look at the labels of namespaces; name them under `to` instead of: {}",
            choosing.join(", ")
        )))
    }

    /// Looks again whenever a namespace changes, and says when another set of labels was seen; each watch `lasts` so long.
    pub(crate) fn follow(&self, lasts: Duration, changed: &Arc<Notify>) {
        let Some(seen) = self.0.clone() else { return };
        let (woken, stirred) = (Arc::new(Notify::new()), seen.cluster.clone());
        let wake = Arc::clone(&woken);
        tokio::spawn(async move {
            let mut backoff = Backoff::new(Duration::from_millis(100), AGAIN);
            loop {
                let begun = Instant::now();
                match stirred.follow_namespaces(lasts, || wake.notify_one()).await {
                    // One that ends as soon as it begins would otherwise be asked for without end.
                    Ok(()) if begun.elapsed() >= lasts / 2 => backoff.reset(),
                    Ok(()) => {}
                    Err(error) => warn!("new namespaces are noticed late: {}", chassis::exit::chain(&error)),
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        });
        let changed = Arc::clone(changed);
        tokio::spawn(async move {
            loop {
                woken.notified().await;
                match seen.cluster.namespaces().await {
                    Ok(now) if *seen.namespaces() != now => {
                        *seen.namespaces() = now;
                        changed.notify_one();
                    }
                    Ok(_) => {}
                    // The watch begins again before long, and wakes.
                    Err(error) => warn!("{}", chassis::exit::chain(&error)),
                }
            }
        });
    }
}

/// What documents ask for besides objects made of objects. Before each of those is read the API server is asked who was given it;
/// nobody could be asked about what is read to log in elsewhere, or comes from there.
fn beyond(environment: &Environment) -> Vec<String> {
    let mut found = Vec::new();
    for source in environment.sources() {
        let (document, fragment) = (&source.document, &source.document.fragment.name);
        let named = [
            ("vault", document.vault.is_empty()),
            ("keycloak", document.keycloak.is_empty()),
            ("clients", document.clients.is_empty()),
        ];
        let named = named.into_iter().filter(|(_, is_empty)| !is_empty);
        found.extend(named.map(|(key, _)| format!("{fragment}: {key}")));
        for (name, secret) in &document.secrets {
            let copy = secret.copy.as_ref().filter(|copy| !matches!(copy.from, Origin::Object(_)));
            found.extend(copy.map(|_| format!("{fragment}: secrets.{name}.copy.from")));
            found.extend(secret.restart.as_ref().map(|_| format!("{fragment}: secrets.{name}.restart")));
        }
        let restarts = document.configmaps.iter().filter(|(_, configmap)| configmap.restart.is_some());
        found.extend(restarts.map(|(name, _)| format!("{fragment}: configmaps.{name}.restart")));
        let modules = document.modules.iter().filter(|(_, module)| module.keys == ModuleKeys::Referenced);
        found.extend(modules.map(|(name, _)| format!("{fragment}: modules.{name}.keys")));
    }
    found
}

impl Seen {
    fn namespaces(&self) -> MutexGuard<'_, Namespaces> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn first_look(cluster: &Cluster) -> Result<Namespaces, Failure> {
    let mut backoff = Backoff::new(Duration::from_millis(100), AGAIN);
    loop {
        match cluster.namespaces().await {
            Ok(namespaces) => return Ok(namespaces),
            Err(error) if error.is_transient() => {
                warn!("{}", chassis::exit::chain(&error));
                tokio::time::sleep(backoff.next_delay()).await;
            }
            Err(error) => return Err(Failure::new(Exit::NeverWorks, chassis::exit::chain(&error))),
        }
    }
}
