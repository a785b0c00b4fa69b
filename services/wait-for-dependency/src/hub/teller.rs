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
        for word in words {
            let namespace = &word.pod.namespace;
            if forbidden.contains_key(namespace) {
                continue;
            }
            let told = cluster.tell_pod(&word.pod, word.reason.as_str(), &word.text, &reporter).await;
            match told {
                Ok(()) => {}
                Err(error) if error.is_transient() => {
                    tracing::debug!(pod = word.pod.name, "{error}");
                    if let Some(core) = core.upgrade() {
                        core.untold(&word.pod);
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        "pods in namespace {namespace} are not told why they wait: {}",
                        remedy(&error, namespace)
                    );
                    forbidden.insert(namespace.clone(), Instant::now());
                }
            }
        }
    }
}

fn remedy(error: &Error, namespace: &str) -> String {
    format!("{error}; a Role in namespace {namespace} must allow `create` on events of events.k8s.io")
}
