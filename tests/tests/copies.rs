//! What MOSIP's installation copies by script, and OpenG2P's Secrets: in place in one run, nothing written by the next, and
//! one change at a source reaches everything that follows it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use acceptance::cluster::{Cluster, configmap, secret};
use acceptance::{openg2p, root, until};
use lifecycle::Kind;
use lifecycle::document::Environment;

/// Everything that somebody else makes, with the keys that documents read or some that anybody could have.
async fn make_external(cluster: &Cluster, environment: &Environment) {
    let secrets = environment.secrets().filter(|s| s.spec.external).map(|s| s.component);
    let configmaps = environment.configmaps().filter(|c| c.spec.external).map(|c| c.component);
    for object in secrets.chain(configmaps) {
        let read: BTreeSet<String> = environment
            .references()
            .into_iter()
            .filter(|(of, _)| *of == object)
            .map(|(_, key)| key)
            .collect();
        let keys =
            if read.is_empty() { ["first-key".to_owned(), "SECOND_KEY".to_owned()].into() } else { read };
        let value = |key: &String| format!("{object} {key}: nobody would guess");
        let values: Vec<(String, String)> = keys.iter().map(|key| (key.clone(), value(key))).collect();
        let values: Vec<(&str, &str)> =
            values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let make = if object.kind() == Kind::Secret { secret } else { configmap };
        cluster.apply(make(object.namespace().unwrap(), object.name(), &values)).await;
    }
}

/// Each copy with what it is copied from.
fn copies(environment: &Environment) -> BTreeMap<String, String> {
    let secrets = environment.secrets().filter_map(|s| {
        Some((
            s.component.to_string(),
            s.spec.copy.as_ref()?.from.component(Kind::Secret, s.namespace())?.to_string(),
        ))
    });
    let configmaps = environment.configmaps().filter_map(|c| {
        Some((
            c.component.to_string(),
            c.spec.copy.as_ref()?.from.component(Kind::ConfigMap, c.namespace())?.to_string(),
        ))
    });
    secrets.chain(configmaps).collect()
}

async fn in_place_in_one_run_and_a_second_writes_nothing(
    cluster: &Cluster,
    environment: &Environment,
    documents: &Path,
) {
    let syncer = cluster.syncer().await;
    let apply = || cluster.program(&syncer, documents, &["apply"]).output().unwrap();
    let first = apply();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    for (copy, source) in copies(environment) {
        let values =
            async |object: &str| Some(cluster.keys(object).await?.into_values().collect::<BTreeSet<_>>());
        let (copied, there) = (values(&copy).await.unwrap(), values(&source).await.unwrap());
        assert!(!copied.is_empty() && there.is_superset(&copied), "{copy} of {source}");
    }
    for made in environment.secrets().filter(|s| !s.spec.generate.is_empty()) {
        let keys = cluster.keys(&made.component.to_string()).await.unwrap();
        assert!(made.spec.generated().iter().all(|key| keys.contains_key(*key)), "{}", made.component);
    }
    let before = cluster.versions().await;
    let second = apply();
    assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
    assert_eq!(cluster.versions().await, before, "a second run writes nothing");
}

#[tokio::test]
async fn mosips_copies_are_made_once_and_follow() {
    let documents = root().join("charts/environments/mosip");
    let environment = chassis::documents::load_complete(std::slice::from_ref(&documents)).unwrap();
    let count = |kind: &str| copies(&environment).keys().filter(|copy| copy.starts_with(kind)).count();
    // 80 calls of MOSIP's script, of which two copy again what was copied: 61 ConfigMaps and 17 Secrets.
    assert_eq!((count("configmap/"), count("secret/")), (61, 17));
    let cluster = Cluster::start(&[&environment]).await;
    make_external(&cluster, &environment).await;
    in_place_in_one_run_and_a_second_writes_nothing(&cluster, &environment, &documents).await;

    let syncer = cluster.syncer().await;
    let service = cluster
        .serve(&syncer, &documents, "mosip", &[("ROLLCALL_POLLING", "on"), ("ROLLCALL_RESYNC", "1h")])
        .await;
    let log = || std::fs::read_to_string(&service.log).unwrap_or_default();
    until("everything is ready", async || log().matches(" is ready\"").count() >= 99).await;
    let before = cluster.versions().await;
    cluster
        .configmap("default", "global", &[("first-key", "changed at its source"), ("SECOND_KEY", "too")])
        .await;
    let followers: Vec<String> = copies(&environment)
        .into_iter()
        .filter(|(_, source)| source == "configmap/default/global")
        .map(|(copy, _)| copy)
        .collect();
    assert!(followers.len() > 15, "{followers:?}");
    for copy in &followers {
        let source = cluster.keys("configmap/default/global").await;
        until("it follows", async || cluster.keys(copy).await == source).await;
    }
    let changed = cluster
        .versions()
        .await
        .into_iter()
        .filter(|(name, version)| before.get(name) != Some(version))
        .count();
    assert_eq!(changed, followers.len() + 1, "what follows it and nothing else was written, once");
    cluster.stop().await;
}

#[tokio::test]
async fn openg2ps_secrets_are_made_once() {
    let environment = chassis::documents::load_complete(&[openg2p()]).unwrap();
    let cluster = Cluster::start(&[&environment]).await;
    make_external(&cluster, &environment).await;
    in_place_in_one_run_and_a_second_writes_nothing(&cluster, &environment, &openg2p()).await;
    cluster.stop().await;
}
