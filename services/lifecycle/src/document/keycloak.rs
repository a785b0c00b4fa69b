//! Keycloak in documents: servers and who logs in there, realms, and the clients in them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::SecretRef;

/// A Keycloak server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keycloak {
    /// Its address, without `/realms` or `/admin`; https, or http with `tls: {mode: disable}`.
    #[schemars(with = "String")]
    pub url: Url,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: KeycloakTls,
    /// Who looks after clients and realms there.
    pub login: KeycloakLogin,
    /// The module of this environment that is this server, when one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

/// How the connection to a Keycloak is protected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a map such as {mode: disable} or {ca: {secret: …, key: …}}"
)]
pub struct KeycloakTls {
    /// `verify-full` when absent.
    pub mode: KeycloakTlsMode,
    /// The certificate authority, PEM; the system's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretRef>,
}

/// How the connection to a Keycloak is protected, by libpq's names. The modes that verify nothing do not exist here:
/// client secrets travel both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeycloakTlsMode {
    /// Not at all: for a server beside us, or behind a mesh that encrypts.
    Disable,
    /// Encrypted, the server's certificate and name are verified.
    #[default]
    VerifyFull,
}

/// A service account: a client of Keycloak that logs in with its own secret (the client credentials grant, RFC 6749
/// section 4.4). No person's password is ever used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeycloakLogin {
    /// The realm it logs in to; `master` when absent. An account of another realm can look after that realm only.
    #[serde(default = "master")]
    pub realm: String,
    /// Its client id.
    pub client: String,
    /// Its secret.
    pub secret: SecretRef,
}

fn master() -> String {
    "master".to_owned()
}

/// A realm, declared under its name on the server. It is made when it is absent, together with the first client in it;
/// of one that is there only roles are added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Realm {
    /// The server it is on: a name under `keycloak` or `uses.keycloak` of this fragment.
    pub keycloak: String,
    /// Roles of the realm. Missing ones are added, others stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// A client of a realm: an application that lets people log in, or that logs in itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The server it is on: a name under `keycloak` or `uses.keycloak` of this fragment.
    pub keycloak: String,
    /// The realm it is in; made first when a document declares it, else somebody else makes it.
    pub realm: String,
    /// Its client id; the key it is declared under when absent. No naming template applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Somebody else makes it: it is only looked at, and nothing but `mandatory` may be said about it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// Whether an external client has to be there; true when absent. One that need not is ready when it is absent too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandatory: Option<bool>,
    /// Where its secret comes from.
    #[serde(default)]
    pub truth: Truth,
    /// What is done with a client of this id that is there and that Rollcall did not make.
    #[serde(default)]
    pub existing: Existing,
    /// With `truth: cluster`, the value its secret is made to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// It has no secret: an application in a browser or on a telephone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
    /// Where logins may lead back to: addresses, or paths, which may end with `*`. Exactly these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<String>,
    /// Which origins may call from a browser (CORS); exactly these. `+` is those of `redirect_uris`, and what is taken
    /// when there are some and this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_origins: Option<Vec<String>>,
    /// People log in by the authorization code flow; when absent, whether there are `redirect_uris`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_flow: Option<bool>,
    /// It logs in by itself; when absent, whether there are `service_account_roles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<bool>,
    /// It may exchange a person's password for a token; false when absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct_access: bool,
    /// Roles of the client. Missing ones are added, others stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Protocol mappers, by their names: what its tokens say. Declared ones are made so, others stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mappers: BTreeMap<String, Mapper>,
    /// Roles its service account has. Missing ones are added, others stay.
    #[serde(default, skip_serializing_if = "ServiceAccountRoles::is_empty")]
    pub service_account_roles: ServiceAccountRoles,
}

/// A protocol mapper of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapper {
    /// Which mapper, by Keycloak's name, for example `oidc-audience-mapper`.
    pub kind: String,
    /// Its configuration, by Keycloak's names, for example `included.client.audience`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// Where a client's secret comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    /// From Keycloak, which makes it; Secrets may copy it and follow it.
    #[default]
    Keycloak,
    /// From the Secret that `secret` names; it is written into Keycloak.
    Cluster,
}

/// What is done with a client that is there and that Rollcall did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// It stays as it is; what differs is said.
    #[default]
    Keep,
    /// It is taken over and made as declared.
    Update,
}

/// Roles of a service account.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as {realm: […], clients: {other: […]}}")]
pub struct ServiceAccountRoles {
    /// Roles of the realm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub realm: Vec<String>,
    /// Roles of clients of the same realm, by their client ids.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clients: BTreeMap<String, Vec<String>>,
}

impl ServiceAccountRoles {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == ServiceAccountRoles::default()
    }
}

impl Client {
    /// Its client id, declared under the key `key`.
    pub fn id<'a>(&'a self, key: &'a str) -> &'a str {
        self.client_id.as_deref().unwrap_or(key)
    }

    /// Whether it has to be there although somebody else makes it.
    pub fn is_mandatory(&self) -> bool {
        self.mandatory.unwrap_or(true)
    }

    /// Whether people log in by the authorization code flow.
    pub fn has_standard_flow(&self) -> bool {
        self.standard_flow.unwrap_or(!self.redirect_uris.is_empty())
    }

    /// Whether it logs in by itself.
    pub fn has_service_account(&self) -> bool {
        self.service_account.unwrap_or(!self.service_account_roles.is_empty())
    }

    /// Which origins may call from a browser.
    pub fn origins(&self) -> Vec<String> {
        match &self.web_origins {
            Some(origins) => origins.clone(),
            None if self.redirect_uris.is_empty() => Vec::new(),
            None => vec!["+".to_owned()],
        }
    }
}
