//! Names of Secrets and ConfigMaps in documents, and references to their keys.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::component::{Component, Kind, is_dns_label, is_name};

/// A Secret's or ConfigMap's name: `name` in the fragment's own namespace, or `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The namespace, where it is spelled out.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectName {
    /// The Secret this name means to a fragment in `namespace`.
    pub fn secret(&self, namespace: &str) -> Component {
        self.component(Kind::Secret, namespace)
    }

    /// The ConfigMap this name means to a fragment in `namespace`.
    pub fn configmap(&self, namespace: &str) -> Component {
        self.component(Kind::ConfigMap, namespace)
    }

    /// The objects that this name means when it stands in each of these namespaces, or else where it says itself.
    pub(super) fn in_each<'a>(
        &self,
        kind: Kind,
        to: impl Iterator<Item = &'a String>,
        namespace: &str,
    ) -> Vec<Component> {
        let each: Vec<Component> = to.map(|to| Component::namespaced(kind, to, &self.name)).collect();
        if each.is_empty() { vec![self.component(kind, namespace)] } else { each }
    }

    /// The object of this kind that this name means to a fragment in `namespace`.
    pub fn component(&self, kind: Kind, namespace: &str) -> Component {
        Component::namespaced(kind, self.namespace.as_deref().unwrap_or(namespace), &self.name)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FromStr for ObjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        // Kubernetes names both by DNS subdomains (RFC 1123), 253 bytes at most.
        if !is_name(name) || name.contains('_') || namespace.is_some_and(|n| !is_dns_label(n)) {
            return Err(format!(
                "`{text}` does not name a Secret or ConfigMap: write name or namespace/name in lower-case letters, digits and `-`"
            ));
        }
        Ok(ObjectName { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }
}

impl Serialize for ObjectName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ObjectName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ObjectName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        })
    }
}

/// One value: a key of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// The Secret.
    pub secret: ObjectName,
    /// The key in it.
    pub key: String,
}

/// One key of one Secret, wherever its documents stand: what a [`SecretRef`] refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey {
    /// The Secret, with its namespace.
    pub secret: Component,
    /// The key.
    pub key: String,
}

impl SecretKey {
    /// What a document in `namespace` refers to.
    pub fn of(reference: &SecretRef, namespace: &str) -> Self {
        SecretKey { secret: reference.secret.secret(namespace), key: reference.key.clone() }
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.secret, self.key)
    }
}
