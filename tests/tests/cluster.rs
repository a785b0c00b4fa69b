//! Secrets and ConfigMaps of a real cluster: made by name, once and the same by all, kept like what they follow, and taken
//! down again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::BTreeSet;

use acceptance::cluster::{Cluster, User, environment, folder, standings};
use acceptance::sample::{APP, BASE, cluster, dev, ready, refused, text};
use chassis::converge::Standing;
use lifecycle::document::Environment;
use serde_json::json;

#[tokio::test]
async fn everything_is_made_by_name_and_a_second_run_writes_nothing() {
    let cluster = cluster().await;
    let syncer = cluster.syncer().await;
    let store = syncer.store().await;
    ready(&standings(&store, &dev()).await);

    let whole = cluster.keys("secret/two/whole").await.unwrap();
    assert_eq!(
        whole,
        [("user", "ann"), ("password", "o'ne")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    assert_eq!(text(&cluster, "secret/app/renamed", "new").await, "ann");
    let password = text(&cluster, "secret/base/db", "password").await;
    assert_eq!(text(&cluster, "secret/app/url", "url").await, format!("pg://ann:{password}@pg.local/d"));
    assert_eq!(text(&cluster, "configmap/app/global", "empty").await, "");
    let trust = text(&cluster, "configmap/app/trust", "ca.crt").await;
    assert_eq!(trust, text(&cluster, "secret/base/ca", "ca.crt").await);
    assert!(!trust.contains("PRIVATE"));
    let web = cluster.admin().get("secret", "app", "web").await.unwrap();
    assert_eq!(web["type"], "kubernetes.io/tls");

    let before = cluster.versions().await;
    ready(&standings(&store, &dev()).await);
    assert_eq!(cluster.versions().await, before, "a second run writes nothing");

    // One that follows, by its source; drift, by whoever changed it.
    cluster.secret("base", "origin", &[("user", "ben"), ("password", "o'ne")]).await;
    cluster
        .admin()
        .edit("secret", "two", "whole", json!({"stringData": {"password": "meddled"}}))
        .await
        .unwrap();
    let store = syncer.store().await;
    ready(&standings(&store, &dev()).await);
    assert_eq!(text(&cluster, "secret/two/whole", "user").await, "ben");
    assert_eq!(text(&cluster, "secret/two/whole", "password").await, "o'ne");
    assert_eq!(text(&cluster, "secret/app/url", "url").await, format!("pg://ben:{password}@pg.local/d"));
    assert_eq!(text(&cluster, "secret/base/db", "password").await, password, "what is generated stays");
    let changed: BTreeSet<String> = {
        let after = cluster.versions().await;
        after
            .into_iter()
            .filter(|(name, version)| before.get(name) != Some(version))
            .map(|(name, _)| name)
            .collect()
    };
    let expected = ["base/origin", "app/whole", "two/whole", "app/renamed", "app/url", "three/short"];
    assert_eq!(changed, expected.map(|name| format!("secrets/{name}")).into());

    // Whoever trusts an authority trusts the one before it too, once it is rotated; what it signed is left alone.
    let leaf = text(&cluster, "secret/app/web", "tls.crt").await;
    let base = BASE.1.replace("private: ca.key}}}", "private: ca.key}}, rotate: {serial: 1}}");
    let rotated = environment(7, &[(BASE.0, &base), APP]);
    ready(&standings(&syncer.store().await, &rotated).await);
    for (object, key) in
        [("secret/base/ca", "ca.crt"), ("configmap/app/trust", "ca.crt"), ("secret/app/web", "ca.crt")]
    {
        let both = text(&cluster, object, key).await;
        assert!(both.ends_with(&trust) && both.len() > trust.len(), "{object}");
    }
    assert_eq!(text(&cluster, "secret/app/web", "tls.crt").await, leaf);
    let settled = cluster.versions().await;
    ready(&standings(&syncer.store().await, &rotated).await);
    assert_eq!(cluster.versions().await, settled);

    // A key that is not asked for any more goes, and only that.
    let less = environment(
        7,
        &[
            BASE,
            (
                APP.0,
                &APP.1.replace(
                    "{copy: {from: base/origin, to: [app, two]}}",
                    "{copy: {from: base/origin, to: [app, two], keys: {user: user}}}",
                ),
            ),
        ],
    );
    ready(&standings(&syncer.store().await, &less).await);
    assert_eq!(cluster.keys("secret/two/whole").await.unwrap().into_keys().collect::<Vec<_>>(), ["user"]);

    // What its source takes with it, and what stays.
    cluster.admin().delete("secret", "base", "origin").await.unwrap();
    let all = standings(&syncer.store().await, &less).await;
    assert!(matches!(all["secret/app/renamed"], Standing::Ready { .. }), "{all:?}");
    assert_eq!(text(&cluster, "secret/app/renamed", "new").await, "ben");
    assert!(cluster.keys("secret/three/short").await.is_none());
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_generated_is_agreed_on_never_made_anew_and_rotated_on_request() {
    let cluster = cluster().await;
    let syncer = cluster.syncer().await;
    for _ in 0..8 {
        // Stores of their own, as processes would have.
        let (one, other, third) = (syncer.store().await, syncer.store().await, syncer.store().await);
        let base = environment(7, &[BASE]);
        let ((a, b), c) = tokio::join!(
            async { tokio::join!(standings(&one, &base), standings(&other, &base)) },
            standings(&third, &base)
        );
        for all in [a, b, c] {
            let standing = &all["secret/base/db"];
            assert!(
                matches!(standing, Standing::Ready { .. } | Standing::Failed { transient: true, .. }),
                "{standing:?}"
            );
        }
        ready(&standings(&one, &base).await);
        let keys = cluster.keys("secret/base/db").await.unwrap();
        let pair = openssl_pair(&keys["tls.key"], &keys["tls.pub"]);
        assert!(pair, "a private key and its own public key");
        // Gone: never made anew without a word.
        cluster.admin().delete("secret", "base", "db").await.unwrap();
        let all = standings(&syncer.store().await, &base).await;
        refused(&all["secret/base/db"], "was generated once and is gone");
        assert!(cluster.keys("secret/base/db").await.is_none());
        forget(&cluster, &base).await;
    }
    let base = environment(7, &[BASE]);
    ready(&standings(&syncer.store().await, &base).await);
    let old = text(&cluster, "secret/base/db", "password").await;
    let rotated = BASE.1.replace(
        "db: {generate",
        "db: {rotate: {serial: 1, previous: {password: password-previous}}, generate",
    );
    let rotated = environment(7, &[(BASE.0, &rotated)]);
    let (one, other) = (syncer.store().await, syncer.store().await);
    let _ = tokio::join!(standings(&one, &rotated), standings(&other, &rotated));
    ready(&standings(&one, &rotated).await);
    let keys = cluster.keys("secret/base/db").await.unwrap();
    assert_ne!(keys["password"], old);
    assert_eq!(keys["password-previous"], old, "two that rotate at once rotate once");
    assert!(openssl_pair(&keys["tls.key"], &keys["tls.pub"]));
    let before = cluster.versions().await;
    ready(&standings(&syncer.store().await, &rotated).await);
    assert_eq!(cluster.versions().await, before);
    cluster.stop().await;
}

/// Takes away the note that something was generated, as its owner would.
async fn forget(cluster: &Cluster, environment: &Environment) {
    let name = secret_syncer::world::record_name(environment.identity().uid);
    cluster.admin().delete("configmap", "base", &name).await.unwrap();
}

/// Whether a public key, both PEM, is that of a private key.
fn openssl_pair(private: &str, public: &str) -> bool {
    let private = openssl::pkey::PKey::private_key_from_pem(private.as_bytes()).unwrap();
    let public = openssl::pkey::PKey::public_key_from_pem(public.as_bytes()).unwrap();
    private.public_eq(&public)
}

#[tokio::test]
async fn a_teardown_says_first_and_takes_only_what_is_ours() {
    let cluster = cluster().await;
    let syncer = cluster.syncer().await;
    let documents = folder(&cluster.dir().join("documents"), 7, &[BASE, APP]);
    let run = |user: &User, args: &[&str]| {
        let output = cluster.program(user, &documents, args).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    assert_eq!(run(&syncer, &["apply"]).0, Some(0));
    cluster.secret("two", "strange", &[("a", "b")]).await;
    let before = cluster.versions().await;
    let admin = cluster.admin();
    let (code, text) = run(&admin, &["teardown"]);
    assert!(code == Some(0) && text.contains("- secret/two/whole: delete it"), "{text}");
    assert!(text.contains("secret/base/db: was generated, and stays") && !text.contains("origin"), "{text}");
    assert_eq!(cluster.versions().await, before, "it only said so");
    let (code, text) = run(&admin, &["teardown", "--yes"]);
    assert_eq!(code, Some(0), "{text}");
    for gone in ["secret/two/whole", "secret/app/url", "configmap/app/global", "configmap/app/trust"] {
        assert!(cluster.keys(gone).await.is_none(), "{gone}");
    }
    for stays in ["secret/base/origin", "configmap/base/global", "secret/base/db", "secret/two/strange"] {
        assert!(cluster.keys(stays).await.is_some(), "{stays}");
    }
    // Gone by mistake, and forgotten on purpose.
    admin.delete("secret", "base", "db").await.unwrap();
    let (code, text) = run(&syncer, &["plan"]);
    assert!(code == Some(65) && text.contains("secret-syncer forget secret/base/db"), "{text}");
    for says in ["- secret/base/db: forgotten", "= secret/base/db: it is not noted"] {
        let (code, text) = run(&syncer, &["forget", "secret/base/db"]);
        assert!(code == Some(0) && text.contains(says), "{text}");
    }
    assert_eq!(run(&syncer, &["apply"]).0, Some(0));
    assert!(cluster.keys("secret/base/db").await.is_some());
    let (code, text) = run(&admin, &["teardown", "--generated", "--yes"]);
    assert!(code == Some(0) && cluster.keys("secret/base/db").await.is_none(), "{text}");
    cluster.stop().await;
}
