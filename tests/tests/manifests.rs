//! `rollcall check --manifests`: what `helm template` prints, from a file and through a pipe, alone and with documents.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use acceptance::{binary, documents, rollcall, text};

/// As Helm renders: comments, an empty document, what names no namespace.
const RENDERED: &str = "---
# Source: registry/templates/empty.yaml
---
# Source: registry/templates/secret.yaml
apiVersion: v1
kind: Secret
metadata: {name: registry-own}
stringData: {token: '<your token>'}
---
# Source: registry/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
metadata: {name: registry}
spec:
  template:
    spec:
      containers:
        - name: registry
          env:
            - {name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: shop-db, key: password}}}
            - {name: TOKEN, valueFrom: {secretKeyRef: {name: registry-own, key: token}}}
            - {name: REALM, valueFrom: {configMapKeyRef: {name: keycloak-host, key: realm}}}
";

fn piped(args: &[&str], manifests: &str) -> Output {
    let mut child = Command::new(binary())
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn each_reference_that_does_not_resolve_is_named_with_who_refers() {
    let output = piped(&["check", "--manifests", "-", "--namespace", "shop"], RENDERED);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for words in [
        "Deployment shop/registry, container registry, env DB_PASSWORD: secret/shop/shop-db is made by nobody",
        "env TOKEN: secret/shop/registry-own key `token` is a placeholder in angle brackets",
        "env REALM: configmap/shop/keycloak-host is made by nobody",
    ] {
        assert!(said.contains(words), "{words} not in: {said}");
    }
    assert!(!said.contains("your token"), "a value is never shown: {said}");
    let json = piped(&["check", "--manifests", "-", "--output", "json"], RENDERED);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&value["ok"], value["unresolved"].as_array().unwrap().len()), (&false.into(), 3));
}

#[test]
fn what_documents_make_resolves() {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("shop.yaml");
    std::fs::write(&document, documents::plain()).unwrap();
    let document = document.display().to_string();
    // The same namespace as the document's, which is the only one.
    let mended = RENDERED.replace("<your token>", "q8Zr1");
    let (mended, _) = mended.split_once("            - {name: REALM").unwrap();
    let output = piped(&["check", &document, "--manifests", "-"], mended);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("2 objects in manifests, nothing wrong"), "{}", text(&output));
}

#[test]
fn a_whole_platform_is_not_too_much() {
    let nested = format!("{}1{}", "{a: ".repeat(90), "}".repeat(90));
    let many: String = (0..3000)
        .map(|n| format!("---\nkind: ConfigMap\nmetadata: {{name: m{n}}}\ndata: {{a: b, c: d}}\n"))
        .chain([format!("---\nkind: CustomResourceDefinition\nspec: {nested}\n")])
        .collect();
    let output = piped(&["check", "--manifests", "-"], &many);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("3001 objects"), "{}", text(&output));
}

#[test]
fn nonsense_is_said_to_be_nonsense() {
    for (manifests, words) in [
        ("", "there is nothing in there"),
        ("---\n---\n", "there is nothing in there"),
        ("a: 1\n", "document 1 has no `kind`"),
        ("kind: Pod\nkind: Pod\n", "duplicate"),
        ("kind: [\n", "standard input: "),
    ] {
        let output = piped(&["check", "--manifests", "-"], manifests);
        assert_eq!(output.status.code(), Some(2), "{manifests:?}: {}", text(&output));
        assert!(text(&output).contains(words), "{manifests:?}: {}", text(&output));
    }
    let output = rollcall(&["check", "--manifests", "/nowhere.yaml"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("/nowhere.yaml: cannot be read"), "{}", text(&output));
}
