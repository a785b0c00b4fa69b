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
/// So many steps of one fragment, when nothing is said.
const STEPS: u16 = 64;

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
    /// Which of their service accounts: a `name` is the account of that name in each of these namespaces, `namespace/name` that of one
    /// of them. All of them when no rule about a fragment names any; a rule without them beside one with them widens what those may have.
    /// Whoever may start pods in a namespace may give them any of its accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<BTreeSet<String>>,
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
    /// How many steps each fragment may have in the ledger, those among them that it does not declare any more; 64 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u16>,
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

    /// How many steps a fragment may have in the ledger.
    pub fn steps(&self) -> usize {
        self.steps.unwrap_or(STEPS).into()
    }

    /// Whether a service account may ask for a fragment that the rule is about. Where accounts are named an account of another namespace
    /// than the fragment's is none of them.
    pub fn lets_ask(&self, fragment: &FragmentName, namespace: &str, account: &str) -> bool {
        let Some(accounts) = &self.accounts else { return true };
        fragment.namespace == namespace
            && accounts.iter().any(|named| match named.split_once('/') {
                Some(named) => named == (namespace, account),
                None => named == account,
            })
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
            (
                server(json!([{"namespaces": ["shop"], "accounts": []}])),
                json!({}),
                "delegate.0.accounts: is empty, so nobody may ask; name",
            ),
            (
                server(json!([{"namespaces": ["shop"], "accounts": ["shop/Web"]}])),
                json!({}),
                "`shop/Web` is no service account",
            ),
            (
                server(json!([{"namespaces": ["shop"], "accounts": ["web/shop/x"]}])),
                json!({}),
                "`web/shop/x` is no service account",
            ),
            (
                server(json!([{"namespaces": ["shop"], "accounts": ["bank/web"]}])),
                json!({}),
                "`bank/web` is of a namespace that is not among `namespaces`",
            ),
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
        assert_eq!((rule(json!([])).databases, rule(json!([])).steps()), (8, 64));
    }

    #[test]
    fn accounts_are_those_of_the_fragments_own_namespace() {
        let shop = FragmentName { name: "web".to_owned(), namespace: "shop".to_owned() };
        let rule = |accounts: Value| -> Delegate {
            let rule = json!({"namespaces": ["shop", "bank"], "accounts": accounts});
            serde_json::from_value(rule).unwrap()
        };
        for (accounts, namespace, account, lets) in [
            (json!(null), "shop", "default", true),
            (json!(["web"]), "shop", "web", true),
            (json!(["web"]), "shop", "default", false),
            (json!(["shop/web"]), "shop", "web", true),
            (json!(["bank/web"]), "shop", "web", false),
            // Who may speak for every namespace elsewhere is no account of this one.
            (json!(["web"]), "bank", "web", false),
            (json!(["bank/web"]), "bank", "web", false),
            (json!(["web.batch"]), "shop", "web.batch", true),
        ] {
            assert_eq!(
                rule(accounts.clone()).lets_ask(&shop, namespace, account),
                lets,
                "{accounts} {account}"
            );
        }
    }
}
