//! Fragments: those registered in this life, those an earlier one left on the bus, and those that were mounted and are no more.
//!
//! What is mounted here outweighs what others register. What was mounted and is gone stays gone, in that very form, until it is
//! mounted again or registered in another. Only the release that had mounted it forgets it.

use std::collections::BTreeSet;

use chassis::wire::{Forgotten, Fragment, fragment_key};
use lifecycle::Moment;

use super::{Effect, State};
use crate::hub::fragments::{Refusal, Taken};

/// Why a fragment is refused that is mounted no more.
const GONE: &str = "the hub has forgotten it: the release that had mounted it does not have it any more, and whoever carries it like this has documents of an earlier one; if it is to stay, give it to the hub's release again, or change something in it";

/// Why a fragment is refused that is mounted in another form.
const OTHER: &str = "the hub has another of this name from its own release, which outweighs it; start what carries this one again with the documents of today, or change it in the hub's release";

impl State {
    /// Takes fragments that somebody registers. Those that are refused come back with the reason; the others are taken all the
    /// same.
    pub fn register(&mut self, fragments: Vec<Fragment>, now: Moment) -> (Vec<Refusal>, Vec<Effect>) {
        let (mut sound, mut past) = (Vec::new(), Vec::new());
        for fragment in fragments {
            if let Some(why) = self.outweighed(&fragment) {
                past.push(Refusal { name: fragment.name, reason: why.to_owned() });
                continue;
            }
            // What is mounted here is so whoever hands it in.
            let mounted = self.mounted.contains_key(&fragment.name);
            let mounted_by = mounted.then(|| self.release.clone()).flatten();
            sound.push(Fragment { mounted_by, ..fragment });
        }
        let (mut refused, effects) = self.admit(sound, now);
        refused.extend(past);
        (refused, effects)
    }

    /// Why what somebody registers is refused whatever is in it, if it is. Pods of an earlier release may still be there, and
    /// carry its documents.
    fn outweighed(&self, fragment: &Fragment) -> Option<&'static str> {
        if let Some(hash) = self.mounted.get(&fragment.name) {
            return (*hash != fragment.hash).then_some(OTHER);
        }
        let known = self.union.get(&fragment.name).is_some_and(|known| known.hash == fragment.hash);
        (!known && self.is_forgotten(fragment)).then_some(GONE)
    }

    fn is_forgotten(&self, fragment: &Fragment) -> bool {
        self.forgotten.get(&fragment.name).is_some_and(|forgotten| forgotten.hash == fragment.hash)
    }

    fn admit(&mut self, fragments: Vec<Fragment>, now: Moment) -> (Vec<Refusal>, Vec<Effect>) {
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
        effects.extend(self.remember());
        effects.extend(self.begin(came_up, now));
        (refused, effects)
    }

    /// Takes the fragments that are mounted. With all of them, those are forgotten that an earlier life of this release had
    /// mounted and that are not among them; where one could not be read, it may be any of those, and all stay.
    pub fn mount(&mut self, fragments: Vec<Fragment>, all: bool, now: Moment) -> (Vec<Refusal>, Vec<Effect>) {
        self.mounted = fragments.iter().map(|f| (f.name.clone(), f.hash.clone())).collect();
        self.all_mounted = all;
        let mounted_by = self.release.clone();
        let fragments = fragments.into_iter().map(|f| Fragment { mounted_by: mounted_by.clone(), ..f });
        let came_up = self.has_come_up();
        let mut effects = self.forget_gone(now);
        let (refused, more) = self.admit(fragments.collect(), now);
        effects.extend(more);
        effects.extend(self.begin(came_up, now));
        (refused, effects)
    }

    /// Forgets what this release had mounted in an earlier life and has no more. Known once the bus was read.
    pub(super) fn forget_gone(&mut self, now: Moment) -> Vec<Effect> {
        if !self.settled || !self.all_mounted || self.release.is_none() {
            return Vec::new();
        }
        let gone = |fragment: &&Fragment| {
            fragment.mounted_by == self.release && !self.mounted.contains_key(&fragment.name)
        };
        let gone: Vec<Forgotten> = self.union.fragments().filter(gone).filter_map(forgotten).collect();
        let names = gone.iter().map(|forgotten| forgotten.name.clone()).collect();
        if gone.is_empty() || !self.union.forget(&names) {
            return Vec::new();
        }
        self.forgotten.extend(gone.iter().map(|forgotten| (forgotten.name.clone(), forgotten.clone())));
        self.registered.retain(|name| !names.contains(name));
        let mut effects: Vec<Effect> = gone.into_iter().map(Effect::Forget).collect();
        effects.extend(self.redefine(now));
        effects
    }

    /// What was forgotten and is there again, mounted or in another form, need not be known as gone. Before the bus was read
    /// nothing may be said of it.
    pub(super) fn remember(&mut self) -> Vec<Effect> {
        if !self.settled {
            return Vec::new();
        }
        let back = |gone: &Forgotten| {
            let known = self.union.get(&gone.name);
            self.mounted.contains_key(&gone.name) || known.is_some_and(|known| known.hash != gone.hash)
        };
        let back: Vec<String> = self.forgotten.values().filter(|g| back(g)).map(|g| g.name.clone()).collect();
        for name in &back {
            self.forgotten.remove(name);
        }
        back.into_iter().map(Effect::Remember).collect()
    }

    /// Hears that a fragment was forgotten, in an earlier life or by another hub. Who registered it before this was known is
    /// not asked again. What is mounted here is no less so because another release has it no more.
    pub fn recall_forgotten(&mut self, gone: Forgotten, now: Moment) -> Vec<Effect> {
        if gone.environment.uid != self.identity.uid {
            return Vec::new();
        }
        let known = self.union.get(&gone.name).filter(|known| known.hash == gone.hash).cloned();
        if self.mounted.contains_key(&gone.name) {
            self.forgotten.insert(gone.name.clone(), gone);
            return self.remember();
        }
        let elsewhere =
            |f: &Fragment| f.mounted_by.as_ref().is_some_and(|release| *release != gone.mounted_by);
        if known.as_ref().is_some_and(elsewhere) {
            return Vec::new();
        }
        let name = gone.name.clone();
        self.refused_recalls.retain(|_, fragment| (&fragment.name, &fragment.hash) != (&name, &gone.hash));
        self.forgotten.insert(name.clone(), gone);
        let came_up = self.has_come_up();
        if known.is_none() || !self.union.forget(&BTreeSet::from([name.clone()])) {
            return Vec::new();
        }
        self.registered.remove(&name);
        let mut effects = self.redefine(now);
        if self.settled {
            effects.extend(self.begin(came_up, now));
        }
        effects
    }

    /// Hears that a record was deleted. A fragment that is mounted here is kept again: another release may have had it too.
    pub fn deleted(&self, key: &str) -> Vec<Effect> {
        let mounted = self.mounted.keys().find(|name| fragment_key(name) == key);
        let known = mounted.and_then(|name| self.union.get(name));
        known.map(|fragment| Effect::Keep(fragment.clone())).into_iter().collect()
    }

    /// Hears a fragment that an earlier life kept on the bus. What was registered in this life outranks it: the bus is
    /// often read only after the documents of today were. One that is refused is tried again with each that comes: what it
    /// declares another may still give up, for the bus tells of what changed together one after the other.
    pub fn recall(&mut self, fragment: Fragment, now: Moment) -> (Option<Refusal>, Vec<Effect>) {
        if self.registered.contains(&fragment.name) {
            self.union.was_mounted(&fragment);
            return (None, Vec::new());
        }
        let elsewhere = fragment.mounted_by.is_some() && fragment.mounted_by != self.release;
        if self.is_forgotten(&fragment) && !elsewhere {
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

fn forgotten(fragment: &Fragment) -> Option<Forgotten> {
    Some(Forgotten {
        environment: fragment.environment.clone(),
        name: fragment.name.clone(),
        hash: fragment.hash.clone(),
        mounted_by: fragment.mounted_by.clone()?,
    })
}
