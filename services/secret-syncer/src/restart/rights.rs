//! The rights that workloads are read and restarted with: by name, on them and on the Secret in which it is noted what their
//! pods have.

use std::collections::BTreeMap;

use lifecycle::document::{Environment, Workload};

use super::spec::specs;
use super::world::{name, record_name, reports};
use crate::referenced;

/// What is done with one object of a cluster that is no component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Its API group; empty for Kubernetes' first one.
    pub group: &'static str,
    /// What it is, in the plural, as Roles have it.
    pub resource: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it takes, in the words of Kubernetes.
    pub verbs: &'static [&'static str],
}

/// What it takes to restart the workloads of restart sets, and to read those from which modules take their keys.
pub fn rights(environment: &Environment) -> Vec<Right> {
    let mut rights = Vec::new();
    // By workload, whether it is restarted.
    let mut workloads: BTreeMap<Workload, bool> = BTreeMap::new();
    for (namespace, specs) in specs(environment) {
        if !reports(&specs) {
            rights.push(Right {
                group: "",
                resource: "secrets",
                namespace,
                name: record_name(environment.identity().uid),
                verbs: &["get", "create", "patch"],
            });
        }
        workloads.extend(specs.into_iter().map(|spec| (spec.workload.clone(), spec.rolls())));
    }
    for workload in referenced::specs(environment).into_iter().flat_map(|spec| spec.workloads) {
        workloads.entry(workload).or_insert(false);
    }
    rights.extend(workloads.into_iter().map(|(workload, restarts)| Right {
        group: "apps",
        resource: name(&workload).resource.plural(),
        namespace: workload.namespace,
        name: workload.name,
        verbs: if restarts { &["get", "patch"] } else { &["get"] },
    }));
    rights
}
