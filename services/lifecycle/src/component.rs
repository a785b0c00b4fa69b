//! Components: anything that can be ready, named `kind/name`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What sort of thing a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A PostgreSQL server.
    Postgres,
    /// A Kafka cluster.
    Kafka,
    /// A database with its roles.
    Database,
    /// A role that reads several databases.
    Role,
    /// A database's schema migration.
    Migration,
    /// A Kafka topic.
    Topic,
    /// A Kafka consumer group.
    Group,
    /// A Secret.
    Secret,
    /// A `ConfigMap`.
    ConfigMap,
    /// A piece of work done once.
    Step,
    /// An identity-provider client.
    Client,
    /// Something outside that somebody else runs.
    Endpoint,
    /// A module of the environment.
    Module,
}

impl Kind {
    /// Every kind, in the order of this enum.
    pub const ALL: [Kind; 13] = [
        Kind::Postgres,
        Kind::Kafka,
        Kind::Database,
        Kind::Role,
        Kind::Migration,
        Kind::Topic,
        Kind::Group,
        Kind::Secret,
        Kind::ConfigMap,
        Kind::Step,
        Kind::Client,
        Kind::Endpoint,
        Kind::Module,
    ];

    /// The kind as written before the slash.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Postgres => "postgres",
            Kind::Kafka => "kafka",
            Kind::Database => "database",
            Kind::Role => "role",
            Kind::Migration => "migration",
            Kind::Topic => "topic",
            Kind::Group => "group",
            Kind::Secret => "secret",
            Kind::ConfigMap => "configmap",
            Kind::Step => "step",
            Kind::Client => "client",
            Kind::Endpoint => "endpoint",
            Kind::Module => "module",
        }
    }

    /// Secrets and ConfigMaps live in a namespace; the others are unique in their environment.
    pub fn is_namespaced(self) -> bool {
        matches!(self, Kind::Secret | Kind::ConfigMap)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A component's name: `kind/name`, for Secrets and ConfigMaps `kind/namespace/name`.
///
/// ```
/// let component: lifecycle::Component = "database/registry".parse().unwrap();
/// assert_eq!(component.to_string(), "database/registry");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component {
    kind: Kind,
    namespace: Option<String>,
    name: String,
}

impl Component {
    /// A component that is unique in its environment. `name` must be a [valid name](is_name).
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Component { kind, namespace: None, name: name.into() }
    }

    /// A component in a namespace.
    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Component { kind, namespace: Some(namespace.into()), name: name.into() }
    }

    /// What sort of thing it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The part after the last slash.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace, where it was given.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The same component with its namespace spelled out, where its kind has one.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        if self.kind.is_namespaced() && self.namespace.is_none() {
            Component { namespace: Some(namespace.to_owned()), ..self }
        } else {
            self
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

/// Text that names no component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComponentError {
    /// There is no slash.
    #[error("`{0}` is not a component: write kind/name, for example database/registry")]
    Shape(String),
    /// The part before the slash is no kind.
    #[error("`{kind}` in `{text}` is not a kind of component; kinds are {}", kinds())]
    Kind {
        /// The whole text.
        text: String,
        /// The part before the slash.
        kind: String,
    },
    /// The name has characters that names may not have.
    #[error(
        "`{0}` is not a component: names are lower-case letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit"
    )]
    Name(String),
}

fn kinds() -> String {
    Kind::ALL.map(Kind::as_str).join(", ")
}

/// Whether `text` may name a component: lower-case letters, digits, `-`, `_`, `.`; a letter or digit at both ends; at most 249 bytes.
pub fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 249
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

/// Whether `text` is a DNS label (RFC 1123): lower-case letters, digits and `-`, at most 63 bytes.
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_name(text) && !text.contains(['_', '.'])
}

impl FromStr for Component {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once('/').ok_or_else(|| ComponentError::Shape(text.to_owned()))?;
        let kind = Kind::ALL
            .into_iter()
            .find(|k| k.as_str() == kind)
            .ok_or_else(|| ComponentError::Kind { text: text.to_owned(), kind: kind.to_owned() })?;
        let (namespace, name) = match rest.split_once('/') {
            Some((namespace, name)) if kind.is_namespaced() => (Some(namespace), name),
            _ => (None, rest),
        };
        if !is_name(name) || namespace.is_some_and(|n| !is_dns_label(n)) {
            return Err(ComponentError::Name(text.to_owned()));
        }
        Ok(Component { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }
}

impl Serialize for Component {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Component {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Component {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Component".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let kinds = Kind::ALL.map(Kind::as_str).join("|");
        schemars::json_schema!({
            "type": "string",
            "description": "kind/name; for secrets and configmaps kind/[namespace/]name",
            "pattern": format!("^({kinds})/[a-z0-9]([-a-z0-9_./]*[a-z0-9])?$"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_and_print_alike() {
        for text in [
            "postgres/main",
            "topic/registry.events",
            "secret/openg2p-dev/registry-db",
            "secret/x",
            "step/load-masterdata",
        ] {
            assert_eq!(text.parse::<Component>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        for (text, says) in [
            ("registry", "write kind/name"),
            ("db/registry", "`db`"),
            ("database/Registry", "lower-case"),
            ("database/", "lower-case"),
            ("database/a/b", "lower-case"),
            ("secret/a/b/c", "lower-case"),
            ("secret/a_b/c", "lower-case"),
            ("module/-x", "lower-case"),
        ] {
            let error = text.parse::<Component>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_namespace_is_filled_in_only_where_the_kind_has_one() {
        let filled = |text: &str| text.parse::<Component>().unwrap().in_namespace("dev").to_string();
        assert_eq!(filled("secret/x"), "secret/dev/x");
        assert_eq!(filled("secret/prod/x"), "secret/prod/x");
        assert_eq!(filled("module/x"), "module/x");
    }
}
