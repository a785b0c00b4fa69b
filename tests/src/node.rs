//! A whole Kubernetes with the images of all services, and what installs charts on it and asks as an operator would.

mod servers;
mod whole;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sandbox::image::{Base, Image};
use sandbox::{KafkaOptions, Node, Options, Postgres, PostgresOptions, Sandbox, Supervisor};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::catalog::rows_of;
use crate::charts::{Charts, fragments};
use crate::fragments::environment;
use crate::{binary, root, text};

pub use servers::Servers;
pub use whole::{Whole, renamed, texts};

/// How long a node and what is installed on it may take.
pub const READY: Duration = Duration::from_mins(8);
static ALONE: Mutex<()> = Mutex::const_new(());
/// The command line, the services, and what stands in for modules.
const PROGRAMS: [&str; 7] = [
    "rollcall",
    "wait-for-dependency",
    "telemetry-exporter",
    "secret-syncer",
    "postgres-init",
    "topic-provisioner",
    "stand-in",
];

/// A node with the images of all services, and what installs charts on it.
pub struct Place {
    /// What it runs in, and servers of this machine beside it.
    pub sandbox: Sandbox,
    /// The node.
    pub node: Node,
    /// The charts, one of somebody's own and one with hooks among them.
    pub charts: Charts,
    _alone: Alone,
}

/// Whoever has it is the only one of this process that has a node, or will start one: each takes a gigabyte and all processors.
pub struct Alone {
    _held: MutexGuard<'static, ()>,
}

impl Alone {
    /// As soon as nobody else has it.
    pub async fn new() -> Alone {
        Alone { _held: ALONE.lock().await }
    }
}

impl Place {
    /// A new one, as soon as nobody else has one.
    pub async fn new() -> Place {
        Place::of(binary(), Alone::new().await).await
    }

    /// A new one whose images, with tag 1, are of this program.
    pub async fn of(program: &Path, alone: Alone) -> Place {
        let supervisor = Supervisor::command(binary(), ["sandbox-supervisor"]);
        let sandbox = Sandbox::start(Options::new(supervisor)).await.unwrap();
        let node = sandbox.node().await.unwrap();
        let charts = Charts::of(&sandbox).await;
        for name in ["own", "hooked", "modules", "openg2p-postgres-init"] {
            charts.add(name, &root().join("tests/charts").join(name));
        }
        node.ready(READY).await.unwrap();
        let place = Place { sandbox, node, charts, _alone: alone };
        place.load(program, "1").await;
        place
    }

    /// Loads the images of all services with this tag.
    pub async fn load(&self, program: &Path, tag: &str) {
        let base = Base::of([program]).unwrap();
        // One program, called by several names: the layers are loaded once.
        let images = PROGRAMS.map(|service| {
            let name = format!("localhost/rollcall/{service}:{tag}");
            let image = Image::of_program(&name, service, &base, program).unwrap();
            if service == "rollcall" { image } else { image.entrypoint(&["/rollcall", service]) }
        });
        self.node.load(&images).await.unwrap();
    }

    /// What kubectl answers as an administrator; it must succeed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.node.kubectl().args(args).output().unwrap();
        assert!(output.status.success(), "kubectl {args:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What JSON is asked of kubectl with these arguments.
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.kubectl(&[args, &["-o", "json"]].concat())).unwrap()
    }

    /// Makes an object, or a list of them, as kubectl does.
    pub fn apply(&self, object: &Value) {
        self.kubectl(&["apply", "-f", &self.charts.values("applied", object)]);
    }

    /// Helm with these values, whatever comes of it.
    pub fn helm(&self, args: &[&str], values: &Value) -> Output {
        let values = self.charts.values(args[1], values);
        self.charts.over(self.node.kubeconfig(), &[args, &["--values", &values]].concat())
    }

    /// Installs a release, which must succeed.
    #[track_caller]
    pub fn install(&self, args: &[&str], values: &Value) {
        let output = self.helm(&[args, &["--install"]].concat(), values);
        assert!(output.status.success(), "{args:?}: {}\n{}", text(&output), self.pods());
    }

    /// What an operator asks when something does not come up: the environment's status, all pods, the last events.
    pub fn why(&self, namespace: &str) -> String {
        let status = text(&self.rollcall(&["status", "-n", namespace]));
        let events = self.kubectl(&["get", "events", "-n", namespace, "--sort-by=.lastTimestamp"]);
        let events: Vec<&str> = events.lines().collect();
        let last = events[events.len().saturating_sub(40)..].join("\n");
        format!("{status}\n{}\n{last}", self.pods())
    }

    /// `rollcall`, as an operator with a kubeconfig.
    pub fn rollcall(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(args).env_clear().env("KUBECONFIG", self.node.kubeconfig()).env("HOME", "/nonexistent");
        command.output().unwrap()
    }

    /// Waits until a condition holds; shows all pods when that takes too long.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < READY, "not within {} s: {what}\n{}", READY.as_secs(), self.pods());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until every component of the environment is ready; says what is not when that takes too long.
    pub async fn comes_up(&self, namespace: &str) {
        let status = || text(&self.rollcall(&["status", "-n", namespace]));
        // generation 1, push, 7 of 7 ready
        let is_up = |said: &str| {
            let words: Vec<&str> = said.lines().next().unwrap_or_default().split_whitespace().collect();
            matches!(words[..], [.., ready, "of", all, "ready"] if ready == all)
        };
        let started = Instant::now();
        while !is_up(&status()) {
            assert!(started.elapsed() < READY, "{}", self.why(namespace));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// What the hub of a namespace says of a component: its phase, `unknown` among them, or nothing where none declares it.
    pub fn phase(&self, namespace: &str, component: &str) -> Option<String> {
        let output = self.rollcall(&["status", "-n", namespace, "--output", "json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let mut components = status["components"].as_array()?.iter();
        let found = components.find(|one| one["component"] == component)?;
        found["phase"].as_str().map(str::to_owned)
    }

    /// All pods, for people.
    pub fn pods(&self) -> String {
        self.kubectl(&["get", "pods", "--all-namespaces", "-o", "wide"])
    }

    /// The pods with this label but those on their way out: after an upgrade one may still be ending.
    pub fn staying(&self, namespace: &str, label: &str) -> Vec<Value> {
        let mut list = self.json(&["get", "pods", "-n", namespace, "-l", label]);
        let mut items = std::mem::take(list["items"].as_array_mut().unwrap());
        items.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        items
    }

    /// The only pod with this label that stays, once there is only one: a Deployment that is ready may still have its old one.
    #[track_caller]
    pub fn pod(&self, namespace: &str, label: &str) -> Value {
        let started = Instant::now();
        loop {
            let mut pods = self.staying(namespace, label);
            if pods.len() == 1 {
                return pods.remove(0);
            }
            assert!(started.elapsed() < READY, "not one pod of {label}\n{}", self.pods());
            #[expect(
                clippy::disallowed_methods,
                reason = "between two looks at a condition that has a deadline"
            )]
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Whether one such pod stays, and it is ready.
    pub fn is_ready(&self, namespace: &str, label: &str) -> bool {
        let pods = self.staying(namespace, label);
        let [pod] = &pods[..] else { return false };
        let conditions = pod["status"]["conditions"].clone();
        let is = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        conditions.as_array().into_iter().flatten().any(is)
    }
}

/// The part of values that says where images are.
pub fn images() -> Value {
    json!({"registry": "localhost", "tag": "1"})
}

/// An environment of a base and a shop with one module, on PostgreSQL and Kafka of this machine; the administrator's Secret is
/// still to be made.
pub struct Shop {
    /// Its values for chart `environment`, as release `env` in namespace `base`.
    pub environment: Value,
    /// The values of the module's chart, as release `own` in namespace `shop`.
    pub module: Value,
    /// Where pods find PostgreSQL, `host:port`.
    pub address: String,
    /// Where they find Kafka.
    pub brokers: String,
    /// The server.
    pub postgres: Postgres,
}

impl Shop {
    /// The servers, the namespaces and the module's account.
    pub async fn new(place: &Place) -> Shop {
        let host = place.node.host().unwrap();
        let also = Some(host);
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

        let server = format!("host: {host}, port: {}, tls: {{mode: disable}}", postgres.port());
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
        let environment = json!({
            "fragments": fragments(&wish), "bus": {"brokers": [&brokers]}, "image": images(), "waiters": {"orders": "own-own"},
        });
        let module = json!({
            "image": "localhost/rollcall/wait-for-dependency:1",
            // Something of ours that answers when it is asked whether it is healthy.
            "args": ["serve", "--environment=none", format!("--uid={}", uuid::Uuid::from_u128(1))],
            "port": 7071,
            "rollcall": {
                "module": "orders", "fragments": fragments(&wish), "hub": "http://env-environment-hub.base:7070", "image": images(),
            },
        });
        let address = format!("{host}:{}", postgres.port());
        Shop { environment, module, address, brokers, postgres }
    }

    /// Makes the administrator's Secret, for which everything waits.
    pub fn make_secret(&self, place: &Place) {
        let password = format!("--from-literal=password={}", self.postgres.password());
        place.kubectl(&["create", "secret", "generic", "pg-admin", "-n", "base", &password]);
    }

    /// What was made of the module's wishes and must outlive whoever made it: the database, its role with password, the Secret.
    pub async fn made(&self, place: &Place) -> Vec<String> {
        let made = "SELECT oid::text FROM pg_database WHERE datname = 'orders' UNION ALL SELECT rolpassword FROM pg_authid WHERE rolname = 'orders'";
        let mut made = rows_of(&self.postgres, "postgres", made).await;
        assert_eq!(made.len(), 2, "{made:?}");
        made.push(place.json(&["get", "secret", "orders-db", "-n", "shop"])["metadata"]["uid"].to_string());
        made
    }
}
