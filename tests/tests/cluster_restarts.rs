//! Restart sets in a real cluster: exactly the workloads that use what changed are restarted, once, when they are ready, and by
//! rights that allow nothing else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::time::Duration;

use acceptance::cluster::{Cluster, User, environment, folder};
use acceptance::syncer::Service;
use acceptance::syncer::nowhere;
use acceptance::{ask, until};
use rollcall_proto::diagnostics::v1::GetPlanRequest;
use rollcall_proto::diagnostics::v1::diagnostics_client::DiagnosticsClient;
use serde_json::{Value, json};

/// How long a process may take to end.
const GRACE: Duration = Duration::from_secs(20);
const PLANTED: &str = "PLANTEDrestartQ8w2Lk5Tz1";
const FRAGMENTS: [(&str, &str); 2] = [
    ("base", "secrets: {origin: {external: true}}"),
    (
        "app",
        "
secrets:
  db:
    copy: {from: base/origin}
    restart: {workloads: [deployment/web, statefulset/store, deployment/stranger, deployment/late, deployment/ghost], window: 2s}
  told: {copy: {from: base/origin}, restart: {workloads: [deployment/told], mode: announce, window: 200ms}}
",
    ),
];

/// A workload whose only container or volume reads so.
fn workload(kind: &str, name: &str, pod: &Value) -> Value {
    let labels = json!({"app": name});
    let mut spec = json!({
        "replicas": 1, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    });
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(name);
    }
    if let Some(volumes) = pod.get("volumes") {
        spec["template"]["spec"]["volumes"] = volumes.clone();
    }
    for (field, value) in pod.as_object().unwrap().iter().filter(|(field, _)| *field != "volumes") {
        spec["template"]["spec"]["containers"][0][field] = value.clone();
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "app"}, "spec": spec})
}

fn path(name: &str) -> String {
    let plural = if name == "store" { "statefulsets" } else { "deployments" };
    format!("/apis/apps/v1/namespaces/app/{plural}/{name}")
}

/// Plays the controller: all pods are up to date and ready, or none is.
async fn stands(admin: &User, name: &str, ready: u64) {
    let mut object = admin.call("GET", &path(name), None).await.unwrap();
    object["status"] = json!({
        "observedGeneration": object["metadata"]["generation"],
        "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready, "availableReplicas": ready,
    });
    admin.call("PUT", &format!("{}/status", path(name)), Some(object)).await.unwrap();
}

/// How often a workload's specification was changed, its making included.
async fn generation(admin: &User, name: &str) -> u64 {
    admin.call("GET", &path(name), None).await.unwrap()["metadata"]["generation"].as_u64().unwrap()
}

async fn generations<const N: usize>(admin: &User, names: [&str; N]) -> [u64; N] {
    let mut found = [0; N];
    for (name, found) in names.into_iter().zip(&mut found) {
        *found = generation(admin, name).await;
    }
    found
}

async fn is_at(admin: &User, name: &str, wanted: u64) {
    until(&format!("{name} is at {wanted}"), async || generation(admin, name).await >= wanted).await;
}

async fn change(cluster: &Cluster, value: &str) {
    cluster.secret("base", "origin", &[("password", &format!("{value}-{PLANTED}"))]).await;
}

async fn restarts(service: &Service, outcome: &str) -> usize {
    let count =
        service.metric(&format!("rollcall_secret_workload_restarts_total{{outcome=\"{outcome}\"}}")).await;
    format!("{count}").parse().unwrap()
}

/// Waits until the service says this of what differs.
async fn says(service: &Service, object: &str, text: &str) {
    let mut client = DiagnosticsClient::new(ask::channel(service.grpc).await);
    until(&format!("it says of {object}: {text}"), async || {
        let plan = client.get_plan(GetPlanRequest {}).await.unwrap().into_inner();
        plan.drift.iter().any(|line| line.component == object && line.text.contains(text))
    })
    .await;
}

async fn serve(cluster: &Cluster, syncer: &User, name: &str) -> Service {
    let documents = folder(&cluster.dir().join("documents"), 7, &FRAGMENTS);
    let more = [("ROLLCALL_RESYNC", "2s"), ("ROLLCALL_LOG", "trace")];
    let service = cluster.serve(syncer, &documents, name, &more).await;
    service.answers().await;
    service
}

/// Waits until what these pods have is noted.
async fn noted(admin: &User, names: &[&str]) {
    let record = secret_syncer::restart::record_name(uuid::Uuid::from_u128(7));
    until("it is noted what pods have", async || {
        let Some(found) = admin.get("secret", "app", &record).await else { return false };
        let text = found["data"]["noted"].as_str().unwrap();
        let text = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
        let noted: Value = serde_json::from_slice(&text).unwrap();
        let has_value = |name: &str| {
            let object = if name.ends_with("told") { "secret/app/told" } else { "secret/app/db" };
            noted[name]["values"][object]["password"].is_string()
        };
        names.iter().all(|name| has_value(name))
    })
    .await;
}

#[tokio::test]
async fn a_change_restarts_those_that_use_it_once_and_nobody_else() {
    let dev = environment(7, &FRAGMENTS);
    let cluster = Cluster::start(&[&dev]).await;
    let (syncer, admin) = (cluster.syncer().await, cluster.admin());
    let env = |name: &str| json!({"env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": name, "key": "password"}}}]});
    let projected =
        json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "db"}}]}}]});
    for (kind, name, pod) in [
        ("Deployment", "web", json!({"envFrom": [{"secretRef": {"name": "db"}}]})),
        ("StatefulSet", "store", projected),
        ("Deployment", "late", env("db")),
        ("Deployment", "stranger", env("other")),
        ("Deployment", "bystander", env("db")),
        ("Deployment", "told", env("told")),
    ] {
        cluster.apply(workload(kind, name, &pod)).await;
        stands(&admin, name, u64::from(name != "late")).await;
    }
    change(&cluster, "first").await;
    let service = serve(&cluster, &syncer, "syncer").await;
    says(&service, "secret/app/db", "deployment/app/ghost does not exist").await;
    says(&service, "secret/app/db", "deployment/app/stranger does not use it").await;
    noted(
        &admin,
        &["deployment/app/web", "statefulset/app/store", "deployment/app/late", "deployment/app/told"],
    )
    .await;
    let all = ["web", "store", "late", "stranger", "bystander", "told"];
    assert_eq!(generations(&admin, all).await, [1; 6], "the first values restart nobody");

    // Several changes are one restart; who is not ready waits.
    for value in ["second", "third", "fourth"] {
        change(&cluster, value).await;
    }
    says(&service, "secret/app/told", "the pods of deployment/app/told have the old value").await;
    is_at(&admin, "web", 2).await;
    is_at(&admin, "store", 2).await;
    says(&service, "secret/app/db", "deployment/app/late is restarted for it as soon as its pods are ready")
        .await;
    until("it is counted", async || {
        restarts(&service, "rolled").await == 2 && restarts(&service, "delayed").await == 1
    })
    .await;
    assert!(restarts(&service, "announced").await >= 1);
    // How long a change took is found in its trace, and what was done in that trace in the log.
    let metrics = service.metrics().await;
    let exemplar = metrics.lines().find_map(|line| line.split_once("# {trace_id=\"")).unwrap();
    assert!(exemplar.0.starts_with("rollcall_secret_propagation_seconds_bucket"), "{exemplar:?}");
    let trace = exemplar.1.split('"').next().unwrap();
    assert!(trace.len() == 32 && service.text().contains(trace), "{trace}");
    stands(&admin, "web", 1).await;
    stands(&admin, "store", 1).await;
    stands(&admin, "late", 1).await;
    is_at(&admin, "late", 2).await;
    assert_eq!(generations(&admin, all).await, [2, 2, 2, 1, 1, 1]);
    stands(&admin, "late", 1).await;

    // A process that starts restarts nothing, but for what changed while none was there.
    service.handle.stop(GRACE).await.unwrap();
    let service = serve(&cluster, &syncer, "another").await;
    says(&service, "secret/app/told", "have the old value").await;
    says(&service, "secret/app/db", "does not use it").await;
    assert_eq!(generations(&admin, all).await, [2, 2, 2, 1, 1, 1]);
    service.handle.stop(GRACE).await.unwrap();
    change(&cluster, "fifth").await;
    let service = serve(&cluster, &syncer, "third").await;
    for name in ["web", "store", "late"] {
        is_at(&admin, name, 3).await;
    }
    says(&service, "secret/app/told", "have the old value").await;
    // Who is restarted by its owner has the present values, and is spoken of no more.
    let mut told = workload("Deployment", "told", &env("told"));
    told["spec"]["template"]["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": "now"});
    cluster.apply(told).await;
    stands(&admin, "told", 1).await;
    until("it is seen that somebody restarted it", async || restarts(&service, "superseded").await == 1)
        .await;
    assert_eq!(generations(&admin, all).await, [3, 3, 3, 1, 1, 2]);
    only_what_is_named(&cluster, &syncer).await;

    let web = admin.call("GET", &path("web"), None).await.unwrap();
    let annotation = secret_syncer::restart::annotation(uuid::Uuid::from_u128(7));
    let restarted = web["spec"]["template"]["metadata"]["annotations"][&annotation].as_str().unwrap();
    assert_eq!(restarted.len(), 32);
    assert!(!web.to_string().contains(PLANTED));
    nowhere(&cluster, &[&service], &[PLANTED]).await;
    cluster.stop().await;
}

/// The rights that are printed allow nothing but what was done.
async fn only_what_is_named(cluster: &Cluster, syncer: &User) {
    let denied = |result: Result<Value, kube::Error>| {
        let error = result.unwrap_err();
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 403), "{error:?}");
    };
    let pod = json!({"env": []});
    denied(syncer.apply("x", true, workload("Deployment", "bystander", &pod)).await);
    denied(syncer.apply("x", true, workload("Deployment", "told", &pod)).await);
    // Not there, and not to be made.
    denied(syncer.apply("x", true, workload("Deployment", "ghost", &pod)).await);
    denied(syncer.call("GET", "/apis/apps/v1/namespaces/app/deployments", None).await);
    denied(syncer.call("GET", &path("bystander"), None).await);
    denied(syncer.call("DELETE", &path("web"), None).await);
    denied(syncer.call("GET", "/api/v1/namespaces/app/pods", None).await);
    assert!(syncer.call("GET", &path("web"), None).await.is_ok());
    let ghost = cluster.admin().call("GET", &path("ghost"), None).await.unwrap_err();
    assert!(matches!(&ghost, kube::Error::Api(status) if status.code == 404), "{ghost:?}");
}
