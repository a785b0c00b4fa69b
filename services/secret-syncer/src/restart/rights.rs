//! The rights that restart sets need: a Role of their own in each namespace, so that its owner sees what may be restarted.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::{Environment, WorkloadKind};
use serde_json::{Value, json};

use super::spec::{Spec, specs};
use super::world::{name, record_name};
use crate::rbac::{Account, binding};

/// The Roles and RoleBindings that let an account restart what an environment's documents name, and nothing else.
pub fn manifests(environment: &Environment, account: &Account) -> Vec<Value> {
    let identity = environment.identity();
    let uid = identity.uid.simple().to_string();
    let role = format!("rollcall-secret-syncer-{}-{}-restart", identity.name, &uid[uid.len() - 8..]);
    let of = |(namespace, specs): (&String, &Vec<Spec>)| {
        let rules = rules(specs, &record_name(identity.uid));
        let metadata = json!({"name": role, "namespace": namespace});
        let manifest = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules,
        });
        [manifest, binding(&role, namespace, account)]
    };
    specs(environment).iter().flat_map(of).collect()
}

fn rules(specs: &[Spec], record: &str) -> Vec<Value> {
    let mut rules: BTreeMap<(WorkloadKind, bool), BTreeSet<&str>> = BTreeMap::new();
    for spec in specs {
        rules.entry((spec.workload.kind, spec.rolls())).or_default().insert(&spec.workload.name);
    }
    let secrets = json!({
        "apiGroups": [""], "resources": ["secrets"], "resourceNames": [record], "verbs": ["get", "create", "patch"],
    });
    let workloads = rules.iter().filter_map(|((kind, rolls), names)| {
        let resource = specs
            .iter()
            .find(|spec| spec.workload.kind == *kind)
            .map(|spec| name(&spec.workload).resource)?;
        let verbs: &[&str] = if *rolls { &["get", "patch"] } else { &["get"] };
        Some(json!({
            "apiGroups": ["apps"], "resources": [resource.plural()], "resourceNames": names, "verbs": verbs,
        }))
    });
    [secrets].into_iter().chain(workloads).collect()
}
