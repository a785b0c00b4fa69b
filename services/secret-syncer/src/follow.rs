//! Noticing changes: whoever follows a Secret or ConfigMap looks again as soon as it changed.
//!
//! In a cluster every object has a watch of its own, by name, because a Role can allow that without allowing to list what
//! lies beside it. A watch only wakes; what is looked at again now and then makes up for every wake that is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::health::Liveness;
use chassis::provision::Nudges;
use kubernetes::Cluster;
use lifecycle::Component;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::Store;
use crate::progress::Progress;
use crate::spec::Spec;
use crate::world::{Directory, Error, Kubernetes};

/// So many objects are watched, sources first; the others are looked at now and then. Each watch costs the API server memory.
const WATCHES: usize = 200;
/// A watch that broke off, or ended before its time, begins again after 100 ms, growing to this.
const AGAIN: Duration = Duration::from_secs(10);

/// Who is to look again when an object changed.
type Interested = BTreeMap<Component, BTreeSet<Component>>;

/// What is to be watched, sources before those that follow them: what changes there reaches others.
fn interested(specs: &[Spec]) -> Vec<(Component, BTreeSet<Component>)> {
    let mut sources = Interested::new();
    let mut others = Interested::new();
    for spec in specs {
        for source in spec.read_objects() {
            sources.entry(source).or_default().insert(spec.object.clone());
        }
    }
    for spec in specs {
        match sources.get_mut(&spec.object) {
            Some(who) => who.insert(spec.object.clone()),
            None => others.entry(spec.object.clone()).or_default().insert(spec.object.clone()),
        };
    }
    sources.into_iter().chain(others).collect()
}

/// What following needs to tell others.
#[derive(Debug, Clone)]
pub(crate) struct Telling {
    /// Wakes who is to look.
    pub(crate) nudges: Nudges,
    /// Counts.
    pub(crate) progress: Progress,
    /// Says whether watches still live.
    pub(crate) liveness: Liveness,
    /// Wakes whoever keeps restart sets.
    pub(crate) restarts: Arc<Notify>,
    /// The modules whose pods may refer to what changes.
    pub(crate) modules: Vec<Component>,
}

impl Telling {
    /// What we have just read or written ourselves is no news to that object, but to those that follow it: the one for which it
    /// was read is not all of them.
    fn wake(&self, changed: &Component, who: &BTreeSet<Component>, knows: bool) {
        for target in who {
            if target != changed {
                self.progress.woken(target);
            } else if knows {
                continue;
            }
            self.nudges.one(target);
        }
    }
}

/// Following what targets are made from, for as long as the process lives.
pub(crate) struct Following {
    telling: Telling,
    watches: Option<Watches>,
}

impl Following {
    /// Follows a store: a directory as a whole, a cluster by what targets ask for.
    pub(crate) fn of(store: &Store, telling: Telling) -> Self {
        let watches = match store {
            Store::Directory(store) => {
                directory(store, telling.clone());
                None
            }
            Store::Kubernetes(store) => Some(Watches::new(store, &telling.liveness)),
        };
        Following { telling, watches }
    }

    /// Follows what these are made from, for them and for modules whose pods may refer to it, and nothing else any more.
    pub(crate) fn of_these(&self, specs: &[Spec], modules: Vec<Component>) {
        if let Some(watches) = &self.watches {
            watches.are(specs, &Telling { modules, ..self.telling.clone() });
        }
    }
}

fn directory(store: &Directory, telling: Telling) {
    match store.watch() {
        Ok(mut wakes) => drop(tokio::spawn(async move {
            loop {
                wakes.next().await;
                telling.nudges.all();
            }
        })),
        // Everything is looked at again now and then all the same.
        Err(error) => warn!("changes of Secrets are noticed late: {}", chassis::exit::chain(&error)),
    }
}

/// The watches of a cluster's objects.
struct Watches {
    store: Kubernetes,
    pulse: Pulse,
    running: Mutex<BTreeMap<Component, (BTreeSet<Component>, AbortHandle)>>,
}

impl Watches {
    fn new(store: &Kubernetes, liveness: &Liveness) -> Self {
        let (pulse, liveness) = (Pulse::default(), liveness.clone());
        let guarded = pulse.clone();
        tokio::spawn(async move { guarded.guard(&liveness).await });
        Watches { store: store.clone(), pulse, running: Mutex::default() }
    }

    /// Watches what these need, and nothing else any more.
    fn are(&self, specs: &[Spec], telling: &Telling) {
        let watched = interested(specs);
        if watched.len() > WATCHES {
            info!(
                objects = watched.len(),
                watched = WATCHES,
                "more objects than are watched; the others are looked at now and then"
            );
        }
        let watched: BTreeMap<_, _> = watched.into_iter().take(WATCHES).collect();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|object, (who, watch)| {
            let stays = watched.get(object) == Some(who);
            if !stays {
                watch.abort();
            }
            stays
        });
        for (object, who) in watched {
            running.entry(object.clone()).or_insert_with(|| {
                let (store, telling, pulse) = (self.store.clone(), telling.clone(), self.pulse.clone());
                let watch = Watch { store, object, who: who.clone(), telling, pulse };
                (who, tokio::spawn(watch.run()).abort_handle())
            });
        }
    }
}

/// One object's watch.
struct Watch {
    store: Kubernetes,
    object: Component,
    who: BTreeSet<Component>,
    telling: Telling,
    pulse: Pulse,
}

// Whichever way it ends: by then it beats no more.
impl Drop for Watch {
    fn drop(&mut self) {
        self.pulse.ended(&self.object);
    }
}

impl Watch {
    async fn run(self) {
        let (cluster, lasts): (Cluster, Duration) = (self.store.cluster().clone(), self.store.watches());
        let name = crate::world::name(&self.object);
        let mut backoff = Backoff::new(Duration::from_millis(100), AGAIN);
        let mut said = None;
        loop {
            self.pulse.beat(&self.object);
            let began = Instant::now();
            let ended = cluster
                .follow(&name, lasts, |version| {
                    self.pulse.beat(&self.object);
                    self.telling.progress.heard();
                    let knows = self.store.knows(&self.object, version);
                    if !knows {
                        self.store.changed(&self.object);
                    }
                    self.telling.wake(&self.object, &self.who, knows);
                    // To pods, what we have written is news as well.
                    self.telling.restarts.notify_waiters();
                    self.telling.modules.iter().for_each(|module| self.telling.nudges.one(module));
                })
                .await;
            // One that ends as soon as it begins would otherwise be asked for without end, however it ends.
            let lasted = began.elapsed() >= lasts / 2;
            if lasted {
                backoff.reset();
            }
            if let Err(error) = ended.map_err(Error::from) {
                self.telling.progress.watch_broke(&error);
                let text = error.to_string();
                if said.as_ref() != Some(&text) {
                    warn!(object = %self.object, "its changes are noticed late: {text}");
                    said = Some(text);
                }
            } else if lasted {
                said = None;
                continue;
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

/// When each watch last showed that it goes on.
#[derive(Debug, Clone, Default)]
struct Pulse(Arc<Mutex<BTreeMap<Component, Instant>>>);

impl Pulse {
    /// A watch that has shown nothing for so long will not come back by itself: none lasts half as long.
    const DEAD: Duration = Duration::from_mins(4);

    fn beat(&self, object: &Component) {
        self.beats().insert(object.clone(), Instant::now());
    }

    /// One that is not wanted any more.
    fn ended(&self, object: &Component) {
        self.beats().remove(object);
    }

    /// Those that have shown nothing for too long.
    fn dead(&self) -> Vec<Component> {
        let beats = self.beats();
        beats
            .iter()
            .filter(|(_, last)| last.elapsed() > Pulse::DEAD)
            .map(|(object, _)| object.clone())
            .collect()
    }

    async fn guard(&self, liveness: &Liveness) {
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let dead = self.dead();
            if let Some(first) = dead.first()
                && liveness.is_live()
            {
                warn!(watches = dead.len(), "the watch of {first} is dead; this process should be restarted");
            }
            liveness.set(dead.is_empty());
        }
    }

    fn beats(&self) -> MutexGuard<'_, BTreeMap<Component, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dead_watch_makes_the_process_not_live() {
        let (pulse, liveness) = (Pulse::default(), Liveness::default());
        let (one, other): (Component, Component) =
            ("secret/a/x".parse().unwrap(), "secret/b/x".parse().unwrap());
        pulse.beat(&one);
        pulse.beat(&other);
        let (guard, said) = (pulse.clone(), liveness.clone());
        tokio::spawn(async move { guard.guard(&said).await });
        for _ in 0..6 {
            tokio::time::sleep(Pulse::DEAD / 4).await;
            pulse.beat(&one);
            assert_eq!(liveness.is_live(), pulse.dead().is_empty());
        }
        assert_eq!(pulse.dead(), std::slice::from_ref(&other));
        assert!(!liveness.is_live());
        pulse.beat(&other);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(liveness.is_live());
    }
}
