//! Deciding about what is made once.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::Generator;

use super::{Action, Deciding, Keys, Marker, Rotation, list};
use crate::spec::Generated;

impl Deciding<'_> {
    pub(super) fn generated(&mut self, spec: &Generated) {
        if self.untouchable() {
            return;
        }
        let there = self.keys();
        let rotated = match self.marker() {
            Marker::None if !there.is_empty() => return self.found(&spec.keys, &there),
            Marker::Of { rotated, .. } => rotated.clone(),
            Marker::None | Marker::Unreadable(_) => BTreeMap::new(),
        };
        let mut absent: BTreeMap<String, Generator> = BTreeMap::new();
        let mut rotate: BTreeMap<String, Rotation> = BTreeMap::new();
        for (key, generator) in &spec.keys {
            match there.get(key).map(|value| value.flaw) {
                Some(None) if rotated.get(key).copied().unwrap_or(0) < spec.serial => {
                    let (previous, serial) = (spec.previous.get(key).cloned(), spec.serial);
                    rotate.insert(key.clone(), Rotation { generator: generator.clone(), previous, serial });
                }
                Some(None) => {}
                // Whatever took its place may still be in use somewhere: a new value would lock that out.
                Some(Some(flaw)) => self.refuse(format!(
                    "key `{key}` exists but {flaw}; it is never overwritten: restore its value from a backup"
                )),
                None => drop(absent.insert(key.clone(), generator.clone())),
            }
        }
        if absent.is_empty() && rotate.is_empty() && !self.is_current() {
            self.step(Action::Claim);
        }
        if !absent.is_empty() || !rotate.is_empty() {
            self.lost(spec, &absent);
            self.step(Action::Generate { absent, serial: spec.serial, rotate });
        }
        let new: BTreeSet<String> =
            spec.keys.keys().filter(|key| !self.world.generated_once.contains(*key)).cloned().collect();
        if !new.is_empty() {
            self.step(Action::Remember(new));
        }
    }

    /// Whether the mark says what it should.
    fn is_current(&self) -> bool {
        // No key is noted: what is generated does not follow anything.
        matches!(self.marker(), Marker::Of { owner, sources, keys, .. }
            if *owner == self.spec.owner && sources.is_empty() && keys.is_empty())
    }

    /// Refuses to make anew what was there once: another value would lock somebody out.
    fn lost(&mut self, spec: &Generated, absent: &BTreeMap<String, Generator>) {
        let object = &self.spec.object;
        let gone: Vec<&String> =
            absent.keys().filter(|key| self.world.generated_once.contains(*key)).collect();
        let known: Vec<String> = spec
            .protects
            .iter()
            .filter(|what| self.world.protected.contains(what))
            .map(ToString::to_string)
            .collect();
        if !gone.is_empty() {
            self.refuse(format!(
                "{} was generated once and is gone; another value would lock out whoever uses the old one: restore it from a backup, or, when nothing uses it any more, run `secret-syncer forget {object}` to have it made anew",
                list(gone)
            ));
        } else if !absent.is_empty() && !known.is_empty() {
            self.refuse(format!(
                "{} does not exist, but {} does, which it protects: a new value would not open it; restore it, or remove `protects` once what it opens is gone",
                list(absent.keys()),
                known.join(", ")
            ));
        }
    }

    /// To be generated, but somebody made it beforehand: it is used as it is or not at all.
    fn found(&mut self, keys: &BTreeMap<String, Generator>, there: &Keys) {
        let fault = |key: &String| match there.get(key) {
            Some(value) => value.flaw.map(|flaw| format!("key {} {flaw}", list([key]))),
            None => Some(format!("it has no key {}", list([key]))),
        };
        let faults: Vec<String> = keys.keys().filter_map(fault).collect();
        if !faults.is_empty() {
            self.refuse(format!(
                "exists already, was not made by Rollcall, and {}; it is never overwritten or added to: add the missing keys yourself, or remove it so that it is generated",
                faults.join(", ")
            ));
        }
    }
}
