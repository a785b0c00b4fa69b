//! Servers in documents: `PostgreSQL` and Kafka, and how to reach them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delegate, SecretRef};

fn postgres_port() -> u16 {
    5432
}

/// A `PostgreSQL` server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// Host name or address.
    pub host: String,
    /// TCP port; 5432 when absent.
    #[serde(default = "postgres_port")]
    pub port: u16,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: Tls,
    /// Who provisions it. Only in the fragment that declares the server, never under `uses`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    /// The role through which the hub observes; without it the hub calls this server's databases unobservable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<Observer>,
    /// For whom `postgres-init serve` makes databases here when their modules ask for them. Nobody when empty. Only beside `admin`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegate: Vec<Delegate>,
}

/// Who provisions a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// The role's name on the server, as it is; no naming template applies.
    pub user: String,
    /// Its password.
    pub password: SecretRef,
}

/// The role through which an environment's hub observes a server. postgres-init makes it; its name is
/// `rollcall_observer_<environment>` with `-` as `_`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observer {
    /// Its password.
    pub password: SecretRef,
}

/// How a connection is protected. Certificates are always verified against the CA in the `verify-` modes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map such as {mode: disable} or {mode: verify-full, ca: {secret: …, key: …}}"
)]
pub struct Tls {
    /// The libpq name of the mode; `require` when absent.
    pub mode: TlsMode,
    /// The certificate authority, PEM; the system's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretRef>,
}

/// How a connection is protected, by libpq's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Not at all.
    Disable,
    /// Encrypted; whom one speaks to is not verified.
    #[default]
    Require,
    /// Encrypted, the server's certificate is verified.
    VerifyCa,
    /// Encrypted, the server's certificate and name are verified.
    VerifyFull,
}

/// A Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `host:port` of at least one broker.
    pub brokers: Vec<String>,
    /// How many brokers must be there for the cluster to be ready; 1 when absent.
    #[serde(default = "one_broker")]
    pub expect_brokers: u16,
    /// TLS, when the brokers speak it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
}

fn one_broker() -> u16 {
    1
}

/// TLS towards brokers; certificates and names are always verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as {} or {ca: {secret: …, key: …}}")]
pub struct KafkaTls {
    /// The certificate authority, PEM; the system's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretRef>,
}
