//! The rights that restart sets need: by name, on workloads and on the Secret in which it is noted what their pods have.

use lifecycle::document::Environment;

use super::spec::specs;
use super::world::{name, record_name};

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

/// What an environment's restart sets need.
pub fn rights(environment: &Environment) -> Vec<Right> {
    let record = record_name(environment.identity().uid);
    let mut rights = Vec::new();
    for (namespace, specs) in specs(environment) {
        rights.push(Right {
            group: "",
            resource: "secrets",
            namespace: namespace.clone(),
            name: record.clone(),
            verbs: &["get", "create", "patch"],
        });
        for spec in specs {
            rights.push(Right {
                group: "apps",
                resource: name(&spec.workload).resource.plural(),
                namespace: namespace.clone(),
                verbs: if spec.rolls() { &["get", "patch"] } else { &["get"] },
                name: spec.workload.name,
            });
        }
    }
    rights
}
