//! Deciding about what is made once.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::Generator;

use super::certificates::Maker;
use super::{Action, Deciding, Keys, Marker, Rotation, list};
use crate::spec::{Generated, Source};

impl Deciding<'_> {
    pub(super) fn generated(&mut self, spec: &Generated) {
        if self.untouchable() {
            return;
        }
        let there = self.keys();
        let rotated = match self.marker() {
            Marker::None if !there.is_empty() => {
                for (own, generator) in &spec.keys {
                    self.told(own, generator, Maker::Others);
                }
                return self.found(&spec.keys, &there);
            }
            Marker::Of { rotated, .. } => rotated.clone(),
            Marker::None | Marker::Unreadable(_) => BTreeMap::new(),
        };
        let mut absent: BTreeMap<String, Generator> = BTreeMap::new();
        let mut rotate: BTreeMap<String, Rotation> = BTreeMap::new();
        let mut trust: BTreeMap<String, Generator> = BTreeMap::new();
        for (own, generator) in &spec.keys {
            let keys = generator.writes(own);
            let flaws = keys.iter().filter_map(|key| Some((key, there.get(*key)?.flaw?)));
            // Whatever took its place may still be in use somewhere: a new value would lock that out.
            let flaws: Vec<String> = flaws.map(|(key, flaw)| format!(
                "key `{key}` exists but {flaw}; it is never overwritten: restore its value from a backup"
            )).collect();
            if !flaws.is_empty() {
                for flaw in flaws {
                    self.refuse(flaw);
                }
            } else if !keys.iter().all(|key| there.contains_key(*key)) {
                absent.insert(own.clone(), generator.clone());
            } else if keys.iter().any(|key| rotated.get(*key).copied().unwrap_or(0) < spec.serial) {
                let (previous, serial) = (spec.previous.clone(), spec.serial);
                rotate.insert(own.clone(), Rotation { generator: generator.clone(), previous, serial });
            } else {
                self.told(own, generator, Maker::Us);
                if self.is_outdated(own) {
                    trust.insert(own.clone(), generator.clone());
                }
            }
        }
        let makes = !absent.is_empty() || !rotate.is_empty() || !trust.is_empty();
        if !makes && !self.is_current() {
            self.step(Action::Claim);
        }
        if makes {
            self.lost(spec, &absent, &there);
            self.unsigned(spec, absent.keys().chain(rotate.keys()));
            self.step(Action::Generate { absent, serial: spec.serial, rotate, trust });
        }
        let keys: BTreeSet<String> = written(&spec.keys)
            .filter(|key| !self.world.recorded.keys.contains(*key))
            .map(str::to_owned)
            .collect();
        let seal = spec.escrow.clone().map(|recipient| (recipient, spec.serial));
        // An older state, asked for after a newer one was made, is no reason to seal anew.
        let is_sealed = self
            .world
            .recorded
            .sealed
            .as_ref()
            .zip(seal.as_ref())
            .is_some_and(|((to, serial), (recipient, wanted))| to == recipient && serial >= wanted);
        let seal = seal.filter(|_| !is_sealed || !keys.is_empty());
        if !keys.is_empty() || seal.is_some() {
            self.step(Action::Remember { keys, seal });
        }
    }

    /// Waits for the authorities that sign what is to be made.
    fn unsigned<'a>(&mut self, spec: &Generated, keys: impl Iterator<Item = &'a String>) {
        let authorities = keys.filter_map(|key| Some((key, spec.authorities.get(key)?)));
        for (key, authority) in authorities {
            let source = Source::Object(authority.secret.clone());
            if !self.world.sources.get(&source).is_some_and(Option::is_some) {
                let says =
                    format!("{source} does not exist, which signs `{key}`; it is made as soon as that is");
                self.wait_for(&source, says);
            } else if self.world.unrotated.contains(&authority.secret) {
                let says = format!("{source}, which signs `{key}`, is to be rotated first");
                self.wait_for(&source, says);
            }
        }
    }

    /// Whether the mark says what it should.
    fn is_current(&self) -> bool {
        // No key is noted: what is generated does not follow anything.
        matches!(self.marker(), Marker::Of { owner, sources, keys, .. }
            if *owner == self.spec.owner && sources.is_empty() && keys.is_empty())
    }

    /// Refuses to make anew what was there once: another value would lock somebody out.
    fn lost(&mut self, spec: &Generated, absent: &BTreeMap<String, Generator>, there: &Keys) {
        let object = &self.spec.object;
        let gone: Vec<&str> = written(absent)
            .filter(|key| self.world.recorded.keys.contains(*key) && !there.contains_key(*key))
            .collect();
        let known: Vec<String> = spec
            .protects
            .iter()
            .filter(|what| self.world.protected.contains(what))
            .map(ToString::to_string)
            .collect();
        if !gone.is_empty() {
            self.refuse(format!(
                "{} was generated once and is gone; another value would lock out whoever uses the old one: restore it from a backup, or, when nothing uses it any more, run `secret-syncer forget {object} DOCUMENTS` to have it made anew",
                list(gone)
            ));
        } else if !absent.is_empty() && !known.is_empty() {
            self.refuse(format!(
                "{} does not exist, but {} does, which it protects: a new value would not open it; restore it, or remove `protects` once what it opens is gone",
                list(written(absent)),
                known.join(", ")
            ));
        }
    }

    /// To be generated, but somebody made it beforehand: it is used as it is or not at all.
    fn found(&mut self, keys: &BTreeMap<String, Generator>, there: &Keys) {
        let fault = |key: &str| match there.get(key) {
            Some(value) => value.flaw.map(|flaw| format!("key {} {flaw}", list([key]))),
            None => Some(format!("it has no key {}", list([key]))),
        };
        let faults: Vec<String> = written(keys).filter_map(fault).collect();
        if !faults.is_empty() {
            self.refuse(format!(
                "exists already, was not made by Rollcall, and {}; it is never overwritten or added to: add the missing keys yourself, or remove it so that it is generated",
                faults.join(", ")
            ));
        }
    }
}

/// The keys that generators write.
fn written(generators: &BTreeMap<String, Generator>) -> impl Iterator<Item = &str> {
    generators.iter().flat_map(|(own, generator)| generator.writes(own))
}
