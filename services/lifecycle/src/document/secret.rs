//! Secrets in documents: where values come from. The values themselves are never in a document.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Generator;
use crate::component::{Component, Kind, is_dns_label, is_name};

/// A Secret's name: `name` in the fragment's own namespace, or `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName {
    /// The namespace, where it is spelled out.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl SecretName {
    /// The component this name means to a fragment in `namespace`.
    pub fn component(&self, namespace: &str) -> Component {
        Component::namespaced(Kind::Secret, self.namespace.as_deref().unwrap_or(namespace), &self.name)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FromStr for SecretName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        // Kubernetes names Secrets by DNS subdomains (RFC 1123), 253 bytes at most.
        if !is_name(name) || name.contains('_') || namespace.is_some_and(|n| !is_dns_label(n)) {
            return Err(format!(
                "`{text}` does not name a Secret: write name or namespace/name in lower-case letters, digits and `-`"
            ));
        }
        Ok(SecretName { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }
}

impl Serialize for SecretName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for SecretName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretName".into()
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
    pub secret: SecretName,
    /// The key in it.
    pub key: String,
}

/// Where a Secret comes from: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Secret {
    /// Somebody else makes it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// Rollcall generates these keys, once, and never overwrites them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub generate: BTreeMap<String, Generator>,
    /// It is a copy of another Secret and follows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<Copy>,
}

impl Secret {
    /// The keys that generators make, each once, in their order.
    pub fn generated(&self) -> BTreeSet<&str> {
        self.generate.iter().flat_map(|(key, generator)| generator.writes(key)).collect()
    }
}

/// A Secret that follows another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The Secret it follows.
    pub from: SecretName,
    /// Which keys, by their new names: `new: old`. All keys, with their own names, when absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
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
        SecretKey { secret: reference.secret.component(namespace), key: reference.key.clone() }
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.secret, self.key)
    }
}
