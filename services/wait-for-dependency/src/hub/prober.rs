//! Looking for everybody: one prober for each component and definition, however many wait for it. Until it passes it looks
//! with backoff, then seldom; news about it, or about what it needs, brings a look at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use chassis::backoff::Backoff;
use lifecycle::Component;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::core::Core;
use super::state::State;
use crate::probe::{self, Probe, probe};

/// So many looks at once, at most: each may hold a connection, or a thread for Kafka.
const AT_ONCE: usize = 32;
/// So long between two looks at one thing, at least: news may come in floods.
const SPACING: Duration = Duration::from_millis(10);

/// How often it is looked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    /// Whether it is looked without being woken.
    pub(super) polling: bool,
    /// How often at what passes.
    pub(super) resync: Duration,
}

/// The probers of a hub. Dropping it stops them.
#[derive(Debug)]
pub(super) struct Probers {
    rhythm: Rhythm,
    permits: Arc<Semaphore>,
    running: HashMap<(Component, Probe), Running>,
}

#[derive(Debug)]
struct Running {
    wake: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probers {
    /// No prober yet.
    pub(super) fn new(rhythm: Rhythm) -> Self {
        Probers { rhythm, permits: Arc::new(Semaphore::new(AT_ONCE)), running: HashMap::new() }
    }

    /// Runs a prober for each definition, and none for those that are gone.
    pub(super) fn follow(&mut self, state: &State, core: &Weak<Core>) {
        let wanted = state.sights().iter().filter_map(|(sight, definition)| {
            Some((sight.component.clone(), definition.as_ref().ok()?.clone()))
        });
        let wanted: HashSet<(Component, Probe)> = wanted.collect();
        self.running.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if self.running.contains_key(&key) {
                continue;
            }
            let wake = Arc::new(Notify::new());
            let (component, definition) = key.clone();
            let prober = Prober {
                component,
                definition,
                core: core.clone(),
                wake: wake.clone(),
                permits: self.permits.clone(),
                rhythm: self.rhythm,
            };
            let task = tokio::spawn(prober.run()).abort_handle();
            self.running.insert(key, Running { wake, task });
        }
    }

    /// Looks at a component now, through each of its definitions.
    pub(super) fn wake(&self, component: &Component) {
        for (_, running) in self.running.iter().filter(|((known, _), _)| known == component) {
            running.wake.notify_one();
        }
    }
}

struct Prober {
    component: Component,
    definition: Probe,
    core: Weak<Core>,
    wake: Arc<Notify>,
    permits: Arc<Semaphore>,
    rhythm: Rhythm,
}

impl Prober {
    async fn run(self) {
        let mut backoff = Backoff::probing();
        // Without polling even the first look needs a reason.
        if !self.rhythm.polling {
            self.wake.notified().await;
        }
        loop {
            let Some(seen) = self.look().await else { return };
            let ended = Instant::now();
            let delay = if seen.is_ok() {
                backoff.reset();
                Backoff::new(self.rhythm.resync, self.rhythm.resync).next_delay()
            } else {
                backoff.next_delay()
            };
            let pause = async {
                // A look without an answer has seen nothing: what brought it still asks for one.
                if self.rhythm.polling || seen == Err(probe::State::TimedOut) {
                    tokio::time::sleep(delay).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = self.wake.notified() => {
                    backoff.reset();
                    tokio::time::sleep_until(ended + SPACING).await;
                }
                () = pause => {}
            }
        }
    }

    /// Looks once and tells the hub; what was seen, or none when there is no hub any more.
    async fn look(&self) -> Option<Result<(), probe::State>> {
        let secrets = self.core.upgrade()?.secrets();
        let _permit = self.permits.acquire().await.ok()?;
        let begun = Instant::now();
        let seen = probe(&self.definition, &secrets).await;
        self.core.upgrade()?.looked(&self.component, &self.definition, &seen, begun.elapsed());
        Some(seen.map(drop).map_err(|not_yet| not_yet.state))
    }
}
