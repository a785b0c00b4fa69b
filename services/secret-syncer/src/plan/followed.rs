//! Deciding about what follows something else.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::{SourceGone, forbidden_type};

use super::{Action, Change, Deciding, Fingerprint, Keys, Marker, Reason, Value, list};
use crate::spec::{Followed, Place, Recipe, Source, Wanted};

/// As often somebody else's change is corrected before it is left to people: two that correct each other for ever would
/// be a storm of writes.
const CORRECTIONS: u32 = 5;

impl Deciding<'_> {
    pub(super) fn followed(&mut self, spec: &Followed) {
        if self.untouchable() {
            return;
        }
        let there = self.keys();
        let written = match self.marker() {
            Marker::None if !there.is_empty() && !spec.takeover => {
                return self.refuse(
                    "exists already and was not copied by Rollcall; remove it, give the copy another name, declare it `external`, or say `takeover: true` to have it overwritten",
                );
            }
            Marker::None | Marker::Unreadable(_) => BTreeMap::new(),
            Marker::Of { keys, .. } => keys.clone(),
        };
        if !self.has_sources(spec, &there, &written) || self.is_of_another_type(spec) {
            return;
        }
        let wanted = self.wanted(&spec.wanted);
        let mut keys = BTreeMap::new();
        for (key, recipe) in &wanted {
            if let Some(reason) = self.followed_key(spec, key, recipe, there.get(key), written.get(key)) {
                keys.insert(key.clone(), Change::Write { recipe: recipe.clone(), reason });
            }
        }
        for (key, written) in written.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
            if self.is_unwanted(spec, key, written, there.get(key)) {
                keys.insert(key.clone(), Change::Remove);
            }
        }
        self.write(keys);
    }

    fn write(&mut self, keys: BTreeMap<String, Change>) {
        let over = |reason: Reason| keys.values().any(|change| change.reason() == Some(reason));
        if over(Reason::Drifted) && self.world.corrections >= CORRECTIONS {
            return self.refuse(format!(
                "somebody keeps changing it: it was corrected {} times lately and is left alone for now; see who else writes it",
                self.world.corrections
            ));
        }
        // What nobody marked is marked when it is taken over, whichever of its keys are.
        let is_strange = *self.marker() == Marker::None && !self.keys().is_empty();
        let force = is_strange || over(Reason::Drifted) || over(Reason::TakenOver);
        if !keys.is_empty() {
            self.step(Action::Follow { keys, force });
        } else if !self.is_said() {
            self.step(Action::Claim);
        }
    }

    /// Whether the mark says what it should.
    fn is_said(&self) -> bool {
        let named: BTreeSet<String> = self.spec.sources().iter().map(ToString::to_string).collect();
        matches!(self.marker(), Marker::Of { owner, sources, .. } if *owner == self.spec.owner && *sources == named)
    }

    /// Whether its sources are there and may be read.
    fn has_sources(
        &mut self,
        spec: &Followed,
        there: &Keys,
        written: &BTreeMap<String, Fingerprint>,
    ) -> bool {
        let mut all = true;
        for (source, seen) in &self.world.sources {
            let kind = seen.as_ref().and_then(|seen| seen.kind.as_deref());
            if let Some(why) = kind.and_then(forbidden_type) {
                self.refuse(format!("{source}, from which it is copied, {why}"));
                all = false;
            }
            if seen.is_none() {
                self.source_gone(spec, source, there, written);
                all = false;
            }
        }
        all
    }

    fn source_gone(
        &mut self,
        spec: &Followed,
        source: &Source,
        there: &Keys,
        written: &BTreeMap<String, Fingerprint>,
    ) {
        // Made once and whole: whatever it follows was there.
        let is_made = !written.is_empty() && written.keys().all(|key| there.contains_key(key));
        if !is_made {
            let says =
                format!("{source} does not exist, from which it is made; it follows as soon as that is made");
            return self.wait_for(source, says);
        }
        match spec.source_gone {
            SourceGone::Retain => self.drift(format!(
                "{source}, from which it is made, was deleted; what was copied is kept"
            )),
            SourceGone::Delete if there.iter().all(|(key, value)| written.get(key) == Some(&value.fingerprint)) => {
                self.step(Action::Delete { because: "its source was deleted" });
            }
            SourceGone::Delete => self.drift(format!(
                "{source}, from which it is made, was deleted, but somebody changed the copy since; it is kept: delete it by hand"
            )),
        }
    }

    fn is_of_another_type(&mut self, spec: &Followed) -> bool {
        let from = |source: &Source| self.world.sources.get(source)?.as_ref()?.kind.clone();
        let wanted = spec.kind.clone().or_else(|| match &spec.wanted {
            Wanted::All(source) => from(source),
            Wanted::Keys(_) => self.spec.sources().iter().find_map(from),
        });
        let Some((wanted, kind)) = wanted.zip(self.world.there.as_ref().and_then(|there| there.kind.clone()))
        else {
            return false;
        };
        if wanted != kind {
            self.refuse(format!(
                "is of type `{kind}` and would have to be of type `{wanted}`; Kubernetes never changes a type: delete it, and it is made again"
            ));
        }
        wanted != kind
    }

    /// The keys that are asked for.
    fn wanted(&mut self, wanted: &Wanted) -> BTreeMap<String, Recipe> {
        let source = match wanted {
            Wanted::Keys(keys) => return keys.clone(),
            Wanted::All(source) => source,
        };
        let seen = self.world.sources.get(source).cloned().flatten().unwrap_or_default();
        if seen.keys.is_empty() {
            self.wait_for(source, format!("{source}, from which it is copied, has no keys yet"));
        }
        let same = |key: &String| Recipe::Same(Place { source: source.clone(), key: key.clone() });
        seen.keys.keys().map(|key| (key.clone(), same(key))).collect()
    }

    /// Why one key that is asked for is to be written, if it is.
    fn followed_key(
        &mut self,
        spec: &Followed,
        key: &str,
        recipe: &Recipe,
        there: Option<&Value>,
        written: Option<&Fingerprint>,
    ) -> Option<Reason> {
        let is_strange = there.is_some() && written.is_none();
        if is_strange && !spec.takeover {
            self.refuse(format!(
                "key `{key}` exists already and was not copied by Rollcall; remove it, or copy under another name"
            ));
            return None;
        }
        if !self.has_values(spec, key, recipe) {
            return None;
        }
        let wanted = match self.world.composed.get(key) {
            Some(Ok(wanted)) => wanted,
            Some(Err(why)) => {
                self.refuse(format!("key `{key}` cannot be made: {why}"));
                return None;
            }
            None => {
                self.wait(format!("key `{key}` cannot be made yet"));
                return None;
            }
        };
        match there.map(|value| &value.fingerprint) {
            None => Some(Reason::Absent),
            Some(value) if value == wanted && written == Some(wanted) => None,
            Some(_) if is_strange => Some(Reason::TakenOver),
            Some(value) if written == Some(value) || value == wanted => Some(Reason::Follows),
            Some(_) => Some(Reason::Drifted),
        }
    }

    /// Whether the values are there that a key is made of. What comes along with a whole source is taken as it is; what is
    /// asked for by name must be of use.
    fn has_values(&mut self, spec: &Followed, key: &str, recipe: &Recipe) -> bool {
        let by_name = matches!(spec.wanted, Wanted::Keys(_));
        let mut all = true;
        for Place { source, key: old } in recipe.places() {
            let value = self.world.sources.get(source).and_then(|seen| seen.as_ref()?.keys.get(old));
            let problem = match value {
                Some(Value { flaw: Some(flaw), .. }) if by_name => {
                    format!("{source} key `{old}`, from which it is made, {flaw}; correct it there")
                }
                Some(_) => continue,
                None => format!(
                    "{source} has no key `{old}`, from which `{key}` is made; add the key there, or correct the document"
                ),
            };
            self.wait_for(source, problem);
            all = false;
        }
        all
    }

    /// Whether a key that was written and is not asked for is removed.
    fn is_unwanted(
        &mut self,
        spec: &Followed,
        key: &str,
        written: &Fingerprint,
        there: Option<&Value>,
    ) -> bool {
        match there {
            // A key that vanished from the source may come back, and what runs may need it: the copy stays.
            Some(_) if matches!(spec.wanted, Wanted::All(_)) => {
                self.drift(format!("its source has no key `{key}` any more; the copy is kept"));
                false
            }
            Some(value) if value.fingerprint != *written => {
                self.drift(format!(
                    "key `{key}` is not asked for any more, but somebody changed it since; it is kept: remove it by hand"
                ));
                false
            }
            Some(_) | None => true,
        }
    }
}

/// What happens to the keys, in words.
pub(super) fn phrases(keys: &BTreeMap<String, Change>) -> Vec<String> {
    let of = |reason: Option<Reason>| -> BTreeMap<&String, Option<&Recipe>> {
        let these = keys.iter().filter(|(_, change)| change.reason() == reason);
        these.map(|(key, change)| (key, change.recipe())).collect()
    };
    let why = [
        (Some(Reason::Absent), "write", ""),
        (Some(Reason::Follows), "renew", ", which changed"),
        (Some(Reason::Drifted), "correct", ", which somebody changed"),
        (Some(Reason::TakenOver), "overwrite", ", which somebody else wrote"),
        (None, "remove", ", which is not asked for any more"),
    ];
    let phrase = |(reason, verb, because): (Option<Reason>, &str, &str)| {
        let changed = of(reason);
        let sources: BTreeSet<String> = changed
            .values()
            .flatten()
            .flat_map(|recipe| recipe.places())
            .map(|place| place.source.to_string())
            .collect();
        let names = changed.iter().map(|(key, recipe)| match recipe {
            Some(Recipe::Same(place)) if place.key != **key => format!("`{key}` (there `{}`)", place.key),
            _ => list([*key]),
        });
        let names: Vec<String> = names.collect();
        let from = if sources.is_empty() {
            String::new()
        } else {
            format!(" from {}", Vec::from_iter(sources).join(", "))
        };
        (!names.is_empty()).then(|| format!("{verb} {}{from}{because}", names.join(", ")))
    };
    why.into_iter().filter_map(phrase).collect()
}
