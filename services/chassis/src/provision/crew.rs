//! Who works on which target, where the targets themselves can change while the process lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use lifecycle::{Component, Evidence, Phase};
use tokio::task::JoinHandle;

use super::Target;
use super::worker::{Wakes, Worker};
use crate::Context;
use crate::announcer::Announcer;
use crate::converge::Reconcile;
use crate::settings::Settings;
use crate::shutdown::Shutdown;

/// The targets as they are now. Clones share them.
pub(super) struct Targets<R: Reconcile>(Arc<RwLock<Vec<Arc<Target<R>>>>>);

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
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, targets: Vec<Arc<Target<R>>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = targets;
    }
}

/// The workers of a long-lived provisioner.
pub(super) struct Crew<R: Reconcile> {
    settings: Settings,
    shutdown: Shutdown,
    announcer: Announcer,
    wakes: Box<dyn Fn(&Component) -> Wakes + Send + Sync>,
    targets: Targets<R>,
    at_work: BTreeMap<Component, JoinHandle<()>>,
}

impl<R> Crew<R>
where
    R: Reconcile + Send + Sync + 'static,
    R::Spec: Send + Sync + 'static,
{
    /// Nobody yet; each will be woken by `wakes`.
    pub(super) fn new(
        context: &Context,
        announcer: &Announcer,
        wakes: impl Fn(&Component) -> Wakes + Send + Sync + 'static,
    ) -> Self {
        Crew {
            settings: context.settings.clone(),
            shutdown: context.shutdown.clone(),
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

    /// Works on these from now on. One that was there already is worked on as before; one that is gone is left as it is.
    pub(super) fn work_on(&mut self, targets: Vec<Target<R>>) {
        let known = self.targets.all();
        let known = |name: &Component| known.iter().find(|target| target.0 == *name).map(Arc::clone);
        let targets: Vec<Arc<Target<R>>> =
            targets.into_iter().map(|target| known(&target.0).unwrap_or_else(|| Arc::new(target))).collect();
        let wanted: BTreeSet<&Component> = targets.iter().map(|target| &target.0).collect();
        let gone: Vec<Component> =
            self.at_work.keys().filter(|name| !wanted.contains(name)).cloned().collect();
        for name in gone {
            self.leave(&name);
        }
        for target in &targets {
            if !self.at_work.contains_key(&target.0) {
                self.at_work.insert(target.0.clone(), self.hire(target));
            }
        }
        self.targets.set(targets);
    }

    fn hire(&self, target: &Arc<Target<R>>) -> JoinHandle<()> {
        let wakes = (self.wakes)(&target.0);
        let mut worker = Worker::new(Arc::clone(target), &self.announcer, wakes, &self.settings);
        let (resync, shutdown) = (self.settings.resync, self.shutdown.clone());
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
                let reason = "it is not asked for any more; it was left as it is";
                announcer.announce(&component, Phase::Removed, reason, Evidence::default());
            }
        });
    }
}
