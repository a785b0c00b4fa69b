//! Fragments: those registered in this life, and those an earlier one left on the bus.

use chassis::wire::Fragment;
use lifecycle::Moment;

use super::{Effect, State};
use crate::hub::fragments::{Refusal, Taken};

impl State {
    /// Takes fragments. Those that are refused come back with the reason; the others are taken all the same.
    pub fn register(&mut self, fragments: Vec<Fragment>, now: Moment) -> (Vec<Refusal>, Vec<Effect>) {
        let mut effects = Vec::new();
        let came_up = self.has_come_up();
        let (taken, refused) = self.union.take(fragments, &self.identity);
        for Taken { fragment, is_new } in taken {
            self.registered.insert(fragment.name.clone());
            effects.extend(is_new.then_some(Effect::Keep(fragment)));
        }
        if !effects.is_empty() {
            effects.extend(self.redefine(now));
        }
        effects.extend(self.begin(came_up, now));
        (refused, effects)
    }

    /// Hears a fragment that an earlier life kept on the bus. What was registered in this life outranks it: the bus is
    /// often read only after the documents of today were.
    pub fn recall(&mut self, fragment: Fragment, now: Moment) -> (Option<Refusal>, Vec<Effect>) {
        if self.registered.contains(&fragment.name) {
            return (None, Vec::new());
        }
        let (taken, refused) = self.union.take(vec![fragment], &self.identity);
        let is_new = taken.iter().any(|taken| taken.is_new);
        (refused.into_iter().next(), if is_new { self.redefine(now) } else { Vec::new() })
    }

    /// The fragments that were taken.
    pub fn fragments(&self) -> impl Iterator<Item = &Fragment> {
        self.union.fragments()
    }
}
