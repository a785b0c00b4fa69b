//! Looking and changing: one object in a store and what it is made from, whatever both are made of.

mod backend;
mod certificates;
mod credentials;
mod directory;
mod error;
mod kubernetes;
mod mark;
mod outside;
mod reading;
mod values;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chassis::SecretValue;
use chassis::converge::{Reconcile, Standing};
use lifecycle::document::Generator;
use lifecycle::{Component, Evidence, placeholder};

pub use backend::{Backend, Change, Contents, Escrow, Record, Refreshed, Rotated};
pub use credentials::InStore;
pub use directory::Directory;
pub use error::Error;
pub use kubernetes::{Kubernetes, record_name};
pub(crate) use kubernetes::{name, workload_name};
pub use mark::{Claim, Mark};
pub(crate) use mark::{hex, salt};
pub use outside::{Nowhere, Outside};
pub use watch::Wakes;

use crate::escrow;
use crate::generate;
use crate::plan::{self, Action, Keys, Marker, Reason, Recorded, Seen, Step, There, Value, World};
use crate::progress::{Progress, seconds_since_1970};
use crate::spec::{Origin, Spec};
use values::Sources;

/// A store whose objects are made to be as documents say.
#[derive(Debug, Clone)]
pub struct Target<B> {
    backend: B,
    outside: Arc<dyn Outside>,
    progress: Progress,
}

impl<B: Backend> Target<B> {
    /// Over a store, with what is read from elsewhere, telling how it goes.
    pub fn new(backend: B, outside: Arc<dyn Outside>, progress: Progress) -> Self {
        Target { backend, outside, progress }
    }

    async fn follow(
        &self,
        spec: &Spec,
        step: &Step,
        keys: &BTreeMap<String, plan::Change>,
        force: bool,
    ) -> Result<(), Error> {
        let mut sources = self.sources(spec).await?;
        self.renew(spec, step.version.as_deref(), &mut sources).await?;
        let mut change = Change { force, ..Change::claim(claim(spec), step.version.clone()) };
        for (key, what) in keys {
            match what {
                plan::Change::Write { recipe, .. } => {
                    let value = composed(&step.object, key, recipe, &sources)?;
                    change.set.insert(key.clone(), value);
                }
                plan::Change::Remove => drop(change.remove.insert(key.clone())),
            }
        }
        change.kind = kind(spec, &sources);
        self.backend.write(&step.object, change).await?;
        let is = |wanted: Reason| keys.values().any(|change| change.reason() == Some(wanted));
        if is(Reason::Drifted) {
            self.progress.corrected(&step.object);
        }
        if is(Reason::Follows) {
            self.progress.propagated(&step.object);
        }
        Ok(())
    }

    async fn make(&self, spec: &Spec, step: &Step) -> Result<(), Error> {
        let mut change = Change::claim(claim(spec), step.version.clone());
        if let Action::Generate { absent, serial, rotate, trust } = &step.action {
            change.serial = *serial;
            for (own, generator) in absent {
                change.create.push(self.values(spec, step, own, generator).await?);
            }
            change.trust = self.trusted(spec, step, trust).await?;
            for (own, rotation) in rotate {
                let mut values = self.values(spec, step, own, &rotation.generator).await?;
                self.succeed(spec, own, rotation, &mut values).await?;
                for (key, value) in values {
                    let previous = rotation.previous.get(&key).cloned();
                    change.rotate.insert(key, Rotated { value, previous, serial: rotation.serial });
                }
            }
        }
        if let Origin::Generated(generated) = &spec.origin {
            change.kind.clone_from(&generated.kind);
        }
        self.backend.write(&step.object, change).await
    }

    /// New values of one generator.
    async fn values(
        &self,
        spec: &Spec,
        step: &Step,
        own: &str,
        generator: &Generator,
    ) -> Result<BTreeMap<String, SecretValue>, Error> {
        let ca = self.authority(spec, step, own, generator).await?;
        let (generator, key, now) = (generator.clone(), own.to_owned(), seconds_since_1970());
        let make = move || generate::make(&generator, &key, ca.as_ref(), now);
        let unmade =
            |reason: String| Error::Unmade { object: spec.object.clone(), key: own.to_owned(), reason };
        // An RSA key takes a while.
        let values = tokio::task::spawn_blocking(make).await.map_err(|error| unmade(error.to_string()))?;
        values.map_err(|error| unmade(error.to_string()))
    }

    /// Notes what was generated, and seals it for whoever is to restore it.
    async fn remember(
        &self,
        spec: &Spec,
        step: &Step,
        keys: &BTreeSet<String>,
        seal: Option<&(String, u32)>,
    ) -> Result<(), Error> {
        let (object, claim) = (&step.object, claim(spec));
        let mut record = self.backend.remembered(object, &claim).await?;
        record.keys.extend(keys.iter().cloned());
        if let Some((recipient, serial)) = seal {
            let mut values = self.backend.read(object).await?.unwrap_or_default().keys;
            values.retain(|key, _| record.keys.contains(key));
            let made = std::time::SystemTime::now();
            let sealed = escrow::seal(recipient, object, &spec.owner.name, made, &values)?;
            record.escrow = Some(Escrow { recipient: recipient.clone(), serial: *serial, sealed });
        }
        self.backend.remember(object, &claim, &record).await
    }

    async fn attempt(&self, spec: &Spec, step: &Step) -> Result<(), Error> {
        let claim = claim(spec);
        match &step.action {
            Action::Generate { .. } | Action::Claim => self.make(spec, step).await,
            Action::Follow { keys, force } => self.follow(spec, step, keys, *force).await,
            Action::Delete { .. } => self.backend.delete(&step.object, &claim, step.version.as_deref()).await,
            Action::Remember { keys, seal } => self.remember(spec, step, keys, seal.as_ref()).await,
        }
    }
}

/// Who makes an object, by its spec.
pub(crate) fn claim(spec: &Spec) -> Claim {
    Claim { owner: spec.owner.clone(), sources: spec.sources().iter().map(ToString::to_string).collect() }
}

/// The type of what is made: as the spec says, or else as the source has it.
fn kind(spec: &Spec, sources: &Sources) -> Option<String> {
    let Origin::Followed(followed) = &spec.origin else { return None };
    let from_source = || sources.values().flatten().find_map(|contents| contents.kind.clone());
    followed.kind.clone().or_else(from_source)
}

fn composed(
    object: &Component,
    key: &str,
    recipe: &crate::spec::Recipe,
    sources: &Sources,
) -> Result<SecretValue, Error> {
    match values::compose(recipe, sources) {
        Some(Ok(value)) => Ok(value),
        Some(Err(reason)) => Err(Error::Unmade { object: object.clone(), key: key.to_owned(), reason }),
        None => {
            let gone = recipe.places().into_iter().find(|place| values::at(sources, place).is_none());
            Err(gone.map_or_else(
                || Error::Changed(object.clone()),
                |place| Error::SourceGone { from: place.source.clone(), key: place.key.clone() },
            ))
        }
    }
}

impl<B: Backend> Reconcile for Target<B> {
    type Spec = Spec;
    type World = World;
    type Step = Step;
    type Error = Error;

    fn components(spec: &Spec) -> Vec<Component> {
        vec![spec.object.clone()]
    }

    fn only(spec: &Spec, _: &Component) -> Spec {
        spec.clone()
    }

    fn reports_only(spec: &Spec, _: &Component) -> bool {
        spec.report_only
    }

    fn nothing(_: &Spec) -> World {
        World::default()
    }

    async fn observe(&self, spec: &Spec) -> Result<World, Error> {
        // First: what is noted by then was there before, so whoever reads after that and does not find it knows that it is
        // gone, and not just being made by another instance.
        let record = match &spec.origin {
            Origin::Generated(_) => self.backend.remembered(&spec.object, &claim(spec)).await?,
            _ => Record::default(),
        };
        let contents = self.backend.read(&spec.object).await?;
        let mut sources = self.sources(spec).await?;
        // That nothing is to be done may be seen from what was read a moment ago; what is to be done, not.
        let seen = world(spec, contents.clone(), &sources);
        if !plan::plan(spec, &seen).steps.is_empty() {
            let version = contents.as_ref().and_then(|contents| contents.version.as_deref());
            self.renew(spec, version, &mut sources).await?;
        }
        let mut world = world(spec, contents, &sources);
        world.recorded = Recorded {
            keys: record.keys,
            sealed: record.escrow.map(|escrow| (escrow.recipient, escrow.serial)),
        };
        world.now = seconds_since_1970();
        self.progress.certificates(&spec.object, &world.certificates);
        world.corrections = self.progress.corrections(&spec.object);
        world.restarts = self.progress.lagging(&spec.object);
        if let Origin::Generated(generated) = &spec.origin {
            let known = generated.protects.iter().filter(|what| self.progress.is_known(what));
            world.protected = known.cloned().collect();
        }
        Ok(world)
    }

    fn plan(spec: &Spec, world: &World) -> plan::Plan {
        plan::plan(spec, world)
    }

    async fn apply(&self, spec: &Spec, step: &Step) -> Result<(), Error> {
        let tried = self.attempt(spec, step).await;
        self.progress.tried(&step.object, tried.as_ref().err());
        tried
    }

    fn evidence(_: &Spec, world: &World, _: &Component) -> Evidence {
        // No digest, keyed or not: whoever can guess a weak password of somebody else's could test the guess.
        let there = world.there.as_ref();
        let evidence = Evidence::level("present");
        match there.and_then(|there| there.version.clone()) {
            Some(version) => evidence.with("version", version),
            None => evidence.with("modified", there.map_or(0, |there| there.modified).to_string()),
        }
    }

    fn told(&self, component: &Component, standing: &Standing) {
        self.progress.stands(component, standing);
    }

    fn left(&self, component: &Component) {
        self.progress.left(component);
    }

    fn unseen(&self, spec: &Spec, error: &Error) {
        self.progress.unseen(&spec.object, error);
    }
}

/// What plan may see of an object by itself, whatever it follows.
pub(crate) fn alone(spec: &Spec, contents: Option<Contents>) -> World {
    world(spec, contents, &Sources::new())
}

/// What plan may see of what was read: fingerprints under the mark's salt, or under one that nobody keeps.
fn world(spec: &Spec, contents: Option<Contents>, sources: &Sources) -> World {
    let mark = contents.as_ref().and_then(|contents| contents.mark.clone());
    let fresh = Mark::scratch();
    let salted = match &mark {
        Some(Ok(mark)) => mark,
        _ => &fresh,
    };
    let value = |key: &str, value: &SecretValue| Value {
        fingerprint: salted.fingerprint(value),
        flaw: placeholder(key, value.expose()),
    };
    let keys = |keys: &BTreeMap<String, SecretValue>| -> Keys {
        keys.iter().map(|(key, secret)| (key.clone(), value(key, secret))).collect()
    };
    let marker = match &mark {
        None => Marker::None,
        Some(Err(why)) => Marker::Unreadable(why.clone()),
        Some(Ok(mark)) => mark.marker(),
    };
    let recipes = match &spec.origin {
        Origin::Followed(followed) => values::wanted(&followed.wanted, sources),
        Origin::External | Origin::Generated(_) => BTreeMap::new(),
    };
    let composed = recipes.iter().filter_map(|(key, recipe)| {
        let made = values::compose(recipe, sources)?;
        Some((key.clone(), made.map(|value| salted.fingerprint(&value))))
    });
    let certificates = contents.as_ref().map(|contents| certificates::states(spec, contents, sources));
    let unrotated = certificates::unrotated(spec, sources);
    let seen = |contents: &Contents| Seen { keys: keys(&contents.keys), kind: contents.kind.clone() };
    World {
        composed: composed.collect(),
        certificates: certificates.unwrap_or_default(),
        unrotated,
        sources: sources
            .iter()
            .map(|(source, contents)| (source.clone(), contents.as_ref().map(seen)))
            .collect(),
        there: contents.map(|contents| There {
            keys: keys(&contents.keys),
            marker,
            version: contents.version,
            kind: contents.kind,
            immutable: contents.immutable,
            terminating: contents.terminating,
            modified: contents.modified,
        }),
        ..World::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Followed, Owner, Source, Wanted};

    #[test]
    fn what_plan_sees_holds_no_value() {
        let source = Source::Object("secret/dev/source".parse().unwrap());
        let owner = Owner { environment: uuid::Uuid::nil(), name: String::new(), fragment: String::new() };
        let followed = Followed {
            wanted: Wanted::All(source.clone()),
            kind: None,
            source_gone: lifecycle::document::SourceGone::Retain,
            takeover: false,
        };
        let spec = Spec {
            object: "secret/dev/copy".parse().unwrap(),
            owner,
            origin: Origin::Followed(followed),
            required: BTreeSet::new(),
            report_only: false,
        };
        let contents = || Contents {
            keys: [("password".to_owned(), SecretValue::new("hunter2"))].into(),
            ..Contents::default()
        };
        let sources: Sources = [(source.clone(), Some(contents()))].into();
        let world = world(&spec, Some(contents()), &sources);
        assert!(!format!("{world:?} {:?}", contents()).contains("hunter2"));
        let there = &world.there.as_ref().unwrap().keys["password"];
        assert_eq!(*there, world.sources[&source].as_ref().unwrap().keys["password"]);
        assert_eq!(
            world.composed["password"].as_ref().unwrap(),
            &there.fingerprint,
            "equal values, equal fingerprints"
        );
    }
}
