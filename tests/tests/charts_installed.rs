//! The charts, installed by the real Helm on a real API server, by somebody who has rights in his namespaces and none over the
//! cluster: installed, upgraded, rolled back and removed. (No pod runs; what pods do is tried elsewhere.)

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use acceptance::charts::Charts;
use acceptance::charts::fragments;
use acceptance::charts::matrix::{cases, old_databases};
use acceptance::cluster::Cluster;
use acceptance::fragments::environment;
use acceptance::text;
use sandbox::Helm;
use serde_json::{Value, json};

/// Somebody who may do everything in these namespaces and nothing elsewhere.
async fn operator(cluster: &Cluster, namespaces: &[&str]) -> PathBuf {
    let group = "rbac.authorization.k8s.io";
    for namespace in namespaces {
        cluster.namespace(namespace).await;
        let metadata = json!({"name": "operator", "namespace": namespace});
        let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        let (version, role) =
            (format!("{group}/v1"), json!({"apiGroup": group, "kind": "Role", "name": "operator"}));
        cluster
            .apply(json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules}))
            .await;
        let subjects = json!([{"apiGroup": group, "kind": "User", "name": "operator"}]);
        cluster
            .apply(json!({"apiVersion": version, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": subjects}))
            .await;
    }
    cluster.user("operator").await.kubeconfig
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    text(output)
}

/// The names of a namespace's objects of this kind, but for those that the test made.
async fn names(cluster: &Cluster, path: &str, namespace: &str, resource: &str) -> BTreeSet<String> {
    let list = cluster
        .admin()
        .call("GET", &format!("{path}/namespaces/{namespace}/{resource}"), None)
        .await
        .unwrap();
    let items = list["items"].as_array().unwrap();
    let names = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
    names.filter(|name| name != "operator" && name != "default").collect()
}

#[tokio::test]
async fn somebody_without_rights_over_the_cluster_installs_upgrades_rolls_back_and_removes() {
    let cluster = Cluster::start(&[]).await;
    let kubeconfig = operator(&cluster, &["rollcall", "openg2p", "infra", "web", "jobs"]).await;
    for helm in Helm::ALL {
        come_and_go(&cluster, &kubeconfig, &Charts::with(&cluster.sandbox, helm).await).await;
    }
    cluster.stop().await;
}

async fn come_and_go(cluster: &Cluster, kubeconfig: &Path, charts: &Charts) {
    let helm = |args: &[&str]| charts.over(kubeconfig, &[args, &["--namespace", "rollcall"]].concat());

    // Every chart but that for the cluster, with all values, says what to look at next.
    for (number, case) in cases().into_iter().filter(|case| !["cluster"].contains(&case.chart)).enumerate() {
        if case.what == "MOSIP" {
            continue;
        }
        let values = charts.values("installed", &case.values);
        let release = format!("r{number}");
        let notes = done(&helm(&["install", &release, case.chart, "--values", &values]));
        let next = notes.split_once("NOTES:").unwrap().1;
        assert!(next.contains("-n rollcall") && next.contains(&release), "{}: {next}", case.chart);
        assert!(!notes.contains("<no value>") && !notes.contains("%!"), "{}: {next}", case.chart);
        done(&helm(&["uninstall", &release]));
    }
    for (path, resource) in
        [("/apis/batch/v1", "jobs"), ("/apis/apps/v1", "deployments"), ("/api/v1", "services")]
    {
        assert_eq!(names(cluster, path, "rollcall", resource).await, BTreeSet::new(), "{resource}");
    }
    assert_eq!(
        names(cluster, "/apis/rbac.authorization.k8s.io/v1", "openg2p", "roles").await,
        BTreeSet::new()
    );

    // A Job of an unchanged release stays, another takes the place of one that changed, and so on the way back.
    let jobs = async || names(cluster, "/apis/batch/v1", "rollcall", "jobs").await;
    let release = |verb: &str, values: &Value| {
        let values = charts.values("upgraded", values);
        done(&helm(&[verb, "databases", "postgres-init", "--values", &values]));
    };
    release("install", &old_databases());
    let first = jobs().await;
    assert_eq!(first.len(), 1);
    release("upgrade", &old_databases());
    assert_eq!(jobs().await, first);
    let mut other = old_databases();
    other["databases"][1]["extensions"] = json!([]);
    release("upgrade", &other);
    let second = jobs().await;
    assert!(second.len() == 1 && second != first, "{second:?}");
    done(&helm(&["rollback", "databases", "1"]));
    assert_eq!(jobs().await, first);
    // Installed again when it went with what it left behind.
    done(&helm(&["uninstall", "databases"]));
    release("install", &old_databases());
    assert_eq!(jobs().await, first);
    done(&helm(&["uninstall", "databases"]));
    assert_eq!(jobs().await, BTreeSet::new());
}

/// Somebody goes over to Helm 4, which lets the server apply what it installs, with releases that Helm 3 applied itself; and back, when
/// it was not what he wanted.
#[tokio::test]
async fn a_release_of_one_helm_is_upgraded_and_rolled_back_by_the_other() {
    let cluster = Cluster::start(&[]).await;
    let kubeconfig = operator(&cluster, &["rollcall", "base"]).await;
    let secrets = "secrets: {origin: {external: true}, copy: {copy: {from: origin}}}";
    let more = format!("{secrets}\nconfigmaps: {{settings: {{external: true}}}}");
    let image = async || {
        let path = "/apis/apps/v1/namespaces/rollcall/deployments/env-environment-hub";
        let hub = cluster.admin().call("GET", path, None).await.unwrap();
        hub["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    for [first, second] in [[Helm::V3, Helm::V4], [Helm::V4, Helm::V3]] {
        let (one, other) =
            (Charts::with(&cluster.sandbox, first).await, Charts::with(&cluster.sandbox, second).await);
        let values = |charts: &Charts, documents: &str, tag: &str| {
            let documents = fragments(&environment(1, &[("base", documents)]));
            charts.values(
                "env",
                &json!({"fragments": documents, "bus": {"brokers": ["kafka:9092"]}, "image": {"tag": tag}}),
            )
        };
        let helm = |charts: &Charts, args: &[&str]| {
            done(&charts.over(&kubeconfig, &[args, &["--namespace", "rollcall"]].concat()));
        };
        helm(&one, &["install", "env", "environment", "--values", &values(&one, secrets, "1")]);
        assert!(image().await.ends_with(":1"));
        // Nothing is left of what a release no longer has, and nobody else's hand is in the way.
        helm(&other, &["upgrade", "env", "environment", "--values", &values(&other, &more, "2")]);
        assert!(image().await.ends_with(":2"), "{first:?} then {second:?}");
        helm(&one, &["rollback", "env", "1"]);
        assert!(image().await.ends_with(":1"), "{first:?} then {second:?}");
        helm(&other, &["upgrade", "env", "environment", "--values", &values(&other, secrets, "3")]);
        assert!(image().await.ends_with(":3"), "{first:?} then {second:?}");
        helm(&one, &["uninstall", "env"]);
        for (path, resource) in
            [("/apis/batch/v1", "jobs"), ("/apis/apps/v1", "deployments"), ("/api/v1", "services")]
        {
            assert_eq!(names(&cluster, path, "rollcall", resource).await, BTreeSet::new(), "{resource}");
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn two_environments_stand_side_by_side_and_one_goes_without_the_other() {
    let cluster = Cluster::start(&[]).await;
    let charts = Charts::of(&cluster.sandbox).await;
    let kubeconfig = operator(&cluster, &["rollcall", "base"]).await;
    // Two of one name, over the same namespace: only their uids differ.
    let secrets = "secrets: {origin: {external: true}, copy: {copy: {from: origin}}}";
    let releases = ["one", "two"];
    for (number, release) in releases.iter().enumerate() {
        let wish = environment(number as u128 + 1, &[("base", secrets)]);
        let values = charts
            .values(release, &json!({"fragments": fragments(&wish), "bus": {"brokers": ["kafka:9092"]}}));
        done(&charts.over(
            &kubeconfig,
            &["install", release, "environment", "--namespace", "rollcall", "--values", &values],
        ));
    }
    let everything = async |label: &str| {
        let mut all = BTreeSet::new();
        for (path, resource) in [
            ("/apis/batch/v1", "jobs"),
            ("/apis/apps/v1", "deployments"),
            ("/api/v1", "services"),
            ("/api/v1", "serviceaccounts"),
            ("/api/v1", "configmaps"),
            ("/apis/networking.k8s.io/v1", "networkpolicies"),
            ("/apis/rbac.authorization.k8s.io/v1", "roles"),
            ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
        ] {
            let path = format!("{path}/{resource}?labelSelector=app.kubernetes.io/instance={label}");
            let list = cluster.admin().call("GET", &path, None).await.unwrap();
            for item in list["items"].as_array().unwrap() {
                all.insert(format!(
                    "{resource} {} {}",
                    item["metadata"]["uid"], item["metadata"]["resourceVersion"]
                ));
            }
        }
        all
    };
    let before = everything("two").await;
    assert!(before.len() > 20, "{before:?}");
    assert_eq!(everything("one").await.len(), before.len());
    done(&charts.over(&kubeconfig, &["uninstall", "one", "--namespace", "rollcall"]));
    assert_eq!(everything("one").await, BTreeSet::new());
    assert_eq!(everything("two").await, before);
    cluster.stop().await;
}
