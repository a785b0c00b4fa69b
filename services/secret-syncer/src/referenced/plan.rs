//! Deciding whether the keys that a module's pods refer to are there and hold values. Sees flaws, never values.

use std::collections::BTreeMap;

use chassis::converge::{self, Note};
use lifecycle::Component;
use lifecycle::document::Workload;
use lifecycle::manifests::{Reference, Wanted, is_always};

use super::Spec;
use crate::target::Step;

/// What is, of one module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// Its workloads, and what their pods refer to; none for one that does not exist. Nothing at all where there is no cluster
    /// to look at.
    pub workloads: Option<BTreeMap<Workload, Option<Vec<Reference>>>>,
    /// The declared objects they refer to, and what is wrong with the value of each key; none for one that does not exist.
    pub objects: BTreeMap<Component, Option<BTreeMap<String, Option<&'static str>>>>,
}

/// Says what a module's pods lack. There is nothing to do about it here.
pub fn plan(spec: &Spec, world: &World) -> converge::Plan<Step> {
    let mut plan = converge::Plan::default();
    let note = |text: String| Note::new(&spec.module, text);
    let Some(workloads) = &world.workloads else {
        plan.drift.push(note("the keys that its pods refer to are looked at in a cluster only".to_owned()));
        return plan;
    };
    for workload in &spec.workloads {
        match workloads.get(workload).and_then(Option::as_ref) {
            None => plan.pending.push(note(format!(
                "{workload} does not exist yet; the keys that its pods refer to are looked at as soon as it does"
            ))),
            Some(references) => {
                let lacks = references.iter().filter(|reference| !reference.optional);
                plan.pending.extend(lacks.flat_map(|reference| wrong(world, reference)).map(note));
            }
        }
    }
    plan
}

/// What is wrong with what a container or volume refers to.
fn wrong(world: &World, reference: &Reference) -> Vec<String> {
    let (object, by) = (&reference.component, &reference.by);
    if is_always(object) {
        return Vec::new();
    }
    let keys = match world.objects.get(object) {
        None => {
            return vec![format!(
                "{by} refers to {object}, which no document declares, so nobody may look at it; declare it under `{}s`, as external when somebody else makes it",
                object.kind()
            )];
        }
        Some(None) => return vec![format!("{object} does not exist, and {by} refers to it")],
        Some(Some(keys)) => keys,
    };
    let lacks = |key: &String| match keys.get(key) {
        None => Some(format!(
            "{object} has no key `{key}`, and {by} refers to it; add the key where it is made, or correct the reference"
        )),
        Some(Some(flaw)) => Some(format!(
            "{object} key `{key}` {flaw}, and {by} refers to it; whoever makes it must write it"
        )),
        Some(None) => None,
    };
    match &reference.wanted {
        Wanted::All => keys.keys().filter_map(lacks).collect(),
        Wanted::Keys(wanted) => wanted.iter().filter_map(lacks).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            module: "module/web".parse().unwrap(),
            workloads: vec![workload()],
            declared: ["secret/dev/db".parse().unwrap()].into(),
        }
    }

    fn workload() -> Workload {
        lifecycle::document::WorkloadName::in_namespace(&"deployment/web".parse().unwrap(), "dev")
    }

    fn reference(object: &str, wanted: Wanted, optional: bool) -> Reference {
        let by = "Deployment dev/web, container web, env P".to_owned();
        Reference { by, component: object.parse().unwrap(), wanted, optional }
    }

    fn says(references: Vec<Reference>, keys: Option<&[(&str, Option<&'static str>)]>) -> Vec<String> {
        let keys = keys.map(|keys| keys.iter().map(|(key, flaw)| ((*key).to_owned(), *flaw)).collect());
        let world = World {
            workloads: Some([(workload(), Some(references))].into()),
            objects: [("secret/dev/db".parse().unwrap(), keys)].into(),
        };
        plan(&spec(), &world).pending.into_iter().map(|note| note.text).collect()
    }

    #[test]
    fn what_is_lacking_names_object_key_and_who_refers_to_it() {
        let key = |key: &str| Wanted::Keys([key.to_owned()].into());
        let db = |wanted| vec![reference("secret/dev/db", wanted, false)];
        let good: &[_] = &[("password", None)];
        let flawed: &[_] = &[("password", Some("is empty")), ("user", None)];
        for (references, keys, words) in [
            (db(key("password")), Some(good), ""),
            (db(Wanted::All), Some(good), ""),
            (vec![reference("secret/dev/db", key("none"), true)], None, ""),
            (vec![reference("configmap/dev/kube-root-ca.crt", Wanted::All, false)], None, ""),
            (
                db(key("password")),
                None,
                "secret/dev/db does not exist, and Deployment dev/web, container web, env P refers to it",
            ),
            (
                db(key("token")),
                Some(good),
                "secret/dev/db has no key `token`, and Deployment dev/web, container web, env P",
            ),
            (
                db(key("password")),
                Some(flawed),
                "secret/dev/db key `password` is empty, and Deployment dev/web, container web",
            ),
            (db(Wanted::All), Some(flawed), "key `password` is empty"),
            (db(key("user")), Some(flawed), ""),
            (
                vec![reference("secret/dev/other", Wanted::All, false)],
                Some(good),
                "refers to secret/dev/other, which no document declares",
            ),
        ] {
            let said = says(references, keys);
            assert_eq!(said.len(), usize::from(!words.is_empty()), "{words}: {said:?}");
            assert!(said.iter().all(|text| text.contains(words)), "{words}: {said:?}");
        }
    }

    #[test]
    fn a_workload_that_is_not_there_is_waited_for_and_without_a_cluster_it_is_only_said() {
        let gone = World { workloads: Some([(workload(), None)].into()), ..World::default() };
        let waits = plan(&spec(), &gone);
        assert!(waits.pending[0].text.contains("deployment/dev/web does not exist yet"), "{waits:?}");
        let offline = plan(&spec(), &World::default());
        assert!(offline.is_settled() && offline.drift.len() == 1, "{offline:?}");
    }
}
