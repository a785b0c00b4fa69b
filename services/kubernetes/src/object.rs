//! Secrets and ConfigMaps as the API server keeps them, and as we would have them.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chassis::SecretValue;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// What keeps keys and values, and what runs pods that use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
}

impl Resource {
    /// Its name in paths and Roles.
    pub fn plural(self) -> &'static str {
        match self {
            Resource::Secret => "secrets",
            Resource::ConfigMap => "configmaps",
            Resource::Deployment => "deployments",
            Resource::StatefulSet => "statefulsets",
            Resource::DaemonSet => "daemonsets",
        }
    }

    /// Where its objects are found.
    pub(crate) fn root(self) -> &'static str {
        match self {
            Resource::Secret | Resource::ConfigMap => "/api/v1",
            Resource::Deployment | Resource::StatefulSet | Resource::DaemonSet => "/apis/apps/v1",
        }
    }

    /// Its name in objects.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Resource::Secret => "Secret",
            Resource::ConfigMap => "ConfigMap",
            Resource::Deployment => "Deployment",
            Resource::StatefulSet => "StatefulSet",
            Resource::DaemonSet => "DaemonSet",
        }
    }
}

/// An object's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// What it is.
    pub resource: Resource,
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.resource.kind().to_lowercase(), self.namespace, self.name)
    }
}

/// Where `kubectl apply` keeps what it applied, a Secret's values in the clear among it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A Secret or ConfigMap as it is.
#[derive(Debug, Clone, Default)]
pub struct Object {
    /// Which one it is, among all that ever had its name.
    pub uid: String,
    /// Which state of it this is.
    pub version: String,
    /// A Secret's type; empty for a ConfigMap.
    pub r#type: String,
    /// Its keys can never be changed.
    pub immutable: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// Its annotations, but for the one in which `kubectl apply` keeps the values.
    pub annotations: BTreeMap<String, String>,
    /// Its keys.
    pub data: BTreeMap<String, SecretValue>,
    /// Which keys each field manager has applied: the server keeps this account, and whoever may write the object may only
    /// write it under a name of his own choice.
    pub applied: BTreeMap<String, Vec<String>>,
    /// Which annotations each field manager has applied.
    pub annotated: BTreeMap<String, Vec<String>>,
}

/// A Secret or ConfigMap as it should be: what one field manager applies. A key that it applied before and does not now is
/// removed by the server, unless somebody else applied it too.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// A Secret's type, which is fixed when it is made.
    pub r#type: Option<String>,
    /// Only this one of all that ever had its name: without it, what is gone is made again, whichever version is asked for.
    pub uid: Option<String>,
    /// Only in this state; any when absent.
    pub version: Option<String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Keys.
    pub data: BTreeMap<String, SecretValue>,
}

impl Desired {
    /// The body of the request. ConfigMaps keep text as text and everything else as binary data.
    pub(crate) fn body(&self, name: &Name) -> Value {
        let mut metadata = json!({"name": name.name, "namespace": name.namespace});
        if let Some(uid) = &self.uid {
            metadata["uid"] = json!(uid);
        }
        if let Some(version) = &self.version {
            metadata["resourceVersion"] = json!(version);
        }
        if !self.annotations.is_empty() {
            metadata["annotations"] = json!(self.annotations);
        }
        let mut body = json!({"apiVersion": "v1", "kind": name.resource.kind(), "metadata": metadata});
        if let Some(kind) = &self.r#type {
            body["type"] = json!(kind);
        }
        let (mut data, mut binary) = (Map::new(), Map::new());
        for (key, value) in &self.data {
            match (name.resource, value.expose_text()) {
                (Resource::ConfigMap, Some(text)) => data.insert(key.clone(), json!(text)),
                (Resource::ConfigMap, None) => {
                    binary.insert(key.clone(), json!(STANDARD.encode(value.expose())))
                }
                _ => data.insert(key.clone(), json!(STANDARD.encode(value.expose()))),
            };
        }
        for (key, map) in [("data", data), ("binaryData", binary)] {
            if !map.is_empty() {
                body[key] = Value::Object(map);
            }
        }
        body
    }
}

/// What of the server's answer is read. Whatever is wrong with a value, the error does not show it.
#[derive(Deserialize)]
struct Wire {
    metadata: Metadata,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    immutable: bool,
    #[serde(default)]
    data: BTreeMap<String, Text>,
    #[serde(default, rename = "binaryData")]
    binary: BTreeMap<String, Text>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
    deletion_timestamp: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    managed_fields: Vec<Managed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Managed {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    fields_v1: Value,
}

/// Text that is wiped.
struct Text(Zeroizing<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The error of a library would quote what it found.
        String::deserialize(deserializer)
            .map(|text| Text(Zeroizing::new(text)))
            .map_err(|_| D::Error::custom("a value is no string"))
    }
}

impl Object {
    /// Reads the server's answer.
    pub(crate) fn read(resource: Resource, bytes: &[u8]) -> Result<Self, String> {
        let mut wire: Wire =
            serde_json::from_slice(bytes).map_err(|_| format!("it is no {}", resource.kind()))?;
        if let Some(applied) = wire.metadata.annotations.remove(LAST_APPLIED) {
            drop(Zeroizing::new(applied));
        }
        let mut data = BTreeMap::new();
        let encoded = if resource == Resource::Secret { &wire.data } else { &wire.binary };
        for (key, text) in encoded {
            let value =
                STANDARD.decode(text.0.as_bytes()).map_err(|_| format!("key `{key}` is no base64"))?;
            data.insert(key.clone(), SecretValue::new(value));
        }
        if resource == Resource::ConfigMap {
            data.extend(
                wire.data.iter().map(|(key, text)| (key.clone(), SecretValue::new(text.0.as_bytes()))),
            );
        }
        let mut applied: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut annotated: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for managed in wire.metadata.managed_fields.iter().filter(|managed| managed.operation == "Apply") {
            let fields = &managed.fields_v1;
            let keys = applied.entry(managed.manager.clone()).or_default();
            keys.extend(named(&fields["f:data"]).chain(named(&fields["f:binaryData"])));
            let annotations = annotated.entry(managed.manager.clone()).or_default();
            annotations.extend(named(&fields["f:metadata"]["f:annotations"]));
        }
        Ok(Object {
            uid: wire.metadata.uid,
            version: wire.metadata.resource_version,
            r#type: wire.kind,
            immutable: wire.immutable,
            terminating: wire.metadata.deletion_timestamp.is_some(),
            annotations: wire.metadata.annotations,
            data,
            applied,
            annotated,
        })
    }
}

/// The names in a set of managed fields.
fn named(fields: &Value) -> impl Iterator<Item = String> {
    let fields = fields.as_object().into_iter().flat_map(Map::keys);
    fields.filter_map(|field| field.strip_prefix("f:")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(resource: Resource) -> Name {
        Name { resource, namespace: "dev".to_owned(), name: "db".to_owned() }
    }

    fn desired(values: &[(&str, &[u8])]) -> Desired {
        let data = values.iter().map(|(key, value)| ((*key).to_owned(), SecretValue::new(*value))).collect();
        Desired { data, annotations: [("a".to_owned(), "b".to_owned())].into(), ..Desired::default() }
    }

    #[test]
    fn what_is_applied_reads_as_it_was_meant() {
        for resource in [Resource::Secret, Resource::ConfigMap] {
            let desired = desired(&[("text", b"hunter2"), ("bytes", &[0xff, 0])]);
            let object =
                Object::read(resource, desired.body(&name(resource)).to_string().as_bytes()).unwrap();
            assert_eq!(object.data, desired.data, "{resource:?}");
            assert_eq!(object.annotations, desired.annotations);
            assert!(!format!("{object:?} {desired:?}").contains("hunter2"));
        }
        let body = desired(&[("text", b"hunter2")]).body(&name(Resource::ConfigMap));
        assert_eq!(body["data"]["text"], "hunter2", "text stays text");
    }

    #[test]
    fn who_applied_which_key_is_the_servers_account() {
        let answer = json!({
            "metadata": {"uid": "u", "resourceVersion": "7", "annotations": {LAST_APPLIED: "hunter2", "a": "b"}, "deletionTimestamp": "2026-01-01T00:00:00Z", "managedFields": [
                {"manager": "rollcall/a", "operation": "Apply", "fieldsV1": {"f:data": {"f:password": {}, ".": {}}, "f:metadata": {"f:annotations": {"f:a": {}}}}},
                {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:data": {"f:password": {}}}},
            ]},
            "type": "Opaque", "immutable": true, "data": {"password": "aHVudGVyMg=="},
        });
        let object = Object::read(Resource::Secret, answer.to_string().as_bytes()).unwrap();
        assert_eq!(object.applied, [("rollcall/a".to_owned(), vec!["password".to_owned()])].into());
        assert_eq!(object.annotated, [("rollcall/a".to_owned(), vec!["a".to_owned()])].into());
        assert!(object.immutable && object.terminating);
        assert!(object.annotations.contains_key("a") && !format!("{object:?}").contains("hunter2"));
        assert_eq!(object.data["password"].expose_text(), Some("hunter2"));
    }

    #[test]
    fn an_answer_that_is_wrong_is_not_quoted() {
        for answer in [
            r#"{"metadata": {}, "data": {"password": "hunter2!"}}"#,
            r#"{"metadata": {}, "data": {"password": {"hunter2": 1}}}"#,
            r#"{"metadata": {}, "data": "hunter2"}"#,
            "hunter2",
        ] {
            let error = Object::read(Resource::Secret, answer.as_bytes()).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
