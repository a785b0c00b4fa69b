//! Twice is as good as once: a second run finds nothing to do and touches nothing, and a run after a `kill -9` anywhere
//! finishes what was begun. What programs read (`--output json`) is JSON, and planning offline asks nobody.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use acceptance::{
    PATIENCE, catalog, documents, environment, openg2p, rollcall, stage, store, text, topics, until,
};
use lifecycle::{Component, Kind};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rollcall::rehearse::{Service, Stage};
use serde_json::Value;

const PROVISIONERS: [Service; 3] = [Service::SecretSyncer, Service::PostgresInit, Service::TopicProvisioner];
const OWNERSHIP: &str = "rollcall.ownership";

/// Runs `apply` to its end, which must be a success.
async fn apply(stage: &Stage, service: Service, documents: &Path) {
    let spec =
        stage.process(service.name()).args([service.name(), "apply", &documents.display().to_string()]);
    stage.sandbox().run(spec, PATIENCE).await.unwrap();
}

async fn apply_all(stage: &Stage, documents: &Path) {
    let [secrets, databases, topics] = PROVISIONERS.map(|service| apply(stage, service, documents));
    tokio::join!(secrets, databases, topics);
}

/// The plans that `rollcall <command…> --output json` prints.
fn plans(stage: &Stage, command: &[&str], documents: &Path) -> Vec<Value> {
    let (documents, secrets) = (documents.display().to_string(), stage.secrets().display().to_string());
    let args = [command, &["--output", "json", &documents]].concat();
    let output = rollcall(&args, &[("ROLLCALL_SECRETS_ROOT", &secrets)]);
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn is_settled(plans: &[Value]) {
    assert!(!plans.is_empty());
    for plan in plans {
        for part in ["steps", "refusals", "drift", "pending"] {
            assert_eq!(plan[part], serde_json::json!([]), "{plan:#}");
        }
    }
}

/// Everything that provisioning writes anywhere, but for news on the lifecycle topic.
#[derive(Debug, PartialEq)]
struct Everything {
    catalogs: Vec<String>,
    topics: BTreeMap<String, Vec<String>>,
    secrets: BTreeMap<PathBuf, store::Facts>,
}

impl Everything {
    async fn of(stage: &Stage) -> Everything {
        let mut catalogs = catalog::shared(stage).await;
        for database in ["shop", "rollcall"] {
            catalogs.extend(catalog::local(stage, database).await);
        }
        let owned = "SELECT 'owned', o.xmin, o.* FROM rollcall.owned o ORDER BY o::text";
        catalogs.extend(catalog::rows(stage, "rollcall", owned).await);
        // News may be told again.
        let mut topics = topics::all(stage).await;
        topics.retain(|name, _| !name.ends_with(".lifecycle"));
        Everything { catalogs, topics, secrets: store::all(stage) }
    }
}

#[tokio::test]
async fn a_second_run_touches_nothing() {
    let stage = stage(&environment(&[documents::plain()]), |_| ()).await;
    stage.start_kafka().await.unwrap();
    apply_all(&stage, &stage.documents()).await;
    is_settled(&plans(&stage, &["plan"], &stage.documents()));
    let once = Everything::of(&stage).await;
    assert!(once.topics["shop.orders"].iter().any(|line| line.contains("topic_id")), "{once:#?}");
    assert!(once.topics[OWNERSHIP].len() > 1, "{once:#?}");
    assert!(
        once.secrets.len() > 3 && once.catalogs.iter().any(|line| line.contains("shop_user")),
        "{once:#?}"
    );

    apply_all(&stage, &stage.documents()).await;
    assert_eq!(Everything::of(&stage).await, once, "after a second apply");
    let secrets = stage.secrets().display().to_string();
    let documents = stage.documents().display().to_string();
    let plan = rollcall(&["plan", &documents], &[("ROLLCALL_SECRETS_ROOT", &secrets)]);
    let said = text(&plan);
    assert!(plan.status.success() && !said.contains("+ "), "{said}");
    assert_eq!(
        said.matches("= nothing to do").count(),
        plans(&stage, &["plan"], &stage.documents()).len(),
        "{said}"
    );
    assert_eq!(Everything::of(&stage).await, once, "after planning");
    stage.strike().await.unwrap();
}

/// An environment of its own on the stage's servers, so that each crash meets something not yet made.
fn another(stage: &Stage, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let declared = fs::read_to_string(stage.documents().join("base.json")).unwrap();
    let mut document: Value = serde_json::from_str(&declared).unwrap();
    document["environment"] = serde_json::json!({"name": name, "uid": uuid::Uuid::new_v4()});
    document["fragment"]["namespace"] = name.into();
    change(&mut document);
    let folder = stage.sandbox().dir().join("crashes").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("base.json"), document.to_string()).unwrap();
    let admin = Component::namespaced(Kind::Secret, name, "postgresql");
    stage.write_secret(&admin, "postgres-password", stage.postgres().password()).unwrap();
    folder
}

/// Kills an `apply` with -9 as soon as `now` says so of its log; whether that was before it had done everything.
async fn killed(
    stage: &Stage,
    service: Service,
    documents: &Path,
    mut now: impl AsyncFnMut(&str) -> bool,
) -> bool {
    let name = documents.file_name().unwrap().display().to_string();
    let spec = stage.process(&name).args([service.name(), "apply", &documents.display().to_string()]);
    let handle = stage.sandbox().spawn(spec).await.unwrap();
    until("the moment to kill", async || {
        handle.pid().is_none() || now(&fs::read_to_string(handle.log()).unwrap_or_default()).await
    })
    .await;
    handle.kill().await.unwrap();
    let exit = handle.exited(PATIENCE).await.unwrap();
    assert!(
        exit.success() || exit.signal == Some(9),
        "{exit}: {}",
        fs::read_to_string(handle.log()).unwrap()
    );
    !exit.success()
}

/// The next run finishes, and then nothing is left to do.
async fn finishes(stage: &Stage, service: Service, documents: &Path) {
    apply(stage, service, documents).await;
    is_settled(&plans(stage, &[service.name(), "plan"], documents));
}

fn templates() -> lifecycle::document::Environment {
    environment(&[documents::small("first", 0xc4a5, documents::TEMPLATES)])
}

/// What postgres-init logs before each of its steps.
const STEPS: [&str; 12] = [
    "make database `rollcall`",
    "which observes",
    "connect to database `rollcall`",
    "which owns and cannot log in",
    "which logs in",
    "_shop` component",
    "close database",
    " act as ",
    "create extension",
    "_user` connect to database",
    "is finished",
    "phase=ready",
];

#[tokio::test]
async fn postgres_init_finishes_what_a_killed_run_began() {
    let stage = stage(&templates(), |setting| setting.bus = false).await;
    let mut kills = 0;
    for (i, step) in STEPS.iter().enumerate() {
        let documents = another(&stage, &format!("crash{i}"), |_| ());
        apply(&stage, Service::SecretSyncer, &documents).await;
        let dead = killed(&stage, Service::PostgresInit, &documents, async |log| log.contains(step)).await;
        kills += usize::from(dead);
        finishes(&stage, Service::PostgresInit, &documents).await;
    }
    assert!(kills > STEPS.len() / 2, "only {kills} were killed in time");

    // Between CREATE DATABASE and its mark, for certain: the record is held back until the process is dead.
    let documents = another(&stage, "held", |_| ());
    apply(&stage, Service::SecretSyncer, &documents).await;
    catalog::execute(&stage, "rollcall", HOLD).await;
    let asleep = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let held = async |_: &str| !catalog::rows(&stage, "postgres", asleep).await.is_empty();
    assert!(killed(&stage, Service::PostgresInit, &documents, held).await);
    let made = "SELECT 1 FROM pg_database WHERE datname = 'held_shop'";
    let marked = "SELECT 1 FROM rollcall.owned WHERE name = 'held_shop'";
    assert_eq!(catalog::rows(&stage, "postgres", made).await.len(), 1);
    assert_eq!(catalog::rows(&stage, "rollcall", marked).await.len(), 0);
    // Its session does not notice by itself while it sleeps.
    catalog::execute(&stage, "postgres", &asleep.replace("pid", "pg_terminate_backend(pid)")).await;
    catalog::execute(&stage, "rollcall", "DROP TRIGGER hold ON rollcall.owned; DROP FUNCTION rollcall.hold")
        .await;
    finishes(&stage, Service::PostgresInit, &documents).await;
    assert_eq!(catalog::rows(&stage, "rollcall", marked).await.len(), 1);
    stage.strike().await.unwrap();
}

const HOLD: &str = "
CREATE FUNCTION rollcall.hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$;
CREATE TRIGGER hold BEFORE INSERT OR UPDATE ON rollcall.owned FOR EACH ROW WHEN (NEW.kind = 'database') EXECUTE FUNCTION rollcall.hold()";

#[tokio::test]
async fn topic_provisioner_finishes_what_a_killed_run_began() {
    let stage = stage(&templates(), |_| ()).await;
    stage.start_kafka().await.unwrap();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", stage.kafka().unwrap().brokers())
        .set("allow.auto.create.topics", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let short = Duration::from_secs(10);
    let records = || consumer.fetch_watermarks(OWNERSHIP, 0, short).map_or(0, |(_, high)| high);
    let exists = |topic: &str| {
        let metadata = consumer.fetch_metadata(Some(topic), short).unwrap();
        metadata.topics().iter().any(|found| found.error().is_none() && !found.partitions().is_empty())
    };
    let mut kills = 0;
    // Before anything, after the topic of records, after the intent, after the creation.
    for moment in ["decided", "records", "intent", "created"] {
        let documents = another(&stage, moment, |_| ());
        let (before, topic) = (records(), format!("{moment}.shop.orders"));
        let now = async |log: &str| match moment {
            "decided" => log.contains("create topic"),
            "records" => log.contains("create topic") && exists(OWNERSHIP),
            "intent" => records() > before,
            _ => exists(&topic),
        };
        kills += usize::from(killed(&stage, Service::TopicProvisioner, &documents, now).await);
        finishes(&stage, Service::TopicProvisioner, &documents).await;
        assert!(exists(&topic));
    }
    assert!(kills > 1, "only {kills} were killed in time");
    stage.strike().await.unwrap();
}

#[tokio::test]
async fn secret_syncer_finishes_what_a_killed_run_began() {
    const MANY: usize = 100;
    let stage = stage(&templates(), |setting| setting.bus = false).await;
    for moment in [1, MANY / 2, MANY] {
        let documents = another(&stage, &format!("crash{moment}"), |document| {
            for i in 0..MANY {
                document["secrets"][format!("many-{i}")] =
                    serde_json::json!({"generate": {"key": {"kind": "password"}}});
            }
        });
        let now = async |log: &str| log.matches("worker: generate `").count() >= moment;
        killed(&stage, Service::SecretSyncer, &documents, now).await;
        let mut before = store::all(&stage);
        // Names that begin with a dot are no keys: marks of what was not finished, files not yet in their place.
        before.retain(|file, _| !file.file_name().unwrap().to_string_lossy().starts_with('.'));
        finishes(&stage, Service::SecretSyncer, &documents).await;
        let after = store::all(&stage);
        for (file, facts) in before {
            assert_eq!(after.get(&file), Some(&facts), "{} was written again", file.display());
        }
    }
    stage.strike().await.unwrap();
}

#[test]
fn a_plan_offline_asks_nobody_and_programs_get_json() {
    let documents = openg2p().display().to_string();
    let json = |args: &[&str], code: i32| -> Value {
        let output = rollcall(&[args, &["--output", "json"]].concat(), &[]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let plans = json(&["plan", "--offline", &documents], 0);
    let steps: Vec<&Value> =
        plans.as_array().unwrap().iter().flat_map(|p| p["steps"].as_array().unwrap()).collect();
    for text in ["make database `registry`", "create topic `openg2p.audit.events`", "generate `"] {
        assert!(steps.iter().any(|step| step["text"].as_str().unwrap().contains(text)), "{text}: {plans:#}");
    }
    let check = json(&["check", &documents], 0);
    assert_eq!((&check["ok"], &check["environment"]), (&Value::from(true), &Value::from("openg2p")));
    let graph = json(&["graph", &documents], 0);
    assert!(
        graph["layers"].as_array().unwrap().len() > 3 && graph["needs"]["module/esignet"].is_array(),
        "{graph:#}"
    );

    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("wrong.yaml"),
        documents::plain().replace("[module/web]", "[module/nobody]"),
    )
    .unwrap();
    let check = json(&["check", &folder.path().display().to_string()], 2);
    assert_eq!(check["ok"], false);
    assert!(check["problems"][0]["message"].as_str().unwrap().contains("module/nobody"), "{check:#}");
}
