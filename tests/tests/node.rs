//! A whole Kubernetes: an environment is installed with Helm, comes up in order, and says why while it does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use acceptance::charts::{Charts, fragments};
use acceptance::fragments::environment;
use acceptance::{binary, root, text, until};
use sandbox::image::{Base, Image};
use sandbox::{KafkaOptions, Node, Options, PostgresOptions, Sandbox, Supervisor};
use serde_json::{Value, json};

const READY: Duration = Duration::from_mins(3);
const SERVICES: [&str; 5] =
    ["wait-for-dependency", "telemetry-exporter", "secret-syncer", "postgres-init", "topic-provisioner"];

/// A node with the images of all services, and what installs charts on it.
struct Place {
    sandbox: Sandbox,
    node: Node,
    charts: Charts,
}

impl Place {
    async fn new() -> Place {
        let supervisor = Supervisor::command(binary(), ["sandbox-supervisor"]);
        let sandbox = Sandbox::start(Options::new(supervisor)).await.unwrap();
        let node = sandbox.node().await.unwrap();
        let charts = Charts::of(&sandbox).await;
        charts.add("own", &root().join("tests/charts/own"));
        let base = Base::of([binary()]).unwrap();
        // One program, called by five names: the layers are loaded once.
        let images = SERVICES.map(|service| {
            let name = format!("localhost/rollcall/{service}:1");
            Image::of_program(&name, service, &base, binary()).unwrap().entrypoint(&["/rollcall", service])
        });
        node.ready(READY).await.unwrap();
        node.load(&images).await.unwrap();
        Place { sandbox, node, charts }
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let output = self.node.kubectl().args(args).output().unwrap();
        assert!(output.status.success(), "kubectl {args:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What JSON is asked of kubectl with these arguments.
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.kubectl(&[args, &["-o", "json"]].concat())).unwrap()
    }

    fn helm(&self, args: &[&str], values: &Value) -> Output {
        let values = self.charts.values("values", values);
        self.charts.over(self.node.kubeconfig(), &[args, &["--values", &values]].concat())
    }

    #[track_caller]
    fn install(&self, args: &[&str], values: &Value) {
        let output = self.helm(&[&["upgrade", "--install"], args].concat(), values);
        assert!(output.status.success(), "{args:?}: {}\n{}", text(&output), self.pods());
    }

    /// `rollcall`, as an operator with a kubeconfig.
    fn rollcall(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(args).env_clear().env("KUBECONFIG", self.node.kubeconfig()).env("HOME", "/nonexistent");
        command.output().unwrap()
    }

    /// Waits until every component of the environment is ready; says what is not when that takes too long.
    async fn comes_up(&self, namespace: &str) {
        let status = || text(&self.rollcall(&["status", "-n", namespace]));
        // generation 1, push, 7 of 7 ready
        let is_up = |said: &str| {
            let words: Vec<&str> = said.lines().next().unwrap_or_default().split_whitespace().collect();
            matches!(words[..], [.., ready, "of", all, "ready"] if ready == all)
        };
        let started = Instant::now();
        while !is_up(&status()) {
            assert!(started.elapsed() < READY, "{}\n{}", status(), self.pods());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn pods(&self) -> String {
        self.kubectl(&["get", "pods", "--all-namespaces", "-o", "wide"])
    }

    /// The only pod with this label.
    fn pod(&self, namespace: &str, label: &str) -> Value {
        let mut list = self.json(&["get", "pods", "-n", namespace, "-l", label]);
        let items = list["items"].as_array_mut().unwrap();
        assert_eq!(items.len(), 1, "{}", self.pods());
        items.remove(0)
    }

    fn is_ready(&self, namespace: &str, label: &str) -> bool {
        let conditions = self.pod(namespace, label)["status"]["conditions"].clone();
        let is = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        conditions.as_array().into_iter().flatten().any(is)
    }
}

/// The part of values that says where images are.
fn images() -> Value {
    json!({"registry": "localhost", "tag": "1"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and takes a whole cluster: cargo test -p acceptance --test node -- --ignored"]
async fn an_environment_is_installed_comes_up_in_order_and_says_why_while_it_does_not() {
    let place = Place::new().await;
    let also = Some(place.node.host().unwrap());
    let postgres =
        place.sandbox.postgres(PostgresOptions { also, ..PostgresOptions::default() }).await.unwrap();
    let kafka = place.sandbox.kafka(KafkaOptions { also, ..KafkaOptions::default() }).await.unwrap();
    postgres.ready(READY).await.unwrap();
    kafka.ready(READY).await.unwrap();
    let brokers = kafka.brokers_also().unwrap();

    for namespace in ["base", "shop"] {
        place.kubectl(&["create", "namespace", namespace]);
    }
    place.kubectl(&["create", "serviceaccount", "own-own", "-n", "shop"]);
    let password = format!("--from-literal=password={}", postgres.password());
    let server =
        format!("host: {}, port: {}, tls: {{mode: disable}}", place.node.host().unwrap(), postgres.port());
    let base = format!(
        "
postgres: {{main: {{{server}, admin: {{user: postgres, password: {{secret: pg-admin, key: password}}}}, observer: {{password: {{secret: observer, key: password}}}}}}}}
kafka: {{main: {{brokers: ['{brokers}']}}}}
secrets: {{pg-admin: {{external: true}}, observer: {{generate: {{password: {{kind: password}}}}}}}}
"
    );
    let shop = format!(
        "
uses: {{postgres: {{main: {{{server}}}}}, kafka: {{main: {{brokers: ['{brokers}']}}}}}}
databases: {{orders: {{server: main, roles: {{app: {{name: orders, password: {{secret: orders-db, key: password}}, ddl: as-owner}}}}}}}}
secrets: {{orders-db: {{generate: {{password: {{kind: password}}}}}}}}
topics: {{orders.events: {{kafka: main, partitions: 3}}}}
modules: {{orders: {{needs: [database/orders, topic/orders.events], ready: {{grpc: {{url: 'http://own-own.shop:7071'}}}}}}}}
"
    );
    let wish = environment(21, &[("base", &base), ("shop", &shop)]);
    let values = json!({
        "fragments": fragments(&wish), "bus": {"brokers": [brokers]}, "image": images(), "waiters": {"orders": "own-own"},
    });
    // Nobody has made the administrator's Secret yet: the module is installed, and waits.
    place.install(&["env", "environment", "--namespace", "base"], &values);
    let shop_values = json!({
        "image": "localhost/rollcall/wait-for-dependency:1",
        // Something of ours that answers when it is asked whether it is healthy.
        "args": ["serve", "--environment=none", format!("--uid={}", uuid::Uuid::from_u128(1))],
        "port": 7071,
        "rollcall": {
            "module": "orders", "fragments": fragments(&wish), "hub": "http://env-environment-hub.base:7070", "image": images(),
        },
    });
    place.install(&["own", "own", "--namespace", "shop"], &shop_values);

    let hub = "app.kubernetes.io/component=hub";
    until("the hub is ready", async || place.is_ready("base", hub)).await;
    let missing = "secret/base/pg-admin";
    until("it is said what is missing", async || {
        text(&place.rollcall(&["explain", "module/orders", "-n", "base"])).contains(missing)
    })
    .await;
    // Whoever looks at the pod reads it there.
    let name = place.pod("shop", "app=own")["metadata"]["name"].as_str().unwrap().to_owned();
    until("the pod says why it waits", async || {
        let described = place.kubectl(&["describe", "pod", &name, "-n", "shop"]);
        described.contains("WaitingForDependencies") && described.contains(missing)
    })
    .await;
    assert!(!place.is_ready("shop", "app=own"));

    place.kubectl(&["create", "secret", "generic", "pg-admin", "-n", "base", &password]);
    place.comes_up("base").await;
    assert!(place.is_ready("shop", "app=own"));
    let described = place.kubectl(&["describe", "pod", &name, "-n", "shop"]);
    assert!(described.contains("DependenciesReady"), "{described}");
    let story = text(&place.rollcall(&["timeline", "-n", "base"]));
    assert!(story.contains("module/orders") && story.contains("every module is ready"), "{story}");
    place.sandbox.stop().await.unwrap();
}
