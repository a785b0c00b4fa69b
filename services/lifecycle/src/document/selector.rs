//! Namespaces chosen by their labels: what only somebody who may see the whole cluster can resolve.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Copy, Document, Environment};
use crate::Component;

/// Chooses namespaces by their labels. Only the central secret-syncer can obey it: to see the labels of namespaces takes
/// a right over the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceSelector {
    /// Every one of these labels, with its value.
    pub match_labels: BTreeMap<String, String>,
}

/// The namespaces of a cluster and their labels.
pub type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

impl NamespaceSelector {
    /// Whether a namespace with these labels is chosen.
    pub fn chooses(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.match_labels.is_empty()
            && self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Environment {
    /// The copies whose namespaces are chosen by labels, as `fragment: key`.
    pub fn choosing(&self) -> Vec<String> {
        let of = |document: &Document| {
            let fragment = &document.fragment.name;
            let (secrets, configmaps) = (document.secrets.iter(), document.configmaps.iter());
            let secrets = secrets.filter(|(_, secret)| chooses(secret.copy.as_ref()));
            let configmaps = configmaps.filter(|(_, configmap)| chooses(configmap.copy.as_ref()));
            secrets
                .map(|(name, _)| format!("{fragment}: secrets.{name}"))
                .chain(configmaps.map(|(name, _)| format!("{fragment}: configmaps.{name}")))
                .collect::<Vec<_>>()
        };
        self.sources().flat_map(|source| of(&source.document)).collect()
    }

    /// The environment in which each chosen namespace is spelled out under `to`. A name that is declared for a namespace
    /// already stays with whoever declares it; one that two choose for a namespace is nobody's there, and comes with it. Namespaces of
    /// Kubernetes itself and that of the original are never chosen.
    pub fn choose(&self, namespaces: &Namespaces) -> (Environment, Vec<Component>) {
        let declared: BTreeSet<Component> = self
            .secrets()
            .map(|secret| secret.component)
            .chain(self.configmaps().map(|configmap| configmap.component))
            .collect();
        let mut chosen: BTreeMap<Component, usize> = BTreeMap::new();
        self.each_choice(namespaces, |_, component| *chosen.entry(component).or_default() += 1);
        let mut resolved = self.clone();
        self.each_choice(namespaces, |fragment, component| {
            if declared.contains(&component) || chosen.get(&component) != Some(&1) {
                return;
            }
            if let Some(document) = resolved.document_mut(fragment) {
                place(document, &component);
            }
        });
        let contested = chosen.into_iter().filter(|(_, times)| *times > 1).map(|(component, _)| component);
        (resolved, contested.collect())
    }

    /// Tells of each object that a selector asks for: the fragment, and the object.
    fn each_choice(&self, namespaces: &Namespaces, mut tell: impl FnMut(&str, Component)) {
        for source in self.sources() {
            let (document, own) = (&source.document, &source.document.fragment.namespace);
            for (kind, name, copy) in copies(document) {
                let Some(selector) = &copy.namespace_selector else { continue };
                let original = copy.from.component(kind, own);
                for (namespace, _) in namespaces.iter().filter(|(_, labels)| selector.chooses(labels)) {
                    let there = Component::namespaced(kind, namespace, &name.name);
                    let is_original = original.as_ref().and_then(Component::namespace) == Some(namespace);
                    if !namespace.starts_with("kube-") && !is_original {
                        tell(&document.fragment.name, there);
                    }
                }
            }
        }
    }
}

fn chooses(copy: Option<&Copy>) -> bool {
    copy.is_some_and(|copy| copy.namespace_selector.is_some())
}

fn copies(document: &Document) -> impl Iterator<Item = (crate::Kind, &super::ObjectName, &Copy)> {
    let secrets = document.secrets.iter();
    let secrets =
        secrets.filter_map(|(name, secret)| Some((crate::Kind::Secret, name, secret.copy.as_ref()?)));
    let configmaps = document.configmaps.iter();
    let configmaps = configmaps
        .filter_map(|(name, configmap)| Some((crate::Kind::ConfigMap, name, configmap.copy.as_ref()?)));
    secrets.chain(configmaps)
}

/// Spells a namespace out.
fn place(document: &mut Document, component: &Component) {
    let Some(namespace) = component.namespace() else { return };
    let is_it = |name: &super::ObjectName| name.name == component.name();
    let copy = if component.kind() == crate::Kind::Secret {
        document
            .secrets
            .iter_mut()
            .filter(|(name, _)| is_it(name))
            .find_map(|(_, secret)| chosen(&mut secret.copy))
    } else {
        document
            .configmaps
            .iter_mut()
            .filter(|(name, _)| is_it(name))
            .find_map(|(_, configmap)| chosen(&mut configmap.copy))
    };
    if let Some(copy) = copy {
        copy.to.push(namespace.to_owned());
    }
}

fn chosen(copy: &mut Option<Copy>) -> Option<&mut Copy> {
    copy.as_mut().filter(|copy| copy.namespace_selector.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::document::Source;

    fn environment(fragments: &[Value]) -> Environment {
        let sources = fragments.iter().enumerate().map(|(i, secrets)| {
            let mut whole = json!({
                "rollcall": "v1",
                "environment": {"name": "dev", "uid": "00000000-0000-4000-8000-000000000007"},
                "fragment": {"name": format!("f{i}"), "namespace": "base"},
            });
            whole["secrets"] = secrets.clone();
            Source { file: format!("f{i}.yaml"), document: serde_json::from_value(whole).unwrap() }
        });
        let merged = Environment::merge(sources);
        assert_eq!(merged.problems, []);
        merged.environment.unwrap()
    }

    fn cluster() -> Namespaces {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        [
            ("app".to_owned(), labels(&[("env", "dev"), ("tier", "app")])),
            ("base".to_owned(), labels(&[("env", "dev")])),
            ("kube-system".to_owned(), labels(&[("env", "dev")])),
            ("other".to_owned(), labels(&[("env", "prod")])),
            ("two".to_owned(), labels(&[("env", "dev")])),
        ]
        .into()
    }

    fn stand(environment: &Environment) -> Vec<String> {
        environment.secrets().map(|secret| secret.component.to_string()).collect()
    }

    fn by(from: &Value, labels: &Value) -> Value {
        json!({"copy": {"from": from, "namespace_selector": {"match_labels": labels}}})
    }

    fn trust() -> Value {
        json!({"ca": {"external": true}, "trust": by(&json!("ca"), &json!({"env": "dev"}))})
    }

    #[test]
    fn labels_choose_namespaces_but_never_the_clusters_own_nor_the_originals() {
        let environment = environment(&[trust()]);
        assert_eq!(environment.choosing(), ["f0: secrets.trust"]);
        assert_eq!(stand(&environment), ["secret/base/ca"], "nowhere until it is resolved");
        let (resolved, contested) = environment.choose(&cluster());
        assert_eq!(contested, []);
        assert_eq!(stand(&resolved), ["secret/base/ca", "secret/app/trust", "secret/two/trust"]);
        assert_eq!(stand(&environment.choose(&Namespaces::new()).0), ["secret/base/ca"]);
    }

    #[test]
    fn what_is_declared_comes_first_and_what_two_choose_is_nobodys() {
        let explicit =
            environment(&[trust(), json!({"app/trust": {"generate": {"a": {"kind": "password"}}}})]);
        let all = stand(&explicit.choose(&cluster()).0);
        assert_eq!(all.iter().filter(|name| *name == "secret/app/trust").count(), 1, "{all:?}");
        assert!(all.contains(&"secret/two/trust".to_owned()));
        let both = environment(&[
            trust(),
            json!({"trust": by(&json!({"sops": "x.yaml"}), &json!({"tier": "app"}))}),
        ]);
        let (resolved, contested) = both.choose(&cluster());
        let all = stand(&resolved);
        assert_eq!(contested, ["secret/app/trust".parse().unwrap()]);
        assert!(!all.contains(&"secret/app/trust".to_owned()), "{all:?}");
        assert!(all.contains(&"secret/two/trust".to_owned()));
    }

    #[test]
    fn no_labels_choose_nothing() {
        let selector = NamespaceSelector { match_labels: BTreeMap::new() };
        assert!(!selector.chooses(&BTreeMap::new()));
    }
}
