//! Reasons to look at a target again at once, from whoever watches it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::Component;
use tokio::sync::Notify;

/// Wakes targets by their names. Clones wake the same ones. One that is busy when it is nudged looks again afterwards.
#[derive(Debug, Clone, Default)]
pub struct Nudges(Arc<Mutex<BTreeMap<Component, Arc<Notify>>>>);

impl Nudges {
    /// Something about this target changed.
    pub fn one(&self, target: &Component) {
        if let Some(notify) = self.known().get(target) {
            notify.notify_one();
        }
    }

    /// Something changed, and nobody knows what.
    pub fn all(&self) {
        self.known().values().for_each(|notify| notify.notify_one());
    }

    /// What a target waits on.
    pub(super) fn of(&self, target: &Component) -> Arc<Notify> {
        Arc::clone(self.known().entry(target.clone()).or_default())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Component, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_nudge_wakes_its_target_and_no_other() {
        let nudges = Nudges::default();
        let name = |text: &str| text.parse::<Component>().unwrap();
        let (one, other) = (nudges.of(&name("secret/a/x")), nudges.of(&name("secret/b/x")));
        let mut waits = [Box::pin(one.notified()), Box::pin(other.notified())];
        for wait in &mut waits {
            wait.as_mut().enable();
        }
        let [first, second] = waits;
        nudges.one(&name("secret/a/x"));
        nudges.one(&name("secret/c/unknown"));
        first.await;
        let asleep = tokio::time::timeout(std::time::Duration::from_secs(1), second).await;
        assert!(asleep.is_err());
        let again = other.notified();
        tokio::pin!(again);
        again.as_mut().enable();
        nudges.all();
        again.await;
    }
}
