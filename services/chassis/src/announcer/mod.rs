//! Announcing: what this process knows about components, kept as current state and told on the bus.
//!
//! Times are the components' own, not the telling's: a phase announced again keeps its `since`, also over the bus's coming and
//! going, a new generation, and the death of this process (the topic remembers).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lifecycle::document::Identity;
use lifecycle::{Component, Event, Evidence, Phase, Roster};
use tokio::sync::watch;

use crate::bus::{Bus, BusUpdate};
use crate::clock;
use crate::wire::News;

/// Announces the states of components. Clones share them.
#[derive(Debug, Clone)]
pub struct Announcer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bus: Bus,
    environment: Identity,
    source: String,
    state: Mutex<State>,
    /// Whether the topic was read once, so that what is told does not contradict what an earlier life of this process told.
    caught_up: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    held: BTreeMap<Component, Held>,
    /// What is held and not told: others tell it.
    untold: BTreeSet<Component>,
    /// What the topic says.
    roster: Roster,
}

#[derive(Debug)]
struct Held {
    event: Event,
    /// Whether this is the component's first phase in this life, which may be one that an earlier life began.
    first: bool,
}

impl Announcer {
    /// Announces as `source` (`<service>/<instance>`). With a bus it needs a tokio runtime; without one it only keeps states.
    pub fn new(bus: Bus, environment: Identity, source: impl Into<String>) -> Self {
        let follow = bus.is_configured();
        let inner = Arc::new(Inner {
            bus,
            environment,
            source: source.into(),
            state: Mutex::default(),
            caught_up: watch::Sender::new(!follow),
        });
        if follow {
            tokio::spawn(follow_bus(inner.bus.clone(), Arc::downgrade(&inner)));
        }
        Announcer(inner)
    }

    /// The bring-up that announcements belong to. A change announces everything again, with its original times.
    pub fn set_generation(&self, generation: u64) {
        let mut state = self.0.lock();
        if state.generation == generation {
            return;
        }
        state.generation = generation;
        let State { held, roster, .. } = &mut *state;
        for held in held.values_mut() {
            held.event.generation = generation;
            held.take_over(roster, &self.0.source);
        }
        self.0.publish_all(&state);
    }

    /// The generation announced now.
    pub fn generation(&self) -> u64 {
        self.0.lock().generation
    }

    /// The component is in this phase. The same phase again keeps its `since`; tries are counted by
    /// [`attempt`](Announcer::attempt) alone.
    pub fn announce(
        &self,
        component: &Component,
        phase: Phase,
        reason: impl Into<String>,
        evidence: Evidence,
    ) {
        self.0.announce(component, phase, reason.into(), evidence, 0);
    }

    /// As [`announce`](Announcer::announce), but the bus is not told: somebody else tells how this component is, and of two
    /// who do each would put its own time in place of the other's.
    pub fn note(&self, component: &Component, phase: Phase, reason: impl Into<String>, evidence: Evidence) {
        self.0.lock().untold.insert(component.clone());
        self.0.announce(component, phase, reason.into(), evidence, 0);
    }

    /// As [`announce`](Announcer::announce), and it is one more try of the work that leads to ready.
    pub fn attempt(
        &self,
        component: &Component,
        phase: Phase,
        reason: impl Into<String>,
        evidence: Evidence,
    ) {
        self.0.announce(component, phase, reason.into(), evidence, 1);
    }

    /// The current state of everything announced, in the order of names.
    pub fn current(&self) -> Vec<Event> {
        self.0.lock().held.values().map(|held| held.event.clone()).collect()
    }

    /// The phase that was announced of a component last.
    pub fn phase(&self, component: &Component) -> Option<Phase> {
        self.0.lock().held.get(component).map(|held| held.event.phase)
    }

    /// The bus that announcements go to.
    pub fn bus(&self) -> &Bus {
        &self.0.bus
    }

    /// Waits until every announcement has arrived, at most for `deadline`, and returns how many have not. One-shots call it
    /// last. It returns at once when there is no bus.
    pub async fn flush(&self, deadline: Duration) -> usize {
        let end = tokio::time::Instant::now() + deadline;
        let mut caught_up = self.0.caught_up.subscribe();
        let known = tokio::time::timeout_at(end, caught_up.wait_for(|caught_up| *caught_up)).await;
        if known.is_err() {
            return self.0.bus.unsent() + self.0.lock().held.len();
        }
        drop(known);
        self.0.bus.flush(end.saturating_duration_since(tokio::time::Instant::now())).await
    }
}

impl Held {
    /// Takes `since` and tries over from what an earlier life of the same service told about the same phase of the same
    /// generation, if nobody told anything else since then.
    fn take_over(&mut self, roster: &Roster, source: &str) {
        let Some(told) = roster.get(&self.event.component).filter(|_| self.first) else { return };
        let same = told.generation == self.event.generation
            && told.phase == self.event.phase
            && service(&told.source) == service(source)
            && told.since < self.event.since;
        if same {
            self.event.since = told.since;
            self.event.attempts = self.event.attempts.saturating_add(told.attempts);
            self.first = false;
        }
    }
}

fn service(source: &str) -> &str {
    source.split('/').next().unwrap_or(source)
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, component: &Component, phase: Phase, reason: String, evidence: Evidence, tries: u32) {
        let now = clock::now();
        let mut state = self.lock();
        let generation = state.generation;
        let known = state.held.get(component);
        let told = known.map(|held| &held.event);
        let (since, before) = match told {
            None => (now, 0),
            Some(told) if told.phase == phase => (told.since, told.attempts),
            // What was ready begins anew; what was not goes on counting.
            Some(told) if matches!(told.phase, Phase::Ready | Phase::Removed) => (now, 0),
            Some(told) => (now, told.attempts),
        };
        // Two changes within a millisecond would have one `since`, and the roster could not tell which is the later.
        let since = match told {
            Some(told) if told.phase != phase && since <= told.since => lifecycle::Moment(told.since.0 + 1),
            _ => since,
        };
        // Nor may a clock that is behind another's make the news older than what it replaces.
        let heard = state
            .roster
            .get(component)
            .filter(|heard| heard.generation == generation && heard.phase != phase);
        let since = match heard {
            Some(heard) if told.is_none_or(|told| told.phase != phase) => {
                since.max(lifecycle::Moment(heard.since.0 + 1))
            }
            _ => since,
        };
        let changed = told.is_none_or(|told| told.phase != phase);
        let same = tries == 0
            && told.is_some_and(|told| {
                let evidence = Evidence { latency: told.evidence.latency, ..evidence.clone() };
                !changed && told.reason == reason && told.evidence == evidence
            });
        let first = known.is_none_or(|held| held.first && !changed);
        let event = Event {
            environment: self.environment.uid,
            component: component.clone(),
            phase,
            since,
            generation,
            evidence,
            reason,
            attempts: before.saturating_add(tries),
            source: self.source.clone(),
            time: now,
        };
        if changed {
            let Event { reason, attempts, .. } = &event;
            // What the reason says already is not said twice.
            let error = Some(&event.evidence.error).filter(|error| !reason.contains(error.as_str()));
            let attempts = (*attempts > 0).then_some(attempts);
            let text = if reason.is_empty() { format!("{component} is {phase}") } else { reason.clone() };
            tracing::info!(%component, %phase, attempts, error, "{text}");
        }
        let mut held = Held { event, first };
        held.take_over(&state.roster, &self.source);
        if !same && *self.caught_up.borrow() && !state.untold.contains(component) {
            self.bus.publish(&News::Event(held.event.clone()));
        }
        state.held.insert(component.clone(), held);
    }

    /// Tells everything, but what the topic says already.
    fn publish_all(&self, state: &State) {
        if !*self.caught_up.borrow() {
            return;
        }
        let time = clock::now();
        for Held { event, .. } in state.held.values() {
            if state.untold.contains(&event.component) {
                continue;
            }
            // Another instance of this service may have said it, at another time.
            let said = state.roster.get(&event.component).is_some_and(|told| {
                let evidence = Evidence { latency: event.evidence.latency, ..told.evidence.clone() };
                let same = Event { evidence, time: event.time, source: event.source.clone(), ..told.clone() };
                service(&told.source) == service(&event.source) && same == *event
            });
            if !said {
                self.bus.publish(&News::Event(Event { time, ..event.clone() }));
            }
        }
    }

    fn hear(&self, update: BusUpdate) {
        match update {
            BusUpdate::Event { offset, event, .. } => {
                self.lock().roster.hear(offset, event);
            }
            // Everything is said again before the next `CaughtUp`; until then, what was known counts.
            BusUpdate::Lost(_) => self.lock().roster = Roster::new(),
            BusUpdate::CaughtUp => {
                let mut state = self.lock();
                let State { held, roster, .. } = &mut *state;
                for held in held.values_mut() {
                    held.take_over(roster, &self.source);
                }
                self.caught_up.send_replace(true);
                self.publish_all(&state);
            }
            BusUpdate::Fragment(_)
            | BusUpdate::BringUp(_)
            | BusUpdate::Forgotten(_)
            | BusUpdate::Deleted(_) => {}
        }
    }
}

async fn follow_bus(bus: Bus, inner: Weak<Inner>) {
    let mut updates = bus.subscribe();
    while let Some(update) = updates.next().await {
        let Some(inner) = inner.upgrade() else { return };
        inner.hear(update);
    }
}
