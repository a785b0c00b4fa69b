//! `rollcall rehearse` as a person runs it: everything comes up in order and nothing stays behind; also under chaos, with
//! nobody polling, without Kafka for a while, without hub and bus at all, and with a real Keycloak.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::path::Path;
use std::time::Duration;

use acceptance::place::Place;
use acceptance::{binary, catalog, documents, follow, is, openg2p, root, stage, text};
use lifecycle::document::Environment;
use lifecycle::{Component, Graph, Kind, Phase};
use rollcall::rehearse::{Cast, KafkaStart, Service};
use serde_json::Value;

fn declared(documents: &Path) -> Environment {
    chassis::documents::load_complete(&[documents.to_owned()]).unwrap()
}

/// Everything the story must hold, whatever happened on the way.
fn is_whole(story: &Value, environment: &Environment) {
    assert_eq!(story["complete"], true, "{story:#}");
    let entries = story["entries"].as_array().unwrap();
    for module in environment.modules() {
        let entry = entries.iter().find(|entry| entry["component"] == module.component.to_string());
        assert_eq!(
            entry.map(|entry| &entry["phase"]),
            Some(&Value::from("ready")),
            "{}: {story:#}",
            module.component
        );
    }
    let graph = Graph::of(environment);
    let path: Vec<Component> = serde_json::from_value(story["critical_path"].clone()).unwrap();
    assert!(!path.is_empty());
    for pair in path.windows(2) {
        assert!(
            graph.start_needs(&pair[1]).any(|need| need.component == pair[0]),
            "no path of the graph: {path:?}"
        );
    }
}

/// Nothing became ready before what it needs was being made. When it was *made* may be announced later than whoever needed
/// it saw it, and what was over before Kafka answered is told without its making; so the story cannot tell more. Logs can,
/// see [`releases_follow_deeds`].
fn story_respects(story: &Value, graph: &Graph) {
    let entry = |component: &Component| {
        let entries = story["entries"].as_array().unwrap();
        entries.iter().find(|entry| entry["component"] == component.to_string())
    };
    for component in graph.components() {
        for need in graph.start_needs(component) {
            let (Some(late), Some(early)) = (entry(component), entry(&need.component)) else { continue };
            let seconds = |entry: &Value, key: &str| entry[key].as_f64();
            let (Some(ready), Some(need_ready), Some(worked)) = (
                seconds(late, "ready_after_seconds"),
                seconds(early, "ready_after_seconds"),
                seconds(early, "worked_seconds").filter(|worked| *worked > 0.0),
            ) else {
                continue;
            };
            assert!(
                ready >= need_ready - worked - 1e-6,
                "{component} came before {}: {story:#}",
                need.component
            );
        }
    }
}

/// When what a module needs was done, at the earliest: the deed is logged before it, and health checks are answered before
/// that is logged (by HTTP and gRPC; who answers by TCP may be seen a moment earlier).
fn deed(place: &Place, environment: &Environment, need: &Component) -> Option<String> {
    let of = |line: &str, words: &[&str]| {
        line.ends_with(&format!("component={need}")) && words.iter().any(|word| line.contains(word))
    };
    match need.kind() {
        Kind::Database => place.when("postgres-init", |line| of(line, &["act as", "connect to database"])),
        Kind::Topic => place.when("topic-provisioner", |line| of(line, &["create topic"])),
        Kind::Secret => place.when("secret-syncer", |line| of(line, &["generate `", "write `"])),
        Kind::Module => {
            let tcp = environment.module(need.name())?.spec.ready.as_ref()?.tcp.is_some();
            place.when(&need.to_string(), |line| {
                line.contains(if tcp { "all ready" } else { "answers its health" })
            })
        }
        _ => None,
    }
}

/// Each module's gate opened for a need after the need was done, and the module worked after its gate was open.
fn releases_follow_deeds(place: &Place, environment: &Environment) -> usize {
    let graph = Graph::of(environment);
    let mut compared = 0;
    for module in environment.modules() {
        let name = module.component.to_string();
        let works = place.when(&name, |line| line.contains("answers its health check")).unwrap();
        for need in graph.start_needs(&module.component) {
            let gate = format!("released: {},", need.component);
            let released =
                place.when(&name, |line| line.contains(&gate)).unwrap_or_else(|| panic!("{name}: {gate}"));
            assert!(released <= works, "{name} worked at {works}, before {gate} at {released}");
            if let Some(done) = deed(place, environment, &need.component) {
                assert!(done <= released, "{name}: {gate} at {released}, before it was done at {done}");
                compared += 1;
            }
        }
    }
    compared
}

#[tokio::test]
async fn openg2p_comes_up_in_order_and_leaves_nothing() {
    let (place, environment) = (Place::new(), declared(&openg2p()));
    let story = place.story(&[], &openg2p()).await;
    is_whole(&story, &environment);
    story_respects(&story, &Graph::of(&environment));
    assert!(releases_follow_deeds(&place, &environment) > 100);
}

#[tokio::test]
async fn nobody_polls_and_each_release_names_what_woke_it() {
    let (place, environment) = (Place::new(), declared(&openg2p()));
    is_whole(&place.story(&["--no-polling"], &openg2p()).await, &environment);
    assert!(releases_follow_deeds(&place, &environment) > 100);
    // Not by polling: by an event, by what the hub saw or told before there was one, or it was there from the beginning.
    let causes =
        ["woken by event ", "woken by the hub's own look", "woken by news from the hub", "at the first look"];
    let releases = place.releases(&environment);
    for line in &releases {
        assert!(causes.iter().any(|cause| line.contains(&format!(", {cause}"))), "{line}");
    }
}

/// Everybody waits before the databases are begun, so that nothing but news can release them.
#[tokio::test]
async fn who_waits_for_a_database_is_woken_by_the_event_that_tells_of_it() {
    let (place, environment) = (Place::new(), declared(&openg2p()));
    let graph = Graph::of(&environment);
    let keep = place.path("keep");
    let stage = stage(&environment, |setting| (setting.polling, setting.keep) = (false, Some(keep))).await;
    stage.start_kafka().await.unwrap();
    let mut cast = Cast::default();
    let early = Service::ALL.into_iter().filter(|service| *service != Service::PostgresInit);
    cast.services(&stage, &early.collect::<Vec<_>>()).await.unwrap();
    cast.stand_ins(&stage, None, || Duration::ZERO).await.unwrap();
    let needs_database =
        |module: &Component| graph.start_needs(module).any(|need| need.component.kind() == Kind::Database);
    let waiting: Vec<Component> = environment.modules().map(|m| m.component).filter(needs_database).collect();
    follow(&stage, |board| waiting.iter().all(|module| board.phase(module) == Some(Phase::Waiting))).await;
    // One is held up until everything else is still, so that only the event that tells of it can release who waits for it.
    let held = environment.databases().find(|database| {
        waiting
            .iter()
            .any(|module| graph.start_needs(module).any(|need| need.component == database.component))
    });
    let held = held.unwrap();
    let document = &held.source.document;
    let owner = held.spec.owner_base(held.component.name());
    let owner = document.naming.role(&owner, document.place()).unwrap();
    let mut holder = catalog::superuser_of(stage.postgres(), "postgres").await;
    let taken = format!("BEGIN; CREATE ROLE \"{owner}\"");
    sqlx::raw_sql(sqlx::AssertSqlSafe(taken)).execute(&mut holder).await.unwrap();
    cast.services(&stage, &[Service::PostgresInit]).await.unwrap();
    follow(&stage, |board| {
        environment.databases().all(|database| {
            let phase = if database.component == held.component { Phase::Working } else { Phase::Ready };
            board.phase(&database.component) == Some(phase)
        })
    })
    .await;
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    follow(&stage, |board| board.missing().is_empty()).await;
    stage.strike().await.unwrap();

    let topic = place.kept("rollcall.openg2p.lifecycle-0/00000000000000000000.log");
    let (mut by_event, mut by_look) = (0, 0);
    for line in place.releases(&environment).iter().filter(|line| line.contains("released: database/")) {
        if let Some(id) = line.split_once("woken by event ").and_then(|(_, rest)| rest.split(' ').next()) {
            let told = topic.windows(id.len()).any(|bytes| bytes == id.as_bytes());
            assert!(told, "not of the topic: {line}");
            by_event += 1;
        } else {
            // Woken by events too: the hub, which does not poll here either, looks when something is said.
            assert!(line.contains("woken by the hub's own look") || line.contains("woken by news"), "{line}");
            by_look += 1;
        }
    }
    assert!(by_event > 0 && by_event + by_look > 20, "{by_event} by event, {by_look} by the hub's look");
    assert!(releases_follow_deeds(&place, &environment) > 100);
}

async fn chaos(seed: &str) {
    // Without --keep: the data go with the run directory.
    let output = Place::new().rehearse(&["--chaos", seed], &openg2p()).await;
    let said = text(&output);
    assert!(said.contains("killed "), "{said}");
    assert!(said.contains("every module is ready"), "{said}");
}

#[tokio::test]
async fn chaos_1_kills_nobody_for_good() {
    chaos("1").await;
}

#[tokio::test]
async fn chaos_2_kills_nobody_for_good() {
    chaos("2").await;
}

#[tokio::test]
async fn chaos_3_kills_nobody_for_good() {
    chaos("3").await;
}

#[tokio::test]
async fn what_needs_no_kafka_comes_up_before_kafka_does() {
    let environment = declared(&openg2p());
    let graph = Graph::of(&environment);
    let kafkas = environment.kafka().map(|cluster| cluster.component);
    let waiting: Vec<Component> = kafkas.flat_map(|cluster| graph.dependants(&cluster)).collect();
    let free: Vec<String> = environment
        .modules()
        .map(|m| m.component)
        .filter(|m| !waiting.contains(m))
        .map(|m| m.to_string())
        .collect();
    assert!(free.len() > 25 && waiting.len() > 3, "{free:?} {waiting:?}");

    let stage = stage(&environment, |setting| setting.kafka = KafkaStart::Later).await;
    let mut cast = Cast::default();
    cast.services(&stage, &Service::ALL).await.unwrap();
    cast.stand_ins(&stage, None, || Duration::ZERO).await.unwrap();
    let board = follow(&stage, |board| free.iter().all(|module| is(board, module, Phase::Ready))).await;
    for component in &waiting {
        assert_ne!(board.phase(component), Some(Phase::Ready), "{component} without Kafka");
    }
    stage.start_kafka().await.unwrap();
    follow(&stage, |board| board.missing().is_empty()).await;
    for (name, player) in cast.players() {
        assert_eq!(player.starts(), 1, "{name} ended");
    }
    stage.strike().await.unwrap();
}

#[tokio::test]
async fn kafka_may_be_late() {
    let place = Place::new();
    let document = place.document(&documents::plain());
    is_whole(&place.story(&["--late-kafka", "3s"], &document).await, &declared(&document));
}

#[test]
fn without_modules_there_is_nothing_to_rehearse() {
    let documents = root().join("charts/environments/mosip");
    let output = std::process::Command::new(binary()).arg("rehearse").arg(documents).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("declares a module"), "{said}");
}

#[tokio::test]
async fn without_hub_and_bus_everybody_polls() {
    let place = Place::new();
    let document = place.document(&without_kafka("direct"));
    let story = place.story(&["--direct"], &document).await;
    assert_eq!(story["complete"], true);
    let environment = declared(&document);
    releases_follow_deeds(&place, &environment);
    for line in place.releases(&environment) {
        assert!(line.contains(", by its own polling") || line.contains(", at the first look"), "{line}");
    }
    for module in environment.modules() {
        let begun =
            place.log(&module.component.to_string()).into_iter().find(|line| line.contains(" waiting mode="));
        assert!(begun.unwrap().contains("mode=\"direct\""));
    }
    assert!(!place.path("keep/rehearsal/logs/wait-for-dependency.log").exists());
    assert!(!place.path("keep/kafka-1").exists() && !place.path("keep/kafka-2").exists());
}

/// The small environment without its topic, and what needs it.
fn without_kafka(name: &str) -> String {
    let text = documents::small(name, 0xd12e, documents::PLAIN);
    let (head, rest) = text.split_once("topics:").unwrap();
    let (_, modules) = rest.split_once("modules:").unwrap();
    let worker = modules.find("  worker:").unwrap()..modules.find("  portal:").unwrap();
    let modules = modules.replacen(&modules[worker], "", 1);
    let head: Vec<&str> = head.lines().filter(|line| !line.starts_with("kafka:")).collect();
    format!("{}\nmodules:{modules}", head.join("\n"))
}

#[tokio::test]
async fn a_real_keycloak_runs_on_its_database_and_its_realm_is_waited_for() {
    let place = Place::new();
    let text = without_kafka("staff") + KEYCLOAK;
    let text = text.replacen("databases:\n", KEYCLOAK_DATABASE, 1);
    let document = place.document(&text);
    let environment = declared(&document);
    is_whole(&place.story(&["--real", "keycloak"], &document).await, &environment);
    let desk = place.log("module/desk");
    assert!(desk.iter().any(|line| line.contains("module/keycloak") && line.contains("state=")), "{desk:#?}");
    assert!(desk.iter().any(|line| line.contains("released: module/keycloak,")), "{desk:#?}");
}

const KEYCLOAK_DATABASE: &str = "databases:
  keycloak: {server: main, roles: {app: {name: keycloak_user, password: {secret: shop-db, key: password}, ddl: as-owner}}}
";
const KEYCLOAK: &str = r#"  keycloak: {needs: [database/keycloak], ready: {keycloak: {url: "http://keycloak", realm: staff}}}
  desk: {needs: [module/keycloak], ready: {tcp: {address: "desk:7000"}}}
"#;
