//! Secrets and ConfigMaps of a real cluster: made by name with no right to spare, once and the same by all, kept like what
//! they follow, and never somebody else's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::BTreeSet;

use acceptance::cluster::{Cluster, User, configmap, environment, folder, secret, standings};
use chassis::converge::Standing;
use lifecycle::document::Environment;
use serde_json::{Value, json};

const BASE: (&str, &str) = (
    "base",
    "
secrets:
  origin: {external: true}
  db: {generate: {password: {kind: password}, tls.key: {kind: private-key, algorithm: ecdsa-p256, public: tls.pub}}}
  ca: {generate: {ca.crt: {kind: ca, common_name: dev, private: ca.key}}}
configmaps:
  global: {external: true}
",
);

const APP: (&str, &str) = (
    "app",
    "
secrets:
  whole: {copy: {from: base/origin, to: [app, two]}}
  renamed: {copy: {from: base/origin, keys: {new: user}}}
  url: {template: {keys: {url: 'pg://{user}:{password:url}@{host}/d'}, values: {user: {secret: base/origin, key: user}, password: {secret: base/db, key: password}, host: {configmap: base/global, key: host}}}}
  short: {copy: {from: base/origin, source_gone: delete, to: [three]}}
  web: {type: kubernetes.io/tls, generate: {tls.crt: {kind: certificate, ca: {secret: base/ca}, names: [web], private: tls.key, bundle: ca.crt}}}
configmaps:
  global: {copy: {from: base/global}}
  trust: {bundle: {ca.crt: [{secret: base/ca, key: ca.crt}]}}
",
);

fn dev() -> Environment {
    environment(7, &[BASE, APP])
}

/// A cluster with what others make for the environment.
async fn cluster() -> Cluster {
    let cluster = Cluster::start(&[&dev()]).await;
    cluster.secret("base", "origin", &[("user", "ann"), ("password", "o'ne")]).await;
    cluster.configmap("base", "global", &[("host", "pg.local"), ("empty", "")]).await;
    cluster
}

async fn text(cluster: &Cluster, component: &str, key: &str) -> String {
    let keys = cluster.keys(component).await.unwrap_or_else(|| panic!("{component} is not there"));
    keys.get(key).cloned().unwrap_or_else(|| panic!("{component} has no {key}"))
}

#[track_caller]
fn ready(all: &std::collections::BTreeMap<String, Standing>) {
    let open: Vec<_> =
        all.iter().filter(|(_, standing)| !matches!(standing, Standing::Ready { .. })).collect();
    assert!(open.is_empty(), "{open:#?}");
}

#[track_caller]
fn refused(standing: &Standing, says: &str) {
    let text = match standing {
        Standing::Refused(text) => text,
        Standing::Failed { error, transient: false, .. } => error,
        other => panic!("{other:?}"),
    };
    assert!(text.contains(says), "{text}");
}

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
async fn the_printed_rights_suffice_and_nothing_more_is_allowed() {
    let cluster = cluster().await;
    let syncer = cluster.syncer().await;
    ready(&standings(&syncer.store().await, &dev()).await);
    cluster.secret("base", "other", &[("a", "b")]).await;
    cluster.secret("kube-system", "power", &[("a", "b")]).await;
    let (all, write) = (
        ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"],
        ["get", "watch", "create", "patch"],
    );
    let read = ["get", "watch"];
    let record = secret_syncer::world::record_name(dev().identity().uid);
    let allowed: &[(&str, &str, &str, &[&str])] = &[
        ("secrets", "base", "origin", &read),
        ("configmaps", "base", "global", &read),
        ("secrets", "base", "db", &write),
        ("secrets", "base", "ca", &write),
        ("configmaps", "base", &record, &write),
        ("secrets", "app", "whole", &write),
        ("secrets", "two", "whole", &write),
        ("configmaps", "app", "trust", &write),
        ("secrets", "three", "short", &["get", "watch", "create", "patch", "delete"]),
    ];
    for (resource, namespace, name, verbs) in allowed {
        for verb in all {
            let may = syncer.may(verb, resource, namespace, name).await;
            assert_eq!(may, verbs.contains(&verb), "{verb} {resource} {namespace}/{name}");
        }
    }
    for (resource, namespace, name) in [
        ("secrets", "base", "other"),
        ("secrets", "base", ""),
        ("secrets", "app", "origin"),
        ("secrets", "two", "renamed"),
        ("secrets", "kube-system", "power"),
        ("secrets", "", ""),
        ("configmaps", "two", "global"),
        ("pods", "base", ""),
        ("roles", "base", ""),
        ("serviceaccounts", "base", "default"),
        ("namespaces", "", ""),
    ] {
        for verb in all {
            assert!(
                !syncer.may(verb, resource, namespace, name).await,
                "{verb} {resource} {namespace}/{name}"
            );
        }
    }
    // Not only by what is said of rights: the deeds.
    let denied = |result: Result<Value, kube::Error>| {
        let error = result.unwrap_err();
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 403), "{error:?}");
    };
    denied(syncer.create(secret("base", "db", &[])).await);
    denied(syncer.apply("x", true, secret("base", "origin", &[("user", "x")])).await);
    denied(syncer.apply("x", true, secret("base", "new", &[("user", "x")])).await);
    denied(syncer.apply("x", true, secret("kube-system", "db", &[("user", "x")])).await);
    denied(syncer.call("GET", "/api/v1/secrets", None).await);
    denied(syncer.call("GET", "/api/v1/namespaces/base/secrets", None).await);
    denied(syncer.call("GET", "/api/v1/namespaces/base/secrets/other", None).await);
    cluster.stop().await;
}

/// A tenant who may do anything in the namespace `app`, and nothing elsewhere.
async fn tenant(cluster: &Cluster) -> User {
    let rules = json!([{"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["*"]}]);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "tenant", "namespace": "app"}, "rules": rules});
    cluster.apply(role).await;
    cluster
        .apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "tenant", "namespace": "app"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}],
        }))
        .await;
    cluster.user("mallory").await
}

#[tokio::test]
async fn a_tenant_obtains_nothing_it_was_not_given_and_makes_us_overwrite_nothing() {
    let cluster = cluster().await;
    let (syncer, mallory) = (cluster.syncer().await, tenant(&cluster).await);
    cluster.secret("base", "crown", &[("jewels", "planted-crown")]).await;
    ready(&standings(&syncer.store().await, &dev()).await);

    // Annotations and labels of an object steer nothing: neither what is copied from where, nor to where, nor which keys.
    let mark = cluster.admin().get("secret", "app", "renamed").await.unwrap()["metadata"]["annotations"]["rollcall/mark"]
        .as_str()
        .unwrap()
        .to_owned();
    let forged = mark.replace("secret/base/origin", "secret/base/crown");
    assert_ne!(forged, mark);
    let steer = json!({"metadata": {"annotations": {
        "rollcall/mark": forged, "rollcall/from": "base/crown", "replicator.v1.mittwald.de/replicate-from": "base/crown",
        "reflector.v1.k8s.emberstack.com/reflects": "base/crown",
    }, "labels": {"rollcall/to": "two"}}});
    mallory.edit("secret", "app", "renamed", steer).await.unwrap();
    // Nor a Secret of its own in the form of ours, for what it may not read.
    mallory.create(secret("app", "crown", &[])).await.unwrap();
    mallory
        .edit("secret", "app", "crown", json!({"metadata": {"annotations": {"rollcall/mark": mark}}}))
        .await
        .unwrap();
    // A key that it plants under a name that its own document does not ask for is not carried anywhere, or removed.
    mallory.edit("secret", "app", "whole", json!({"stringData": {"planted": "x"}})).await.unwrap();
    ready(&standings(&syncer.store().await, &dev()).await);
    for object in ["secret/app/renamed", "secret/app/crown", "secret/app/whole"] {
        let keys = cluster.keys(object).await.unwrap();
        assert!(!format!("{keys:?}").contains("planted-crown"), "{object}: {keys:?}");
    }
    assert_eq!(text(&cluster, "secret/app/whole", "planted").await, "x");
    assert!(!cluster.keys("secret/two/whole").await.unwrap().contains_key("planted"));

    // What stands where we would write is not overwritten, however it is marked.
    let admins = secret("two", "crown", &[("jewels", "theirs")]);
    cluster.apply(admins).await;
    let wish = environment(
        7,
        &[BASE, ("app", "secrets: {crown: {copy: {from: base/origin, to: [two], keys: {jewels: user}}}}")],
    );
    cluster.grant(&wish).await;
    let all = standings(&syncer.store().await, &wish).await;
    refused(&all["secret/two/crown"], "was not copied by Rollcall");
    assert_eq!(text(&cluster, "secret/two/crown", "jewels").await, "theirs");
    // Marked with another's mark, it still holds: by the server's own account we never wrote it.
    cluster
        .admin()
        .edit("secret", "two", "crown", json!({"metadata": {"annotations": {"rollcall/mark": mark}}}))
        .await
        .unwrap();
    let all = standings(&syncer.store().await, &wish).await;
    refused(&all["secret/two/crown"], "was not copied by Rollcall");
    assert_eq!(text(&cluster, "secret/two/crown", "jewels").await, "theirs");

    // Unless its owner says so in the document.
    let taking = environment(
        7,
        &[
            BASE,
            (
                "app",
                "secrets: {crown: {copy: {from: base/origin, to: [two], keys: {jewels: user}, takeover: true}}}",
            ),
        ],
    );
    ready(&standings(&syncer.store().await, &taking).await);
    assert_eq!(text(&cluster, "secret/two/crown", "jewels").await, "ann");
    cluster.stop().await;
}

#[tokio::test]
async fn types_that_are_power_and_namespaces_of_the_cluster_are_never_touched() {
    let cluster = cluster().await;
    let syncer = cluster.syncer().await;
    let token = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "token", "namespace": "base", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "data": {"token": "cGxhbnRlZA=="},
    });
    cluster.apply(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "base"}})).await;
    cluster.admin().create(token).await.unwrap();
    let wish = environment(
        7,
        &[
            ("base", "secrets: {token: {external: true}}"),
            ("app", "secrets: {stolen: {copy: {from: base/token}}}"),
        ],
    );
    cluster.grant(&wish).await;
    let all = standings(&syncer.store().await, &wish).await;
    refused(&all["secret/app/stolen"], "service account's token");
    assert!(cluster.keys("secret/app/stolen").await.is_none());

    // Immutable, of another type, being deleted: each is said, and nothing is lost.
    let fixed = environment(
        7,
        &[BASE, ("app", "secrets: {fixed: {copy: {from: base/origin}}, typed: {copy: {from: base/origin}}}")],
    );
    cluster.grant(&fixed).await;
    ready(&standings(&syncer.store().await, &fixed).await);
    cluster.admin().edit("secret", "app", "fixed", json!({"immutable": true})).await.unwrap();
    ready(&standings(&syncer.store().await, &fixed).await);
    cluster.secret("base", "origin", &[("user", "changed"), ("password", "o'ne")]).await;
    let all = standings(&syncer.store().await, &fixed).await;
    refused(&all["secret/app/fixed"], "is immutable");
    assert_eq!(text(&cluster, "secret/app/fixed", "user").await, "ann");
    cluster.admin().delete("secret", "base", "origin").await.unwrap();
    let mut typed = secret("base", "origin", &[("username", "u"), ("password", "p"), ("user", "u")]);
    typed["type"] = json!("kubernetes.io/basic-auth");
    cluster.apply(typed).await;
    let all = standings(&syncer.store().await, &fixed).await;
    refused(&all["secret/app/typed"], "would have to be of type `kubernetes.io/basic-auth`");
    cluster.apply(configmap("base", "unused", &[])).await;
    cluster.stop().await;
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
    let (code, text) = run(&syncer, &["apply"]);
    assert!(code == Some(65) && text.contains("secret-syncer forget secret/base/db"), "{text}");
    assert_eq!(run(&syncer, &["forget", "secret/base/db"]).0, Some(0));
    assert_eq!(run(&syncer, &["apply"]).0, Some(0));
    assert!(cluster.keys("secret/base/db").await.is_some());
    let (code, text) = run(&admin, &["teardown", "--generated", "--yes"]);
    assert!(code == Some(0) && cluster.keys("secret/base/db").await.is_none(), "{text}");
    cluster.stop().await;
}
