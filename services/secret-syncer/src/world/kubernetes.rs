//! Secrets and ConfigMaps of a cluster, read and written by name through the API server.
//!
//! Everything is written by server-side apply, because only that lets a Role limit creating by name. What follows something
//! is written under one field manager for each object; what is generated is created under a manager of that attempt alone,
//! because two that share one would overwrite each other without a word. Later writes name the state they were decided
//! on, so that the server refuses them in any other.

mod pace;
mod recent;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kubernetes::{Cluster, Desired, Name, Object, Resource};
use lifecycle::document::{Workload, WorkloadKind};
use lifecycle::{Component, Kind};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Backend, Change, Claim, Contents, Error, Mark, Record};
use crate::spec::Owner;
use pace::Pace;
use recent::Recent;

/// The annotation that holds an object's mark.
const MARK: &str = "rollcall/mark";
/// How long one watch lasts: long enough to cost little, short enough that one which died unnoticed is noticed soon.
const WATCH: Duration = Duration::from_secs(100);

/// A store that is a cluster. Clones share what they read.
#[derive(Debug, Clone)]
pub struct Kubernetes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cluster: Cluster,
    recent: Recent,
    pace: Pace,
    watches: Duration,
    central: bool,
}

/// A record, and whose it is: environments can share a namespace.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    environment: Uuid,
    #[serde(flatten)]
    record: Record,
}

impl Kubernetes {
    /// The store that this API server keeps.
    pub fn new(cluster: Cluster) -> Self {
        Kubernetes::watching(cluster, WATCH)
    }

    /// As [`new`](Kubernetes::new), where one watch lasts at most so long (whole seconds).
    pub fn watching(cluster: Cluster, watches: Duration) -> Self {
        let watches = watches.clamp(Duration::from_secs(1), WATCH);
        Kubernetes(Arc::new(Inner {
            cluster,
            recent: Recent::default(),
            pace: Pace::default(),
            watches,
            central: false,
        }))
    }

    /// The same store for one whose own rights span the cluster, so that they say nothing of who was given what: the API server
    /// is asked before each read whether the namespace that is to have a copy may read the original.
    #[must_use]
    pub fn central(&self) -> Self {
        Kubernetes(Arc::new(Inner {
            cluster: self.0.cluster.clone(),
            recent: Recent::default(),
            pace: Pace::default(),
            watches: self.0.watches,
            central: true,
        }))
    }

    /// How long one watch lasts.
    pub fn watches(&self) -> Duration {
        self.0.watches
    }

    /// The API server.
    pub fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    /// What was read of an object holds no longer.
    pub fn changed(&self, object: &Component) {
        self.0.recent.forget(&name(object));
    }

    /// Whether an object was read, or written, in this version a moment ago.
    pub fn knows(&self, object: &Component, version: Option<&str>) -> bool {
        version.is_some() && self.0.recent.told(&name(object), version).is_some()
    }

    async fn get(&self, name: &Name) -> Result<Option<Object>, Error> {
        self.get_since(name, None).await
    }

    async fn get_since(&self, name: &Name, since: Option<Instant>) -> Result<Option<Object>, Error> {
        let read = self.0.pace.call(name, self.0.cluster.get(name));
        Ok(self.0.recent.get(name, since, read).await?)
    }

    async fn apply(
        &self,
        name: &Name,
        manager: &str,
        desired: &Desired,
        force: bool,
    ) -> Result<(), kubernetes::Error> {
        // Whatever comes of it, what was read before holds no longer.
        self.0.recent.forget(name);
        let asked = Instant::now();
        let applied = self.0.pace.call(name, self.0.cluster.apply(name, manager, desired, force)).await?;
        self.0.recent.put(name, asked, applied.object);
        Ok(())
    }
}

impl Backend for Kubernetes {
    async fn read(&self, object: &Component) -> Result<Option<Contents>, Error> {
        Ok(self.get(&name(object)).await?.map(|found| contents(object, found)))
    }

    async fn read_for(
        &self,
        source: &Component,
        target: &Component,
        version: Option<&str>,
    ) -> Result<Option<Contents>, Error> {
        // By now it was seen in any case.
        let seen = self.0.recent.told(&name(target), version).unwrap_or_else(Instant::now);
        Ok(self.get_since(&name(source), Some(seen)).await?.map(|found| contents(source, found)))
    }

    async fn given(&self, source: &Component, target: &Component) -> Result<(), Error> {
        let namespace = target.namespace().unwrap_or_default();
        if !self.0.central || source.namespace() == Some(namespace) {
            return Ok(());
        }
        let name = name(source);
        if self.0.pace.call(&name, self.0.cluster.is_given(&name, namespace)).await? {
            return Ok(());
        }
        Err(Error::NotGiven { source_object: source.clone(), namespace: namespace.to_owned() })
    }

    async fn write(&self, object: &Component, change: Change) -> Result<(), Error> {
        let name = name(object);
        let current = self.get(&name).await?;
        if current.as_ref().map(|current| current.version.as_str()) != change.version.as_deref() {
            self.0.recent.forget(&name);
            return Err(Error::Changed(object.clone()));
        }
        let is_new = current.is_none();
        let desired = desired(object, current.unwrap_or_default(), change)?;
        match self.apply(&name, &desired.manager, &desired.body, desired.force).await {
            // Another instance, or somebody else, made it first: it is looked at again.
            Err(kubernetes::Error::Conflict { .. }) if is_new => Err(Error::Changed(object.clone())),
            other => Ok(other?),
        }
    }

    async fn delete(&self, object: &Component, claim: &Claim, version: Option<&str>) -> Result<(), Error> {
        let name = name(object);
        self.0.recent.forget(&name);
        let Some(current) = self.get(&name).await? else { return Ok(()) };
        let is_ours = matches!(mark(object, &current), Some(Ok(mark)) if mark.is_of(claim));
        if !is_ours || Some(current.version.as_str()) != version {
            return Err(Error::Changed(object.clone()));
        }
        self.0.recent.forget(&name);
        let delete = self.0.cluster.delete(&name, &current.uid, Some(&current.version));
        Ok(self.0.pace.call(&name, delete).await?)
    }

    async fn remembered(&self, object: &Component, claim: &Claim) -> Result<Record, Error> {
        let found = self.get(&record(object, claim)).await?;
        // Whoever looks for what is noted must not look at what was read before it was: it would seem to be gone.
        self.0.recent.forget(&name(object));
        let text = found.as_ref().and_then(|found| found.data.get(object.name())?.expose_text());
        let Some(text) = text else { return Ok(Record::default()) };
        match serde_json::from_str::<Noted>(text) {
            Ok(noted) if noted.environment == claim.owner.environment => Ok(noted.record),
            Ok(_) => Ok(Record::default()),
            Err(error) => Err(Error::Unmade {
                object: record_component(object, claim),
                key: object.name().to_owned(),
                reason: format!("is no record of what was generated ({error}); correct or remove it"),
            }),
        }
    }

    async fn remember(&self, object: &Component, claim: &Claim, noted: &Record) -> Result<(), Error> {
        let mut desired = Desired::default();
        if !noted.keys.is_empty() {
            let noted = Noted { environment: claim.owner.environment, record: noted.clone() };
            let json = serde_json::to_string(&noted).map_err(|error| Error::Unmade {
                object: record_component(object, claim),
                key: object.name().to_owned(),
                reason: error.to_string(),
            })?;
            desired.data.insert(object.name().to_owned(), chassis::SecretValue::new(json));
        }
        // One manager for each Secret: applying without its key takes its note away and nobody else's.
        let manager = format!("{}/record", prefix(object, &claim.owner));
        Ok(self.apply(&record(object, claim), &manager, &desired, false).await?)
    }
}

/// What is applied, by whom, and whether others give way.
struct Apply {
    manager: String,
    body: Desired,
    force: bool,
}

/// What to apply so that an object as it is becomes what a change asks for: everything that the manager applied before, as
/// long as it is to stay, and what is new.
fn desired(object: &Component, current: Object, change: Change) -> Result<Apply, Error> {
    let changed = || Error::Changed(object.clone());
    let mut mark = match mark(object, &current) {
        Some(Ok(mark)) if mark.is_of(&change.claim) => mark.under(&change.claim),
        None if current.data.is_empty() || change.force => Mark::new(&change.claim),
        _ => return Err(changed()),
    };
    let prefix = prefix(object, &change.claim.owner);
    let follows = !change.claim.sources.is_empty();
    let held_by = |manager: &String| current.applied.get(manager).map_or(0, Vec::len);
    let ours =
        current.applied.keys().filter(|manager| manager.starts_with(&prefix)).max_by_key(|m| held_by(m));
    let manager = match ours {
        _ if follows => prefix,
        Some(ours) => ours.clone(),
        None => format!("{prefix}/{}", Uuid::new_v4().simple()),
    };
    let applied = current.applied.get(&manager).map(Vec::as_slice).unwrap_or_default();
    let stays = |key: &String| {
        let is_ours = if follows { mark.notes(key) } else { applied.contains(key) };
        is_ours && !change.remove.contains(key)
    };
    let mut data: BTreeMap<_, _> = current
        .data
        .iter()
        .filter(|(key, _)| stays(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    change.remove.iter().for_each(|key| mark.forget(key));
    for (key, value) in change.creates(|key| current.data.contains_key(key)) {
        mark.rotated(key, change.serial);
        data.insert(key.clone(), value.clone());
    }
    for (key, rotated) in change.rotate {
        if let Some((previous, old)) = rotated.previous.zip(current.data.get(&key)) {
            data.insert(previous, old.clone());
        }
        mark.rotated(&key, rotated.serial);
        data.insert(key, rotated.value);
    }
    // That it holds what was read says the version.
    data.extend(change.trust.into_iter().map(|(key, refreshed)| (key, refreshed.value)));
    for (key, value) in change.set {
        if !change.force && !mark.notes(&key) && current.data.contains_key(&key) {
            return Err(changed());
        }
        mark.note(&key, &value);
        data.insert(key, value);
    }
    // Somebody changed the mark itself: it is ours, and nothing else of what is applied is somebody else's.
    let is_meddled = !current.version.is_empty()
        && current.annotated.get(&manager).is_none_or(|held| !held.iter().any(|name| name == MARK))
        && current.annotations.contains_key(MARK);
    let json = mark.json().ok().and_then(|json| String::from_utf8(json).ok()).ok_or_else(changed)?;
    // A type that was applied and is not any more would be taken away, which the server refuses.
    let kind = if current.r#type.is_empty() { change.kind } else { Some(current.r#type) };
    let body = Desired {
        r#type: kind.filter(|_| object.kind() == Kind::Secret),
        uid: Some(current.uid).filter(|uid| !uid.is_empty()),
        version: change.version,
        annotations: [(MARK.to_owned(), json)].into(),
        data,
    };
    Ok(Apply { manager, body, force: change.force || is_meddled })
}

fn contents(object: &Component, found: Object) -> Contents {
    Contents {
        mark: mark(object, &found),
        kind: (object.kind() == Kind::Secret).then_some(found.r#type),
        version: Some(found.version),
        immutable: found.immutable,
        terminating: found.terminating,
        keys: found.data,
        modified: 0,
    }
}

/// The mark of an object. One that the server's own account knows nothing of was put there by somebody else, and counts for
/// nothing: it is as if the object had none.
fn mark(object: &Component, found: &Object) -> Option<Result<Mark, String>> {
    let mark = Mark::parse(found.annotations.get(MARK)?.as_bytes());
    let Ok(readable) = &mark else { return Some(mark) };
    let prefix = prefix(object, &readable.owner());
    found.applied.keys().any(|manager| manager.starts_with(&prefix)).then_some(mark)
}

/// The name of an object in the cluster.
pub(crate) fn name(object: &Component) -> Name {
    let resource = if object.kind() == Kind::ConfigMap { Resource::ConfigMap } else { Resource::Secret };
    Name {
        resource,
        namespace: object.namespace().unwrap_or_default().to_owned(),
        name: object.name().to_owned(),
    }
}

/// The name of a workload in the cluster.
pub(crate) fn workload_name(workload: &Workload) -> Name {
    let resource = match workload.kind {
        WorkloadKind::Deployment => Resource::Deployment,
        WorkloadKind::StatefulSet => Resource::StatefulSet,
        WorkloadKind::DaemonSet => Resource::DaemonSet,
    };
    Name { resource, namespace: workload.namespace.clone(), name: workload.name.clone() }
}

/// How the field managers of one object of one owner begin. The server allows 128 bytes, too few for a full name.
fn prefix(object: &Component, owner: &Owner) -> String {
    let hash = super::mark::digest(&format!("{} {object}", owner.environment));
    format!("rollcall/{}/{hash}", owner.fragment)
}

/// Where it is noted what an environment generated in a namespace: apart from the Secrets, so that it outlives them.
fn record_component(object: &Component, claim: &Claim) -> Component {
    let name = record_name(claim.owner.environment);
    Component::namespaced(Kind::ConfigMap, object.namespace().unwrap_or_default(), name)
}

/// The name of the ConfigMap in which it is noted what an environment generated.
pub fn record_name(environment: Uuid) -> String {
    format!("rollcall-generated-{environment}")
}

fn record(object: &Component, claim: &Claim) -> Name {
    name(&record_component(object, claim))
}
