//! Databases in documents: their roles, schemas, extensions and settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Extension, OnDelete, SecretRef};

/// A database with its roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The server it is on: a name under `postgres` or `uses.postgres` of this fragment.
    pub server: String,
    /// Its name before the naming template; the key it is declared under when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who owns it and who logs in to it.
    pub roles: Roles,
    /// The encoding it is made with, by `PostgreSQL`'s name; UTF8 when absent. One that exists is never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// The locale it is made with; the server's own when absent. One that exists is never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<Locale>,
    /// How many sessions it takes at once, superusers' not counted; left as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<u16>,
    /// What every session in it begins with (ALTER DATABASE … SET). What is not named here is left as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Roles beside those of this environment that may connect, by their names on the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect_also: Vec<String>,
    /// Schemas beside `public`, by their names in the database.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<String, Schema>,
    /// Extensions, by the names the server knows: a name, or `{name, version, schema}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<Extension>,
    /// What a teardown does with it, with all that is in it and its roles; what the fragment's `policy` says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<OnDelete>,
}

impl Database {
    /// A database of which nothing but its server and roles is said.
    pub fn new(server: impl Into<String>, roles: Roles) -> Self {
        Database {
            server: server.into(),
            name: None,
            roles,
            encoding: None,
            locale: None,
            connection_limit: None,
            settings: BTreeMap::new(),
            connect_also: Vec::new(),
            schemas: BTreeMap::new(),
            extensions: Vec::new(),
            on_delete: None,
        }
    }

    /// Its name before the naming template, declared under the key `key`.
    pub fn physical_base<'a>(&'a self, key: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(key)
    }

    /// Its owner's name before the naming template, declared under the key `key`.
    pub fn owner_base(&self, key: &str) -> String {
        match &self.roles.owner {
            Some(owner) => owner.name.clone(),
            None => format!("{}_owner", self.physical_base(key)),
        }
    }

    /// The name of the group of its readers before the naming template, where it has one.
    pub fn readers_base(&self, key: &str) -> Option<String> {
        let readers = self.roles.readers.as_ref()?;
        Some(readers.name.clone().unwrap_or_else(|| format!("{}_readers", self.physical_base(key))))
    }

    /// Every role of it, with its key under `roles` and its name before the naming template.
    pub fn role_bases(&self, key: &str) -> Vec<(&'static str, String)> {
        let Roles { app, migrator, .. } = &self.roles;
        let overlap = app.overlap.iter().map(|other| ("app.overlap", other.name.clone()));
        let migrator = migrator.iter().map(|migrator| ("migrator", migrator.name.clone()));
        let readers = self.readers_base(key).into_iter().map(|name| ("readers", name));
        let first = [("app", app.name.clone()), ("owner", self.owner_base(key))];
        first.into_iter().chain(overlap).chain(migrator).chain(readers).collect()
    }
}

/// Who owns a database and who logs in to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// The owner, which nobody can log in as; named `<database>_owner` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerRole>,
    /// The role the module logs in with.
    pub app: LoginRole,
    /// The role that changes the schema, for a module whose own role does not: it acts as the owner in this database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrator: Option<MigratorRole>,
    /// A group that nobody logs in as and whose members read everything in this database: its tables and sequences, those
    /// that do not exist yet included. A right that was taken from the group by hand is given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readers: Option<ReadersRole>,
}

/// A role that owns a database; NOLOGIN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnerRole {
    /// Its name before the naming template.
    pub name: String,
}

/// A group whose members read a database; NOLOGIN.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as {} or {name: registry_readers}")]
pub struct ReadersRole {
    /// Its name before the naming template; `<database>_readers` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A role that a module logs in with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRole {
    /// Its name before the naming template.
    pub name: String,
    /// Its password.
    pub password: SecretRef,
    /// Whether it may change the schema.
    #[serde(default)]
    pub ddl: Ddl,
    /// How many sessions it may have at once; left as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<u16>,
    /// What each of its sessions in this database begins with. What is not named here is left as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Whether it may replicate (REPLICATION): read every row of each database it may connect to, and the whole server where
    /// `pg_hba.conf` lets it. Refused where that would show it another environment's data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replication: bool,
    /// Whether it may make databases (CREATEDB), which are its own and which nobody looks after. Refused where a database of another
    /// environment is marked as a template, which it could copy. With `ddl: as-owner` it has to say SET ROLE NONE first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create_db: bool,
    /// Whether policies of rows do not count for it (BYPASSRLS), in each database it may connect to. Refused where another
    /// environment's lets it in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bypass_rls: bool,
    /// A second role with the same rights, so that a password can be changed while pods that know the old one still start:
    /// a server knows one password of a role only. Change the password of the one that no pod uses, let the module log in
    /// with that one, and at the next change the other way round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<OverlapRole>,
}

/// A second role that a module may log in with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverlapRole {
    /// Its name before the naming template.
    pub name: String,
    /// Its password.
    pub password: SecretRef,
}

/// A role that changes a database's schema: it acts as the owner in this database, so what it creates belongs to the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigratorRole {
    /// Its name before the naming template.
    pub name: String,
    /// Its password.
    pub password: SecretRef,
    /// How many sessions it may have at once; left as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<u16>,
    /// What each of its sessions in this database begins with. What is not named here is left as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// Whether a login role may change its database's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ddl {
    /// It may only use what the owner grants.
    #[default]
    None,
    /// It acts as the owner in this database: what it creates belongs to the owner.
    AsOwner,
}

/// A role that reads several databases of this environment: it logs in, and is a member of the readers of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// The server it is on: a name under `postgres` or `uses.postgres` of this fragment.
    pub server: String,
    /// Its name before the naming template; the key it is declared under when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its password.
    pub password: SecretRef,
    /// The databases it reads, by the keys they are declared under in this or another fragment. Each has `roles.readers`, and
    /// with that its fragment agrees.
    pub reads: Vec<String>,
    /// How many sessions it may have at once; left as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<u16>,
    /// What each of its sessions begins with. What is not named here is left as it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// As for the role a module logs in with: logical replication of the databases it reads. Refused where that would show it
    /// another environment's data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replication: bool,
    /// As for the role a module logs in with: whether it may make databases (CREATEDB).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create_db: bool,
    /// As for the role a module logs in with: whether policies of rows do not count for it (BYPASSRLS).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bypass_rls: bool,
    /// What a teardown does with it; what the fragment's `policy` says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<OnDelete>,
}

impl Reader {
    /// Its name before the naming template, declared under the key `key`.
    pub fn physical_base<'a>(&'a self, key: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(key)
    }
}

/// A schema of a database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as {} or {owner: app}")]
pub struct Schema {
    /// Which of the database's roles it is made for. One that exists is never given to another.
    pub owner: SchemaOwner,
}

/// Which role of a database owns a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SchemaOwner {
    /// The database's owner.
    #[default]
    Owner,
    /// The role that the module logs in with, which makes objects of its own there.
    App,
}

/// The locale of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Locale {
    /// Whose rules they are.
    pub provider: LocaleProvider,
    /// Its name as the provider knows it: `en_US.UTF-8` (libc), `en-US` (icu), `C.UTF-8` (builtin).
    pub name: String,
    /// The libc locale by which characters are classified (`LC_CTYPE`), where it is not `name`. For libc only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctype: Option<String>,
}

/// Whose rules a locale has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LocaleProvider {
    /// The operating system's C library.
    Libc,
    /// ICU, since `PostgreSQL` 15.
    Icu,
    /// `PostgreSQL` itself, since 17: the same on every operating system, for ever.
    Builtin,
}
