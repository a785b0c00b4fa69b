//! What the charts render, over a matrix of values: a real API server takes every object, every pod passes the restricted Pod
//! Security Standard, and nothing stands over the cluster or hooks into an installation.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use acceptance::charts::Charts;
use acceptance::charts::matrix::{cases, old_databases, pod, selects};
use acceptance::cluster::Cluster;
use acceptance::{binary, openg2p};
use chassis::settings::Settings;
use lifecycle::document::Document;
use sandbox::{Options, Sandbox, Supervisor};
use serde_json::{Value, json};

async fn sandbox() -> Sandbox {
    Sandbox::start(Options::new(Supervisor::command(binary(), ["sandbox-supervisor"]))).await.unwrap()
}

fn text<'a>(manifest: &'a Value, pointer: &str) -> &'a str {
    manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test]
async fn an_api_server_takes_every_object_and_every_pod_is_restricted() {
    let cluster = Cluster::start(&[]).await;
    let charts = Charts::of(&cluster.sandbox).await;
    let mut made = BTreeSet::new();
    let (mut objects, mut pods) = (0, 0);
    for (case, manifests) in charts.rendered() {
        let at = format!("{} with {}", case.chart, case.what);
        assert!(!manifests.is_empty(), "{at}: nothing");
        for manifest in &manifests {
            let namespace = text(manifest, "/metadata/namespace");
            if !namespace.is_empty() && made.insert(namespace.to_owned()) {
                let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
                let metadata = json!({"name": namespace, "labels": labels});
                cluster.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await;
            }
            let tried = cluster.admin().try_out(manifest).await;
            assert!(tried.is_ok(), "{at}: {tried:?}\n{manifest:#}");
            objects += 1;
            if let Some(pod) = pod(manifest) {
                // A token is given to one container by a volume, and to none of the exporter.
                assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{at}");
                let exports =
                    manifest["metadata"]["labels"]["app.kubernetes.io/component"] == "telemetry-exporter";
                assert_eq!(pod.to_string().contains("\"serviceAccountToken\""), !exports, "{at}");
                let tried = cluster.admin().try_out(&pod).await;
                assert!(tried.is_ok(), "{at}: {tried:?}\n{pod:#}");
                pods += 1;
            }
        }
    }
    assert!(objects > 300 && pods > 20, "{objects} objects, {pods} pods");

    // The server would say so if a pod were not.
    let container = json!({"name": "a", "image": "a"});
    let metadata = json!({"name": "a", "namespace": "rollcall"});
    let loose =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}});
    let refused = cluster.admin().try_out(&loose).await.unwrap_err().to_string();
    assert!(refused.contains("restricted"), "{refused}");
    cluster.stop().await;
}

#[tokio::test]
async fn only_the_chart_for_it_makes_what_is_of_the_cluster_and_none_has_hooks() {
    let sandbox = sandbox().await;
    let charts = Charts::of(&sandbox).await;
    let known: BTreeSet<&str> = cases().iter().map(|case| case.chart).collect();
    let all = charts.names();
    assert_eq!(known, all.iter().map(String::as_str).filter(|name| *name != "common").collect());
    for (case, manifests) in charts.rendered() {
        let mut names = BTreeSet::new();
        for manifest in &manifests {
            let at = format!(
                "{} with {}: {} {}",
                case.chart, case.what, manifest["kind"], manifest["metadata"]["name"]
            );
            if case.chart != "cluster" {
                assert_ne!(text(manifest, "/metadata/namespace"), "", "{at} is of no namespace");
                assert!(!text(manifest, "/kind").starts_with("Cluster"), "{at}");
            }
            let said = manifest.to_string();
            assert!(!said.contains("helm.sh/hook"), "{at}");
            let metadata = &manifest["metadata"];
            let id = format!("{} {} {}", manifest["kind"], metadata["namespace"], metadata["name"]);
            assert!(names.insert(id), "{at} twice");
        }
    }
    sandbox.stop().await.unwrap();
}

/// As long as Helm lets a release's name be.
const LONG: &str = "a-very-long-release-name-as-somebody-may-well-have-x1";

/// A node that is short of processors makes all slow. Whoever were ended for it would leave the others to look for themselves.
#[tokio::test]
async fn nobody_is_ended_for_being_slow() {
    let sandbox = sandbox().await;
    let charts = Charts::of(&sandbox).await;
    let mut looked_at = 0;
    for (case, manifests) in charts.rendered() {
        for pod in manifests.iter().filter_map(pod) {
            let containers = pod["spec"]["containers"].as_array().unwrap().iter();
            for probe in containers.map(|one| &one["livenessProbe"]).filter(|probe| probe.is_object()) {
                let number = |key: &str, usual| probe[key].as_u64().unwrap_or(usual);
                let silence = number("periodSeconds", 10) * number("failureThreshold", 3);
                let at = format!("{} with {}: {probe}", case.chart, case.what);
                assert!(silence >= 60 && number("timeoutSeconds", 1) >= 5, "{at}");
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 20, "{looked_at}");
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn names_are_short_enough_and_differ_however_long_the_releases_is() {
    let sandbox = sandbox().await;
    let charts = Charts::of(&sandbox).await;
    let names = |release: &str, chart: &str, values: &Value| -> BTreeSet<String> {
        let manifests = charts.render_as(release, chart, values, &[]);
        // Roles are called by the environment, as `rollcall rbac` calls them.
        let of_us = manifests.iter().filter(|m| !text(m, "/kind").starts_with("Role"));
        of_us
            .map(|manifest| format!("{} {}", text(manifest, "/kind"), text(manifest, "/metadata/name")))
            .collect()
    };
    for case in cases().into_iter().filter(|case| case.chart != "cluster") {
        let at = format!("{} with {}", case.chart, case.what);
        assert_eq!(LONG.len(), 53);
        let first = names(LONG, case.chart, &case.values);
        for name in &first {
            let name = name.split(' ').next_back().unwrap();
            assert!(lifecycle::is_dns_label(name), "{at}: {name}");
        }
        // Another release, whose name differs in the last letter.
        let second = names(&LONG.replace("x1", "x2"), case.chart, &case.values);
        let common: Vec<_> = first.intersection(&second).filter(|name| !name.ends_with(" given")).collect();
        assert!(common.is_empty(), "{at}: {common:?}");
    }
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_is_named_by_what_it_is() {
    let sandbox = sandbox().await;
    let charts = Charts::of(&sandbox).await;
    let job = |chart: &str, values: &Value| -> String {
        let manifests = charts.render(chart, values);
        let mut jobs = manifests.iter().filter(|manifest| manifest["kind"] == "Job");
        let name = text(jobs.next().unwrap(), "/metadata/name").to_owned();
        assert!(jobs.next().is_none());
        name
    };
    let values = old_databases();
    let name = job("postgres-init", &values);
    assert_eq!(name, job("postgres-init", &old_databases()), "the same twice");
    let mut seen = BTreeSet::from([name]);
    for (pointer, value) in [
        ("/databases/1/name", json!("odk")),
        ("/databases/1/extensions", json!([])),
        ("/job/backoffLimit", json!(5)),
        ("/job/ttlSecondsAfterFinished", json!(null)),
        ("/resources", json!({"limits": {"memory": "1Gi"}})),
        ("/postgresql/host", json!("elsewhere")),
    ] {
        let mut other = values.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        assert!(seen.insert(job("postgres-init", &other)), "{pointer} changes nothing");
    }
    // What is of the Job's object and not of what it does may be changed in place.
    let mut other = values.clone();
    other["job"]["annotations"] = json!({"a": "b"});
    assert!(!seen.insert(job("postgres-init", &other)));
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn policies_and_services_choose_the_pods_they_are_for() {
    let sandbox = sandbox().await;
    let charts = Charts::of(&sandbox).await;
    for (case, manifests) in charts.rendered() {
        let at = format!("{} with {}", case.chart, case.what);
        let of_kind = |kind: &'static str| manifests.iter().filter(move |m| m["kind"] == kind);
        let pods: BTreeMap<String, Value> = manifests
            .iter()
            .filter_map(|m| {
                Some((text(m, "/metadata/name").to_owned(), pod(m)?["metadata"]["labels"].clone()))
            })
            .collect();
        let chosen = |selector: &Value| -> Vec<&str> {
            let chosen = pods.iter().filter(|(_, labels)| selects(selector, labels));
            chosen.map(|(name, _)| name.as_str()).collect()
        };
        let policies: Vec<_> = of_kind("NetworkPolicy").collect();
        assert_eq!(policies.len(), pods.len(), "{at}: one for each");
        let mut covered = BTreeSet::new();
        for policy in policies {
            let name = text(policy, "/metadata/name");
            let chosen = chosen(&policy["spec"]["podSelector"]["matchLabels"]);
            assert!(chosen.len() == 1 && chosen[0].starts_with(name), "{at}: {name} is for {chosen:?}");
            covered.insert(chosen[0]);
        }
        assert_eq!(covered.len(), pods.len(), "{at}");
        for service in of_kind("Service") {
            assert_eq!(chosen(&service["spec"]["selector"]), [text(service, "/metadata/name")], "{at}");
        }
        for deployment in of_kind("Deployment") {
            let selector = &deployment["spec"]["selector"]["matchLabels"];
            assert_eq!(chosen(selector), [text(deployment, "/metadata/name")], "{at}");
        }
    }

    // The hub lets in the pods of the documents' namespaces, to gRPC, and everybody to its health.
    let fragments = acceptance::charts::matrix::of_folder(&openg2p());
    let manifests = charts.render("wait-for-dependency", &json!({"fragments": fragments}));
    let policy = manifests.iter().find(|manifest| manifest["kind"] == "NetworkPolicy").unwrap();
    let rules = policy["spec"]["ingress"].as_array().unwrap();
    let of_port = |port: &str| rules.iter().find(|rule| rule["ports"][0]["port"] == port).unwrap();
    let from = &of_port("grpc")["from"][0]["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(from["values"], json!(["openg2p", "rollcall"]), "{policy}");
    assert_eq!(of_port("health").get("from"), None);
    sandbox.stop().await.unwrap();
}

/// What the programs are told is what they understand.
#[tokio::test]
async fn documents_and_settings_are_what_the_programs_read() {
    let sandbox = sandbox().await;
    let charts = Charts::of(&sandbox).await;
    let mut documents = 0;
    for (case, manifests) in charts.rendered() {
        let at = format!("{} with {}", case.chart, case.what);
        let dir = sandbox.dir().join(format!("documents-{documents}"));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in manifests
            .iter()
            .filter(|manifest| manifest["kind"] == "ConfigMap")
            .flat_map(|manifest| manifest["data"].as_object().unwrap())
        {
            let text = text.as_str().unwrap();
            let parsed: Document =
                chassis::documents::parse(name, text).unwrap_or_else(|p| panic!("{at}: {p:?}"));
            std::fs::write(dir.join(name), text).unwrap();
            documents += 1;
            // Nothing that was given is lost on the way.
            if let Some(given) = case.values["fragments"].get(name.trim_end_matches(".json")) {
                assert_eq!(serde_json::to_value(&parsed).unwrap(), *given, "{at}: {name}");
            }
        }
        if std::fs::read_dir(&dir).unwrap().next().is_some() {
            // Who makes the administrator's Secret is not for one of several such charts to say.
            let alone = case.values.get("databases").is_none();
            let merged = chassis::documents::load(std::slice::from_ref(&dir));
            assert_eq!(merged.problems, [], "{at}");
            assert!(!alone || chassis::documents::load_complete(&[dir]).is_ok(), "{at}");
        }
        let containers =
            manifests.iter().filter_map(|manifest| Some((manifest["kind"] == "Job", pod(manifest)?)));
        let containers = containers.flat_map(|(ends, pod)| {
            let of = |key: &str| pod["spec"][key].as_array().cloned().unwrap_or_default();
            let all = [of("initContainers"), of("containers")].concat();
            all.into_iter().map(move |container| (ends, container))
        });
        for (ends, container) in containers {
            let env = container["env"].as_array().unwrap().iter();
            let env =
                env.filter_map(|v| Some((v["name"].as_str()?.to_owned(), v["value"].as_str()?.to_owned())));
            let settings = Settings::load(env);
            assert!(settings.is_ok(), "{at}: {settings:?}");
            let settings = settings.unwrap();
            assert_eq!(settings.health_listen.port(), 7071);
            // What ends waits as long for what others make; what serves does not end.
            assert_eq!(settings.deadline.is_some(), ends, "{at}");
        }
    }
    assert!(documents > 100, "{documents}");
    sandbox.stop().await.unwrap();
}

/// A chart that is packed holds all that it needs: it renders the same where nothing lies beside it, and at every supported version.
#[tokio::test]
async fn a_packed_chart_renders_the_same() {
    let sandbox = sandbox().await;
    let charts = Charts::of(&sandbox).await;
    let packed = sandbox.dir().join("packed");
    for name in charts.names() {
        let output = charts.run(&["package", &name, "--destination", packed.to_str().unwrap()]);
        assert!(output.status.success(), "{}", acceptance::text(&output));
    }
    let version = env!("CARGO_PKG_VERSION");
    for case in cases() {
        let archive = packed.join(format!("{}-{version}.tgz", case.chart)).display().to_string();
        let values = charts.values("packed", &case.values);
        // ValidatingAdmissionPolicy came with 1.30.
        let oldest = if case.chart == "cluster" { "1.30.0" } else { "1.27.0" };
        for kubernetes in [oldest, "1.34.0"] {
            let args = ["template", "syncer", &archive, "--namespace", "rollcall", "--values", &values];
            let output = charts.run(&[&args[..], &["--kube-version", kubernetes]].concat());
            assert!(output.status.success(), "{}", acceptance::text(&output));
            let rendered = acceptance::charts::manifests(&output);
            assert_eq!(
                rendered,
                charts.render(case.chart, &case.values),
                "{} with {}",
                case.chart,
                case.what
            );
        }
    }
    sandbox.stop().await.unwrap();
}
