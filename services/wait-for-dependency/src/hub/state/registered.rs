//! Fragments: those registered in this life, and those an earlier one left on the bus.

use std::collections::BTreeSet;

use chassis::wire::Fragment;
use lifecycle::Moment;

use super::{Effect, State};
use crate::hub::fragments::Refusal;

impl State {
    /// Takes fragments. Those that are refused come back with the reason; the others are taken all the same.
    pub fn register(&mut self, fragments: Vec<Fragment>, now: Moment) -> (Vec<Refusal>, Vec<Effect>) {
        let mut effects = Vec::new();
        let came_up = self.has_come_up();
        let refused = self.take(fragments, &mut effects);
        if !effects.is_empty() {
            effects.extend(self.redefine(now));
        }
        effects.extend(self.begin(came_up, now));
        (refused, effects)
    }

    /// Takes one after the other; the refused again while others are taken, for what one declares another may just have
    /// given up.
    fn take(&mut self, mut fragments: Vec<Fragment>, effects: &mut Vec<Effect>) -> Vec<Refusal> {
        let (mut known, mut refused) = (BTreeSet::new(), Vec::new());
        loop {
            let (mut again, mut changed) = (Vec::new(), false);
            for fragment in std::mem::take(&mut fragments) {
                match self.union.take(fragment.clone(), &self.identity) {
                    Ok(news) => {
                        changed |= news;
                        known.insert(fragment.name.clone());
                        self.registered.insert(fragment.name.clone());
                        effects.extend(news.then_some(Effect::Keep(fragment)));
                    }
                    Err(refusal) => again.push((fragment, refusal)),
                }
            }
            // What a later one of its name replaced is not tried again.
            let (past, again): (Vec<_>, Vec<_>) =
                again.into_iter().partition(|(f, _)| known.contains(&f.name));
            refused.extend(past.into_iter().map(|(_, refusal)| refusal));
            if !changed || again.is_empty() {
                refused.extend(again.into_iter().map(|(_, refusal)| refusal));
                return refused;
            }
            fragments = again.into_iter().map(|(fragment, _)| fragment).collect();
        }
    }

    /// Hears a fragment that an earlier life kept on the bus. What was registered in this life outranks it: the bus is
    /// often read only after the documents of today were.
    pub fn recall(&mut self, fragment: Fragment, now: Moment) -> (Option<Refusal>, Vec<Effect>) {
        if self.registered.contains(&fragment.name) {
            return (None, Vec::new());
        }
        match self.union.take(fragment, &self.identity) {
            Ok(true) => (None, self.redefine(now)),
            Ok(false) => (None, Vec::new()),
            Err(refusal) => (Some(refusal), Vec::new()),
        }
    }

    /// The fragments that were taken.
    pub fn fragments(&self) -> impl Iterator<Item = &Fragment> {
        self.union.fragments()
    }
}
