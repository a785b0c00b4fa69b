//! Steps in documents: commands that are run once in an environment, and how it is known that they were.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hash::sha256_hex;
use crate::{Component, Kind, Need};

/// A piece of work that is done once: `postgres-init step NAME -- COMMAND` does it and writes it down in the ledger of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// The server whose ledger it is written down in, a name under `postgres` of some fragment; either this or `database`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The database it works on, a name under `databases` of some fragment: it is written down on that one's server, and done
    /// anew only when the database was made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What shows that it was done before there was a ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<StepEvidence>,
    /// It may be run again after a run that ended in the middle or failed. Otherwise a person decides.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
    /// What happens when it was done with other inputs (command, arguments, declared files and variables).
    #[serde(skip_serializing_if = "OnChange::is_default")]
    pub on_change: OnChange,
    /// What it needs besides its server or database: databases, migrations, steps, Secrets or ConfigMaps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
}

/// A question to a database whose answer shows that a step was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepEvidence {
    /// The database, a name under `databases` of some fragment. It is asked as the login that acts as its owner, or as its app.
    pub database: String,
    /// A query of one boolean: true when the step was done.
    pub sql: String,
}

/// What happens when a step was done with other inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// It is refused, until a person says whether it runs again.
    #[default]
    Refuse,
    /// It stays done.
    Ignore,
    /// It runs again.
    Rerun,
}

impl OnChange {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_default(&self) -> bool {
        *self == OnChange::default()
    }
}

impl Step {
    /// Where it is written down, or what it works on.
    pub fn place(&self) -> Option<Component> {
        match (&self.database, &self.server) {
            (Some(database), None) => Some(Component::new(Kind::Database, database)),
            (None, Some(server)) => Some(Component::new(Kind::Postgres, server)),
            _ => None,
        }
    }

    /// What is asked for, as a hash over where it is written down and what shows it. How often it may run is no part of it.
    pub fn hash(&self) -> String {
        let place = self.place().map(|place| place.to_string()).unwrap_or_default();
        sha256_hex(&["step v1", &place])
    }
}
