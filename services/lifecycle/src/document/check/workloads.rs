//! Checks of the workloads that one document names.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Found, is_key};
use crate::Component;
use crate::document::{Module, ModuleKeys, Restart, WorkloadName};

/// A restart that waits longer than this for further changes is none.
const WINDOW_MAX: Duration = Duration::from_hours(24);

/// A restart set names workloads in the namespaces where its object stands: no pod can use one of another namespace.
pub(super) fn restart(key: &str, restart: &Restart, stands: &[Component], found: &mut Found) {
    let at = format!("{key}.workloads");
    if restart.workloads.is_empty() {
        found.say(&at, "is empty; name at least one workload");
    }
    let namespaces: BTreeSet<&str> = stands.iter().filter_map(Component::namespace).collect();
    for name in &restart.workloads {
        match &name.namespace {
            None if namespaces.len() > 1 => found.say(
                &at,
                format!(
                    "{name}: the object stands in several namespaces; write {}/namespace/{}",
                    name.kind.as_str(),
                    name.name
                ),
            ),
            Some(namespace) if !namespaces.contains(namespace.as_str()) => found.say(
                &at,
                format!(
                    "{name}: the object does not stand in namespace {namespace}, so no pod there uses it"
                ),
            ),
            _ => {}
        }
    }
    twice(&at, &restart.workloads, namespaces.first().copied().unwrap_or_default(), found);
    if restart.window < Duration::from_millis(1) || restart.window > WINDOW_MAX {
        found.say(format!("{key}.window"), "is not between 1ms and 24h");
    }
}

/// A module's keys, listed or referred to by the workloads that it names.
pub(super) fn module(key: &str, module: &Module, namespace: &str, found: &mut Found) {
    let (at, listed) = (format!("{key}.keys"), module.keys.listed());
    for (i, value) in listed.iter().enumerate() {
        if value.component(namespace).is_none() {
            found.say(&at, "give exactly one of secret, configmap in each entry");
        }
        if !is_key(&value.key) {
            found.say(&at, format!("`{}` is no key of a Secret", value.key));
        }
        if listed[..i].contains(value) {
            found.say(&at, format!("`{}` stands twice", value.key));
        }
    }
    let at = format!("{key}.workloads");
    match (&module.keys, module.workloads.is_empty()) {
        (ModuleKeys::Referenced, true) => {
            found.say(&at, "is empty, and `keys: referenced` takes the keys from them; name at least one");
        }
        (ModuleKeys::Listed(_), false) => {
            found.say(&at, "are looked at with `keys: referenced` only; say that, or leave them out");
        }
        _ => {}
    }
    twice(&at, &module.workloads, namespace, found);
    for name in &module.workloads {
        if name.in_namespace(namespace).namespace.starts_with("kube-") {
            found.say(
                &at,
                format!("{name} is in a namespace of Kubernetes itself, where Rollcall does not look"),
            );
        }
    }
}

/// No workload stands twice in a list.
pub(super) fn twice(key: &str, names: &[WorkloadName], namespace: &str, found: &mut Found) {
    for (i, name) in names.iter().enumerate() {
        let is_same = |other: &WorkloadName| other.in_namespace(namespace) == name.in_namespace(namespace);
        if names[..i].iter().any(is_same) {
            found.say(key, format!("{name} stands twice"));
        }
    }
}
