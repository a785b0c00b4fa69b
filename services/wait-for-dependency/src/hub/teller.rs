//! Writes Events on pods that wait, where it may.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use kubernetes::{Cluster, Error};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::core::Core;

/// How often it is looked whether there is something to tell.
const LOOK: Duration = Duration::from_secs(2);
/// Where it may not, it is tried again after this: somebody may have given the right.
const FORBIDDEN: Duration = Duration::from_mins(5);

/// Tells until the hub is no more. `reporter` is what the hub calls itself.
pub(super) async fn tell(core: Weak<Core>, cluster: Cluster, reporter: String) {
    let mut forbidden: BTreeMap<String, Instant> = BTreeMap::new();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(words) = core.upgrade().map(|core| core.words()) else { return };
        forbidden.retain(|_, since| since.elapsed() < FORBIDDEN);
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let namespace = &word.pod.namespace;
            if forbidden.contains_key(namespace) {
                continue;
            }
            let told = cluster.tell_pod(&word.pod, word.reason.as_str(), &word.text, &reporter).await;
            match told {
                Ok(()) => {}
                Err(error) if error.is_transient() => {
                    tracing::debug!(pod = word.pod.name, "{error}");
                    // The API server has no time for the others either.
                    if let Some(core) = core.upgrade() {
                        core.untold(std::iter::once(word).chain(words.by_ref()));
                    }
                }
                Err(error @ Error::Refused { code: 403, .. }) => {
                    tracing::warn!(
                        "pods in namespace {namespace} are not told why they wait: {error}; a Role there must allow `create` on events of events.k8s.io"
                    );
                    forbidden.insert(namespace.clone(), Instant::now());
                }
                Err(error) => {
                    tracing::warn!(
                        namespace,
                        pod = word.pod.name,
                        "the pod is not told why it waits: {error}"
                    );
                }
            }
        }
    }
}
