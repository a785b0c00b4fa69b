//! What pods read: keys of Secrets and ConfigMaps in their environment and their volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Component, Kind};

/// A container's or volume's reference to a Secret or ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Who refers: `Deployment dev/web, container web, env DB_PASSWORD`.
    pub by: String,
    /// To what.
    pub component: Component,
    /// Which keys.
    pub wanted: Wanted,
    /// Kubernetes starts the container without it, too.
    pub optional: bool,
}

/// Which keys are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Whichever there are; the object itself must exist.
    All,
    /// These.
    Keys(BTreeSet<String>),
}

impl Wanted {
    /// Whether a key is among them.
    pub fn has(&self, key: &str) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Keys(keys) => keys.contains(key),
        }
    }
}

/// The references of every pod that an object is or will make, however deep its template is nested. Secrets that images are
/// pulled with are none: no container reads them. `namespace` is that of an object that names none.
pub fn references(object: &Value, namespace: &str) -> Vec<Reference> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
    let kind = object["kind"].as_str().unwrap_or("object");
    let name = object["metadata"]["name"].as_str().unwrap_or("without a name");
    let mut found = Found { by: format!("{kind} {namespace}/{name}"), namespace, references: Vec::new() };
    found.walk(object);
    found.references
}

struct Found<'a> {
    by: String,
    namespace: &'a str,
    references: Vec<Reference>,
}

impl Found<'_> {
    /// A map with containers is a pod's spec, in whatever kind of object it stands.
    fn walk(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                if map.get("containers").is_some_and(Value::is_array) {
                    return self.pod(value);
                }
                map.values().for_each(|inner| self.walk(inner));
            }
            Value::Array(list) => list.iter().for_each(|inner| self.walk(inner)),
            _ => {}
        }
    }

    fn pod(&mut self, pod: &Value) {
        for (list, what) in [
            ("initContainers", "init container"),
            ("containers", "container"),
            ("ephemeralContainers", "ephemeral container"),
        ] {
            for container in array(&pod[list]) {
                self.container(container, what);
            }
        }
        for volume in array(&pod["volumes"]) {
            self.volume(volume);
        }
    }

    fn container(&mut self, container: &Value, what: &str) {
        let who = format!("{what} {}", container["name"].as_str().unwrap_or_default());
        for variable in array(&container["env"]) {
            let at = format!("{who}, env {}", variable["name"].as_str().unwrap_or_default());
            for (field, kind) in [("secretKeyRef", Kind::Secret), ("configMapKeyRef", Kind::ConfigMap)] {
                let source = &variable["valueFrom"][field];
                if let (Some(name), Some(key)) = (source["name"].as_str(), source["key"].as_str()) {
                    self.add(&at, kind, name, Wanted::Keys([key.to_owned()].into()), source);
                }
            }
        }
        for source in array(&container["envFrom"]) {
            for (field, kind) in [("secretRef", Kind::Secret), ("configMapRef", Kind::ConfigMap)] {
                if let Some(name) = source[field]["name"].as_str() {
                    self.add(&format!("{who}, envFrom"), kind, name, Wanted::All, &source[field]);
                }
            }
        }
    }

    fn volume(&mut self, volume: &Value) {
        let at = format!("volume {}", volume["name"].as_str().unwrap_or_default());
        let secret = &volume["secret"];
        if let Some(name) = secret["secretName"].as_str() {
            self.add(&at, Kind::Secret, name, keys(secret), secret);
        }
        let map = &volume["configMap"];
        if let Some(name) = map["name"].as_str() {
            self.add(&at, Kind::ConfigMap, name, keys(map), map);
        }
        for source in array(&volume["projected"]["sources"]) {
            for (field, kind) in [("secret", Kind::Secret), ("configMap", Kind::ConfigMap)] {
                if let Some(name) = source[field]["name"].as_str() {
                    self.add(&at, kind, name, keys(&source[field]), &source[field]);
                }
            }
        }
    }

    fn add(&mut self, at: &str, kind: Kind, name: &str, wanted: Wanted, source: &Value) {
        self.references.push(Reference {
            by: format!("{}, {at}", self.by),
            component: Component::namespaced(kind, self.namespace, name),
            wanted,
            optional: source["optional"].as_bool().unwrap_or(false),
        });
    }
}

/// The keys that a volume's items name; all of them when it names none.
fn keys(source: &Value) -> Wanted {
    let items: BTreeSet<String> =
        array(&source["items"]).filter_map(|item| item["key"].as_str()).map(str::to_owned).collect();
    if items.is_empty() { Wanted::All } else { Wanted::Keys(items) }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
