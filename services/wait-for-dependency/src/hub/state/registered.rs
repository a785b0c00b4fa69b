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
    /// often read only after the documents of today were. One that is refused is tried again with each that comes: what it
    /// declares another may still give up, for the bus tells of what changed together one after the other.
    pub fn recall(&mut self, fragment: Fragment, now: Moment) -> (Option<Refusal>, Vec<Effect>) {
        if self.registered.contains(&fragment.name) {
            return (None, Vec::new());
        }
        let name = fragment.name.clone();
        self.refused_recalls.retain(|other, _| !self.registered.contains(other));
        self.refused_recalls.insert(name.clone(), fragment);
        let batch = self.refused_recalls.values().cloned().collect();
        let (taken, refused) = self.union.take(batch, &self.identity);
        for Taken { fragment, .. } in &taken {
            self.refused_recalls.remove(&fragment.name);
        }
        let is_new = taken.iter().any(|taken| taken.is_new);
        let refusal = refused.into_iter().find(|refusal| refusal.name == name);
        (refusal, if is_new { self.redefine(now) } else { Vec::new() })
    }

    /// The fragments that were registered in this life and taken: what the bus has to hold.
    pub fn registered(&self) -> impl Iterator<Item = &Fragment> {
        self.union.fragments().filter(|fragment| self.registered.contains(&fragment.name))
    }

    /// The namespace of the fragment that declares a module.
    pub fn namespace_of_module(&self, module: &str) -> Option<&str> {
        self.union.namespace_of(self.union.fragment_of(module)?)
    }

    /// The fragments that were taken.
    pub fn fragments(&self) -> impl Iterator<Item = &Fragment> {
        self.union.fragments()
    }
}
