//! Keys that a module's pods refer to, in a real cluster: looked at where the workloads are, and waited for by name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use acceptance::cluster::{Cluster, environment, folder};
use rollcall_proto::lifecycle::v1::Phase;
use serde_json::{Value, json};

const FRAGMENTS: [(&str, &str); 1] = [(
    "app",
    "
secrets: {db: {external: true}}
configmaps: {settings: {external: true}}
modules: {web: {keys: referenced, workloads: [deployment/web]}}
",
)];

fn web(key: &str, optional: &str) -> Value {
    let labels = json!({"app": "web"});
    let secret = |name: &str, key: &str, optional: bool| json!({"name": key.to_uppercase(), "valueFrom": {"secretKeyRef": {"name": name, "key": key, "optional": optional}}});
    let container = json!({"name": "c", "image": "i", "env": [secret("db", key, false), secret("db", optional, true)], "envFrom": [{"configMapRef": {"name": "settings"}}]});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "app"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
    })
}

#[tokio::test]
async fn what_pods_refer_to_is_waited_for_by_name() {
    let cluster = Cluster::start(&[&environment(7, &FRAGMENTS)]).await;
    let syncer = cluster.syncer().await;
    let documents = folder(&cluster.dir().join("documents"), 7, &FRAGMENTS);
    // Who makes Secrets once, before the workloads that use them are there, does not wait for these.
    cluster.secret("app", "db", &[("user", "ann")]).await;
    cluster.configmap("app", "settings", &[("empty", "")]).await;
    let output = cluster.program(&syncer, &documents, &["apply"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cluster.admin().delete("secret", "app", "db").await.unwrap();
    cluster.admin().delete("configmap", "app", "settings").await.unwrap();

    let service = cluster.serve(&syncer, &documents, "syncer", &[("ROLLCALL_RESYNC", "2s")]).await;
    service.answers().await;
    let says = async |text: &str| service.says("module/web", Phase::Waiting, text).await;

    says("deployment/app/web does not exist yet").await;
    cluster.apply(web("password", "absent")).await;
    says("secret/app/db does not exist, and Deployment app/web, container c, env PASSWORD refers to it")
        .await;
    cluster.secret("app", "db", &[("user", "ann")]).await;
    says("secret/app/db has no key `password`, and Deployment app/web, container c, env PASSWORD").await;
    cluster.secret("app", "db", &[("user", "ann"), ("password", "changeme")]).await;
    says("secret/app/db key `password`").await;
    cluster.secret("app", "db", &[("user", "ann"), ("password", "b7HkQ2")]).await;
    says("configmap/app/settings does not exist, and Deployment app/web, container c, envFrom").await;
    cluster.configmap("app", "settings", &[("empty", "")]).await;
    service.says("module/web", Phase::Ready, "").await;

    // Only said of what may be looked at: rights come from documents.
    let mut other = web("password", "absent");
    other["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "v", "secret": {"secretName": "undeclared"}}]);
    cluster.apply(other).await;
    let output = cluster.program(&syncer, &documents, &["plan"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("? module/web: Deployment app/web, volume v refers to secret/app/undeclared, which no document declares"), "{text}");

    let denied = syncer.apply("x", true, web("password", "absent")).await.unwrap_err();
    assert!(matches!(&denied, kube::Error::Api(status) if status.code == 403), "{denied:?}");
    cluster.stop().await;
}
