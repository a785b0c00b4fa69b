//! ConfigMaps in documents: copies that follow, and trust bundles. What they hold is no secret.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Copy, ObjectName, Restart, SecretRef};
use crate::{Component, Kind};

/// Where a ConfigMap comes from: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigMap {
    /// Somebody else makes it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// It is a copy of another ConfigMap and follows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<Copy>,
    /// Certificates for those who trust: each key holds the certificates of these values, one after the other. A value
    /// that holds anything but certificates is refused.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bundle: BTreeMap<String, Vec<SecretRef>>,
    /// What is restarted when a value of it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
}

impl ConfigMap {
    /// The ConfigMaps that one declared as `name` in `namespace` means: one in each namespace in which it is to stand.
    pub fn stands(&self, name: &ObjectName, namespace: &str) -> Vec<Component> {
        match &self.copy {
            Some(copy) => copy.stands(Kind::ConfigMap, name, namespace),
            None => vec![name.configmap(namespace)],
        }
    }

    /// What it is made from, to a fragment in `namespace`.
    pub fn sources(&self, namespace: &str) -> Vec<Component> {
        let copied = self.copy.iter().filter_map(|copy| copy.from.component(Kind::ConfigMap, namespace));
        copied.chain(self.bundle.values().flatten().map(|value| value.secret.secret(namespace))).collect()
    }

    /// The keys it is made with; none when that is for its source, or somebody else, to say.
    pub fn made(&self) -> Option<Vec<&str>> {
        match &self.copy {
            Some(copy) => copy.made(),
            None if self.external => None,
            None => Some(self.bundle.keys().map(String::as_str).collect()),
        }
    }
}
