//! Bring-ups: when a new generation of the environment begins, and when an old one is forgotten.

use std::collections::BTreeSet;

use chassis::wire::BringUp;
use lifecycle::{Component, Event, Kind, Moment, Phase};

use super::{Effect, Sight, State};
use crate::hub::decide::made_by_others;

/// So many generations of the environment are remembered.
const GENERATIONS: u64 = 10;
/// No environment comes up this often: a bring-up that says so is forged or broken.
const ABSURD: u64 = 1 << 32;

impl State {
    /// Hears a bring-up that an earlier life began. An older one than known changes nothing, nor does an absurd one.
    pub fn recall_bring_up(&mut self, bring_up: BringUp) {
        let believable = (self.generation()..ABSURD).contains(&bring_up.generation);
        if bring_up.environment.uid == self.identity.uid && believable {
            self.bring_up = Some(bring_up);
        }
    }

    /// Everything that was kept on the bus is known: the bring-up is settled with what was registered meanwhile.
    pub fn settle(&mut self, now: Moment) -> Vec<Effect> {
        let came_up = self.has_come_up();
        self.settled = true;
        let mut effects = self.forget_gone(now);
        effects.extend(self.remember());
        effects.extend(self.begin(came_up, now));
        // Whether what an earlier life said is of the current bring-up is known only now.
        let all: Vec<Component> = self.current.keys().cloned().collect();
        effects.extend(all.iter().flat_map(|component| self.review(component, now)));
        effects
    }

    /// Whether the word about a component is that of whoever has to know: of what others make, theirs; of everything
    /// else the hub's own, of this life or an earlier one, about the current bring-up. Anybody else may say so too, and
    /// an old word is about what was there then.
    pub(super) fn is_makers(&self, event: &Event) -> bool {
        let service = |source: &str| source.split('/').next().map(str::to_owned);
        made_by_others(event.component.kind())
            || (self.settled
                && event.generation == self.generation()
                && service(&event.source) == service(&self.source))
    }

    /// The bring-up under way, or the last.
    pub fn bring_up(&self) -> Option<&BringUp> {
        self.bring_up.as_ref()
    }

    /// Whether the bring-up is complete: every module has been seen ready, or works where the hub cannot look.
    pub(super) fn has_come_up(&self) -> bool {
        self.graph.components().filter(|c| c.kind() == Kind::Module).all(|module| {
            let state = self.current.get(module);
            let sight = Sight { component: module.clone(), fragment: None };
            let observable = self.sights.get(&sight).is_some_and(Result::is_ok);
            match state.and_then(|state| state.phase) {
                Some(Phase::Ready | Phase::Degraded | Phase::Removed) => true,
                Some(Phase::Working) => !observable,
                _ => false,
            }
        })
    }

    /// Begins a bring-up when the union is another than the last one was about. One that is under way takes it in.
    pub(super) fn begin(&mut self, came_up: bool, now: Moment) -> Vec<Effect> {
        let hash = self.union.hash();
        if self.union.is_empty() || self.bring_up.as_ref().is_some_and(|known| known.fragments_hash == hash) {
            return Vec::new();
        }
        let known = self.bring_up.as_ref().map(|known| (known.generation, known.started));
        let (generation, started) = match known {
            Some((generation, started)) if !came_up => (generation, started),
            Some((generation, _)) => (generation.checked_add(1).unwrap_or(generation), now),
            None => (1, now),
        };
        let environment = self.identity.clone();
        let bring_up = BringUp { environment, generation, started, fragments_hash: hash };
        self.bring_up = Some(bring_up.clone());
        let mut effects = vec![Effect::Begin(bring_up)];
        effects.extend(self.retire(generation));
        effects
    }

    /// Records of generations before the last ten, but for the last word about something that is still declared.
    fn retire(&mut self, generation: u64) -> Option<Effect> {
        let oldest = generation.saturating_sub(GENERATIONS - 1);
        let kept = self.keys.split_off(&oldest);
        let past = std::mem::replace(&mut self.keys, kept);
        let mut retired = Vec::new();
        for (generation, keys) in past {
            let last_words: BTreeSet<String> = self
                .roster
                .iter()
                .filter(|event| event.generation == generation && self.graph.declares(&event.component))
                .map(Event::key)
                .collect();
            let (keep, retire): (BTreeSet<String>, BTreeSet<String>) =
                keys.into_iter().partition(|key| last_words.contains(key));
            retired.extend(retire);
            if !keep.is_empty() {
                self.keys.insert(generation, keep);
            }
        }
        (!retired.is_empty()).then_some(Effect::Retire(retired))
    }
}
