//! Topics and modules in documents.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ModuleKeys, OnDelete, Ready, WorkloadName};
use crate::Need;

/// A Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// The cluster it is on: a name under `kafka` or `uses.kafka` of this fragment.
    pub kafka: String,
    /// Its name before the naming template; the key it is declared under when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many partitions; more can be added later, never removed.
    pub partitions: u32,
    /// How many replicas each partition has: a number, or `auto` for the smaller of 3 and the number of brokers.
    #[serde(default)]
    pub replication: Replication,
    /// Topic configuration, by Kafka's names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// What a teardown does with it, with all that is in it; what the fragment's `policy` says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<OnDelete>,
}

/// How many replicas each partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replication {
    /// The smaller of 3 and the number of brokers.
    #[default]
    Auto,
    /// So many.
    Factor(u16),
}

impl Serialize for Replication {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Replication::Auto => serializer.serialize_str("auto"),
            Replication::Factor(factor) => serializer.serialize_u16(*factor),
        }
    }
}

impl<'de> Deserialize<'de> for Replication {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReplicationVisitor;

        impl Visitor<'_> for ReplicationVisitor {
            type Value = Replication;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a number of replicas")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Replication, E> {
                if text == "auto" {
                    Ok(Replication::Auto)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }

            fn visit_u64<E: de::Error>(self, factor: u64) -> Result<Replication, E> {
                u16::try_from(factor)
                    .map(Replication::Factor)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(factor), &self))
            }

            fn visit_i64<E: de::Error>(self, factor: i64) -> Result<Replication, E> {
                u64::try_from(factor)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(factor), &self))
                    .and_then(|factor| self.visit_u64(factor))
            }
        }

        deserializer.deserialize_any(ReplicationVisitor)
    }
}

impl JsonSchema for Replication {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Replication".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "oneOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 32767}],
        })
    }
}

/// A module: one workload of the environment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Module {
    /// What it needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
    /// The keys of Secrets and ConfigMaps that it reads: it starts when each is there and is neither empty nor a placeholder.
    #[serde(skip_serializing_if = "ModuleKeys::is_empty")]
    pub keys: ModuleKeys,
    /// What runs its pods: with `keys: referenced` these say which keys it reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadName>,
    /// How to see that it is ready. Without it nobody may need the module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
}
