//! Containers as the charts render them, run as processes of this machine: they do what they are there for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use acceptance::charts::Charts;
use acceptance::charts::foreign::{process, waiter};
use acceptance::charts::matrix::pod;
use acceptance::cluster::Cluster;
use acceptance::{PATIENCE, binary, text, until};
use sandbox::{Options, PostgresOptions, Sandbox, Supervisor};
use serde_json::{Value, json};

async fn sandbox() -> Sandbox {
    Sandbox::start(Options::new(Supervisor::command(binary(), ["sandbox-supervisor"]))).await.unwrap()
}

fn rollcall(values: Value) -> Value {
    Value::Object([("rollcall".to_owned(), values)].into_iter().collect())
}

/// Puts the documents that are rendered where the containers look for them.
fn mount(manifests: &[Value], sandbox: &Sandbox) {
    let folder = sandbox.dir().join("etc/rollcall/documents");
    std::fs::create_dir_all(&folder).unwrap();
    let configmap = manifests.iter().find(|manifest| manifest["kind"] == "ConfigMap").unwrap();
    for (name, text) in configmap["data"].as_object().unwrap() {
        std::fs::write(folder.join(name), text.as_str().unwrap()).unwrap();
    }
}

/// A pod has its ports for itself; this machine does not.
fn at_ports(mut spec: sandbox::ProcessSpec, [grpc, health, metrics]: [u16; 3]) -> sandbox::ProcessSpec {
    for (name, port) in
        [("ROLLCALL_LISTEN", grpc), ("ROLLCALL_HEALTH_LISTEN", health), ("ROLLCALL_METRICS_LISTEN", metrics)]
    {
        spec = spec.env(name, format!("127.0.0.1:{port}"));
    }
    spec
}

/// A module that needs another, which is ready when a port is open.
fn needing(port: u16) -> Value {
    json!({"web": {
        "rollcall": "v1", "environment": {"name": "dev", "uid": "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06"},
        "fragment": {"name": "web", "namespace": "rollcall"},
        "modules": {"web": {"needs": ["module/api"]}, "api": {"ready": {"tcp": {"address": format!("127.0.0.1:{port}")}}}},
    }})
}

/// The container does what it says, with a real server.
#[tokio::test]
async fn the_container_waits_until_the_login_works() {
    let sandbox = sandbox().await;
    let charts = Charts::with_foreign(&sandbox).await;
    let postgres = sandbox.postgres(PostgresOptions::default()).await.unwrap();
    postgres.ready(PATIENCE).await.unwrap();
    let login = |user: &str, secret: &str| {
        json!({"postgres": {"host": postgres.host(), "port": postgres.port(), "database": "postgres",
        "user": user, "sslmode": "disable", "password": {"secret": secret, "key": "password"}}})
    };
    let right = |_: &str, _: &str| postgres.password().to_owned();

    let values = rollcall(json!({"needs": [login(postgres.superuser(), "db")], "timeout": "30s"}));
    let container = waiter(&charts.render("own", &values));
    sandbox.run(process("right", &container, &sandbox, right), PATIENCE).await.unwrap();

    let values = rollcall(json!({"needs": [login(postgres.superuser(), "db")], "failFast": true}));
    let container = waiter(&charts.render("own", &values));
    let wrong = process("wrong", &container, &sandbox, |_, _| "wrong".to_owned());
    let exit = sandbox.spawn(wrong).await.unwrap().exited(PATIENCE).await.unwrap();
    assert_eq!(exit.code, Some(65));

    // Several passwords and a Secret, from files that appear while it waits.
    let needs = json!([login(postgres.superuser(), "db"), login("postgres", "other"), {"secret": {"secret": "signing", "key": "key"}}]);
    let values = rollcall(json!({"needs": needs, "secrets": "files", "timeout": "60s"}));
    let manifests = charts.render("own", &values);
    let spec = process("files", &waiter(&manifests), &sandbox, right);
    let waiting = sandbox.spawn(spec).await.unwrap();
    let volumes = manifests.iter().find_map(pod).unwrap()["spec"]["volumes"].clone();
    let mounts = waiter(&manifests)["volumeMounts"].clone();
    assert_eq!(mounts.as_array().unwrap().len(), 3);
    for (secret, key, value) in [
        ("db", "password", postgres.password()),
        ("other", "password", postgres.password()),
        ("signing", "key", "x"),
    ] {
        assert!(waiting.pid().is_some(), "before {secret} is there");
        let mount = mounts
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["mountPath"].as_str().unwrap().ends_with(secret))
            .unwrap();
        let volume =
            volumes.as_array().unwrap().iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        assert_eq!(volume["secret"], json!({"secretName": secret, "optional": true}));
        let folder = sandbox.dir().join(mount["mountPath"].as_str().unwrap().trim_start_matches('/'));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(key), value).unwrap();
    }
    assert!(waiting.exited(PATIENCE).await.unwrap().success());
    sandbox.stop().await.unwrap();
}

/// Documents that a chart brings along, and the sidecar that looks at them on and on.
#[tokio::test]
async fn the_sidecar_serves_when_the_needs_are_met() {
    let sandbox = sandbox().await;
    let charts = Charts::with_foreign(&sandbox).await;
    let [needed, grpc, health, metrics] = sandbox::ports::free(4).unwrap()[..] else { panic!("no ports") };
    let values = rollcall(json!({"module": "web", "fragments": needing(needed), "sidecar": true}));
    let manifests = charts.render("own", &values);
    let configmap = manifests.iter().find(|manifest| manifest["kind"] == "ConfigMap").unwrap();
    let volumes = &manifests.iter().find_map(pod).unwrap()["spec"]["volumes"];
    assert_eq!(volumes[0]["configMap"]["name"], configmap["metadata"]["name"]);
    mount(&manifests, &sandbox);
    let spec = process("sidecar", &waiter(&manifests), &sandbox, |_, _| String::new());
    sandbox.spawn(at_ports(spec, [grpc, health, metrics])).await.unwrap();
    let serves = async || tokio::net::TcpStream::connect(("127.0.0.1", health)).await.is_ok();
    assert!(!serves().await, "before the need is met");
    let _api = tokio::net::TcpListener::bind(("127.0.0.1", needed)).await.unwrap();
    until("it serves", async || serves().await).await;
    let hub = format!("http://127.0.0.1:{grpc}");
    until("it has seen the module", async || {
        text(&acceptance::rollcall(&["status", "--hub", &hub], &[])).contains("module/api")
    })
    .await;
    sandbox.stop().await.unwrap();
}

/// The hub of its chart and a waiter of somebody else's, by the same documents.
#[tokio::test]
async fn a_waiter_is_woken_by_the_hub() {
    let sandbox = sandbox().await;
    let charts = Charts::with_foreign(&sandbox).await;
    let [needed, grpc, health, metrics] = sandbox::ports::free(4).unwrap()[..] else { panic!("no ports") };
    let manifests = charts.render("wait-for-dependency", &json!({"fragments": needing(needed)}));
    mount(&manifests, &sandbox);
    let hub = manifests.iter().find_map(pod).unwrap()["spec"]["containers"][0].clone();
    let spec = process("hub", &hub, &sandbox, |_, _| String::new());
    sandbox.spawn(at_ports(spec, [grpc, health, metrics])).await.unwrap();

    let service = manifests.iter().find(|manifest| manifest["kind"] == "Service").unwrap();
    assert_eq!(service["spec"]["ports"][0]["port"], 7070);
    let address = format!("http://127.0.0.1:{grpc}");
    let settings = json!({"ROLLCALL_POLLING": "off"});
    let values = json!({"module": "web", "documents": "documents", "hub": address, "settings": settings});
    let container = waiter(&charts.render("own", &rollcall(values)));
    let waiting = sandbox.spawn(process("waiter", &container, &sandbox, |_, _| String::new())).await.unwrap();
    let said = || std::fs::read_to_string(waiting.log()).unwrap();
    until("it hears the hub", async || said().contains("\"mode\":\"push\"")).await;
    assert!(waiting.pid().is_some(), "{}", said());
    let _api = tokio::net::TcpListener::bind(("127.0.0.1", needed)).await.unwrap();
    assert!(waiting.exited(PATIENCE).await.unwrap().success(), "{}", said());
    assert!(said().contains("released: module/api"), "{}", said());
    sandbox.stop().await.unwrap();
}

/// An environment as its chart renders it, in no order: each process runs as its own account, with the rights it is given and no
/// others, and all is there when the last Secret is.
#[tokio::test]
async fn an_environment_comes_up_with_the_rights_that_are_rendered() {
    let cluster = Cluster::start(&[]).await;
    let charts = Charts::with_foreign(&cluster.sandbox).await;
    let postgres = cluster.postgres().await;
    let server = json!({"host": postgres.host(), "port": postgres.port(), "tls": {"mode": "disable"},
        "admin": {"user": "postgres", "password": {"secret": "pg", "key": "password"}}});
    let app = json!({"name": "shop_user", "password": {"secret": "shop-db", "key": "password"}});
    let fragment = json!({
        "rollcall": "v1", "environment": {"name": "dev", "uid": "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06"},
        "fragment": {"name": "shop", "namespace": "shop"},
        "postgres": {"main": server},
        "databases": {"shop": {"server": "main", "roles": {"app": app}}},
        "secrets": {"pg": {"external": true}, "shop-db": {"generate": {"password": {"kind": "password"}}}},
        "modules": {"web": {"needs": ["database/shop"]}},
    });
    let values = json!({
        "fragments": {"shop": fragment}, "waiters": {"web": "web"}, "hub": {"enabled": false},
        "secretSyncer": {"run": "apply"}, "postgresInit": {"run": "apply"}, "topicProvisioner": {"run": "apply"},
    });
    let manifests = charts.render("environment", &values);
    cluster.namespace("shop").await;
    for manifest in manifests.iter().filter(|manifest| manifest["kind"] != "Job") {
        cluster.apply(manifest.clone()).await;
    }
    mount(&manifests, &cluster.sandbox);
    let waiting = rollcall(json!({"module": "web", "documents": "syncer-environment"}));
    let mut containers = vec![("shop", "web".to_owned(), waiter(&charts.render("own", &waiting)))];
    for pod in manifests.iter().filter_map(pod) {
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap().to_owned();
        containers.push(("rollcall", account, pod["spec"]["containers"][0].clone()));
    }
    assert_eq!(containers.len(), 4);
    let mut running = Vec::new();
    for (namespace, account, container) in &containers {
        let kubeconfig = cluster.account((namespace, account)).await.kubeconfig;
        let spec = process(account, container, &cluster.sandbox, |_, _| String::new());
        let spec = spec.env("KUBECONFIG", kubeconfig.display().to_string());
        running.push(cluster.sandbox.spawn(spec).await.unwrap());
    }
    let said = |of: usize| std::fs::read_to_string(running[of].log()).unwrap();
    until("the waiter says what it lacks", async || said(0).contains("database/shop")).await;
    assert!(running[0].pid().is_some(), "{}", said(0));
    cluster.secret("shop", "pg", &[("password", postgres.password())]).await;
    for (number, process) in running.iter().enumerate() {
        let exit = process.exited(PATIENCE).await.unwrap();
        assert!(exit.success(), "{}: {exit:?}\n{}", process.name(), said(number));
    }
    assert!(said(0).contains("released: database/shop"), "{}", said(0));
    cluster.stop().await;
}
