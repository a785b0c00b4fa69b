//! What manifests themselves make: Secrets and ConfigMaps, with the state of each value and never the value.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::placeholder::is_angled;
use crate::{Component, Kind, placeholder};

/// What is known of the keys of one Secret or ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// Keys, and what is wrong with the value of each.
    keys: BTreeMap<String, Option<String>>,
    /// It may hold others, which only its maker knows.
    open: bool,
}

impl Keys {
    /// Keys that nobody knows yet.
    pub(super) fn any() -> Self {
        Keys { keys: BTreeMap::new(), open: true }
    }

    /// Exactly these keys, with good values.
    pub(super) fn made(keys: impl IntoIterator<Item = String>) -> Self {
        Keys { keys: keys.into_iter().map(|key| (key, None)).collect(), open: false }
    }

    /// What two know of one object: of whom it stands whole knows more than who only says that it will be there. Where both
    /// name a key, what is wrong with either is wrong.
    pub(super) fn and(mut self, other: Keys) -> Self {
        match (self.open && self.keys.is_empty(), other.open && other.keys.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => {
                for (key, wrong) in other.keys {
                    let known = self.keys.entry(key).or_default();
                    *known = known.take().or(wrong);
                }
                self.open |= other.open;
                self
            }
        }
    }

    /// The keys that are known by name.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// What is wrong with a key; none when it will hold a value.
    pub(super) fn wrong(&self, key: &str) -> Option<String> {
        match self.keys.get(key) {
            Some(wrong) => wrong.clone(),
            None if self.open => None,
            None if self.keys.is_empty() => Some("is not there: it holds no key at all".to_owned()),
            None => {
                let there: Vec<&str> = self.named().collect();
                Some(format!("is not there; it holds {}", there.join(", ")))
            }
        }
    }
}

/// The Secret or ConfigMap that an object is, or will become; none for anything else.
pub(super) fn provided(object: &Value, namespace: &str) -> Option<(Component, Keys)> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
    let own = object["metadata"]["name"].as_str();
    let (kind, name, keys) = match object["kind"].as_str()? {
        "Secret" => (Kind::Secret, own?, secret(object)),
        "ConfigMap" => (Kind::ConfigMap, own?, config_map(object)),
        // Decrypted or fetched in the cluster: which keys they give is not for us to know.
        "SealedSecret" => {
            let name = object["spec"]["template"]["metadata"]["name"].as_str();
            (Kind::Secret, name.or(own)?, encrypted(object))
        }
        "ExternalSecret" => (Kind::Secret, object["spec"]["target"]["name"].as_str().or(own)?, Keys::any()),
        // Keystores and other formats add keys.
        "Certificate" if object["apiVersion"].as_str()?.starts_with("cert-manager.io/") => {
            (Kind::Secret, object["spec"]["secretName"].as_str()?, Keys::any())
        }
        _ => return None,
    };
    Some((Component::namespaced(kind, namespace, name), keys))
}

fn secret(object: &Value) -> Keys {
    // The cluster fills it.
    if object["type"].as_str() == Some("kubernetes.io/service-account-token") {
        return Keys::any();
    }
    let encoded = entries(&object["data"]).map(|(key, value)| (key.clone(), state(key, &decoded(value))));
    let plain = entries(&object["stringData"]).map(|(key, value)| (key.clone(), state(key, &text(value))));
    Keys { keys: encoded.chain(plain).collect(), open: false }
}

fn config_map(object: &Value) -> Keys {
    // Configuration may well be empty; a placeholder is none of its values.
    let data = entries(&object["data"]).map(|(key, value)| (key.clone(), angle(&text(value))));
    let binary = entries(&object["binaryData"]).map(|(key, _)| (key.clone(), None));
    Keys { keys: data.chain(binary).collect(), open: false }
}

fn encrypted(object: &Value) -> Keys {
    let keys = entries(&object["spec"]["encryptedData"]).map(|(key, _)| (key.clone(), None));
    // Its template may add keys.
    Keys { keys: keys.collect(), open: true }
}

fn entries(map: &Value) -> impl Iterator<Item = (&String, &Value)> {
    map.as_object().into_iter().flatten()
}

/// A template that found no value renders to nothing, which is null.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Base64 as Kubernetes writes it; what is none is judged as it stands.
fn decoded(value: &Value) -> String {
    use base64::Engine;
    let text = text(value);
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim());
    bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(text)
}

/// What is wrong with a value of a Secret or ConfigMap, as it is held. Configuration may well be empty.
pub fn flaw(component: &Component, key: &str, value: &[u8]) -> Option<&'static str> {
    if component.kind() == Kind::Secret {
        return placeholder(key, value);
    }
    let is_angled = std::str::from_utf8(value).is_ok_and(|text| is_angled(text.trim()));
    is_angled.then_some("is a placeholder in angle brackets")
}

/// What is wrong with a secret value: it is empty, or stands for one.
fn state(key: &str, value: &str) -> Option<String> {
    placeholder(key, value.as_bytes()).map(|what| format!("{what}; give it a value of its own"))
}

fn angle(value: &str) -> Option<String> {
    is_angled(value.trim()).then(|| "is a placeholder in angle brackets; give it a value".to_owned())
}
