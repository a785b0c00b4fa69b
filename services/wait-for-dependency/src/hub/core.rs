//! The hub's one state and what hangs on it: each change goes through [`Core::act`], which carries its effects out. Nothing
//! here waits, so the state is never held for long.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::announcer::Announcer;
use chassis::bus::BusUpdate;
use chassis::clock;
use chassis::diagnostics::Account;
use chassis::grpc::PodReference;
use chassis::secret::SecretStore;
use chassis::wire::{self, BringUp, Fragment, News};
use lifecycle::{Component, Evidence, Moment};
use rollcall_proto::diagnostics::v1 as pb;

use super::decide::Instance;
use super::explain::{Explanation, explanation};
use super::fragments::Refusal;
use super::meters::Meters;
use super::prober::{Probers, Rhythm};
use super::state::{Effect, State};
use super::telling::{Telling, Word};
use super::watchers::{Subscription, Watchers};
use crate::probe::{NotYet, Probe};

/// The hub.
#[derive(Debug)]
pub(super) struct Core {
    inner: Mutex<Inner>,
    announcer: Announcer,
    secrets: Arc<SecretStore>,
    meters: Meters,
    started: Moment,
}

#[derive(Debug)]
struct Inner {
    state: State,
    watchers: Watchers,
    probers: Probers,
    telling: Telling,
    /// What the bus holds, once it was read; none before, when nothing may be said that an earlier life contradicts.
    kept: Option<Kept>,
    reading: Kept,
}

/// Fragments (the last hash of each name, and who mounted it) and the bring-up as the bus holds them.
#[derive(Debug, Clone, Default)]
struct Kept {
    fragments: BTreeMap<String, (String, Option<String>)>,
    bring_up: Option<BringUp>,
}

impl Kept {
    fn add(&mut self, fragment: &Fragment) {
        self.fragments.insert(fragment.name.clone(), (fragment.hash.clone(), fragment.mounted_by.clone()));
    }

    /// What was registered and the bus does not hold, or not as its last word.
    fn missing(&self, state: &State) -> Vec<Fragment> {
        let kept = |fragment: &&Fragment| {
            let known = self.fragments.get(&fragment.name);
            known.is_some_and(|(hash, by)| (hash, by) == (&fragment.hash, &fragment.mounted_by))
        };
        state.registered().filter(|fragment| !kept(fragment)).cloned().collect()
    }
}

impl Core {
    /// A hub with this state.
    pub(super) fn new(
        mut state: State,
        announcer: Announcer,
        secrets: SecretStore,
        meters: Meters,
        rhythm: Rhythm,
    ) -> Arc<Self> {
        let kept = (!announcer.bus().is_configured()).then(Kept::default);
        if kept.is_some() {
            // Without a bus there is nothing to be read; and before the first fragment, nothing follows.
            state.settle(clock::now());
        }
        let inner = Inner {
            state,
            watchers: Watchers::default(),
            probers: Probers::new(rhythm),
            telling: Telling::default(),
            kept,
            reading: Kept::default(),
        };
        Arc::new(Core {
            inner: Mutex::new(inner),
            announcer,
            secrets: Arc::new(secrets),
            meters,
            started: clock::now(),
        })
    }

    /// Where the hub reads what it may read.
    pub(super) fn secrets(&self) -> Arc<SecretStore> {
        self.secrets.clone()
    }

    /// Takes fragments.
    pub(super) fn register(self: &Arc<Self>, fragments: Vec<Fragment>) -> (u64, Vec<Refusal>) {
        let refused = self.act(|state, now| state.register(fragments, now));
        warned(&refused);
        (self.lock().state.generation(), refused)
    }

    /// Takes the fragments that are mounted, if these are `all`; a bring-up that they begin began with this process, not when
    /// the bus was read.
    pub(super) fn mount(self: &Arc<Self>, fragments: Vec<Fragment>, all: bool) {
        warned(&self.act(|state, _| state.mount(fragments, all, self.started)));
    }

    /// Hears what an instance reports.
    pub(super) fn announce(self: &Arc<Self>, module: &Component, source: &str, report: Instance) -> u64 {
        self.act(|state, now| ((), state.announce(module, source, report, now)));
        self.lock().state.generation()
    }

    /// Hears which pod an instance is.
    pub(super) fn is_pod(&self, module: &Component, source: &str, pod: PodReference) {
        self.lock().telling.heard(module, source, pod);
    }

    /// What pods are to be told now.
    pub(super) fn words(&self) -> Vec<Word> {
        let mut inner = self.lock();
        let Inner { state, watchers, telling, .. } = &mut *inner;
        telling.due(state, |source| watchers.has(source), clock::now())
    }

    /// These could not be told.
    pub(super) fn untold(&self, words: impl IntoIterator<Item = Word>) {
        let mut inner = self.lock();
        words.into_iter().for_each(|word| inner.telling.untold(word));
    }

    /// Hears what a prober saw.
    pub(super) fn looked(
        self: &Arc<Self>,
        component: &Component,
        probe: &Probe,
        seen: &Result<Evidence, NotYet>,
        took: Duration,
    ) {
        self.meters.looked(component, seen.is_ok(), took);
        self.act(|state, now| ((), state.looked(component, probe, seen, now)));
    }

    /// Hears the bus.
    pub(super) fn hear(self: &Arc<Self>, update: BusUpdate) {
        match update {
            BusUpdate::Event { offset, event, .. } => {
                self.act(|state, now| ((), state.hear(offset, event, now)));
            }
            BusUpdate::Fragment(fragment) => {
                self.lock().reading.add(&fragment);
                let refused = self.act(|state, now| state.recall(fragment, now));
                if let Some(Refusal { name, reason }) = refused {
                    tracing::warn!(fragment = name, reason, "fragment of an earlier life not taken");
                }
            }
            BusUpdate::BringUp(bring_up) => {
                let generation = bring_up.generation;
                let mut inner = self.lock();
                inner.reading.bring_up = Some(bring_up.clone());
                inner.state.recall_bring_up(bring_up);
                drop(inner);
                tracing::debug!(generation, "bring-up of an earlier life");
            }
            BusUpdate::Forgotten(forgotten) => {
                self.act(|state, now| ((), state.recall_forgotten(forgotten, now)));
            }
            BusUpdate::CaughtUp => self.caught_up(),
            BusUpdate::Lost(_) => self.lock().reading = Kept::default(),
            BusUpdate::Deleted(key) => {
                self.act(|state, _| ((), state.deleted(&key)));
            }
        }
    }

    /// The bus was read: what was registered meanwhile is said there too.
    fn caught_up(self: &Arc<Self>) {
        {
            let mut inner = self.lock();
            inner.kept = Some(inner.reading.clone());
        }
        self.act(|state, now| ((), state.settle(now)));
        let mut inner = self.lock();
        let known = inner.kept.clone().unwrap_or_default();
        let missing = known.missing(&inner.state);
        let bring_up = inner.state.bring_up().filter(|ours| known.bring_up.as_ref() != Some(*ours)).cloned();
        for fragment in missing {
            self.keep(&mut inner, fragment);
        }
        if let Some(bring_up) = bring_up {
            self.begin(&mut inner, bring_up);
        }
        let generation = inner.state.generation();
        drop(inner);
        self.announcer.set_generation(generation);
    }

    /// Subscribes to states, and looks at what is asked for.
    pub(super) fn watch(
        &self,
        module: &str,
        source: &str,
        components: Option<&BTreeSet<Component>>,
    ) -> Subscription {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mode = pb::Mode::from(&*self.announcer.bus().mode().borrow());
        let subscription = inner.watchers.subscribe(&inner.state, (module, source), components, mode);
        for component in components.into_iter().flatten() {
            inner.probers.wake(component);
        }
        self.meters.watchers(inner.watchers.count());
        subscription
    }

    /// Whether exactly this fragment was taken.
    pub(super) fn knows(&self, fragment: &Fragment) -> bool {
        let same = |known: &Fragment| (&known.name, &known.hash) == (&fragment.name, &fragment.hash);
        self.lock().state.fragments().any(same)
    }

    /// The namespace of the fragment that declares a module.
    pub(super) fn namespace_of_module(&self, module: &str) -> Option<String> {
        self.lock().state.namespace_of_module(module).map(str::to_owned)
    }

    /// Explains a component.
    pub(super) fn explain(&self, component: &Component) -> Explanation {
        explanation(&self.lock().state, component, clock::now())
    }

    /// Ends every stream: their clients look for the next hub.
    pub(super) fn stop(&self) {
        self.lock().watchers = Watchers::default();
    }

    /// Waits until what was said is on the bus, at most this long.
    pub(super) async fn flush(&self, deadline: Duration) {
        let unsent = self.announcer.flush(deadline).await;
        if unsent > 0 {
            tracing::warn!(unsent, "the bus did not take everything; the next hub says it again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic ends the process anyway (chassis), so nobody works with a half-made state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and carries out what follows.
    fn act<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, Moment) -> (T, Vec<Effect>)) -> T {
        let now = clock::now();
        let mut inner = self.lock();
        let (outcome, effects) = change(&mut inner.state, now);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            // What is told again below is told once, in its last state.
            if matches!(effect, Effect::Changed(_)) && effects.contains(&effect) {
                continue;
            }
            effects.extend(self.carry_out(&mut inner, effect, now));
        }
        outcome
    }

    fn carry_out(self: &Arc<Self>, inner: &mut Inner, effect: Effect, now: Moment) -> Vec<Effect> {
        match effect {
            Effect::Say { component, phase, reason, evidence } => {
                self.announcer.announce(&component, phase, reason, evidence);
                // Heard at once, so that those who watch learn the event's id also without a bus.
                let said = self.announcer.current().into_iter().find(|event| event.component == component);
                return said.map(|event| inner.state.hear(0, event, now)).unwrap_or_default();
            }
            Effect::Keep(fragment) => self.keep(inner, fragment),
            Effect::Forget(forgotten) => {
                let name = forgotten.name.clone();
                tracing::info!(fragment = name, "not mounted any more, so forgotten");
                if let Some(kept) = &mut inner.kept {
                    kept.fragments.remove(&name);
                    // This first: where a life ends between the two, it outweighs what is left.
                    self.announcer.bus().publish(&News::Forgotten(forgotten));
                    self.announcer.bus().tombstone(&wire::fragment_key(&name));
                }
            }
            Effect::Remember(name) => self.announcer.bus().tombstone(&wire::forgotten_key(&name)),
            Effect::Begin(bring_up) => {
                tracing::info!(generation = bring_up.generation, "bring-up");
                self.announcer.set_generation(bring_up.generation);
                self.begin(inner, bring_up);
                let said = self.announcer.current();
                return said.into_iter().flat_map(|event| inner.state.hear(0, event, now)).collect();
            }
            Effect::Retire(keys) => keys.iter().for_each(|key| self.announcer.bus().tombstone(key)),
            Effect::Wake(component) => inner.probers.wake(&component),
            Effect::Changed(component) => {
                inner.watchers.tell(&inner.state, &component);
                self.meters.phase(&component, inner.state.state(&component, "").phase);
                self.meters.watchers(inner.watchers.count());
            }
            Effect::Redefined => inner.probers.follow(&inner.state, &Arc::downgrade(self)),
        }
        Vec::new()
    }

    fn keep(&self, inner: &mut Inner, fragment: Fragment) {
        if let Some(kept) = &mut inner.kept {
            kept.add(&fragment);
            self.announcer.bus().publish(&News::Fragment(fragment));
        }
    }

    fn begin(&self, inner: &mut Inner, bring_up: BringUp) {
        if let Some(kept) = &mut inner.kept {
            kept.bring_up = Some(bring_up.clone());
            self.announcer.bus().publish(&News::BringUp(bring_up));
        }
    }
}

fn warned(refused: &[Refusal]) {
    for refusal in refused {
        tracing::warn!(fragment = refusal.name, reason = refusal.reason, "fragment not taken");
    }
}

impl Account for Core {
    fn status(&self) -> pb::GetStatusResponse {
        let inner = self.lock();
        let state = &inner.state;
        pb::GetStatusResponse {
            service: crate::SERVICE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: Some(wire::environment(state.identity())),
            mode: pb::Mode::from(&*self.announcer.bus().mode().borrow()).into(),
            generation: state.generation(),
            started: Some(wire::timestamp(self.started)),
            components: state.components().map(|c| (&state.state(c, "")).into()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use lifecycle::document::Identity;

    use super::*;

    #[test]
    fn what_the_bus_holds_in_an_older_version_is_kept_again() {
        let identity = Identity { name: "dev".to_owned(), uid: uuid::Uuid::from_u128(1) };
        let fragment = |module: &str| {
            let text = format!(
                "rollcall: v1\nenvironment: {{name: dev, uid: {}}}\nfragment: {{name: a, namespace: dev}}\nmodules: {{{module}: {{}}}}",
                identity.uid
            );
            Fragment::try_from(&chassis::documents::parse("a", &text).unwrap()).unwrap()
        };
        let (old, new) = (fragment("old"), fragment("new"));
        let mut state = State::new(identity.clone(), "hub/1");
        state.register(vec![new.clone()], Moment(1));
        let mut kept = Kept::default();
        for (read, missing) in [(&new, vec![]), (&old, vec![new.clone()]), (&new, vec![])] {
            kept.add(read);
            state.recall(read.clone(), Moment(2));
            assert_eq!(kept.missing(&state), missing);
        }
    }
}
