//! What follows something else, in documents: copies and templates.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{NamespaceSelector, ObjectName};
use crate::component::{Component, Kind};

/// A Secret or ConfigMap that follows something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// What it follows.
    pub from: Origin,
    /// The namespaces in which it stands, by this name; the fragment's own when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Chooses more namespaces, by their labels. Only the central secret-syncer of chart `cluster` obeys it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<NamespaceSelector>,
    /// Which keys, by their new names: `new: old`. All keys, with their own names, when absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
    /// What becomes of the copy when its source is deleted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source_gone: SourceGone,
    /// Whether keys that somebody else wrote are overwritten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takeover: bool,
}

impl Copy {
    /// The objects of this kind that one declared as `name` in `namespace` means: one in each namespace under `to`; those that
    /// a selector chooses are known only once it is resolved.
    pub(super) fn stands(&self, kind: Kind, name: &ObjectName, namespace: &str) -> Vec<Component> {
        if self.namespace_selector.is_some() && self.to.is_empty() {
            return Vec::new();
        }
        name.in_each(kind, self.to.iter(), namespace)
    }

    /// The keys it is made with; none when it has whatever its source has.
    pub(super) fn made(&self) -> Option<Vec<&str>> {
        (!self.keys.is_empty()).then(|| self.keys.keys().map(String::as_str).collect())
    }
}

/// What becomes of a copy when its source is deleted.
#[derive(Debug, Clone, std::marker::Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceGone {
    /// It stays as it is: what runs needs it.
    #[default]
    Retain,
    /// It is deleted too, if it is still as it was written.
    Delete,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a copy follows: `name` or `namespace/name` of its own kind, or a map that names a client, a path in Vault or a
/// sops file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A Secret, or for a ConfigMap a ConfigMap.
    Object(ObjectName),
    /// The secret of an identity provider's client, declared under `clients`.
    Client(String),
    /// A secret in Vault (KV version 2).
    Vault {
        /// The server: a name under `vault`.
        server: String,
        /// The path below the server's mount.
        path: String,
    },
    /// A sops file, by its path below the folder of sops files.
    Sops(String),
}

impl Origin {
    /// The component that a fragment in `namespace` means, where it is one; `kind` is that of the copy.
    pub fn component(&self, kind: Kind, namespace: &str) -> Option<Component> {
        match self {
            Origin::Object(name) => Some(name.component(kind, namespace)),
            Origin::Client(name) => Some(Component::new(Kind::Client, name)),
            Origin::Vault { .. } | Origin::Sops(_) => None,
        }
    }
}

const FIELDS: &[&str] = &["client", "vault", "path", "sops"];
const SHAPE: &str = "`name` or `namespace/name`, or a map: {client: …}, {vault: …, path: …} or {sops: …}";

// An untagged string-or-map would hide a typo in the map behind "did not match any variant".
impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OriginVisitor;

        impl<'de> Visitor<'de> for OriginVisitor {
            type Value = Origin;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SHAPE)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Origin, E> {
                text.parse().map(Origin::Object).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Origin, A::Error> {
                let mut given: BTreeMap<&str, String> = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    match FIELDS.iter().find(|field| **field == key) {
                        Some(field) => drop(given.insert(field, map.next_value()?)),
                        None => return Err(de::Error::unknown_field(&key, FIELDS)),
                    }
                }
                let mut take = |field| given.remove(field);
                let origin = match (take("client"), take("vault"), take("path"), take("sops")) {
                    (Some(client), None, None, None) => Origin::Client(client),
                    (None, Some(server), Some(path), None) => Origin::Vault { server, path },
                    (None, None, None, Some(file)) => Origin::Sops(file),
                    _ => return Err(de::Error::custom(format!("from: give exactly one of {SHAPE}"))),
                };
                Ok(origin)
            }
        }

        deserializer.deserialize_any(OriginVisitor)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Origin::Object(name) => name.serialize(serializer),
            Origin::Client(client) => serializer.collect_map([("client", client)]),
            Origin::Vault { server, path } => serializer.collect_map([("vault", server), ("path", path)]),
            Origin::Sops(file) => serializer.collect_map([("sops", file)]),
        }
    }
}

impl JsonSchema for Origin {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Origin".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let name = generator.subschema_for::<ObjectName>();
        let map = |fields: &[&str]| {
            let properties: serde_json::Map<String, serde_json::Value> = fields
                .iter()
                .map(|field| ((*field).to_owned(), serde_json::json!({"type": "string"})))
                .collect();
            serde_json::json!({
                "type": "object", "required": fields, "additionalProperties": false, "properties": properties,
            })
        };
        schemars::json_schema!({ "oneOf": [name, map(&["client"]), map(&["vault", "path"]), map(&["sops"])] })
    }
}

/// Values that are put together from other values: connection strings and the like. A template is data; it can compute
/// nothing and read nothing but `values`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The texts by key. `{name}` stands for a value under `values`, `{name:url}` for the same percent-encoded (RFC 3986)
    /// as part of a URL, `{{` for a brace.
    pub keys: BTreeMap<String, String>,
    /// What the names stand for.
    pub values: BTreeMap<String, ValueRef>,
    /// The namespaces in which it stands, by this name; the fragment's own when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
}

/// One value: a key of a Secret or of a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValueRef {
    /// The Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectName>,
    /// The ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configmap: Option<ObjectName>,
    /// The key in it.
    pub key: String,
}

impl ValueRef {
    /// The object that a fragment in `namespace` means; none unless exactly one is given.
    pub fn component(&self, namespace: &str) -> Option<Component> {
        match (&self.secret, &self.configmap) {
            (Some(secret), None) => Some(secret.secret(namespace)),
            (None, Some(configmap)) => Some(configmap.configmap(namespace)),
            _ => None,
        }
    }
}

/// A part of a template's text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// A value.
    Value {
        /// Its name under `values`.
        name: String,
        /// It is percent-encoded.
        url: bool,
    },
}

/// Takes a template's text apart. The error says what is wrong with it.
pub fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let tail = &rest[at..];
        if let Some(after) = tail.strip_prefix("{{").or_else(|| tail.strip_prefix("}}")) {
            plain.push_str(&tail[..1]);
            rest = after;
            continue;
        }
        let Some((inner, after)) = tail.strip_prefix('{').and_then(|tail| tail.split_once('}')) else {
            return Err(format!("`{}` belongs to no `{{name}}`; write it twice to mean itself", &tail[..1]));
        };
        let (name, url) = match inner.split_once(':') {
            None => (inner, false),
            Some((name, "url")) => (name, true),
            Some((_, other)) => return Err(format!("`:{other}` is no way to write a value; `:url` is one")),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
            return Err(format!("`{{{inner}}}` names no value: use letters, digits, `-` and `_`"));
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Value { name: name.to_owned(), url });
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_name_or_a_map_of_one_thing() {
        for json in [
            r#""base/pg""#,
            r#"{"client":"portal"}"#,
            r#"{"path":"a/b","vault":"main"}"#,
            r#"{"sops":"dev.yaml"}"#,
        ] {
            let origin: Origin = serde_json::from_str(json).unwrap();
            let value = serde_json::to_value(&origin).unwrap();
            assert_eq!(value, serde_json::from_str::<serde_json::Value>(json).unwrap());
        }
        for (json, says) in [
            (r#"{"clinet":"portal"}"#, "clinet"),
            (r#"{"client":"a","sops":"b"}"#, "exactly one"),
            (r#"{"vault":"main"}"#, "exactly one"),
            (r#""A b""#, "does not name"),
        ] {
            let error = serde_json::from_str::<Origin>(json).unwrap_err().to_string();
            assert!(error.contains(says), "{json}: {error}");
        }
    }

    #[test]
    fn a_template_is_taken_apart() {
        let value = |name: &str, url| Piece::Value { name: name.to_owned(), url };
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(
            pieces("postgres://{user}:{password:url}@h/d").unwrap(),
            [text("postgres://"), value("user", false), text(":"), value("password", true), text("@h/d")]
        );
        assert_eq!(pieces("{{\"a\": 1}}").unwrap(), [text("{\"a\": 1}")]);
        assert_eq!(pieces("").unwrap(), []);
        for (wrong, says) in [
            ("{", "belongs to no"),
            ("a}", "belongs to no"),
            ("{}", "names no value"),
            ("{a:b}", "no way"),
            ("{a b}", "names no value"),
        ] {
            let error = pieces(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
