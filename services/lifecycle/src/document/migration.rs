//! Migrations in documents: SQL files that are brought into a database, each once and in order.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Database, Ddl, ObjectName, Roles, SecretRef};
use crate::hash::sha256_hex;
use crate::{Component, Kind, Need};

/// A migration: which files are brought into which database. Exactly one of `native`, `flyway` and `psql` says how they are
/// read and where it is written down that they ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// The database: a name under `databases` of some fragment. Files run as its owner, over the login that acts as it.
    pub database: String,
    /// Where the files are; all together are one set.
    pub sources: Vec<FileSource>,
    /// Rollcall's own dialect: versioned and repeatable files with a journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<NativeMigration>,
    /// Flyway's dialect: its names of files, its history table and its lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flyway: Option<FlywayMigration>,
    /// Scripts for psql, with their commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psql: Option<PsqlMigration>,
    /// What it needs besides its database and its ConfigMaps: databases, migrations, steps, Secrets or ConfigMaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
}

/// Where files are: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileSource {
    /// A folder where postgres-init runs: a mounted volume, or a folder of its image. All files below it are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// A ConfigMap, read by name: each key is a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configmap: Option<ObjectName>,
    /// The folder of the set that these files are put below; its top when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<String>,
}

fn public() -> String {
    "public".to_owned()
}

fn is_public(schema: &String) -> bool {
    schema == "public"
}

fn history() -> String {
    "rollcall_history".to_owned()
}

fn is_history(table: &String) -> bool {
    table == "rollcall_history"
}

/// How files of Rollcall's own dialect are run: `V<version>__<description>.sql` once and in order, `R__<description>.sql` when
/// they changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NativeMigration {
    /// The schema that names without one are looked up in first, and where the journal is; `public` when absent.
    #[serde(skip_serializing_if = "is_public")]
    pub schema: String,
    /// The journal's table; `rollcall_history` when absent.
    #[serde(skip_serializing_if = "is_history")]
    pub table: String,
    /// Folders of the sources; all of them when absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<String>,
    /// Where nothing is written down yet, everything up to this version is taken to be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// A version lower than the highest that has run is run all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_order: bool,
    /// What has run and has no file any more is no error.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_missing: bool,
    /// The files that may destroy what was there before.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allow_destructive: BTreeSet<String>,
}

impl Default for NativeMigration {
    fn default() -> Self {
        NativeMigration {
            schema: public(),
            table: history(),
            locations: Vec::new(),
            baseline: None,
            out_of_order: false,
            ignore_missing: false,
            allow_destructive: BTreeSet::new(),
        }
    }
}

/// What Flyway's own settings of these names say, with Flyway's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "Flyway's settings, one to one")]
pub struct FlywayMigration {
    /// The history table; `flyway_schema_history` when absent.
    pub table: String,
    /// The schemas that are migrated, each with its own history; `public` when absent.
    pub schemas: Vec<String>,
    /// Names are looked up in the schema alone, as a URL with `?currentSchema=` makes it; otherwise in it first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub current_schema: bool,
    /// Folders of the sources, as `filesystem:/flyway/sql` or `sql`; all of them when absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<String>,
    /// A schema that holds something and has no history is taken to be at `baseline_version`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub baseline_on_migrate: bool,
    /// That version; 1 when absent.
    pub baseline_version: String,
    /// A version lower than the highest that has run is run all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_order: bool,
    /// What has run and has no file any more is no error.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_missing: bool,
    /// A schema that is not there is made; yes when absent.
    pub create_schemas: bool,
    /// What stands for `${name}`. Never a secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub placeholders: BTreeMap<String, String>,
    /// `${…}` is replaced; yes when absent.
    pub placeholder_replacement: bool,
    /// Nothing above this version is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The files that may destroy what was there before, by the names their history has.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allow_destructive: BTreeSet<String>,
}

impl Default for FlywayMigration {
    fn default() -> Self {
        FlywayMigration {
            table: "flyway_schema_history".to_owned(),
            schemas: vec![public()],
            current_schema: false,
            locations: Vec::new(),
            baseline_on_migrate: false,
            baseline_version: "1".to_owned(),
            out_of_order: false,
            ignore_missing: false,
            create_schemas: true,
            placeholders: BTreeMap::new(),
            placeholder_replacement: true,
            target: None,
            allow_destructive: BTreeSet::new(),
        }
    }
}

/// How scripts for psql are run. They fill a database that `databases` declares: what would make or drop the database and its
/// roles is not among them, and `\c` leads only to databases that are named here, always as the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PsqlMigration {
    /// The folder of the sources that scripts are started in; its top when absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub folder: String,
    /// What makes it where nothing is there yet, in this order: paths in that folder.
    pub scripts: Vec<String>,
    /// The version that is wanted, and that those scripts make.
    pub version: String,
    /// The schema that they fill: where it holds tables, they have run. `public` when absent.
    #[serde(default = "public", skip_serializing_if = "is_public")]
    pub schema: String,
    /// The folder of the sources with upgrades and rollbacks, as `1.1_to_1.2_upgrade.sql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrades: Option<String>,
    /// What runs before an upgrade, by that one's path: scripts, each in a database of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<String, Vec<Preparation>>,
    /// Where the schema holds tables and nothing is written down, it is taken to be at this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// A newer version may be rolled back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollback: bool,
    /// Other databases of the documents, on the same server, that `\c` may lead to.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub connects: BTreeSet<String>,
    /// What stands for `:name`. Never a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// What stands for `:name` and is a secret: no statement that holds it is shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretRef>,
    /// The scripts that may destroy what was there before.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allow_destructive: BTreeSet<String>,
}

/// A script that runs before an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// The database it begins in: the migration's own or one of its `connects`.
    pub database: String,
    /// Its path in the sources.
    pub script: String,
}

impl Migration {
    /// The databases that its files are let into: its own first.
    pub fn databases(&self) -> impl Iterator<Item = Component> {
        let connects = self.psql.iter().flat_map(|psql| &psql.connects);
        std::iter::once(&self.database).chain(connects).map(|name| Component::new(Kind::Database, name))
    }

    /// What is read for it besides passwords of databases, to a fragment in `namespace`: the ConfigMaps with its files, and the
    /// Secrets of its variables.
    pub fn reads(&self, namespace: &str) -> BTreeSet<Component> {
        let maps = self.sources.iter().filter_map(|source| source.configmap.as_ref());
        let maps = maps.map(|name| name.configmap(namespace));
        let secrets = self.secrets().map(|reference| reference.secret.secret(namespace));
        maps.chain(secrets).collect()
    }

    /// The secrets that stand for variables.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        self.psql.iter().flat_map(|psql| psql.secrets.values())
    }

    /// What is asked for, as a hash: whoever finds it recorded as done knows that this very document was followed. Of files
    /// in a folder or a ConfigMap it says nothing.
    pub fn hash(&self) -> String {
        // Through `Value`, whose maps are sorted; these types always are JSON.
        let json = serde_json::to_value(self).map(|value| value.to_string()).unwrap_or_default();
        sha256_hex(&["migration v1", &json])
    }
}

impl Database {
    /// The role over whose login its migrations run, because it acts as the owner, and its password; none where nobody does.
    pub fn migrates(&self) -> Option<(&str, &SecretRef)> {
        let Roles { app, migrator, .. } = &self.roles;
        let migrator = migrator.as_ref().map(|migrator| (migrator.name.as_str(), &migrator.password));
        migrator.or_else(|| (app.ddl == Ddl::AsOwner).then_some((app.name.as_str(), &app.password)))
    }
}
