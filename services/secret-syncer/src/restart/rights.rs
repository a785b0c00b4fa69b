//! The rights that workloads are read and restarted with: by name, on them and on the Secret in which it is noted what their
//! pods have.

use std::collections::BTreeMap;

use lifecycle::document::{Environment, Workload};

use super::spec::specs;
use super::world::{record_name, reports};
use crate::referenced;
use crate::world::workload_name;

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
        resource: workload_name(&workload).resource.plural(),
        namespace: workload.namespace,
        name: workload.name,
        verbs: if restarts { &["get", "patch"] } else { &["get"] },
    }));
    rights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::environment;

    #[test]
    fn who_only_reports_writes_nothing_and_who_only_announces_restarts_nothing() {
        let environment = environment(&[
            "
fragment: {name: app, namespace: app}
secrets:
  db: {external: true, restart: {workloads: [deployment/web]}}
  told: {external: true, restart: {workloads: [statefulset/store], mode: announce}}
modules: {web: {keys: referenced, workloads: [daemonset/agent]}}
",
            "
fragment: {name: quiet, namespace: quiet}
policy: {mode: report}
secrets: {db: {external: true, restart: {workloads: [deployment/web]}}}
",
        ]);
        let shown: Vec<String> = rights(&environment)
            .iter()
            .map(|right| {
                format!("{} {}/{}: {}", right.resource, right.namespace, right.name, right.verbs.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "secrets app/rollcall-restarts-6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06: get create patch",
                "deployments app/web: get patch",
                "deployments quiet/web: get",
                "statefulsets app/store: get",
                "daemonsets app/agent: get",
            ]
        );
    }
}
