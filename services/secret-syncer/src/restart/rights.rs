//! The rights that workloads are read and restarted with: a Role of their own in each namespace, so that its owner sees what may
//! be restarted.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::{Environment, Workload};
use serde_json::{Value, json};

use super::spec::specs;
use super::world::{name, record_name};
use crate::rbac::{Account, binding};
use crate::referenced;

/// The Roles and RoleBindings that let an account restart the workloads of restart sets, and read those from which modules take
/// their keys.
pub fn manifests(environment: &Environment, account: &Account) -> Vec<Value> {
    let identity = environment.identity();
    let uid = identity.uid.simple().to_string();
    let role = format!("rollcall-secret-syncer-{}-{}-workloads", identity.name, &uid[uid.len() - 8..]);
    // By workload, whether it is restarted.
    let mut namespaces: BTreeMap<String, BTreeMap<Workload, bool>> = BTreeMap::new();
    let restarts = specs(environment);
    for spec in restarts.values().flatten() {
        let namespace = namespaces.entry(spec.workload.namespace.clone()).or_default();
        namespace.insert(spec.workload.clone(), spec.rolls());
    }
    for workload in referenced::specs(environment).into_iter().flat_map(|spec| spec.workloads) {
        namespaces.entry(workload.namespace.clone()).or_default().entry(workload).or_insert(false);
    }
    let of = |(namespace, workloads): (&String, &BTreeMap<Workload, bool>)| {
        let record = restarts.contains_key(namespace).then(|| record_name(identity.uid));
        let metadata = json!({"name": role, "namespace": namespace});
        let manifest = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules(workloads, record),
        });
        [manifest, binding(&role, namespace, account)]
    };
    namespaces.iter().flat_map(of).collect()
}

fn rules(workloads: &BTreeMap<Workload, bool>, record: Option<String>) -> Vec<Value> {
    let mut rules: BTreeMap<(&str, bool), BTreeSet<&str>> = BTreeMap::new();
    for (workload, rolls) in workloads {
        rules.entry((name(workload).resource.plural(), *rolls)).or_default().insert(&workload.name);
    }
    let record = record.map(|record| {
        json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [record], "verbs": ["get", "create", "patch"]})
    });
    let workloads = rules.iter().map(|((resource, rolls), names)| {
        let verbs: &[&str] = if *rolls { &["get", "patch"] } else { &["get"] };
        json!({"apiGroups": ["apps"], "resources": [resource], "resourceNames": names, "verbs": verbs})
    });
    record.into_iter().chain(workloads).collect()
}
