//! Deciding: what an object lacks, and what must not be done to it. Sees fingerprints, never values.

mod certificates;
mod followed;
mod generated;
mod seen;
mod teardown;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chassis::converge::{self, Awaits, Note};
use lifecycle::Component;
use lifecycle::document::{Generator, forbidden_type};

use crate::spec::{Origin, Recipe, Source, Spec};

pub use seen::{
    Certificate, Condition, Fingerprint, Keys, Marker, Recorded, Seen, Signer, There, Value, World,
};
pub use teardown::teardown;

/// One change to one object, made in one write where the store can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The object.
    pub object: Component,
    /// The state it was decided on; none when there was no object, or the store cannot tell.
    pub version: Option<String>,
    /// The change.
    pub action: Action,
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Makes values that follow nothing.
    Generate {
        /// The keys that are absent, and how their values are made.
        absent: BTreeMap<String, Generator>,
        /// As often as this those count as rotated.
        serial: u32,
        /// The keys that have a value and get another.
        rotate: BTreeMap<String, Rotation>,
        /// What makes certificates, where what those who trust are given is written anew, and nothing else.
        trust: BTreeMap<String, Generator>,
    },
    /// Marks the object as ours, as it is.
    Claim,
    /// Notes apart from the object that keys were generated.
    Remember {
        /// Those that are not noted yet.
        keys: BTreeSet<String>,
        /// For whom all values are sealed with the note, and how often they have been rotated.
        seal: Option<(String, u32)>,
    },
    /// Writes and removes keys so that it is as its sources are.
    Follow {
        /// What happens to which key.
        keys: BTreeMap<String, Change>,
        /// Whether somebody else's writing gives way.
        force: bool,
    },
    /// Deletes it.
    Delete {
        /// Why, as the end of a sentence.
        because: &'static str,
    },
}

/// How one generator's keys are rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// How the new values are made.
    pub generator: Generator,
    /// Where old values are kept, by key.
    pub previous: BTreeMap<String, String>,
    /// Which rotation this is.
    pub serial: u32,
}

/// What happens to a key that follows something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is written.
    Write {
        /// What it is made of.
        recipe: Recipe,
        /// Why.
        reason: Reason,
    },
    /// It is not asked for any more.
    Remove,
}

impl Change {
    /// Why it is written; none when it is removed.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Change::Write { reason, .. } => Some(*reason),
            Change::Remove => None,
        }
    }

    /// What it is made of; nothing when it is removed.
    fn recipe(&self) -> Option<&Recipe> {
        match self {
            Change::Write { recipe, .. } => Some(recipe),
            Change::Remove => None,
        }
    }
}

/// Why a key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is not there.
    Absent,
    /// A source has another value now.
    Follows,
    /// Somebody changed it.
    Drifted,
    /// Somebody else wrote it, and it is taken over.
    TakenOver,
}

impl converge::Step for Step {
    fn component(&self) -> &Component {
        &self.object
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Generate { absent, rotate, trust, .. } => {
                let made = (!absent.is_empty()).then(|| format!("generate {}", list(absent.keys())));
                let rotated = (!rotate.is_empty()).then(|| format!("rotate {}", list(rotate.keys())));
                let trusted: BTreeSet<&String> =
                    trust.iter().filter_map(|(own, generator)| generator.trust(own)).collect();
                let trusted = (!trusted.is_empty()).then(|| {
                    format!("write the certificates in {} as the authority has them", list(trusted))
                });
                f.write_str(&made.into_iter().chain(rotated).chain(trusted).collect::<Vec<_>>().join("; "))?;
                let mut kept = rotate.values().flat_map(|rotation| &rotation.previous);
                kept.try_for_each(|(key, previous)| write!(f, ", the old `{key}` is kept as `{previous}`"))
            }
            Action::Claim => f.write_str("mark it as this environment's"),
            Action::Remember { keys, seal } => {
                let noted = (!keys.is_empty()).then(|| format!("note that {} was generated", list(keys)));
                let sealed = seal.as_ref().map(|(recipient, _)| format!("seal a copy for {recipient}"));
                f.write_str(&noted.into_iter().chain(sealed).collect::<Vec<_>>().join("; "))
            }
            Action::Delete { because } => write!(f, "delete it, because {because}"),
            Action::Follow { keys, .. } => f.write_str(&followed::phrases(keys).join("; ")),
        }
    }
}

/// A plan for one object.
pub type Plan = converge::Plan<Step>;

/// Decides what to do about one object. What is refused, or waits for something, is left alone as a whole.
pub fn plan(spec: &Spec, world: &World) -> Plan {
    let mut plan = Deciding { spec, world, plan: Plan::default() };
    match &spec.origin {
        Origin::External => plan.external(),
        Origin::Generated(generated) => plan.generated(generated),
        Origin::Followed(followed) => plan.followed(followed),
    }
    plan.fixed();
    world.restarts.iter().for_each(|text| plan.drift(text));
    if plan.plan.steps.is_empty() {
        plan.required();
    }
    let mut plan = plan.plan;
    if !plan.refusals.is_empty() {
        plan.pending.clear();
    }
    if !plan.refusals.is_empty() || !plan.pending.is_empty() {
        plan.steps.clear();
    }
    plan
}

struct Deciding<'a> {
    spec: &'a Spec,
    world: &'a World,
    plan: Plan,
}

impl Deciding<'_> {
    fn note(&self, text: impl fmt::Display) -> Note {
        Note::new(&self.spec.object, text)
    }

    fn refuse(&mut self, text: impl fmt::Display) {
        self.plan.refusals.push(self.note(text));
    }

    fn wait(&mut self, text: impl fmt::Display) {
        self.plan.pending.push(self.note(text));
    }

    /// Waits for what a source has to hold.
    fn wait_for(&mut self, source: &Source, text: impl fmt::Display) {
        let awaits = match source {
            Source::Object(component) | Source::Client(component) => Awaits::Component(component.clone()),
            Source::Vault { .. } | Source::Sops(_) => Awaits::Time,
        };
        self.plan.pending.push(self.note(text).awaiting(awaits));
    }

    fn drift(&mut self, text: impl fmt::Display) {
        self.plan.drift.push(self.note(text));
    }

    fn step(&mut self, action: Action) {
        let version = self.world.there.as_ref().and_then(|there| there.version.clone());
        self.plan.steps.push(Step { object: self.spec.object.clone(), version, action });
    }

    fn marker(&self) -> &Marker {
        self.world.there.as_ref().map_or(&Marker::None, |there| &there.marker)
    }

    fn keys(&self) -> Keys {
        self.world.there.as_ref().map(|there| there.keys.clone()).unwrap_or_default()
    }

    /// Why an object that is there must not be touched, whatever it holds.
    fn untouchable(&mut self) -> bool {
        let before = self.plan.refusals.len() + self.plan.pending.len();
        if let Some(why) = self.not_ours() {
            self.refuse(why);
        }
        if let Some(there) = &self.world.there {
            if let Some(why) = there.kind.as_deref().and_then(forbidden_type) {
                self.refuse(why);
            } else if there.terminating {
                self.wait("is being deleted; it is made again when it is gone");
            }
        }
        self.plan.refusals.len() + self.plan.pending.len() > before
    }

    /// Why an object that is marked is not ours to touch.
    fn not_ours(&self) -> Option<String> {
        let ours = &self.spec.owner;
        match self.marker() {
            Marker::Of { owner, .. } if owner.environment != ours.environment => Some(format!(
                "belongs to environment `{}` ({}), fragment `{}`; give it another name or namespace",
                owner.name, owner.environment, owner.fragment
            )),
            Marker::Of { owner, .. } if !owner.is(ours) => Some(format!(
                "belongs to fragment `{}` of this environment, not to `{}`; give it another name, or if its declaration moved, write the new fragment into its mark",
                owner.fragment, ours.fragment
            )),
            Marker::Unreadable(why) => Some(format!(
                "its mark of ownership cannot be read ({why}); restore it, or remove the object to have it made again"
            )),
            Marker::None | Marker::Of { .. } => None,
        }
    }

    /// What would be changed cannot be, when the object is immutable.
    fn fixed(&mut self) {
        let is_fixed = self.world.there.as_ref().is_some_and(|there| there.immutable);
        let writes = |step: &Step| !matches!(step.action, Action::Remember { .. } | Action::Delete { .. });
        if is_fixed && self.plan.steps.iter().any(writes) {
            let would: Vec<String> = self.plan.steps.iter().map(ToString::to_string).collect();
            self.refuse(format!(
                "is immutable, and would have to change ({}); Kubernetes never changes it: delete it, and it is made again",
                would.join("; ")
            ));
        }
    }

    fn external(&mut self) {
        if self.world.there.is_none() {
            let (object, keys) = (&self.spec.object, &self.spec.required);
            let keys = if keys.is_empty() { String::new() } else { format!(" with {}", list(keys)) };
            self.wait(format!(
                "{object} does not exist; it is declared external, so somebody else makes it{keys}"
            ));
        }
    }

    /// An object that is as it should be may still lack what documents read of it.
    fn required(&mut self) {
        let (object, Some(there)) = (&self.spec.object, &self.world.there) else { return };
        for key in &self.spec.required {
            match there.keys.get(key).map(|value| value.flaw) {
                Some(None) => {}
                Some(Some(flaw)) => self.wait(format!("{object} key `{key}` {flaw}; whoever makes it must write it")),
                None => self.wait(format!(
                    "{object} has no key `{key}`, which documents read; add the key where it is made, or correct the documents"
                )),
            }
        }
    }
}

/// Keys, as they are named in sentences.
fn list(keys: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let names: Vec<String> = keys.into_iter().map(|key| format!("`{key}`")).collect();
    names.join(", ")
}
