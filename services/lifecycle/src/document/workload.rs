//! Workloads in documents: what runs pods, by name, and which of them are restarted when a value that they use changes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::component::{is_dns_label, is_name};

/// What runs pods from a template and replaces them when the template changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
    /// A `DaemonSet`.
    DaemonSet,
}

impl WorkloadKind {
    /// Every kind.
    pub const ALL: [WorkloadKind; 3] =
        [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet];

    /// As `kubectl` writes it before a slash.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "deployment",
            WorkloadKind::StatefulSet => "statefulset",
            WorkloadKind::DaemonSet => "daemonset",
        }
    }

    /// As manifests name it.
    pub fn kind(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "Deployment",
            WorkloadKind::StatefulSet => "StatefulSet",
            WorkloadKind::DaemonSet => "DaemonSet",
        }
    }
}

/// A workload's name in a document: `deployment/name`, `statefulset/name` or `daemonset/name`, or with its namespace in
/// between.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadName {
    /// What it is.
    pub kind: WorkloadKind,
    /// The namespace, where it is spelled out.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// A workload, its namespace spelled out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
}

impl WorkloadName {
    /// The workload this name means where `namespace` is meant when none is said.
    pub fn in_namespace(&self, namespace: &str) -> Workload {
        let namespace = self.namespace.as_deref().unwrap_or(namespace).to_owned();
        Workload { kind: self.kind, namespace, name: self.name.clone() }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind.as_str(), self.name),
            None => write!(f, "{}/{}", self.kind.as_str(), self.name),
        }
    }
}

impl FromStr for WorkloadName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name) = match parts[..] {
            [kind, name] => (kind, None, name),
            [kind, namespace, name] => (kind, Some(namespace), name),
            _ => ("", None, ""),
        };
        let kind = WorkloadKind::ALL.into_iter().find(|known| known.as_str() == kind);
        let is_named = is_name(name) && !name.contains('_') && namespace.is_none_or(is_dns_label);
        match kind {
            Some(kind) if is_named => {
                Ok(WorkloadName { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() })
            }
            _ => Err(format!(
                "`{text}` does not name a workload: write deployment/name, statefulset/name or daemonset/name, in another namespace deployment/namespace/name"
            )),
        }
    }
}

impl Serialize for WorkloadName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkloadName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for WorkloadName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WorkloadName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(deployment|statefulset|daemonset)/([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        })
    }
}

/// Which workloads are restarted when a value that was there before has changed. One that does not use the value is left
/// alone, and so is one whose pods are not all ready, until they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// The workloads, in a namespace where the object stands.
    pub workloads: Vec<WorkloadName>,
    /// Whether they are restarted, or it is only said that they should be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: RestartMode,
    /// How long further changes are waited for, so that many are one restart. Of several for one workload the longest holds.
    #[serde(default = "half_a_minute", with = "text", skip_serializing_if = "is_usual")]
    #[schemars(with = "String")]
    pub window: Duration,
}

/// Whether workloads are restarted, or it is only said that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RestartMode {
    /// Their pods are replaced, as their own strategy says.
    #[default]
    Roll,
    /// It is said that they should be.
    Announce,
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn is_usual(window: &Duration) -> bool {
    *window == half_a_minute()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A duration such as `30s`.
mod text {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|error| {
            serde::de::Error::custom(format!("`{text}` is not a duration such as 30s: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_named_by_kind_and_name_and_perhaps_a_namespace() {
        let name: WorkloadName = "deployment/config-server".parse().unwrap();
        assert_eq!(name.in_namespace("dev").to_string(), "deployment/dev/config-server");
        let name: WorkloadName = "statefulset/kafka/broker".parse().unwrap();
        assert_eq!(name.in_namespace("dev").to_string(), "statefulset/kafka/broker");
        assert_eq!(name.to_string(), "statefulset/kafka/broker");
        for wrong in
            ["web", "deployments/web", "Deployment/web", "job/x", "deployment/", "deployment/a/b/c", ""]
        {
            let error = wrong.parse::<WorkloadName>().unwrap_err();
            assert!(error.contains("write deployment/name"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_restart_set_says_what_it_must_and_reads_as_it_was_written() {
        let plain: Restart = serde_json::from_str(r#"{"workloads": ["deployment/web"]}"#).unwrap();
        assert_eq!((plain.mode, plain.window), (RestartMode::Roll, Duration::from_secs(30)));
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"workloads":["deployment/web"]}"#);
        let full = r#"{"workloads":["daemonset/agent"],"mode":"announce","window":"2m"}"#;
        let read: Restart = serde_json::from_str(full).unwrap();
        assert_eq!((read.mode, read.window), (RestartMode::Announce, Duration::from_mins(2)));
        assert_eq!(serde_json::to_string(&read).unwrap(), full);
        let error = serde_json::from_str::<Restart>(r#"{"workloads": [], "window": "soon"}"#).unwrap_err();
        assert!(error.to_string().contains("soon"), "{error}");
    }
}
