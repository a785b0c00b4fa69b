//! secret-syncer in a real cluster has no right to spare, and nobody makes it read, carry or overwrite what was not its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use acceptance::cluster::{Cluster, User, configmap, environment, secret, standings};
use acceptance::sample::{BASE, cluster, dev, ready, refused, text};
use serde_json::{Value, json};

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
