//! How a module or an endpoint shows that it is ready.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// How to see that something is ready: exactly one of these.
///
/// Optional fields instead of an enum, because `figment` silently drops the second of two enum variants;
/// [`check_fragment`](super::check_fragment) demands exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ready {
    /// It answers an HTTP request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpReady>,
    /// It accepts TCP connections. Says little: prefer any of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpReady>,
    /// It answers `grpc.health.v1.Health/Check` with SERVING.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcReady>,
    /// It is a Keycloak, and serves a realm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keycloak: Option<KeycloakReady>,
}

impl Ready {
    /// How many of the alternatives are given; exactly one is right.
    pub fn given(&self) -> usize {
        [self.http.is_some(), self.tcp.is_some(), self.grpc.is_some(), self.keycloak.is_some()]
            .into_iter()
            .filter(|given| *given)
            .count()
    }
}

/// Ready when an HTTP GET is answered as expected. Redirects are not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpReady {
    /// What is asked for.
    #[schemars(with = "String")]
    pub url: Url,
    /// The one status that counts; any from 200 to 299 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the JSON body must hold: JSON pointer (RFC 6901) to text, for example `/status: UP`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, String>,
}

/// Ready when a TCP connection is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpReady {
    /// `host:port`.
    pub address: String,
}

/// Ready when `grpc.health.v1.Health/Check` answers SERVING.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcReady {
    /// `http://host:port` or `https://host:port`.
    #[schemars(with = "String")]
    pub url: Url,
    /// The service asked about; the whole server when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
}

/// Ready when Keycloak serves a realm's OpenID configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeycloakReady {
    /// Keycloak's address, without `/realms`.
    #[schemars(with = "String")]
    pub url: Url,
    /// The realm that must be there; `master` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// The management interface's address, when its `/health/ready` must say UP too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub management: Option<Url>,
}
