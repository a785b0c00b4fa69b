//! `rollcall down` from end to end: a real server, a real cluster and a store of Secrets, brought up and taken down again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use chassis::SecretValue;
use chassis::bus::lifecycle_topic;
use postgres::{Encryption, Server, Session};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use sandbox::{KafkaOptions, Options, PostgresOptions, Sandbox, Supervisor};
use serde_json::Value;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

struct Scene {
    sandbox: Sandbox,
    server: sandbox::Postgres,
    kafka: sandbox::Kafka,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Scene {
        let sandbox = Sandbox::start(Options::new(Supervisor::of_this_test("supervises"))).await.unwrap();
        let options = PostgresOptions { version: 16, ..PostgresOptions::default() };
        let settings = [("wal_level".to_owned(), "logical".to_owned())];
        let options = PostgresOptions { settings: settings.into_iter().collect(), ..options };
        let server = sandbox.postgres(options).await.unwrap();
        let kafka = sandbox.kafka(KafkaOptions::default()).await.unwrap();
        server.ready(Duration::from_mins(1)).await.unwrap();
        kafka.ready(Duration::from_mins(2)).await.unwrap();
        let scene = Scene { sandbox, server, kafka, folder: tempfile::tempdir().unwrap() };
        for (secret, value) in [("pg", scene.server.password()), ("observer", "observes-only")] {
            std::fs::create_dir_all(scene.secret(secret)).unwrap();
            std::fs::write(scene.secret(secret).join("password"), value).unwrap();
        }
        for name in ["shop", "neighbour"] {
            std::fs::write(scene.document(name), scene.text(name)).unwrap();
        }
        scene
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.folder.path().join("store/apps").join(name)
    }

    fn document(&self, environment: &str) -> PathBuf {
        self.folder.path().join(format!("{environment}.yaml"))
    }

    fn text(&self, name: &str) -> String {
        let uid = if name == "shop" { 1 } else { 2 };
        format!(
            "
rollcall: v1
environment: {{name: {name}, uid: 00000000-0000-4000-8000-00000000000{uid}}}
fragment: {{name: base, namespace: apps}}
policy: {{on_delete: delete}}
naming: {{database: '{{environment}}_{{name}}', role: '{{environment}}_{{name}}', topic: '{{environment}}.{{name}}'}}
postgres:
  main:
    host: 127.0.0.1
    port: {}
    tls: {{mode: disable}}
    admin: {{user: postgres, password: {{secret: pg, key: password}}}}
    observer: {{password: {{secret: observer, key: password}}}}
kafka: {{main: {{brokers: ['{}']}}}}
databases:
  orders: {{server: main, roles: {{app: {{name: orders, password: {{secret: {name}-orders, key: password}}}}}}}}
  stock: {{server: main, roles: {{app: {{name: stock, password: {{secret: {name}-stock, key: password}}}}}}}}
topics: {{events: {{kafka: main, partitions: 2}}}}
secrets:
  pg: {{external: true}}
  observer: {{external: true}}
  {name}-orders: {{generate: {{password: {{kind: password}}}}}}
  {name}-stock: {{generate: {{password: {{kind: password}}}}}}
",
            self.server.port(),
            self.kafka.brokers()
        )
    }

    async fn run(&self, args: &[&str], environment: &str, brokers: &str) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command
            .args(args)
            .arg(self.document(environment))
            .env("ROLLCALL_SECRETS_ROOT", self.folder.path().join("store"))
            .env("ROLLCALL_BROKERS", brokers)
            .env("ROLLCALL_HUB", "http://127.0.0.1:1")
            .env("ROLLCALL_DEADLINE", "60s");
        let ran = tokio::task::spawn_blocking(move || command.output());
        let Output { status, stdout, stderr } =
            tokio::time::timeout(Duration::from_mins(2), ran).await.expect("it ends").unwrap().unwrap();
        (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
    }

    async fn down(&self, more: &[&str]) -> (Option<i32>, String) {
        let args: Vec<&str> = ["down"].into_iter().chain(more.iter().copied()).collect();
        self.run(&args, "shop", &self.kafka.brokers()).await
    }

    async fn up(&self, environment: &str) {
        // The first makes the topic of their news.
        for service in ["topic-provisioner", "secret-syncer", "postgres-init"] {
            let (code, text) = self.run(&[service, "apply"], environment, &self.kafka.brokers()).await;
            assert_eq!(code, Some(0), "{service}: {text}");
        }
    }

    async fn ask(&self, sql: &'static str) -> String {
        let server = Server {
            component: "postgres/main".parse().unwrap(),
            host: "127.0.0.1".to_owned(),
            port: self.server.port(),
            tls: Encryption::Disable,
            ca: None,
        };
        let password = SecretValue::new(self.server.password());
        let within = Duration::from_secs(20);
        let mut session =
            Session::open(&server, "postgres", Some(&password), "shop_stock", "test", within).await;
        if session.is_err() {
            session = Session::open(&server, "postgres", Some(&password), "rollcall", "test", within).await;
        }
        let mut session = session.unwrap();
        let (connection, judge) = session.parts();
        let answer: Option<String> =
            judge.judge(sqlx::query_scalar(sql).fetch_one(connection)).await.expect(sql);
        session.close().await;
        answer.unwrap_or_default()
    }

    /// The topics of an environment.
    fn topics(&self, environment: &str) -> BTreeSet<String> {
        let asker: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.kafka.brokers()).create().unwrap();
        let metadata = asker.fetch_metadata(None, Duration::from_secs(10)).unwrap();
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        names.filter(|name| name.contains(environment)).collect()
    }

    /// Waits until there is none of its topics: a broker hears of a deletion a moment after it was answered.
    async fn no_topics(&self, environment: &str) {
        let asked = async {
            while !self.topics(environment).is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_mins(1), asked).await;
        assert!(gone.is_ok(), "{:?}", self.topics(environment));
    }

    /// All that there is of both environments.
    async fn all(&self) -> (String, BTreeSet<String>, BTreeSet<String>) {
        let things = self.ask(THINGS).await;
        let topics = self.topics("shop").into_iter().chain(self.topics("neighbour")).collect();
        (things, topics, files(self.folder.path()))
    }
}

/// Databases, roles and records, each with what identifies it.
const THINGS: &str = "SELECT string_agg(thing, ' ' ORDER BY thing) FROM (
  SELECT 'database ' || datname || oid AS thing FROM pg_database UNION ALL SELECT 'role ' || rolname || oid FROM pg_roles) things";

fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            } else {
                found.insert(path.display().to_string());
            }
        }
    }
    found
}

const YES: [&str; 3] = ["--yes", "--environment", "shop"];

#[tokio::test]
async fn an_environment_goes_in_reverse_order_and_what_something_needs_that_stays_stays() {
    let scene = Scene::start().await;
    scene.up("neighbour").await;
    scene.up("shop").await;
    let news = lifecycle_topic("shop");
    let before = scene.all().await;
    assert!(before.1.contains(&news) && before.1.contains("shop.events"), "{before:?}");

    // Said first; a wrong name, or none, does nothing.
    let (code, said) = scene.down(&["--output", "json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let said: Value =
        serde_json::from_str(&said[said.find('{').unwrap()..=said.rfind('}').unwrap()]).unwrap();
    let removed: Vec<&str> =
        said["removed"].as_array().unwrap().iter().map(|one| one["component"].as_str().unwrap()).collect();
    let place = |component: &str| removed.iter().position(|one| *one == component).expect(component);
    let order = ["topic/events", "database/stock", "postgres/main", "secret/apps/shop-stock"].map(place);
    assert!(order.is_sorted() && removed.last().unwrap().ends_with(&news), "{removed:?}");
    assert_eq!(scene.down(&["--yes"]).await.0, Some(2));
    assert_eq!(scene.down(&["--yes", "--environment", "neighbour"]).await.0, Some(2));
    assert_eq!(scene.all().await, before);

    // One database is held by a slot: its Secret stays, and its neighbours go.
    scene
        .ask("SELECT slot_name::text FROM pg_create_logical_replication_slot('held', 'test_decoding')")
        .await;
    let (code, text) = scene.down(&YES).await;
    assert_eq!(code, Some(65), "{text}");
    assert!(text.contains("! database/stock: replication slot `held` decodes"), "{text}");
    assert!(text.contains("= secret/apps/shop-stock: stays, for something that stays needs it"), "{text}");
    assert!(scene.secret("shop-stock").exists() && !scene.secret("shop-orders").exists(), "{text}");
    assert_eq!(scene.topics("shop"), [news.clone()].into(), "{text}");
    let there =
        "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE datname LIKE 'shop%'";
    assert_eq!(scene.ask(there).await, "shop_stock");

    scene.ask("SELECT pg_drop_replication_slot('held')::text").await;
    let (code, text) = scene.down(&YES).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(!scene.secret("shop-stock").exists(), "{text}");
    scene.no_topics("shop").await;
    let left = "SELECT count(*)::text FROM pg_roles WHERE rolname ~ 'shop'";
    assert_eq!((scene.ask(there).await, scene.ask(left).await), (String::new(), "0".to_owned()), "{text}");
    assert!(scene.secret("pg").exists(), "what somebody else made stays");

    let (code, text) = scene.down(&YES).await;
    assert!(code == Some(0) && text.contains("= 0 removed, 0 retained, 0 refused"), "{text}");
    let kept = |all: &str| -> BTreeSet<String> {
        all.split(' ').filter(|one| one.contains("neighbour")).map(str::to_owned).collect()
    };
    let after = scene.all().await;
    assert_eq!(kept(&after.0), kept(&before.0));
    assert_eq!(after.1, before.1.iter().filter(|name| name.contains("neighbour")).cloned().collect());
    scene.up("shop").await;
    scene.sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_away_is_said_and_everything_it_has_stays() {
    let scene = Scene::start().await;
    scene.up("shop").await;
    let document = scene.text("shop");
    let away = document.replace(&format!("port: {}", scene.server.port()), "port: 1");
    std::fs::write(scene.document("shop"), away).unwrap();
    let (code, text) = scene.down(&YES).await;
    assert_eq!(code, Some(75), "{text}");
    assert!(text.contains("= database/orders: stays: postgres/main was not looked at"), "{text}");
    assert!(scene.secret("shop-orders").exists() && scene.secret("shop-stock").exists(), "{text}");
    assert!(!scene.topics("shop").contains("shop.events"), "the neighbour of what is away goes: {text}");
    std::fs::write(scene.document("shop"), document).unwrap();
    let (code, text) = scene.down(&YES).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(!scene.secret("shop-orders").exists(), "{text}");
    scene.no_topics("shop").await;
    scene.sandbox.stop().await.unwrap();
}
