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
/// What is done with which object, by the Role in which it stands.
pub(super) type Rights = BTreeMap<(Part, Object), Verbs>;
/// The names of objects of one kind with which the same is done: the rules of a Role.
type Rules<'a> = BTreeMap<(&'static str, &'static str, Verbs), BTreeSet<&'a str>>;

/// Which of a process's Roles in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Events,
    Read,
    Workloads,
    Write,
}

/// An object as Roles name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    pub(super) namespace: String,
    /// The API group; empty for Kubernetes' first one.
    pub(super) group: &'static str,
    /// In the plural.
    pub(super) resource: &'static str,
    /// Its name; none for what is made under names that nobody knows before.
    pub(super) name: Option<String>,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Part::Events => "events",
            Part::Read => "read",
            Part::Workloads => "workloads",
            Part::Write => "write",
        }
    }
}

/// The right to write Events in a namespace.
pub(super) fn events(namespace: &str) -> ((Part, Object), Verbs) {
    let (group, resource) = ("events.k8s.io", "events");
    ((Part::Events, Object { namespace: namespace.to_owned(), group, resource, name: None }), &["create"])
}

/// The right to do this with a Secret or ConfigMap.
pub(super) fn right(component: &Component, verbs: Verbs) -> ((Part, Object), Verbs) {
    let looks = verbs.iter().all(|verb| ["get", "watch"].contains(verb));
    let object = Object {
        namespace: component.namespace().unwrap_or_default().to_owned(),
        group: "",
        resource: if component.kind() == Kind::ConfigMap { "configmaps" } else { "secrets" },
        name: Some(component.name().to_owned()),
    };
    ((if looks { Part::Read } else { Part::Write }, object), verbs)
}

const GROUP: &str = "rbac.authorization.k8s.io";

/// The Roles and RoleBindings of a process, in the order of their namespaces.
pub(super) fn manifests(
    process: &str,
    environment: &Identity,
    rights: &Rights,
    account: &Account,
) -> Vec<Value> {
    let mut roles: BTreeMap<(&str, Part), Rules<'_>> = BTreeMap::new();
    for ((part, object), verbs) in rights {
        let of_place = roles.entry((&object.namespace, *part)).or_default();
        let names = of_place.entry((object.group, object.resource, verbs)).or_default();
        names.extend(object.name.as_deref());
    }
    // Environments may have one name and share a namespace.
    let uid = environment.uid.simple().to_string();
    let prefix = format!("rollcall-{process}-{}-{}", environment.name, &uid[uid.len() - 8..]);
    let pair = |((namespace, part), rules): ((&str, Part), _)| {
        let name = format!("{prefix}-{}", part.as_str());
        [role(&name, namespace, &rules), binding(&name, namespace, account)]
    };
    roles.into_iter().flat_map(pair).collect()
}

fn role(name: &str, namespace: &str, rules: &Rules<'_>) -> Value {
    let rule = |((group, resource, verbs), names): (&(&str, &str, Verbs), &BTreeSet<&str>)| {
        let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
        if !names.is_empty() {
            rule["resourceNames"] = json!(names);
        }
        rule
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
        let object = |text: &str, verbs: Verbs| right(&text.parse::<Component>().unwrap(), verbs);
        let web = Object {
            namespace: "app".to_owned(),
            group: "apps",
            resource: "deployments",
            name: Some("web".to_owned()),
        };
        let rights: Rights = [
            object("secret/base/origin", &["get", "watch"]),
            object("secret/app/b", &["get", "patch"]),
            object("secret/app/a", &["get", "patch"]),
            object("configmap/app/a", &["get", "patch"]),
            object("secret/app/gone", &["get", "patch", "delete"]),
            object("secret/app/origin", &["get"]),
            ((Part::Workloads, web), &["get", "patch"]),
            events("app"),
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
                "Role app rollcall-secret-syncer-dev-000000ab-events: [create] [events] null",
                "RoleBinding app rollcall-secret-syncer-dev-000000ab-events: ",
                "Role app rollcall-secret-syncer-dev-000000ab-read: [get] [secrets] [origin]",
                "RoleBinding app rollcall-secret-syncer-dev-000000ab-read: ",
                "Role app rollcall-secret-syncer-dev-000000ab-workloads: [get,patch] [deployments] [web]",
                "RoleBinding app rollcall-secret-syncer-dev-000000ab-workloads: ",
                "Role app rollcall-secret-syncer-dev-000000ab-write: [get,patch] [configmaps] [a]; \
                 [get,patch] [secrets] [a,b]; [get,patch,delete] [secrets] [gone]",
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
