//! Secrets in documents: where values come from. The values themselves are never in a document.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Copy, Generator, ObjectName, Restart, Template};
use crate::{Component, Kind};

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
    /// It is a copy of another Secret, a client's secret, a Vault path or a sops file, and follows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<Copy>,
    /// Its values are put together from other values, and follow them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// The Kubernetes type of what is generated or put together, `Opaque` when absent. A copy has its source's.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What would be locked out by another value: nothing is generated while one of these is known to exist already.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protects: Vec<Component>,
    /// The age recipient (`age1…`) for whom what is generated is sealed too, apart from the Secret: who holds that key can
    /// restore what was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escrow: Option<String>,
    /// Asks for new values of what is generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotate: Option<Rotate>,
    /// What is restarted when a value of it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
}

/// Asks for new values of what is generated, once for every higher serial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Which rotation this is, from 1. A Secret that was rotated as often already is left alone.
    pub serial: u32,
    /// Under which key the old value of a key is kept: `key: key-previous`. It is kept nowhere when absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub previous: BTreeMap<String, String>,
}

impl Secret {
    /// The Secrets that one declared as `name` in `namespace` means: one in each namespace in which it is to stand.
    pub fn stands(&self, name: &ObjectName, namespace: &str) -> Vec<Component> {
        if let Some(copy) = &self.copy {
            return copy.stands(Kind::Secret, name, namespace);
        }
        let to = self.template.iter().flat_map(|template| &template.to);
        name.in_each(Kind::Secret, to, namespace)
    }

    /// What it is made from, to a fragment in `namespace`.
    pub fn sources(&self, namespace: &str) -> Vec<Component> {
        let copied = self.copy.iter().filter_map(|copy| copy.from.component(Kind::Secret, namespace));
        let values = self.template.iter().flat_map(|template| template.values.values());
        let authorities = self.generate.values().filter_map(Generator::needs).map(|ca| ca.secret(namespace));
        copied.chain(values.filter_map(|value| value.component(namespace))).chain(authorities).collect()
    }

    /// The keys it is made with; none when that is for its source, or somebody else, to say.
    pub fn made(&self) -> Option<Vec<&str>> {
        match (&self.copy, &self.template) {
            (Some(copy), _) => copy.made(),
            (None, Some(template)) => Some(template.keys.keys().map(String::as_str).collect()),
            (None, None) if self.external => None,
            (None, None) => Some(self.generated().into_iter().collect()),
        }
    }
}

impl Secret {
    /// The keys that generators make, each once, in their order.
    pub fn generated(&self) -> BTreeSet<&str> {
        self.generate.iter().flat_map(|(key, generator)| generator.writes(key)).collect()
    }
}
