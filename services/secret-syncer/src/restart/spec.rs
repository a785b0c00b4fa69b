//! What should be: which workloads are to have the present values of which objects.

use std::collections::BTreeMap;
use std::time::Duration;

use lifecycle::Component;
use lifecycle::document::{Environment, Mode as Policy, Restart, RestartMode, Source, Workload};

/// One workload, and the objects whose changes are to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The workload.
    pub workload: Workload,
    /// The objects, and what is done when a value of one changes.
    pub objects: BTreeMap<Component, Mode>,
    /// How long further changes are waited for.
    pub window: Duration,
}

/// What is done when a value changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// The workload is restarted.
    Roll,
    /// It is said that it should be.
    Announce,
    /// It is said that it would be: the fragment is in mode `report`.
    Report,
}

impl Spec {
    /// Whether a change of any of its objects restarts it.
    pub fn rolls(&self) -> bool {
        self.objects.values().any(|mode| *mode == Mode::Roll)
    }
}

/// The workloads that an environment's restart sets name, by namespace.
pub fn specs(environment: &Environment) -> BTreeMap<String, Vec<Spec>> {
    let secrets = environment.secrets().map(|secret| (secret.component, secret.source, &secret.spec.restart));
    let configmaps = environment.configmaps().map(|map| (map.component, map.source, &map.spec.restart));
    let mut specs: BTreeMap<Workload, Spec> = BTreeMap::new();
    for (object, source, restart) in secrets.chain(configmaps) {
        let Some((restart, namespace)) = restart.as_ref().zip(object.namespace()) else { continue };
        for name in &restart.workloads {
            let workload = name.in_namespace(namespace);
            // An object of several namespaces names the namespace of each workload.
            if workload.namespace != namespace {
                continue;
            }
            let spec = specs.entry(workload.clone()).or_insert_with(|| Spec {
                workload,
                objects: BTreeMap::new(),
                window: restart.window,
            });
            spec.window = spec.window.max(restart.window);
            spec.objects.insert(object.clone(), mode(source, restart));
        }
    }
    let mut by_namespace: BTreeMap<String, Vec<Spec>> = BTreeMap::new();
    for (workload, spec) in specs {
        by_namespace.entry(workload.namespace).or_default().push(spec);
    }
    by_namespace
}

fn mode(source: &Source, restart: &Restart) -> Mode {
    match (source.document.policy.mode, restart.mode) {
        (Policy::Report, _) => Mode::Report,
        (Policy::Enforce, RestartMode::Announce) => Mode::Announce,
        (Policy::Enforce, RestartMode::Roll) => Mode::Roll,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::environment;

    #[test]
    fn a_workload_stands_once_whoever_names_it() {
        let environment = environment(&[
            "
fragment: {name: app, namespace: app}
secrets:
  db: {external: true, restart: {workloads: [deployment/web, statefulset/store], window: 5s}}
  spread: {copy: {from: base/origin, to: [app, two]}, restart: {workloads: [deployment/app/web, deployment/two/web], mode: announce}}
configmaps:
  settings: {external: true, restart: {workloads: [deployment/web], window: 1m}}
",
            "
fragment: {name: base, namespace: base}
policy: {mode: report}
secrets: {origin: {external: true, restart: {workloads: [daemonset/agent]}}}
",
        ]);
        let found = specs(&environment);
        let shown: Vec<String> = found
            .values()
            .flatten()
            .map(|spec| {
                let objects: Vec<String> =
                    spec.objects.iter().map(|(object, mode)| format!("{object} {mode:?}")).collect();
                format!("{} {:?}: {}", spec.workload, spec.window, objects.join(", "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "deployment/app/web 60s: secret/app/db Roll, secret/app/spread Announce, configmap/app/settings Roll",
                "statefulset/app/store 5s: secret/app/db Roll",
                "daemonset/base/agent 30s: secret/base/origin Report",
                "deployment/two/web 30s: secret/two/spread Announce",
            ]
        );
        assert!(!found["two"][0].rolls() && found["app"][0].rolls());
    }
}
