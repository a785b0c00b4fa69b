//! Checks of the Secrets and ConfigMaps that one document declares.

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, generate, is_key, workloads};
use crate::component::is_dns_label;
use crate::document::{
    Copy, Document, ObjectName, Origin, Piece, Rotate, Template, is_age_recipient, pieces,
};
use crate::{Component, Kind};

pub(super) fn check(document: &Document, found: &mut Found) {
    secrets(document, found);
    configmaps(document, found);
}

fn secrets(document: &Document, found: &mut Found) {
    let namespace = &document.fragment.namespace;
    for (name, secret) in &document.secrets {
        let key = format!("secrets.{name}");
        let given = usize::from(secret.external)
            + usize::from(!secret.generate.is_empty())
            + usize::from(secret.copy.is_some())
            + usize::from(secret.template.is_some());
        if given != 1 {
            found.say(&key, "give exactly one of external: true, generate, copy, template");
        }
        let own = |other: &ObjectName| other.secret(namespace) == name.secret(namespace);
        generate::generators(&key, own, &secret.generate, found);
        if let Some(copied) = &secret.copy {
            copy(
                &format!("{key}.copy"),
                Kind::Secret,
                copied,
                &secret.stands(name, namespace),
                namespace,
                found,
            );
        }
        if let Some(text) = &secret.template {
            template(&format!("{key}.template"), text, &secret.stands(name, namespace), namespace, found);
        }
        if !secret.protects.is_empty() && secret.generate.is_empty() {
            found.say(format!("{key}.protects"), "only what is generated can protect something");
        }
        if let Some(recipient) = &secret.escrow {
            if secret.generate.is_empty() {
                found.say(format!("{key}.escrow"), "only what is generated is sealed");
            }
            if !is_age_recipient(recipient) {
                found.say(
                    format!("{key}.escrow"),
                    "is no age recipient: give the public key, `age1…`, never the private one",
                );
            }
        }
        if let Some(copied) = &secret.copy
            && let Origin::Vault { server, .. } = &copied.from
            && !document.vault.contains_key(server)
        {
            found.say(
                format!("{key}.copy.from.vault"),
                format!("`{server}` is not under `vault` of this fragment"),
            );
        }
        if let Some(rotate) = &secret.rotate {
            rotation(&format!("{key}.rotate"), rotate, &secret.generated(), found);
        }
        if let Some(kind) = &secret.kind {
            if secret.external || secret.copy.is_some() {
                found.say(format!("{key}.type"), "a copy has its source's type; give none");
            }
            if let Some(why) = forbidden_type(kind) {
                found.say(format!("{key}.type"), why);
            }
        }
        let stands = secret.stands(name, namespace);
        spans(&key, name, secret.copy.as_ref(), &stands, found);
        if let Some(restart) = &secret.restart {
            workloads::restart(&format!("{key}.restart"), restart, &stands, found);
        }
    }
}

fn rotation(key: &str, rotate: &Rotate, generate: &BTreeSet<&str>, found: &mut Found) {
    if generate.is_empty() {
        found.say(key, "only what is generated can be rotated");
    }
    for (current, previous) in &rotate.previous {
        let at = format!("{key}.previous.{current}");
        if !generate.contains(current.as_str()) {
            found.say(&at, format!("`{current}` is not generated"));
        }
        if !is_key(previous) || generate.contains(previous.as_str()) {
            found.say(&at, format!("`{previous}` is no key of its own for an old value"));
        }
        if rotate.previous.values().filter(|other| *other == previous).count() > 1 {
            found.say(at, format!("`{previous}` would keep two old values"));
        }
    }
}

fn configmaps(document: &Document, found: &mut Found) {
    let namespace = &document.fragment.namespace;
    for (name, configmap) in &document.configmaps {
        let key = format!("configmaps.{name}");
        let given = usize::from(configmap.external)
            + usize::from(!configmap.bundle.is_empty())
            + usize::from(configmap.copy.is_some());
        if given != 1 {
            found.say(&key, "give exactly one of external: true, copy, bundle");
        }
        let stands = configmap.stands(name, namespace);
        if let Some(copied) = &configmap.copy {
            if !matches!(copied.from, Origin::Object(_)) {
                found.say(
                    format!("{key}.copy.from"),
                    "a ConfigMap is a copy of a ConfigMap only: it is no place for secrets",
                );
            }
            copy(&format!("{key}.copy"), Kind::ConfigMap, copied, &stands, namespace, found);
        }
        for (bundle, values) in &configmap.bundle {
            if !is_key(bundle) {
                found.say(format!("{key}.bundle"), format!("`{bundle}` is no key of a ConfigMap"));
            }
            if values.is_empty() {
                found.say(format!("{key}.bundle.{bundle}"), "names no certificate");
            }
            for value in values {
                found.secret_ref(&format!("{key}.bundle.{bundle}"), value);
            }
        }
        spans(&key, name, configmap.copy.as_ref(), &stands, found);
        if let Some(restart) = &configmap.restart {
            workloads::restart(&format!("{key}.restart"), restart, &stands, found);
        }
    }
}

fn copy(key: &str, kind: Kind, copy: &Copy, stands: &[Component], namespace: &str, found: &mut Found) {
    let noun = if kind == Kind::ConfigMap { "ConfigMap" } else { "Secret" };
    if let Some(from) = copy.from.component(kind, namespace) {
        if stands.contains(&from) {
            found.say(format!("{key}.from"), format!("is this {noun} itself"));
        }
        reserved(&format!("{key}.from"), &from, found);
    }
    match &copy.from {
        Origin::Sops(file)
            if file.starts_with('/') || file.split('/').any(|part| matches!(part, "" | "." | "..")) =>
        {
            found.say(
                format!("{key}.from.sops"),
                format!("`{file}` is no path below the folder of sops files"),
            );
        }
        Origin::Vault { path, .. } if path.is_empty() || path.starts_with('/') => {
            found.say(format!("{key}.from.path"), format!("`{path}` is no path below the server's mount"));
        }
        _ => {}
    }
    for text in copy.keys.iter().flat_map(|(new, old)| [new, old]).filter(|text| !is_key(text)) {
        found.say(format!("{key}.keys"), format!("`{text}` is no key of a {noun}"));
    }
    twice(&format!("{key}.to"), &copy.to, found);
    if let Some(selector) = &copy.namespace_selector {
        let at = format!("{key}.namespace_selector.match_labels");
        // An empty selector means everything to Kubernetes, and that is never asked for by leaving something out.
        if selector.match_labels.is_empty() {
            found.say(&at, "chooses every namespace; give at least one label");
        }
        for label in selector.match_labels.keys().filter(|label| label.is_empty()) {
            found.say(&at, format!("`{label}` is no label"));
        }
    }
}

fn template(key: &str, template: &Template, stands: &[Component], namespace: &str, found: &mut Found) {
    if template.keys.is_empty() {
        found.say(format!("{key}.keys"), "is empty; give at least one key and its text");
    }
    let mut used: BTreeMap<&str, bool> = template.values.keys().map(|name| (name.as_str(), false)).collect();
    for (name, text) in &template.keys {
        let at = format!("{key}.keys.{name}");
        if !is_key(name) {
            found.say(format!("{key}.keys"), format!("`{name}` is no key of a Secret"));
        }
        let parts = match pieces(text) {
            Ok(parts) => parts,
            Err(why) => {
                found.say(at, why);
                continue;
            }
        };
        for part in &parts {
            let Piece::Value { name, .. } = part else { continue };
            match used.get_mut(name.as_str()) {
                Some(used) => *used = true,
                None => found.say(&at, format!("`{{{name}}}` is not under `values`")),
            }
        }
    }
    for (name, used) in used {
        let at = format!("{key}.values.{name}");
        if !used {
            found.say(&at, "no key uses it");
        }
        let value = &template.values[name];
        if !is_key(&value.key) {
            found.say(format!("{at}.key"), format!("`{}` is no key of a Secret", value.key));
        }
        match value.component(namespace) {
            None => found.say(at, "give exactly one of secret, configmap"),
            Some(from) => {
                if stands.contains(&from) {
                    found.say(&at, "is this Secret itself");
                }
                reserved(&at, &from, found);
            }
        }
    }
    twice(&format!("{key}.to"), &template.to, found);
}

/// Where it stands: no namespace of Kubernetes' own, and said once only.
fn spans(key: &str, name: &ObjectName, copy: Option<&Copy>, stands: &[Component], found: &mut Found) {
    let selects = copy.is_some_and(|copy| copy.namespace_selector.is_some());
    if name.namespace.is_some() && (stands.len() > 1 || selects) {
        found.say(key, "has a namespace in its name and in what it says itself; give one");
    }
    for component in stands {
        reserved(key, component, found);
    }
}

fn twice(key: &str, namespaces: &[String], found: &mut Found) {
    for (i, namespace) in namespaces.iter().enumerate() {
        if !is_dns_label(namespace) {
            found.say(
                key,
                format!("`{namespace}` is no namespace: lower-case letters, digits and `-`, at most 63"),
            );
        }
        if namespaces[..i].contains(namespace) {
            found.say(key, format!("`{namespace}` stands twice"));
        }
    }
}

/// What the cluster itself lives on is nobody's to read or to write.
fn reserved(key: &str, component: &Component, found: &mut Found) {
    if component.namespace().is_some_and(|namespace| namespace.starts_with("kube-")) {
        found.say(
            key,
            format!(
                "{component} is in a namespace of Kubernetes itself, which Rollcall neither reads nor writes"
            ),
        );
    }
}

/// Why Rollcall neither reads nor writes Secrets of a type: what lies in them is not data but power over the cluster.
pub fn forbidden_type(kind: &str) -> Option<&'static str> {
    match kind {
        "kubernetes.io/service-account-token" => Some(
            "is a service account's token, which is neither read nor made: whoever writes one gets that account's rights",
        ),
        "bootstrap.kubernetes.io/token" => {
            Some("is a token that lets nodes into the cluster, which is neither read nor made")
        }
        kind if kind.starts_with("helm.sh/") => {
            Some("is Helm's own record of a release, with every value in it, and is neither read nor made")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_are_power_are_neither_read_nor_made() {
        for kind in
            ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"]
        {
            assert!(forbidden_type(kind).is_some(), "{kind}");
        }
        for kind in
            ["Opaque", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson", "kubernetes.io/basic-auth", ""]
        {
            assert!(forbidden_type(kind).is_none(), "{kind}");
        }
    }
}
