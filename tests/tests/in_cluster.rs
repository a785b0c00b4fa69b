//! `rollcall` asks the hub of a cluster by namespace and context: which pod it means, and what it says when it reaches none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::path::Path;
use std::process::Command;

use acceptance::binary;
use acceptance::cluster::Cluster;
use serde_json::json;

/// The exit code of `rollcall` and what it said.
fn ask(kubeconfig: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(args).env_clear().env("KUBECONFIG", kubeconfig).env("HOME", "/nonexistent");
    let output = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

#[tokio::test]
async fn whom_it_asks_in_a_cluster_is_said_and_why_it_cannot() {
    let cluster = Cluster::start(&[]).await;
    cluster.namespace("shop").await;
    let admin = cluster.admin().kubeconfig;
    let context = || {
        let config: serde_json::Value =
            serde_saphyr::from_str(&std::fs::read_to_string(&admin).unwrap()).unwrap();
        config["current-context"].as_str().unwrap().to_owned()
    };
    let expect = |kubeconfig: &Path, args: &[&str], code: i32, words: &str| {
        let (ended, said) = ask(kubeconfig, args);
        assert_eq!(ended, Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    };
    let none = "no pod of a hub is in namespace shop";
    expect(&admin, &["status", "-n", "shop"], 2, none);
    expect(&admin, &["explain", "module/web", "-n", "shop", "--context", &context()], 2, none);
    expect(&admin, &["status", "--context", &context()], 2, "no pod of a hub is in namespace default");
    expect(&admin, &["timeline", "-n", "shop"], 2, "no pod of a telemetry-exporter is in namespace shop");
    expect(&admin, &["watch", "-n", "shop", "--context", "elsewhere"], 2, "elsewhere");
    expect(&cluster.dir().join("nowhere"), &["status", "-n", "shop"], 2, "says where the cluster is");
    let stranger = cluster.user("stranger").await.kubeconfig;
    expect(&stranger, &["status", "-n", "shop"], 2, "whoever asks must be allowed to list pods there");

    let pod = |name: &str, release: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "shop", "name": name, "labels": {
                "app.kubernetes.io/part-of": "rollcall", "app.kubernetes.io/component": "hub", "app.kubernetes.io/instance": release,
            }},
            "spec": {
                "automountServiceAccountToken": false,
                "containers": [{"name": "hub", "image": "hub", "ports": [{"name": "grpc", "containerPort": 7070}]}],
            },
        })
    };
    cluster.account(("shop", "default")).await;
    cluster.apply(pod("hub-1", "one")).await;
    // There is no node, so it is asked and does not answer.
    expect(&admin, &["status", "-n", "shop"], 75, "pod shop/hub-1 is not reached through the API server");
    cluster.apply(pod("hub-2", "two")).await;
    expect(&admin, &["status", "-n", "shop"], 2, "releases one, two; say which with --release");
    expect(&admin, &["status", "-n", "shop", "--release", "two"], 75, "pod shop/hub-2 is not reached");
    cluster.stop().await;
}
