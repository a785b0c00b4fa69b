//! Looking and changing: the workloads of one namespace, the objects they use, and what is noted of both.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::SecretValue;
use chassis::exit::chain;
use hmac::{Hmac, Mac};
use kubernetes::{Desired, Name, Resource, Rollout};
use lifecycle::document::Workload;
use lifecycle::manifests::references;
use lifecycle::{Component, Kind};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::plan::{self, Noted, Pods, There, Values, World};
use super::spec::{Mode, Spec};
use crate::plan::Fingerprint;
use crate::world::{Backend, Error, Kubernetes, hex, salt, workload_name};

/// The key of the record that holds what fingerprints are made with.
const SALT: &str = "salt";
/// The key of the record that holds what is noted.
const NOTED: &str = "noted";

/// The annotation in the template of pods that says for what they were restarted.
pub fn annotation(environment: Uuid) -> String {
    format!("rollcall/restarted-for-{environment}")
}

/// The name of the Secret in which it is noted what the pods of a namespace have.
pub fn record_name(environment: Uuid) -> String {
    format!("rollcall-restarts-{environment}")
}

/// The restart sets of one namespace, and where it is.
pub(super) struct Namespace {
    store: Kubernetes,
    environment: Uuid,
    name: String,
    specs: Vec<Spec>,
    /// What would be noted where nothing but a report is asked for.
    kept: Option<Recalled>,
}

/// What is noted of the pods of a namespace.
#[derive(Clone, Default)]
struct Recalled {
    salt: Option<Zeroizing<String>>,
    /// The state of the record; none when there is none.
    version: Option<String>,
    noted: BTreeMap<String, Noted>,
}

/// What is, in one namespace.
pub(super) struct Observed {
    salt: Salt,
    /// The state of the record; none when there is none.
    version: Option<String>,
    /// What the record says, by workload.
    pub(super) noted: BTreeMap<String, Noted>,
    before: BTreeMap<String, Noted>,
    /// The workloads that could be looked at.
    pub(super) worlds: BTreeMap<Workload, World>,
    seen: BTreeMap<Workload, kubernetes::Workload>,
    /// Those that could not, and why.
    pub(super) unseen: Vec<(Workload, String)>,
}

/// The values of an object, if it is there, or why they cannot be read.
type Read = Result<Option<BTreeMap<String, Fingerprint>>, String>;

/// What fingerprints are made with: who does not have it cannot test a guess.
struct Salt(Zeroizing<String>);

impl Salt {
    /// HMAC-SHA-256 of some parts, the first half of it.
    fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        // HMAC takes keys of any length, so this cannot fail; if it ever did, nothing would seem to change.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) else {
            return String::new();
        };
        for part in parts {
            mac.update(&part.len().to_be_bytes());
            mac.update(part);
        }
        hex(&mac.finalize().into_bytes()[..16])
    }
}

impl Namespace {
    pub(super) fn new(store: Kubernetes, environment: Uuid, name: String, specs: Vec<Spec>) -> Self {
        Namespace { store, environment, name, specs, kept: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// The objects whose changes are to reach a workload.
    pub(super) fn objects(&self, workload: &Workload) -> impl Iterator<Item = &Component> {
        let spec = self.specs.iter().find(|spec| spec.workload == *workload);
        spec.into_iter().flat_map(|spec| spec.objects.keys())
    }

    /// How long further changes are waited for before a workload is restarted.
    pub(super) fn window(&self, workload: &Workload) -> Duration {
        let spec = self.specs.iter().find(|spec| spec.workload == *workload);
        spec.map(|spec| spec.window).unwrap_or_default()
    }

    /// Looks. Fails when the record cannot be read: without it nobody knows what pods have.
    pub(super) async fn observe(&self) -> Result<Observed, Error> {
        let recalled = if reports(&self.specs) {
            self.kept.clone().unwrap_or_default()
        } else {
            self.recalled().await?
        };
        let mut observed = Observed {
            // Whatever was noted under another salt says nothing any more: it is all noted anew.
            salt: Salt(recalled.salt.unwrap_or_else(|| Zeroizing::new(salt()))),
            version: recalled.version,
            before: recalled.noted.clone(),
            noted: recalled.noted,
            worlds: BTreeMap::new(),
            seen: BTreeMap::new(),
            unseen: Vec::new(),
        };
        self.look_around(&mut observed).await;
        Ok(observed)
    }

    async fn recalled(&self) -> Result<Recalled, Error> {
        let record = self.store.cluster().get(&self.record()).await?;
        let salt_of = |found: &kubernetes::Object| found.data.get(SALT)?.expose_text().map(str::to_owned);
        let mut noted = BTreeMap::new();
        let known = record.as_ref().and_then(salt_of);
        if let Some(text) =
            record.as_ref().and_then(|found| found.data.get(NOTED)).filter(|_| known.is_some())
        {
            noted = serde_json::from_slice(text.expose()).map_err(|error| Error::Unmade {
                object: Component::namespaced(Kind::Secret, &self.name, record_name(self.environment)),
                key: NOTED.to_owned(),
                reason: format!(
                    "says nothing that can be read ({error}); remove the Secret, and what pods have is noted anew"
                ),
            })?;
        }
        Ok(Recalled { salt: known.map(Zeroizing::new), version: record.map(|found| found.version), noted })
    }

    async fn look_around(&self, observed: &mut Observed) {
        // Objects first: pods of a template that is found after a value was have that value.
        let mut values: BTreeMap<Component, Read> = BTreeMap::new();
        for object in self.specs.iter().flat_map(|spec| spec.objects.keys()) {
            if !values.contains_key(object) {
                let read = self.store.read(object).await;
                let read = read.map(|found| found.map(|found| keys(&observed.salt, object, &found.keys)));
                values.insert(object.clone(), read.map_err(|error| chain(&error)));
            }
        }
        for spec in &self.specs {
            match self.look(spec, &values, observed).await {
                Ok(world) => drop(observed.worlds.insert(spec.workload.clone(), world)),
                Err(why) => observed.unseen.push((spec.workload.clone(), why)),
            }
        }
    }

    async fn look(
        &self,
        spec: &Spec,
        values: &BTreeMap<Component, Read>,
        observed: &mut Observed,
    ) -> Result<World, String> {
        let mut present = Values::new();
        for object in spec.objects.keys() {
            match values.get(object) {
                Some(Ok(Some(keys))) => drop(present.insert(object.clone(), keys.clone())),
                Some(Ok(None)) | None => {}
                Some(Err(why)) => return Err(why.clone()),
            }
        }
        let found = self.store.cluster().workload(&workload_name(&spec.workload)).await;
        let found = found.map_err(|error| chain(&error))?;
        let noted = observed.noted.get(&spec.workload.to_string()).cloned();
        let there = found.as_ref().map(|found| self.there(&observed.salt, found));
        let mut world = World { there, values: present, noted, due: None };
        let due = plan::due(spec, &world).and_then(|roll| serde_json::to_vec(&roll).ok());
        world.due = due.map(|roll| observed.salt.fingerprint(&[b"restart", &roll]));
        if let Some(found) = found {
            observed.seen.insert(spec.workload.clone(), found);
        }
        Ok(world)
    }

    fn there(&self, salt: &Salt, found: &kubernetes::Workload) -> There {
        let mut uses: BTreeMap<Component, Vec<_>> = BTreeMap::new();
        for reference in references(&found.object, &self.name) {
            uses.entry(reference.component).or_default().push(reference.wanted);
        }
        let template = Zeroizing::new(found.template().to_string());
        There {
            uid: found.uid.clone(),
            template: salt.fingerprint(&[b"template", template.as_bytes()]),
            restarted: found.annotation(&annotation(self.environment)).map(str::to_owned),
            pods: match &found.rollout {
                Rollout::Settled => Pods::Ready,
                Rollout::None => Pods::None,
                Rollout::Moving(why) => Pods::Unready(why.clone()),
                Rollout::Held(why) => Pods::Held((*why).to_owned()),
            },
            uses,
        }
    }

    /// Restarts a workload that was looked at, for what is due.
    pub(super) async fn restart(&self, workload: &Workload, observed: &Observed) -> Result<(), Error> {
        let due = observed.worlds.get(workload).and_then(|world| world.due.as_deref());
        let Some((seen, due)) = observed.seen.get(workload).zip(due) else { return Ok(()) };
        let (name, manager, annotation) =
            (workload_name(workload), self.manager(), annotation(self.environment));
        Ok(self.store.cluster().restart(&name, seen, &manager, (&annotation, due)).await?)
    }

    /// Notes what is not noted yet, in the state of the record that was looked at.
    pub(super) async fn note(&mut self, observed: Observed) -> Result<(), Error> {
        if reports(&self.specs) {
            let salt = Some(observed.salt.0);
            self.kept = Some(Recalled { salt, version: None, noted: observed.noted });
            return Ok(());
        }
        if observed.noted == observed.before {
            return Ok(());
        }
        let noted = serde_json::to_vec(&observed.noted).map_err(|error| Error::Unmade {
            object: Component::namespaced(Kind::Secret, &self.name, record_name(self.environment)),
            key: NOTED.to_owned(),
            reason: error.to_string(),
        })?;
        let desired = Desired {
            version: observed.version,
            data: [
                (SALT.to_owned(), SecretValue::new(observed.salt.0.as_bytes())),
                (NOTED.to_owned(), SecretValue::new(noted)),
            ]
            .into(),
            ..Desired::default()
        };
        // Two that make it at once overwrite each other, salt and notes together: what counts is whole.
        let applied = self.store.cluster().apply(&self.record(), &self.manager(), &desired, false).await;
        Ok(applied.map(drop)?)
    }

    fn record(&self) -> Name {
        Name { resource: Resource::Secret, namespace: self.name.clone(), name: record_name(self.environment) }
    }

    fn manager(&self) -> String {
        format!("rollcall/{}/restarts", self.environment)
    }
}

/// Whether nothing but a report is asked for: then nothing is written, not even what pods have.
pub(super) fn reports(specs: &[Spec]) -> bool {
    specs.iter().flat_map(|spec| spec.objects.values()).all(|mode| *mode == Mode::Report)
}

/// The fingerprints of an object's values: equal ones of two objects or keys have different ones.
fn keys(
    salt: &Salt,
    object: &Component,
    values: &BTreeMap<String, SecretValue>,
) -> BTreeMap<String, Fingerprint> {
    let object = object.to_string();
    let of = |key: &str, value: &SecretValue| {
        salt.fingerprint(&[b"value", object.as_bytes(), key.as_bytes(), value.expose()])
    };
    values.iter().map(|(key, value)| (key.clone(), of(key, value))).collect()
}
