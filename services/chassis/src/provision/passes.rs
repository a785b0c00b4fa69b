//! Passes over targets: each begins with looking and ends when everything was made that could be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::Component;
use tokio::sync::watch;

/// How many passes over a target there were.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    begun: u64,
    ended: u64,
}

/// Counts the passes over one target. Clones count the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter(Arc<watch::Sender<Count>>);

impl Counter {
    /// A pass begins.
    pub(super) fn begin(&self) {
        self.0.send_modify(|count| count.begun += 1);
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.0.send_modify(|count| count.ended = count.begun);
    }

    /// Waits for the end of the first pass that begins after this was called. Registered when this returns, not when it is
    /// first polled.
    pub(super) fn next(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut counts = self.0.subscribe();
        let wanted = counts.borrow_and_update().begun + 1;
        // Kept, so that there is always somebody who could count.
        let counter = self.clone();
        async move {
            // Nobody is left to count only when this is.
            let _ = counts.wait_for(|count| count.ended >= wanted).await;
            drop(counter);
        }
    }
}

/// The passes over all targets, by their names. Clones count the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Passes(Arc<Mutex<BTreeMap<Component, Counter>>>);

impl Passes {
    /// What counts the passes over a target.
    pub(super) fn of(&self, target: &Component) -> Counter {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(target.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_pass_that_has_begun_already_is_not_the_next_one() {
        let counter = Counter::default();
        counter.begin();
        let next = counter.next();
        tokio::pin!(next);
        counter.end();
        assert!((&mut next).now_or_never().is_none(), "what it looked at may be older than the question");
        counter.begin();
        assert!((&mut next).now_or_never().is_none());
        counter.end();
        assert!(next.now_or_never().is_some());
    }
}
