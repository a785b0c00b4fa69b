//! Deciding: what a Secret lacks, and what must not be done to it. Sees fingerprints, never values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chassis::converge::{self, Note};
use lifecycle::Component;

use crate::spec::{Origin, Owner, Selection, Spec};

/// What identifies a value without being it: a keyed digest, lower-case hexadecimal. Two fingerprints of one
/// [`World`] are equal when their values are.
pub type Fingerprint = String;

/// What is known of a key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// It can be used.
    Usable(Fingerprint),
    /// Something is there that is no value, and why: `is empty`.
    Unusable(&'static str),
}

/// The keys of a Secret.
pub type Keys = BTreeMap<String, Value>;

/// What is, of one Secret and its source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// The Secret's keys; none when there is no such Secret.
    pub keys: Option<Keys>,
    /// Whose it is.
    pub marker: Marker,
    /// The source's keys; none when there is no such Secret, or the spec has no source.
    pub source: Option<Keys>,
    /// When the Secret's keys were changed last, in milliseconds since 1970; 0 when it has none.
    pub modified: u64,
}

/// Whose a Secret is, by the mark that Rollcall leaves on what it makes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Marker {
    /// It has no mark.
    #[default]
    None,
    /// It has one that cannot be read.
    Unreadable(String),
    /// Somebody's documents declare it.
    Of {
        /// Whose.
        owner: Owner,
        /// What it was copied from; none when it was generated.
        source: Option<Component>,
        /// The keys that were copied, with the value last written.
        keys: BTreeMap<String, Fingerprint>,
    },
}

/// One change to one Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The Secret.
    pub secret: Component,
    /// The change.
    pub action: Action,
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Makes a value for a key that is absent.
    Generate {
        /// The key.
        key: String,
        /// How many characters.
        length: u16,
    },
    /// Marks the Secret as ours, before any key is written.
    Claim {
        /// What it is copied from; none when it is generated.
        from: Option<Component>,
    },
    /// Writes a key as it is in the source.
    Copy {
        /// The key.
        key: String,
        /// The Secret it comes from.
        from: Component,
        /// Its name there.
        old: String,
        /// Why.
        reason: Reason,
    },
    /// Removes a key that was copied and is not asked for any more.
    Remove {
        /// The key.
        key: String,
    },
}

/// Why a key is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is not there.
    Absent,
    /// The source has another value now.
    Follows,
    /// Somebody changed the copy.
    Drifted,
}

impl converge::Step for Step {
    fn component(&self) -> &Component {
        &self.secret
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Generate { key, length } => write!(f, "generate key `{key}`, {length} characters"),
            Action::Claim { from: None } => f.write_str("mark it as generated for this environment"),
            Action::Claim { from: Some(from) } => write!(f, "mark it as a copy of {from}"),
            Action::Copy { key, from, old, reason } => {
                write!(f, "copy key `{key}` from {from} key `{old}`")?;
                match reason {
                    Reason::Absent => Ok(()),
                    Reason::Follows => f.write_str(", which changed"),
                    Reason::Drifted => f.write_str(", because somebody changed the copy"),
                }
            }
            Action::Remove { key } => write!(f, "remove key `{key}`, which is not copied any more"),
        }
    }
}

/// A plan for one Secret.
pub type Plan = converge::Plan<Step>;

/// Decides what to do about one Secret. What is refused, or waits for something, is left alone as a whole.
pub fn plan(spec: &Spec, world: &World) -> Plan {
    let mut plan = Deciding { spec, world, plan: Plan::default() };
    match &spec.origin {
        Origin::External(keys) => plan.external(keys),
        Origin::Generated(keys) => plan.generated(keys),
        Origin::Copied { from, keys } => plan.copied(from, keys),
    }
    if !plan.plan.refusals.is_empty() {
        plan.plan.pending.clear();
    }
    if !plan.plan.refusals.is_empty() || !plan.plan.pending.is_empty() {
        plan.plan.steps.clear();
    }
    plan.plan
}

struct Deciding<'a> {
    spec: &'a Spec,
    world: &'a World,
    plan: Plan,
}

impl Deciding<'_> {
    fn note(&self, text: impl fmt::Display) -> Note {
        Note::new(&self.spec.secret, text)
    }

    fn refuse(&mut self, text: impl fmt::Display) {
        self.plan.refusals.push(self.note(text));
    }

    fn wait(&mut self, text: impl fmt::Display) {
        self.plan.pending.push(self.note(text));
    }

    fn step(&mut self, action: Action) {
        self.plan.steps.push(Step { secret: self.spec.secret.clone(), action });
    }

    /// Why a Secret that is marked is not ours to touch.
    fn not_ours(&self) -> Option<String> {
        let ours = &self.spec.owner;
        match &self.world.marker {
            Marker::Of { owner, .. } if owner.environment != ours.environment => Some(format!(
                "belongs to environment `{}` ({}), fragment `{}`; give it another name or namespace",
                owner.name, owner.environment, owner.fragment
            )),
            Marker::Of { owner, .. } if !owner.is(ours) => Some(format!(
                "belongs to fragment `{}` of this environment, not to `{}`; give it another name, or if its declaration moved, write the new fragment into its mark",
                owner.fragment, ours.fragment
            )),
            Marker::Unreadable(why) => Some(format!(
                "its mark of ownership cannot be read ({why}); restore it, or remove the Secret to have it made again"
            )),
            Marker::None | Marker::Of { .. } => None,
        }
    }

    fn external(&mut self, keys: &BTreeSet<String>) {
        let secret = &self.spec.secret;
        let Some(there) = &self.world.keys else {
            let keys = if keys.is_empty() { String::new() } else { format!(" with {}", list(keys)) };
            return self.wait(format!(
                "{secret} does not exist; it is declared external, so somebody else makes it{keys}"
            ));
        };
        for key in keys {
            match there.get(key) {
                Some(Value::Usable(_)) => {}
                Some(Value::Unusable(why)) => self.wait(format!("{secret} key `{key}` {why}; whoever makes it must write it")),
                None => self.wait(format!(
                    "{secret} has no key `{key}`, which documents read; add the key where the Secret is made, or correct the documents"
                )),
            }
        }
    }

    fn generated(&mut self, keys: &BTreeMap<String, u16>) {
        if let Some(why) = self.not_ours() {
            return self.refuse(why);
        }
        let there = self.world.keys.clone().unwrap_or_default();
        if self.world.marker == Marker::None && !there.is_empty() {
            return self.found(keys, &there);
        }
        // No key is noted: what is generated is never written again.
        let current = Marker::Of { owner: self.spec.owner.clone(), source: None, keys: BTreeMap::new() };
        if self.world.marker != current {
            self.step(Action::Claim { from: None });
        }
        for (key, length) in keys {
            match there.get(key) {
                Some(Value::Usable(_)) => {}
                // Whatever took its place may still be in use somewhere: a new value would lock that out.
                Some(Value::Unusable(why)) => self.refuse(format!(
                    "key `{key}` exists but {why}; it is never overwritten: restore its value, or remove the key to have a new one made"
                )),
                None => self.step(Action::Generate { key: key.clone(), length: *length }),
            }
        }
    }

    /// To be generated, but somebody made it beforehand: it is used as it is or not at all.
    fn found(&mut self, keys: &BTreeMap<String, u16>, there: &Keys) {
        let fault = |key: &String| match there.get(key) {
            Some(Value::Usable(_)) => None,
            Some(Value::Unusable(why)) => Some(format!("key `{key}` {why}")),
            None => Some(format!("it has no key `{key}`")),
        };
        let faults: Vec<String> = keys.keys().filter_map(fault).collect();
        if !faults.is_empty() {
            self.refuse(format!(
                "exists already, was not made by Rollcall, and {}; it is never overwritten or added to: add the missing keys yourself, or remove the Secret so that it is generated",
                faults.join(", ")
            ));
        }
    }

    fn copied(&mut self, from: &Component, selection: &Selection) {
        if let Some(why) = self.not_ours() {
            return self.refuse(why);
        }
        let there = self.world.keys.clone().unwrap_or_default();
        let written = match &self.world.marker {
            Marker::None if !there.is_empty() => {
                return self.refuse(
                    "exists already and was not copied by Rollcall; remove it, give the copy another name, or declare it `external`",
                );
            }
            Marker::None | Marker::Unreadable(_) => BTreeMap::new(),
            Marker::Of { keys, .. } => keys.clone(),
        };
        let Some(source) = &self.world.source else {
            return self.wait(format!(
                "{from} does not exist, from which it is copied; it follows as soon as that is made"
            ));
        };
        let owner = self.spec.owner.clone();
        let current = Marker::Of { owner, source: Some(from.clone()), keys: written.clone() };
        if self.world.marker != current {
            self.step(Action::Claim { from: Some(from.clone()) });
        }
        let wanted: BTreeMap<String, String> = match selection {
            Selection::All => source.keys().map(|key| (key.clone(), key.clone())).collect(),
            Selection::Renamed(keys) => keys.clone(),
        };
        if wanted.is_empty() {
            self.wait(format!("{from}, from which it is copied, has no keys yet"));
        }
        for (key, old) in &wanted {
            self.copied_key(from, key, old, source.get(old), there.get(key), written.get(key));
        }
        for (key, written) in written.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
            self.unwanted_key(from, selection, key, written, there.get(key));
        }
    }

    /// One key that is asked for.
    fn copied_key(
        &mut self,
        from: &Component,
        key: &str,
        old: &str,
        source: Option<&Value>,
        there: Option<&Value>,
        written: Option<&Fingerprint>,
    ) {
        if there.is_some() && written.is_none() {
            return self.refuse(format!(
                "key `{key}` exists already and was not copied by Rollcall; remove it, or copy under another name"
            ));
        }
        let wanted = match source {
            Some(Value::Usable(wanted)) => wanted,
            Some(Value::Unusable(why)) => {
                return self.wait(format!("{from} key `{old}`, from which it is copied, {why}"));
            }
            None => {
                return self.wait(format!(
                    "{from} has no key `{old}`, from which `{key}` is copied; add the key there, or correct the document"
                ));
            }
        };
        let reason = match there {
            Some(Value::Usable(value)) if value == wanted && written == Some(wanted) => return,
            None => Reason::Absent,
            Some(Value::Usable(value)) if written == Some(value) || value == wanted => Reason::Follows,
            Some(_) => Reason::Drifted,
        };
        let (from, key, old) = (from.clone(), key.to_owned(), old.to_owned());
        self.step(Action::Copy { key, from, old, reason });
    }

    /// One key that was copied and is not asked for.
    fn unwanted_key(
        &mut self,
        from: &Component,
        selection: &Selection,
        key: &str,
        written: &Fingerprint,
        there: Option<&Value>,
    ) {
        match there {
            // A key that vanished from the source may come back, and what runs may need it: the copy stays.
            Some(_) if *selection == Selection::All => {
                let text = self.note(format!("{from} has no key `{key}` any more; the copy is kept"));
                self.plan.drift.push(text);
            }
            Some(value) if *value != Value::Usable(written.clone()) => {
                let text = self.note(format!(
                    "key `{key}` is not copied any more, but somebody changed it since; it is kept: remove it by hand"
                ));
                self.plan.drift.push(text);
            }
            Some(_) | None => self.step(Action::Remove { key: key.to_owned() }),
        }
    }
}

fn list(keys: &BTreeSet<String>) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}
