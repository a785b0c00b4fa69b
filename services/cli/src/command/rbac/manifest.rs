//! Roles and RoleBindings from what a process does with objects, each by name: the one place that writes them.
//!
//! Reading and changing are Roles of their own, so that the owner of a namespace from which something is only read sees, and
//! applies himself, exactly what he gives away.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::Identity;
use lifecycle::{Component, Kind};
use serde_json::{Value, json};

use super::Account;

/// What Kubernetes calls the things that may be done with an object.
pub(super) type Verbs = &'static [&'static str];
/// What is done with which object.
pub(super) type Rights = BTreeMap<Component, Verbs>;
/// The names of objects of one kind with which the same is done: the rules of a Role.
type Rules<'a> = BTreeMap<(Kind, Verbs), BTreeSet<&'a str>>;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The Roles and RoleBindings of a process, in the order of their namespaces.
pub(super) fn manifests(
    process: &str,
    environment: &Identity,
    rights: &Rights,
    account: &Account,
) -> Vec<Value> {
    let mut roles: BTreeMap<(&str, &str), Rules<'_>> = BTreeMap::new();
    for (object, verbs) in rights {
        let looks = verbs.iter().all(|verb| ["get", "watch"].contains(verb));
        let place = (object.namespace().unwrap_or_default(), if looks { "read" } else { "write" });
        let of_place = roles.entry(place).or_default();
        of_place.entry((object.kind(), verbs)).or_default().insert(object.name());
    }
    // Environments may have one name and share a namespace.
    let uid = environment.uid.simple().to_string();
    let prefix = format!("rollcall-{process}-{}-{}", environment.name, &uid[uid.len() - 8..]);
    let pair = |((namespace, what), rules): ((&str, &str), _)| {
        let name = format!("{prefix}-{what}");
        [role(&name, namespace, &rules), binding(&name, namespace, account)]
    };
    roles.into_iter().flat_map(pair).collect()
}

fn role(name: &str, namespace: &str, rules: &Rules<'_>) -> Value {
    let rule = |((kind, verbs), names): (&(Kind, Verbs), &BTreeSet<&str>)| {
        let resource = if *kind == Kind::ConfigMap { "configmaps" } else { "secrets" };
        json!({"apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": verbs})
    };
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn binding(name: &str, namespace: &str, account: &Account) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_has_a_role_for_what_is_read_and_one_for_what_is_changed() {
        let object = |text: &str| text.parse::<Component>().unwrap();
        let rights: Rights = [
            (object("secret/base/origin"), &["get", "watch"][..]),
            (object("secret/app/b"), &["get", "patch"]),
            (object("secret/app/a"), &["get", "patch"]),
            (object("configmap/app/a"), &["get", "patch"]),
            (object("secret/app/gone"), &["get", "patch", "delete"]),
            (object("secret/app/origin"), &["get"]),
        ]
        .into();
        let identity = Identity { name: "dev".to_owned(), uid: uuid::Uuid::from_u128(0xAB) };
        let account = Account { namespace: "rollcall".to_owned(), name: "syncer".to_owned() };
        let all = manifests("secret-syncer", &identity, &rights, &account);
        let seen: Vec<String> = all
            .iter()
            .map(|object| {
                let metadata = &object["metadata"];
                let rules = object["rules"].as_array().cloned().unwrap_or_default();
                let rules: Vec<String> = rules
                    .iter()
                    .map(|rule| format!("{} {} {}", rule["verbs"], rule["resources"], rule["resourceNames"]))
                    .collect();
                format!(
                    "{} {} {}: {}",
                    object["kind"],
                    metadata["namespace"],
                    metadata["name"],
                    rules.join("; ")
                )
                .replace('"', "")
            })
            .collect();
        assert_eq!(
            seen,
            [
                "Role app rollcall-secret-syncer-dev-000000ab-read: [get] [secrets] [origin]",
                "RoleBinding app rollcall-secret-syncer-dev-000000ab-read: ",
                "Role app rollcall-secret-syncer-dev-000000ab-write: [get,patch] [secrets] [a,b]; \
                 [get,patch,delete] [secrets] [gone]; [get,patch] [configmaps] [a]",
                "RoleBinding app rollcall-secret-syncer-dev-000000ab-write: ",
                "Role base rollcall-secret-syncer-dev-000000ab-read: [get,watch] [secrets] [origin]",
                "RoleBinding base rollcall-secret-syncer-dev-000000ab-read: ",
            ]
        );
        assert_eq!(all[1]["roleRef"]["name"], all[0]["metadata"]["name"]);
        assert_eq!(
            all[1]["subjects"],
            json!([{"kind": "ServiceAccount", "name": "syncer", "namespace": "rollcall"}])
        );
    }
}
