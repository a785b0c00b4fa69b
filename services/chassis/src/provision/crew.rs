//! Who works on which target, where the targets themselves can change while the process lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use lifecycle::{Component, Evidence, Phase};
use tokio::task::JoinHandle;

use super::Target;
use super::history::History;
use super::worker::{Wakes, Worker};
use crate::Context;
use crate::announcer::Announcer;
use crate::converge::Reconcile;

/// Why a component is removed that nobody asks for any more.
const LEFT: &str = "it is not asked for any more; it was left as it is";

/// One target as it is now: what should be can change while somebody works on it.
pub(super) struct Slot<R: Reconcile>(RwLock<Arc<Target<R>>>);

impl<R: Reconcile> Slot<R> {
    /// A place for this target.
    pub(super) fn new(target: Target<R>) -> Arc<Self> {
        Arc::new(Slot(RwLock::new(Arc::new(target))))
    }

    /// What it is now.
    pub(super) fn get(&self) -> Arc<Target<R>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, target: Target<R>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(target);
    }
}

/// The targets as they are now. Clones share them.
pub(super) struct Targets<R: Reconcile>(Arc<RwLock<Vec<Arc<Slot<R>>>>>);

// Not derived: that would ask the same of what makes them.
impl<R: Reconcile> Clone for Targets<R> {
    fn clone(&self) -> Self {
        Targets(Arc::clone(&self.0))
    }
}

impl<R: Reconcile> Default for Targets<R> {
    fn default() -> Self {
        Targets(Arc::default())
    }
}

impl<R: Reconcile> Targets<R> {
    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Target<R>>> {
        self.slots().iter().map(|slot| slot.get()).collect()
    }

    fn slots(&self) -> Vec<Arc<Slot<R>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, targets: Vec<Arc<Slot<R>>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = targets;
    }
}

/// The workers of a long-lived provisioner.
pub(super) struct Crew<R: Reconcile> {
    context: Context,
    history: History,
    announcer: Announcer,
    wakes: Box<dyn Fn(&Component) -> Wakes + Send + Sync>,
    targets: Targets<R>,
    at_work: BTreeMap<Component, JoinHandle<()>>,
}

impl<R> Crew<R>
where
    R: Reconcile + Send + Sync + 'static,
    R::Spec: PartialEq + Send + Sync + 'static,
{
    /// Nobody yet; each will be woken by `wakes` and writes what it did into `history`.
    pub(super) fn new(
        context: &Context,
        announcer: &Announcer,
        wakes: impl Fn(&Component) -> Wakes + Send + Sync + 'static,
        history: History,
    ) -> Self {
        Crew {
            context: context.clone(),
            history,
            announcer: announcer.clone(),
            wakes: Box::new(wakes),
            targets: Targets::default(),
            at_work: BTreeMap::new(),
        }
    }

    /// The targets, as they are at any time.
    pub(super) fn targets(&self) -> Targets<R> {
        self.targets.clone()
    }

    /// Works on these from now on. One that was there already is worked on as before, unless something else should be now; one that
    /// is gone is left as it is.
    pub(super) fn work_on(&mut self, targets: Vec<Target<R>>) {
        let known = self.targets.slots();
        let mut slots = Vec::new();
        for target in targets {
            match known.iter().find(|slot| slot.get().0 == target.0) {
                Some(slot) => {
                    self.replace(slot, target);
                    slots.push(Arc::clone(slot));
                }
                None => slots.push(Slot::new(target)),
            }
        }
        let names: Vec<Component> = slots.iter().map(|slot| slot.get().0.clone()).collect();
        let wanted: BTreeSet<&Component> = names.iter().collect();
        let gone: Vec<Component> =
            self.at_work.keys().filter(|name| !wanted.contains(name)).cloned().collect();
        for name in gone {
            self.leave(&name);
        }
        for (name, slot) in names.iter().zip(&slots) {
            if !self.at_work.contains_key(name) {
                self.at_work.insert(name.clone(), self.hire(name, slot));
            }
        }
        self.targets.set(slots);
    }

    /// Something else should be: the worker sees it at its next pass, which begins at once.
    fn replace(&self, slot: &Slot<R>, target: Target<R>) {
        let before = slot.get();
        if before.2 == target.2 {
            return;
        }
        let wanted: BTreeSet<Component> = R::components(&target.2).into_iter().collect();
        let name = target.0.clone();
        slot.set(target);
        let gone = R::components(&before.2).into_iter().filter(|component| !wanted.contains(component));
        for component in gone {
            before.1.left(&component);
            self.announcer.announce(&component, Phase::Removed, LEFT, Evidence::default());
        }
        (self.wakes)(&name).nudge.notify_one();
    }

    fn hire(&self, name: &Component, slot: &Arc<Slot<R>>) -> JoinHandle<()> {
        let wakes = (self.wakes)(name);
        let history = self.history.clone();
        let mut worker = Worker::new(Arc::clone(slot), &self.announcer, wakes, history, &self.context);
        let (resync, shutdown) = (self.context.settings.resync, self.context.shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = worker.keep(resync) => {}
                () = shutdown.requested() => {}
            }
        })
    }

    fn leave(&mut self, name: &Component) {
        let Some(worker) = self.at_work.remove(name) else { return };
        worker.abort();
        let Some(target) = self.targets.all().into_iter().find(|target| target.0 == *name) else { return };
        let announcer = self.announcer.clone();
        tokio::spawn(async move {
            // What it may still say comes before.
            let _ = worker.await;
            let (_, reconcile, spec) = &*target;
            for component in R::components(spec) {
                reconcile.left(&component);
                announcer.announce(&component, Phase::Removed, LEFT, Evidence::default());
            }
        });
    }
}
