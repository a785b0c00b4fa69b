//! Rendered manifests of Kubernetes, judged without a cluster: every key of a Secret or ConfigMap that a pod reads must be made
//! by the manifests themselves or by a document.

mod provided;
mod references;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::document::{Environment, ModuleKeys, Workload, WorkloadKind};
use crate::{Component, Kind};

pub use provided::flaw;
use provided::{Keys, provided};
pub use references::{Reference, Wanted, references};

/// ConfigMaps that Kubernetes itself makes in every namespace.
const ALWAYS: [&str; 1] = ["kube-root-ca.crt"];

/// Whether Kubernetes itself makes an object in every namespace.
pub fn is_always(component: &Component) -> bool {
    component.kind() == Kind::ConfigMap && ALWAYS.contains(&component.name())
}

/// A reference that would keep a container from starting, or start it with what is no value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unresolved {
    /// Who refers: `Deployment dev/web, container web, env DB_PASSWORD`.
    pub by: String,
    /// The Secret or ConfigMap.
    pub component: Component,
    /// The key; empty when it is about the whole object.
    pub key: String,
    /// What is wrong, and what to do.
    pub why: String,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.key.is_empty() { String::new() } else { format!(" key `{}`", self.key) };
        write!(f, "{}: {}{key} {}", self.by, self.component, self.why)
    }
}

/// What in `objects` refers to a Secret or ConfigMap that neither they nor the documents make, or to a key that it does not
/// hold, or to one that holds nothing or a placeholder. `namespace` is that of objects that name none. Optional references
/// are fine whatever they lead to.
pub fn unresolved(objects: &[Value], namespace: &str, environment: Option<&Environment>) -> Vec<Unresolved> {
    let mut known: BTreeMap<Component, Keys> = environment.map(documents).unwrap_or_default();
    let objects: Vec<&Value> = objects.iter().flat_map(items).collect();
    for object in &objects {
        if let Some((component, keys)) = provided(object, namespace) {
            let keys = match known.remove(&component) {
                Some(before) => before.and(keys),
                None => keys,
            };
            known.insert(component, keys);
        }
    }
    let mut found: Vec<Unresolved> = objects
        .iter()
        .flat_map(|object| references(object, namespace))
        .filter(|reference| !reference.optional)
        .flat_map(|reference| judge(&reference, &known))
        .chain(environment.map(|environment| workloads(&objects, namespace, environment)).unwrap_or_default())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The objects of a list, or the object itself.
fn items(object: &Value) -> Vec<&Value> {
    match object["items"].as_array() {
        Some(list) if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
            list.iter().flat_map(items).collect()
        }
        _ => vec![object],
    }
}

fn judge(reference: &Reference, known: &BTreeMap<Component, Keys>) -> Vec<Unresolved> {
    let unresolved = |key: &str, why: String| Unresolved {
        by: reference.by.clone(),
        component: reference.component.clone(),
        key: key.to_owned(),
        why,
    };
    let component = &reference.component;
    if is_always(component) {
        return Vec::new();
    }
    let Some(keys) = known.get(component) else {
        let how = if component.kind() == Kind::Secret {
            "; declare it under `secrets` (external, when somebody else makes it), or correct the reference"
        } else {
            "; add it to the manifests, or correct the reference"
        };
        return vec![unresolved("", format!("is made by nobody{how}"))];
    };
    let wanted: Vec<&str> = match &reference.wanted {
        Wanted::All => keys.named().collect(),
        Wanted::Keys(keys) => keys.iter().map(String::as_str).collect(),
    };
    wanted.into_iter().filter_map(|key| keys.wrong(key).map(|why| unresolved(key, why))).collect()
}

/// The workloads that a module with `keys: referenced` names and that are not in `objects`, where something of it is: others of
/// its workloads, or one of that name and another kind. Of a module of which nothing is there, another chart has them.
fn workloads(objects: &[&Value], namespace: &str, environment: &Environment) -> Vec<Unresolved> {
    let there = |kind: Option<&str>, of: &str, name: &str| {
        objects.iter().any(|object| {
            let metadata = &object["metadata"];
            let is_kind = match (kind, object["kind"].as_str()) {
                (Some(kind), found) => found == Some(kind),
                (None, found) => WorkloadKind::ALL.iter().any(|kind| found == Some(kind.kind())),
            };
            is_kind
                && metadata["name"].as_str() == Some(name)
                && metadata["namespace"].as_str().unwrap_or(namespace) == of
        })
    };
    let mut missing = Vec::new();
    for module in environment.modules().filter(|module| module.spec.keys == ModuleKeys::Referenced) {
        let named: Vec<Workload> =
            module.spec.workloads.iter().map(|name| name.in_namespace(module.namespace())).collect();
        if !named.iter().any(|workload| there(None, &workload.namespace, &workload.name)) {
            continue;
        }
        for workload in named {
            if !there(Some(workload.kind.kind()), &workload.namespace, &workload.name) {
                missing.push(Unresolved {
                    by: module.source.file.clone(),
                    component: module.component.clone(),
                    key: String::new(),
                    why: format!("takes its keys from {workload}, which is not among the manifests; correct `workloads`"),
                });
            }
        }
    }
    missing
}

/// What the documents' Secrets and ConfigMaps will hold.
fn documents(environment: &Environment) -> BTreeMap<Component, Keys> {
    let secrets = environment.secrets().map(|secret| (secret.component, secret.spec.made()));
    let configmaps = environment.configmaps().map(|map| (map.component, map.spec.made()));
    let keys = |made: Option<Vec<&str>>| match made {
        Some(made) => Keys::made(made.into_iter().map(str::to_owned)),
        // Whatever keys the source or somebody else gives it.
        None => Keys::any(),
    };
    secrets.chain(configmaps).map(|(object, made)| (object, keys(made))).collect()
}

#[cfg(test)]
mod tests;
