//! The rights that secret-syncer needs, worked out from what it is to do: names and nothing but names.
//!
//! Reading and writing are Roles of their own, so that the owner of a namespace from which something is copied sees, and
//! applies himself, exactly what he gives away. Creating can be limited by name because everything is created by
//! server-side apply, whose request carries the name.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::{Component, Kind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::spec::{Origin, Spec};
use crate::world::record_name;

/// A service account, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Read,
    Write,
    WriteAndDelete,
}

/// What is done with which objects of one kind.
type Rules = BTreeMap<(Kind, Use), BTreeSet<String>>;

impl Use {
    fn verbs(self) -> &'static [&'static str] {
        match self {
            Use::Read => &["get", "watch"],
            Use::Write => &["get", "watch", "create", "patch"],
            Use::WriteAndDelete => &["get", "watch", "create", "patch", "delete"],
        }
    }

    fn role(self) -> &'static str {
        if self == Use::Read { "read" } else { "write" }
    }
}

/// The Roles and RoleBindings that let an account make these objects, in the order of their namespaces; `also` are Secrets
/// that it reads besides, to log in somewhere.
pub fn manifests(specs: &[Spec], also: &BTreeSet<Component>, account: &Account) -> Vec<Value> {
    let Some(owner) = specs.first().map(|spec| &spec.owner) else { return Vec::new() };
    let mut roles: BTreeMap<(String, &'static str), Rules> = BTreeMap::new();
    for (object, what) in uses(specs, also, owner.environment) {
        let role = (object.namespace().unwrap_or_default().to_owned(), what.role());
        roles
            .entry(role)
            .or_default()
            .entry((object.kind(), what))
            .or_default()
            .insert(object.name().to_owned());
    }
    let manifests = |((namespace, role), rules): (&(String, &'static str), _)| {
        // Environments may have one name and share a namespace.
        let uid = owner.environment.simple().to_string();
        let name = format!("rollcall-secret-syncer-{}-{}-{role}", owner.name, &uid[uid.len() - 8..]);
        [self::role(&name, namespace, rules), binding(&name, namespace, account)]
    };
    roles.iter().flat_map(manifests).collect()
}

/// What is done with which object: the most that any spec asks for.
fn uses(specs: &[Spec], also: &BTreeSet<Component>, environment: Uuid) -> BTreeMap<Component, Use> {
    let mut uses: BTreeMap<Component, Use> = BTreeMap::new();
    let mut ask = |object: Component, what: Use| {
        let asked = uses.entry(object).or_insert(what);
        *asked = (*asked).max(what);
    };
    for secret in also {
        ask(secret.clone(), Use::Read);
    }
    for spec in specs {
        spec.read_objects().for_each(|source| ask(source, Use::Read));
        let what = match &spec.origin {
            Origin::External => Use::Read,
            Origin::Generated(_) => {
                let namespace = spec.object.namespace().unwrap_or_default();
                ask(Component::namespaced(Kind::ConfigMap, namespace, record_name(environment)), Use::Write);
                Use::Write
            }
            Origin::Followed(followed) if followed.source_gone == lifecycle::document::SourceGone::Delete => {
                Use::WriteAndDelete
            }
            Origin::Followed(_) => Use::Write,
        };
        ask(spec.object.clone(), what);
    }
    uses
}

fn role(name: &str, namespace: &str, rules: &Rules) -> Value {
    let rule = |((kind, what), names): (&(Kind, Use), &BTreeSet<String>)| {
        let resource = if *kind == Kind::ConfigMap { "configmaps" } else { "secrets" };
        json!({"apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": what.verbs()})
    };
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "rules": rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

/// The RoleBinding that gives an account a Role.
pub(crate) fn binding(name: &str, namespace: &str, account: &Account) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}],
    })
}
