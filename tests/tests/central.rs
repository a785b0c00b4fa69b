//! Chart `cluster`, on a real API server: the fence around secret-syncers, and the central one, which carries into chosen
//! namespaces what the owner of the original gave them and nothing else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use acceptance::charts::{Charts, fragments};
use acceptance::cluster::{ACCOUNT, Cluster, User, configmap, secret};
use acceptance::fragments::{environment, folder};
use acceptance::sample::{dev, ready, text};
use acceptance::{cluster::standings, until};
use rollcall_proto::lifecycle::v1::Phase;
use serde_json::{Value, json};

const BASE: &str = "
secrets:
  trust: {external: true}
  chosen: {copy: {from: trust, namespace_selector: {match_labels: {env: dev}}}}
";

async fn label(cluster: &Cluster, namespace: &str, labels: Value) {
    cluster
        .apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}))
        .await;
}

/// What the owner of an original applies.
async fn give(cluster: &Cluster, secret: &str, to: &str) {
    let metadata = json!({"name": format!("give-{secret}-to-{to}"), "namespace": "base"});
    let group = "rbac.authorization.k8s.io";
    cluster
        .apply(json!({
            "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret], "verbs": ["get"]}],
        }))
        .await;
    cluster
        .apply(json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": metadata["name"]},
            "subjects": [{"apiGroup": group, "kind": "Group", "name": format!("system:serviceaccounts:{to}")}],
        }))
        .await;
}

/// Applies what a chart renders but what runs in pods, of which a control plane alone has none.
async fn install(cluster: &Cluster, values: &Value) {
    let charts = Charts::of(&cluster.sandbox).await;
    for manifest in charts.render("cluster", values) {
        if manifest["kind"] != "Deployment" {
            cluster.apply(manifest).await;
        }
    }
}

#[tokio::test]
async fn the_central_one_carries_what_was_given_into_the_namespaces_that_labels_choose() {
    let cluster = Cluster::start(&[]).await;
    let wish = environment(7, &[("base", BASE)]);
    for (namespace, labels) in [
        ("base", json!({})),
        ("one", json!({"env": "dev"})),
        ("two", json!({"env": "dev"})),
        ("prod", json!({"env": "prod"})),
    ] {
        label(&cluster, namespace, labels).await;
    }
    cluster.secret("base", "trust", &[("ca.crt", "planted")]).await;
    install(&cluster, &json!({"central": {"enabled": true}, "fragments": fragments(&wish)})).await;
    let central = cluster.account(("rollcall", "syncer-cluster")).await;
    let documents = folder(&cluster.dir().join("documents"), 7, &[("base", BASE)]);
    give(&cluster, "trust", "one").await;

    // The central one does nothing by which it could be made to carry out what nobody gave.
    for beyond in [
        "vault: {main: {url: 'https://v:8200', login: {token: {secret: trust, key: ca.crt}}}}",
        "secrets: {trust: {external: true}, x: {copy: {from: {sops: a.yaml}}}}",
        "secrets: {trust: {external: true, restart: {workloads: [deployment/web]}}}",
    ] {
        let documents = folder(&cluster.dir().join("beyond"), 7, &[("base", beyond)]);
        let output = cluster.program(&central, &documents, &["--central", "apply"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("give to one of the environment's own: base: "), "{said}");
    }

    // One that is not central cannot look, and says what to do instead.
    let plain = cluster.program(&central, &documents, &["apply"]).output().unwrap();
    let said = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert_eq!(plain.status.code(), Some(2), "{said}");
    assert!(said.contains("name them under `to` instead of: base: secrets.chosen"), "{said}");

    let args = ["secret-syncer", "--central", "serve"];
    let binary = acceptance::binary();
    let service = cluster.serve_by(binary, &args, &central, &documents, "central", &[]).await;
    service.answers().await;
    service.says("secret/one/chosen", Phase::Ready, "").await;
    assert_eq!(text(&cluster, "secret/one/chosen", "ca.crt").await, "planted");
    service.says("secret/two/chosen", Phase::Failed, "secret/base/trust is not given to namespace two").await;
    service.counts("denied", 1).await;
    assert!(cluster.keys("secret/two/chosen").await.is_none());
    give(&cluster, "trust", "two").await;
    service.says("secret/two/chosen", Phase::Ready, "").await;

    // A namespace that appears, one that is chosen later, and one that is not chosen any more.
    label(&cluster, "new", json!({"env": "dev"})).await;
    give(&cluster, "trust", "new").await;
    service.says("secret/new/chosen", Phase::Ready, "").await;
    label(&cluster, "prod", json!({"env": "dev"})).await;
    service.says("secret/prod/chosen", Phase::Failed, "is not given to namespace prod").await;
    label(&cluster, "one", json!({"env": "other"})).await;
    service.says("secret/one/chosen", Phase::Removed, "it was left as it is").await;
    service.counts("orphan", 1).await;
    cluster.secret("base", "trust", &[("ca.crt", "renewed")]).await;
    until("those that are chosen follow", async || {
        text(&cluster, "secret/two/chosen", "ca.crt").await == "renewed"
            && text(&cluster, "secret/new/chosen", "ca.crt").await == "renewed"
    })
    .await;
    assert_eq!(text(&cluster, "secret/one/chosen", "ca.crt").await, "planted");
    assert!(cluster.keys("secret/prod/chosen").await.is_none());
    assert!(cluster.keys("secret/base/chosen").await.is_none());

    // What is taken down is what is chosen and carried, and nothing else.
    service.handle.stop(acceptance::PATIENCE).await.unwrap();
    let down = cluster.program(&central, &documents, &["--central", "teardown", "--yes"]).output().unwrap();
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(cluster.keys("secret/two/chosen").await.is_none());
    assert!(cluster.keys("secret/base/trust").await.is_some());
    cluster.stop().await;
}

/// Whether the API server's policy refused it, in these words.
fn fenced(result: Result<Value, kube::Error>, words: &str) {
    let error = result.unwrap_err();
    assert!(
        matches!(&error, kube::Error::Api(status) if status.code == 403 && status.message.contains(words)),
        "{error:?}"
    );
}

/// Waits until the fence stands around a namespace: the API server knows policies and labels a moment after they were written.
async fn up(cluster: &Cluster, syncer: &User, namespace: &str) {
    until(&format!("the fence is up around {namespace}"), async || {
        let refused = syncer.apply("try", false, marked(namespace, "probe")).await.is_err();
        if !refused {
            cluster.admin().delete("secret", namespace, "probe").await.unwrap();
        }
        refused
    })
    .await;
}

/// A Secret as secret-syncer writes one.
fn marked(namespace: &str, name: &str) -> Value {
    let mut secret = secret(namespace, name, &[("a", "b")]);
    secret["metadata"]["annotations"] = json!({"rollcall/mark": "{}"});
    secret
}

#[tokio::test]
async fn the_fence_holds_whatever_rights_somebody_gave() {
    let cluster = Cluster::start(&[&dev()]).await;
    cluster.secret("base", "origin", &[("user", "ann"), ("password", "o'ne")]).await;
    cluster.configmap("base", "global", &[("host", "pg.local")]).await;
    let (namespace, name) = ACCOUNT;
    for open in ["base", "app", "two", "three"] {
        label(&cluster, open, json!({"rollcall": "on"})).await;
    }
    install(&cluster, &json!({"policy": {"accounts": [{"namespace": namespace, "name": name}], "namespaceLabels": {"rollcall": "on"}}})).await;
    // Somebody was generous.
    cluster
        .apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "generous"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
        }))
        .await;
    let syncer: User = cluster.syncer().await;
    up(&cluster, &syncer, "kube-system").await;

    // Everything that documents ask for goes through it.
    ready(&standings(&syncer.store().await, &dev()).await);
    cluster.secret("base", "origin", &[("user", "eve"), ("password", "o'ne")]).await;
    ready(&standings(&syncer.store().await, &dev()).await);
    assert_eq!(text(&cluster, "secret/app/whole", "user").await, "eve");

    let apply = async |object: Value| syncer.apply("try", true, object).await;
    // So do its own records, and what it takes away where it may no longer write.
    apply(secret("app", "rollcall-restarts-x", &[("a", "b")])).await.unwrap();
    apply(marked("three", "leaving")).await.unwrap();
    label(&cluster, "three", json!({})).await;
    up(&cluster, &syncer, "three").await;
    fenced(apply(marked("three", "x")).await, "only in namespaces labelled rollcall=on");
    syncer.delete("secret", "three", "leaving").await.unwrap();
    fenced(apply(marked("kube-system", "x")).await, "in a namespace of Kubernetes itself");
    fenced(apply(marked("rollcall", "x")).await, "only in namespaces labelled rollcall=on");
    fenced(apply(secret("app", "x", &[("a", "b")])).await, "only what carries its mark");
    fenced(apply(configmap("app", "x", &[("a", "b")])).await, "only what carries its mark");
    for kind in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"]
    {
        let mut power = marked("app", "power");
        power["type"] = json!(kind);
        power["metadata"]["annotations"]["kubernetes.io/service-account.name"] = json!("default");
        fenced(apply(power).await, "power over the cluster");
    }
    let mut owned = marked("app", "owned");
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "00000000-0000-4000-8000-000000000007"}]);
    fenced(apply(owned).await, "gives nothing an owner");
    // What others made is neither overwritten nor deleted.
    cluster.secret("app", "theirs", &[("a", "theirs")]).await;
    fenced(apply(marked("app", "theirs")).await, "overwrites nothing that others made");
    let deleted = syncer.delete("secret", "app", "theirs").await.unwrap_err();
    assert!(matches!(&deleted, kube::Error::Api(status) if status.code == 403), "{deleted:?}");
    assert_eq!(text(&cluster, "secret/app/theirs", "a").await, "theirs");
    // Pods are restarted, and nothing else of them is changed.
    let labels = json!({"app": "web"});
    cluster
        .apply(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "app"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels, "annotations": {"theirs": "a"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            }},
        }))
        .await;
    let edit =
        async |patch: Value| syncer.edit("deployment", "app", "web", patch).await.map(|()| Value::Null);
    let template = |part: Value| json!({"spec": {"template": part}});
    edit(template(json!({"metadata": {"annotations": {"rollcall/restarted-for-x": "1"}}}))).await.unwrap();
    edit(template(json!({"metadata": {"annotations": {"rollcall/restarted-for-x": "2"}}}))).await.unwrap();
    for patch in [
        template(json!({"spec": {"serviceAccountName": "power"}})),
        template(json!({"spec": {"containers": [{"name": "web", "image": "evil:1"}]}})),
        template(json!({"metadata": {"annotations": {"theirs": "b"}}})),
        template(json!({"metadata": {"annotations": {"other": "x", "rollcall/restarted-for-x": "3"}}})),
        template(json!({"metadata": {"labels": {"more": "x"}}})),
        json!({"spec": {"replicas": 5}}),
    ] {
        fenced(edit(patch).await, "restarts pods and changes nothing else");
    }
    let deleted = syncer.delete("deployment", "app", "web").await.unwrap_err();
    assert!(matches!(&deleted, kube::Error::Api(status) if status.code == 403), "{deleted:?}");
    // Others are not fenced in.
    cluster.apply(secret("kube-system", "an-operators", &[("a", "b")])).await;
    cluster.stop().await;
}
