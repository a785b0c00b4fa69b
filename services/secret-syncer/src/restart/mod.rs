//! Restart sets: workloads whose pods are replaced when a value that they use has changed.
//!
//! A workload is restarted as `kubectl rollout restart` does it, by an annotation in the template of its pods, which then are
//! replaced as its own strategy says. What its pods have is noted in a Secret beside it, and nothing of that, not even as a
//! digest, is in the annotation: whoever may read Deployments but no Secrets could test guesses on it.

pub mod plan;
mod rights;
pub mod spec;
mod state;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::exit::chain;
use lifecycle::Component;
use lifecycle::document::{Environment, Workload};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::Store;
use crate::progress::Progress;
use crate::world::Error;
use plan::{Decision, Memory, Outcome};
use spec::Spec;
use world::{Namespace, Observed};

pub use rights::{Right, rights};
pub use world::{annotation, record_name};

/// Whatever happens, nothing is looked at again sooner: many changes are one look.
const PAUSE: Duration = Duration::from_millis(200);
/// How often pods are looked at whose readiness a restart waits for.
const READINESS: Duration = Duration::from_secs(2);
/// When a process counts itself to begin, in milliseconds: what was noted before is long ago.
const BEGINNING: u64 = 1_000_000_000_000;

/// Who keeps the restart sets of each namespace, for as long as the process lives.
pub(crate) struct Keepers {
    store: Store,
    resync: Duration,
    progress: Progress,
    wakes: Arc<Notify>,
    running: Mutex<BTreeMap<String, (Vec<Spec>, AbortHandle)>>,
}

impl Keepers {
    /// Nobody yet. `wakes` says that an object changed.
    pub(crate) fn new(store: &Store, resync: Duration, progress: &Progress, wakes: &Arc<Notify>) -> Self {
        let (store, progress, wakes) = (store.clone(), progress.clone(), Arc::clone(wakes));
        Keepers { store, resync, progress, wakes, running: Mutex::default() }
    }

    /// Keeps the restart sets of this environment, and no others any more.
    pub(crate) fn are(&self, environment: &Environment) {
        let wanted = spec::specs(environment);
        let Store::Kubernetes(store) = &self.store else {
            if !wanted.is_empty() {
                warn!("no workload is restarted: that needs a cluster, and this store is a directory");
            }
            return;
        };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|namespace, (specs, keeper)| {
            let stays = wanted.get(namespace) == Some(specs);
            if !stays {
                keeper.abort();
                self.progress.lag(namespace, BTreeMap::new());
            }
            stays
        });
        for (namespace, specs) in wanted {
            let uid = environment.identity().uid;
            running.entry(namespace.clone()).or_insert_with(|| {
                let keeper = Keeper {
                    namespace: Namespace::new(store.clone(), uid, namespace, specs.clone()),
                    resync: self.resync,
                    progress: self.progress.clone(),
                    begun: Instant::now(),
                    memory: Memory::default(),
                    failing: None,
                    stuck: BTreeSet::new(),
                };
                (specs, tokio::spawn(keeper.run(Arc::clone(&self.wakes))).abort_handle())
            });
        }
    }
}

/// Keeps the restart sets of one namespace. Each has its own, so that one that hangs holds up no other.
struct Keeper {
    namespace: Namespace,
    resync: Duration,
    progress: Progress,
    begun: Instant,
    memory: Memory,
    failing: Option<String>,
    /// Those that could not be restarted: they are tried again when everything is looked at.
    stuck: BTreeSet<Workload>,
}

impl Keeper {
    async fn run(mut self, wakes: Arc<Notify>) {
        loop {
            let woken = wakes.notified();
            tokio::pin!(woken);
            // Registered before looking: what changes while it looks wakes it afterwards.
            woken.as_mut().enable();
            let pause = self.look().await;
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One look at everything; how long until the next.
    async fn look(&mut self) -> Duration {
        match self.round().await {
            Ok(()) => {
                self.failing = None;
                self.pause()
            }
            Err(error) => {
                let text = chain(&error);
                if self.failing.as_ref() != Some(&text) {
                    warn!(namespace = self.namespace.name(), "restarts wait: {text}");
                }
                self.failing = Some(text);
                if error.is_race() { PAUSE } else { self.resync }
            }
        }
    }

    async fn round(&mut self) -> Result<(), Error> {
        let mut observed = self.namespace.observe().await?;
        let now = self.now();
        let decisions = plan::plan(self.namespace.specs(), &observed.worlds, &self.memory, now);
        self.stuck.clear();
        let mut says = BTreeMap::new();
        for (workload, decision) in decisions {
            self.follow(&workload, decision, &mut observed, now, &mut says).await;
        }
        for (workload, why) in &observed.unseen {
            let text = format!("whether {workload} has its present values is not known: {why}");
            let objects = self.namespace.objects(workload);
            says.extend(objects.map(|object| ((workload.clone(), object.clone()), text.clone())));
        }
        self.memory.begun.retain(|begun| now.saturating_sub(*begun) < plan::PER);
        self.tell(says);
        self.namespace.note(observed).await
    }

    async fn follow(
        &mut self,
        workload: &Workload,
        mut decision: Decision,
        observed: &mut Observed,
        now: u64,
        says: &mut BTreeMap<(Workload, Component), String>,
    ) {
        if decision.elsewhere {
            self.memory.begun.push(now);
        }
        if decision.roll {
            match self.namespace.restart(workload, observed).await {
                Ok(()) => {
                    info!(%workload, "restarted: a value that it uses changed");
                    self.memory.begun.push(now);
                    decision.pending = None;
                }
                Err(error) => {
                    decision.note = None;
                    decision.outcome = (!error.is_race()).then_some(Outcome::Failed);
                    if !error.is_race() {
                        self.stuck.insert(workload.clone());
                    }
                    let text = format!("{workload} cannot be restarted for a change: {}", chain(&error));
                    let objects = self.namespace.objects(workload);
                    decision.says.extend(objects.map(|object| (object.clone(), text.clone())));
                }
            }
        }
        if let Some(note) = decision.note {
            observed.noted.insert(workload.to_string(), note);
        }
        match decision.pending {
            Some(pending) => drop(self.memory.pending.insert(workload.clone(), pending)),
            None => drop(self.memory.pending.remove(workload)),
        }
        if let Some(outcome) = decision.outcome {
            self.progress.restarted(outcome);
        }
        says.extend(decision.says.into_iter().map(|(object, text)| ((workload.clone(), object), text)));
    }

    /// Keeps what is said for whoever looks at the objects next: there it is drift.
    fn tell(&self, says: BTreeMap<(Workload, Component), String>) {
        let mut by_object: BTreeMap<Component, Vec<String>> = BTreeMap::new();
        for ((_, object), text) in says {
            by_object.entry(object).or_default().push(text);
        }
        self.progress.lag(self.namespace.name(), by_object);
    }

    /// How long until there is something to decide, if nothing wakes it.
    fn pause(&self) -> Duration {
        let now = self.now();
        let pending = self.memory.pending.iter().filter(|(workload, _)| !self.stuck.contains(*workload));
        let due = pending.map(|(workload, pending)| {
            let window = self.namespace.window(workload);
            let left =
                (Duration::from_millis(pending.since) + window).saturating_sub(Duration::from_millis(now));
            if left.is_zero() { READINESS } else { left }
        });
        due.fold(self.resync, Duration::min).max(PAUSE)
    }

    fn now(&self) -> u64 {
        BEGINNING + u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }
}
