//! Documents: what an environment is made of. One document is one fragment, usually one chart's.
//!
//! These types are the document format itself: strict (an unknown key is an error), the same in YAML and JSON,
//! and the source of the JSON Schema. Reading files is chassis's part; here is what they mean.

mod check;
mod configmap;
mod credential;
mod database;
mod delegate;
mod escrow;
mod extension;
mod follow;
mod generate;
mod items;
mod keycloak;
mod keycloak_check;
mod keys;
mod merge;
mod migration;
mod naming;
mod object;
mod ready;
mod secret;
mod selector;
mod servers;
mod setting;
mod step;
mod union;
mod vault;
mod whose;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use check::{check_fragment, forbidden_type};
pub use configmap::ConfigMap;
pub use database::{
    Database, Ddl, Locale, LocaleProvider, LoginRole, MigratorRole, OverlapRole, OwnerRole, Reader,
    ReadersRole, Roles, Schema, SchemaOwner,
};
pub use delegate::Delegate;
pub use escrow::is_age_recipient;
pub use extension::Extension;
pub use follow::{Copy, Origin, Piece, SourceGone, Template, ValueRef, pieces};
pub use generate::{
    Algorithm, AltName, COMMON_NAME_MAX, Ca, CaRef, Certificate, Encoding, Generator, Hmac, Password,
    PrivateKey, Usage, is_common_name,
};
pub use items::{Module, Replication, Topic};
pub use keycloak::{
    Client, Existing, Keycloak, KeycloakLogin, KeycloakTls, KeycloakTlsMode, Mapper, Realm,
    ServiceAccountRoles, Truth,
};
pub use keys::ModuleKeys;
pub use merge::{Declared, Environment, Merged, Problem, Source};
pub use migration::{FileSource, FlywayMigration, Migration, NativeMigration, Preparation, PsqlMigration};
pub use naming::{Naming, NamingError, Place, folded, observer_role};
pub use object::{ObjectName, SecretKey, SecretRef};
pub use ready::{GrpcReady, HttpReady, KeycloakReady, Ready, TcpReady};
pub use secret::{Rotate, Secret};
pub use selector::{NamespaceSelector, Namespaces};
pub use servers::{Admin, Kafka, KafkaTls, Observer, Postgres, Tls, TlsMode};
pub use setting::{forbidden_setting, setting_items};
pub use step::{OnChange, Step, StepEvidence};
pub use union::check_union;
pub use vault::{AppRoleLogin, KubernetesLogin, Vault, VaultLogin, VaultTls, is_vault_path};
pub use workload::{Restart, RestartMode, Workload, WorkloadKind, WorkloadName};

use crate::hash::sha256_hex;

/// The version of the document format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Version {
    /// The first and only one.
    #[serde(rename = "v1")]
    V1,
}

/// One document: a fragment of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of the format: `v1`.
    pub rollcall: Version,
    /// Which environment this belongs to; the same in all its fragments.
    pub environment: Identity,
    /// Which part of it this is.
    pub fragment: FragmentName,
    /// How carefully changes are made.
    #[serde(default)]
    pub policy: Policy,
    /// How names in documents become names on servers; the same in all fragments of an environment.
    #[serde(default)]
    pub naming: Naming,
    /// `PostgreSQL` servers this fragment declares.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub postgres: BTreeMap<String, Postgres>,
    /// Kafka clusters this fragment declares.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kafka: BTreeMap<String, Kafka>,
    /// Vaults that this fragment reads Secrets from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vault: BTreeMap<String, Vault>,
    /// Keycloak servers this fragment declares.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keycloak: BTreeMap<String, Keycloak>,
    /// What other fragments make and how this one reaches it.
    #[serde(default, skip_serializing_if = "Uses::is_empty")]
    pub uses: Uses,
    /// Databases with their roles.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<String, Database>,
    /// Roles that read several databases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, Reader>,
    /// Migrations: SQL files that are brought into databases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub migrations: BTreeMap<String, Migration>,
    /// Steps: commands that are run once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, Step>,
    /// Secrets: generated, copied, or made by somebody else. Keys are `name` or `namespace/name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<ObjectName, Secret>,
    /// ConfigMaps: copied, bundled, or made by somebody else. Keys are `name` or `namespace/name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configmaps: BTreeMap<ObjectName, ConfigMap>,
    /// Kafka topics.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, Topic>,
    /// Realms of Keycloak servers, by their names there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub realms: BTreeMap<String, Realm>,
    /// Clients of those or other realms.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clients: BTreeMap<String, Client>,
    /// Things outside that somebody else runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, Ready>,
    /// Modules: what they need, and how to see that they are ready.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, Module>,
}

impl Document {
    /// The document as canonical JSON: keys in order, no white space. Equal documents give equal text.
    pub fn canonical_json(&self) -> Result<String, serde_json::Error> {
        // Through `Value`, whose maps are sorted.
        serde_json::to_string(&serde_json::to_value(self)?)
    }

    /// SHA-256 of [`canonical_json`](Self::canonical_json), lower-case hexadecimal.
    pub fn hash(&self) -> Result<String, serde_json::Error> {
        self.canonical_json().map(|json| sha256_hex(&[&json]))
    }

    /// The JSON Schema of documents, generated from these types (JSON Schema draft 2020-12).
    pub fn json_schema() -> schemars::Schema {
        schemars::schema_for!(Document)
    }

    /// Where names of this fragment stand, for naming templates.
    pub fn place(&self) -> Place<'_> {
        Place {
            environment: &self.environment.name,
            fragment: &self.fragment.name,
            namespace: &self.fragment.namespace,
        }
    }
}

/// Which environment: a name for people and a uid that is never reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// A DNS label, for example `openg2p-dev`.
    pub name: String,
    /// Minted once by `rollcall init` and kept across reinstalls.
    #[schemars(with = "String")]
    pub uid: Uuid,
}

/// Which fragment, and the namespace its modules and Secrets live in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FragmentName {
    /// A DNS label, unique in the environment; usually the chart's name.
    pub name: String,
    /// A DNS label.
    pub namespace: String,
}

/// How carefully changes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Say what would be done, or do it.
    pub mode: Mode,
    /// What a teardown does with what this fragment declares: absent, it stays.
    pub on_delete: OnDelete,
}

impl Policy {
    /// What a teardown does with a thing of this fragment that says this of itself.
    pub fn on_delete_of(&self, own: Option<OnDelete>) -> OnDelete {
        own.unwrap_or(self.on_delete)
    }
}

/// Say what would be done, or do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Only say what would be done, or who would wait.
    Report,
    /// Do it.
    #[default]
    Enforce,
}

/// What a teardown does with a thing. Nothing is ever deleted because it is no longer declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// It stays, with its mark.
    #[default]
    Retain,
    /// It is deleted, with the data in it, where the command says so too.
    Delete,
}

/// What other fragments make and how this one reaches it. Never an administrator's credential.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Uses {
    /// `PostgreSQL` servers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub postgres: BTreeMap<String, Postgres>,
    /// Kafka clusters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kafka: BTreeMap<String, Kafka>,
    /// Keycloak servers; the declaring fragment says how they are reached and who logs in.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub keycloak: BTreeSet<String>,
    /// Modules, with how this fragment sees that they are ready.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, UsedModule>,
}

impl Uses {
    fn is_empty(&self) -> bool {
        *self == Uses::default()
    }
}

/// A module of another fragment as this one sees it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UsedModule {
    /// How this fragment sees that it is ready; what the declaring fragment says when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
}
