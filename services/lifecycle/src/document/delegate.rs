//! Delegation in documents: whose fragments a server's provisioner makes things for when a module asks over the network.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FragmentName;

/// So many databases a namespace may have when nothing is said.
const DATABASES: u16 = 8;

/// So many roles that read several databases, when nothing is said.
const ROLES: u16 = 16;
/// So many fragments, when nothing is said.
const FRAGMENTS: u16 = 16;

fn databases() -> u16 {
    DATABASES
}

fn roles() -> u16 {
    ROLES
}

fn fragment_count() -> u16 {
    FRAGMENTS
}

/// A rule about who may have databases made by asking `postgres-init serve`, without a credential of the server. What no rule
/// allows is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delegate {
    /// The namespaces whose service accounts may ask, each for fragments of its own.
    pub namespaces: BTreeSet<String>,
    /// The fragments they may ask for; any of their own when empty. What was once made for a fragment goes only to one that is named
    /// here.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub fragments: BTreeSet<String>,
    /// How many databases each of these namespaces may have on this server in this way, all its fragments together; 8 when absent.
    /// Those that were made count until they are dropped, also where no fragment declares them any more.
    #[serde(default = "databases")]
    pub databases: u16,
    /// How many roles that read several databases (`roles`), counted likewise; 16 when absent.
    #[serde(default = "roles")]
    pub roles: u16,
    /// How many fragments; 16 when absent.
    #[serde(default = "fragment_count")]
    pub fragment_count: u16,
    /// The extensions they may have made; none when empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub extensions: BTreeSet<String>,
    /// Whether their roles may replicate (REPLICATION).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replication: bool,
}

impl Delegate {
    /// Whether it is about a fragment.
    pub fn is_about(&self, fragment: &FragmentName) -> bool {
        self.namespaces.contains(&fragment.namespace)
            && (self.fragments.is_empty() || self.fragments.contains(&fragment.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::document::{Document, check_fragment};

    fn problems(postgres: &Value, uses: &Value) -> String {
        let document = json!({
            "rollcall": "v1", "environment": {"name": "dev", "uid": "00000000-0000-4000-8000-00000000000a"},
            "fragment": {"name": "base", "namespace": "dev"}, "postgres": postgres, "uses": {"postgres": uses},
        });
        let document: Document = serde_json::from_value(document).unwrap();
        let found = check_fragment(&document).into_iter();
        found.map(|(key, message)| format!("{key}: {message}")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn only_who_looks_after_a_server_delegates_and_says_to_whom() {
        let admin = json!({"user": "postgres", "password": {"secret": "pg", "key": "p"}});
        let server = |rules: Value| json!({"main": {"host": "db", "admin": admin, "delegate": rules}});
        let rule = json!([{"namespaces": ["shop"], "fragments": ["web"]}]);
        assert_eq!(problems(&server(rule.clone()), &json!({})), "");
        for (postgres, uses, says) in [
            (
                json!({}),
                json!({"main": {"host": "db", "delegate": rule}}),
                "uses.postgres.main.delegate: who may ask",
            ),
            (
                json!({"main": {"host": "db", "delegate": rule}}),
                json!({}),
                "postgres.main.delegate: needs `admin`",
            ),
            (server(json!([{"namespaces": []}])), json!({}), "postgres.main.delegate.0.namespaces: is empty"),
            (server(json!([{"namespaces": ["Shop*"]}])), json!({}), "`Shop*` is not a DNS label"),
        ] {
            let found = problems(&postgres, &uses);
            assert!(found.contains(says), "{says}: {found}");
        }
    }

    #[test]
    fn a_rule_is_about_its_namespaces_and_the_fragments_it_names() {
        let fragment = |name: &str, namespace: &str| FragmentName {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
        };
        let rule = |fragments: Value| -> Delegate {
            serde_json::from_value(json!({"namespaces": ["shop"], "fragments": fragments})).unwrap()
        };
        assert!(rule(json!([])).is_about(&fragment("web", "shop")));
        assert!(!rule(json!([])).is_about(&fragment("web", "bank")));
        assert!(rule(json!(["web"])).is_about(&fragment("web", "shop")));
        assert!(!rule(json!(["web"])).is_about(&fragment("till", "shop")));
        assert_eq!(rule(json!([])).databases, 8);
    }
}
