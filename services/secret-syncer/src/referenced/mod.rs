//! Modules whose keys are those that their pods refer to: looked at in the cluster, and waited for.

pub mod plan;

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::{Declared, Environment, Module, ModuleKeys, Workload};
use lifecycle::manifests::{flaw, references};
use lifecycle::{Component, Evidence};

use crate::Store;
use crate::world::{Backend, Error, workload_name};
pub use plan::World;

/// One module that takes its keys from its workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The module.
    pub module: Component,
    /// What runs its pods.
    pub workloads: Vec<Workload>,
    /// The objects that may be looked at: those that documents declare.
    pub declared: BTreeSet<Component>,
}

/// The modules of an environment that take their keys from their workloads.
pub fn specs(environment: &Environment) -> Vec<Spec> {
    let secrets = environment.secrets().map(|secret| secret.component);
    let declared: BTreeSet<Component> =
        secrets.chain(environment.configmaps().map(|map| map.component)).collect();
    let modules = environment.modules().filter(|module| module.spec.keys == ModuleKeys::Referenced);
    let spec = |module: Declared<'_, Module>| {
        let named = module.spec.workloads.iter();
        Spec {
            workloads: named.map(|name| name.in_namespace(module.namespace())).collect(),
            declared: declared.clone(),
            module: module.component,
        }
    };
    modules.map(spec).collect()
}

/// Looks at a module's workloads and at what they refer to.
pub(crate) async fn observe<B: Backend>(
    store: &B,
    cluster: Option<&kubernetes::Cluster>,
    spec: &Spec,
) -> Result<World, Error> {
    let Some(cluster) = cluster else { return Ok(World::default()) };
    let mut workloads = BTreeMap::new();
    let mut objects = BTreeMap::new();
    for workload in &spec.workloads {
        let found = cluster.workload(&workload_name(workload)).await?;
        let found = found.map(|found| references(&found.object, &workload.namespace));
        for reference in found.iter().flatten().filter(|reference| !reference.optional) {
            let object = &reference.component;
            if spec.declared.contains(object) && !objects.contains_key(object) {
                let read = store.read(object).await?;
                let judged = |(key, value): (&String, &chassis::SecretValue)| {
                    (key.clone(), flaw(object, key, value.expose()))
                };
                let keys = read.map(|contents| contents.keys.iter().map(judged).collect());
                objects.insert(object.clone(), keys);
            }
        }
        workloads.insert(workload.clone(), found);
    }
    Ok(World { workloads: Some(workloads), objects })
}

/// What was seen of a module whose pods lack nothing.
pub(crate) fn evidence() -> Evidence {
    Evidence::level("keys")
}

/// The cluster that a store is, if it is one.
pub(crate) fn cluster(store: &Store) -> Option<kubernetes::Cluster> {
    match store {
        Store::Kubernetes(store) => Some(store.cluster().clone()),
        Store::Directory(_) => None,
    }
}
