//! Secret values are nowhere but in the store of Secrets: planted and generated ones are searched for, in every form they
//! could have taken, in everything that an environment leaves, says or shows while it comes up and while parts of it fail.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use acceptance::documents::{fragment, plain};
use acceptance::traces::{Forms, Processes, files};
use acceptance::{PATIENCE, ask, catalog, environment, follow, is, stage, text};
use chassis::bus::{OWNERSHIP_TOPIC, lifecycle_topic, read_to_end};
use lifecycle::Phase;
use rollcall::rehearse::{Cast, Service, Stage};
use rollcall_proto::diagnostics::v1::diagnostics_client::DiagnosticsClient;
use rollcall_proto::diagnostics::v1::hub_client::HubClient;
use rollcall_proto::diagnostics::v1::timeline_client::TimelineClient;
use rollcall_proto::diagnostics::v1::watch_response::Update;
use rollcall_proto::diagnostics::v1::{
    ExplainRequest, GetPlanRequest, GetStatusRequest, GetTimelineRequest, WatchRequest,
};

/// What fails: a password that ends with a line break, a server that does not take the password.
const FAILING: &str = "
uses: {postgres: {main: {host: postgresql}}}
postgres: {other: {host: elsewhere, admin: {user: postgres, password: {secret: other-admin, key: password}}}}
databases:
  crm: {server: main, roles: {app: {name: crm_user, password: {secret: crm-db, key: password}}}}
  ledger: {server: other, roles: {app: {name: ledger_user, password: {secret: shop-db, key: password}}}}
secrets: {crm-db: {external: true}, other-admin: {external: true}}
modules: {crm: {needs: [database/crm, database/ledger], ready: {tcp: {address: 'crm:7001'}}}}
";
/// Planted values: each has a run of letters and digits that is left alone by any quoting.
const PLANTED: [(&str, &str); 3] = [
    ("secret/shop/shop-db", "it's \"PLANTEDshopDbA7f3Kq9vX2\" $1 \\ %41"),
    ("secret/shop/crm-db", "PLANTEDcrmDbW8d2Lm5zT1\n"),
    ("secret/shop/other-admin", "PLANTEDotherAdminR4c6Jn0yU3"),
];
/// A shorter run would be found by chance.
const RUN: usize = 20;

#[tokio::test]
async fn secret_values_are_nowhere_but_in_the_store() {
    let stage = stage(&environment(&[plain(), fragment("failing", FAILING)]), |setting| {
        setting.log = "trace".to_owned();
        let all = [
            ("log_statement", "all"),
            ("log_min_duration_statement", "0"),
            ("log_min_error_statement", "debug5"),
            ("log_connections", "on"),
        ];
        setting.postgres_settings = all.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    })
    .await;
    for (secret, value) in PLANTED {
        stage.write_secret(&secret.parse().unwrap(), "password", value).unwrap();
    }
    let seen = Processes::watch();
    let mut cast = Cast::default();
    cast.services(&stage, &Service::ALL).await.unwrap();
    cast.stand_ins(&stage, None, || Duration::ZERO).await.unwrap();
    stage.start_kafka().await.unwrap();
    follow(&stage, |board| {
        let up = ["module/web", "module/worker", "module/portal"].iter().all(|m| is(board, m, Phase::Ready));
        up && ["database/crm", "database/ledger"].iter().all(|c| is(board, c, Phase::Failed))
    })
    .await;

    let mut said = answers(&stage).await;
    said.extend(one_shots(&stage));
    said.extend(records(&stage).await);
    let [commands, environments] = seen.end();
    said.insert("command lines".to_owned(), commands.into_iter().collect());
    said.insert("environments".to_owned(), environments.into_iter().collect());
    // The databases that every new server has (by their fixed oids) are as it came.
    let empty = ["1", "4", "5"].map(|oid| stage.postgres().data_dir().join("base").join(oid));
    let left = files(stage.sandbox().dir(), &[&[stage.secrets()], &empty[..]].concat());
    there(&said, &left, &stage);

    let secrets = secrets(&stage);
    let mut leaks = Vec::new();
    for (place, text) in said.iter().chain(&left) {
        let leaked =
            |(name, forms): (&String, &Forms)| Some(format!("{place}: {name} as {}", forms.within(text)?));
        leaks.extend(secrets.iter().filter_map(leaked));
    }
    assert!(leaks.is_empty(), "{leaks:#?}");

    // A verifier is what a password is guessed by. Only the server keeps it, in its own files.
    let (data, verifiers) = (stage.postgres().data_dir().display().to_string(), verifiers(&stage).await);
    let leaks: Vec<&String> = said
        .iter()
        .chain(left.iter().filter(|(place, _)| !place.starts_with(&data)))
        .filter(|(_, text)| verifiers.iter().any(|verifier| text.contains(verifier)))
        .map(|(place, _)| place)
        .collect();
    assert!(leaks.is_empty(), "verifiers: {leaks:#?}");
    let log = std::fs::read_to_string(stage.postgres().log()).unwrap();
    assert!(!log.contains("SCRAM-SHA-256$"), "a verifier in the server's log");
    stage.strike().await.unwrap();
}

/// The search can fail: it finds each value where it must be, and what is searched holds what it must hold.
fn there(said: &BTreeMap<String, String>, left: &BTreeMap<String, String>, stage: &Stage) {
    let store = files(&stage.secrets(), &[]);
    for (name, forms) in secrets(stage) {
        let held = store.values().any(|text| forms.within(text) == Some("itself"));
        assert!(held, "{name} is not found in its own file");
    }
    let holds = |place: &str, word: &str| {
        let found = said.iter().chain(left).any(|(name, text)| name.contains(place) && text.contains(word));
        assert!(
            found,
            "{place} does not hold {word}: {:?}",
            said.keys().chain(left.keys()).collect::<Vec<_>>()
        );
    };
    for service in Service::ALL {
        holds(&format!("/logs/{}.log", service.name()), "TRACE");
        holds(&format!("metrics of {}", service.name()), "rollcall_build_info");
        holds(&format!("status of {}", service.name()), service.name());
    }
    holds("/logs/module-web.log", "TRACE");
    holds("postgres.log", "CREATE DATABASE");
    holds("postgres.log", "password authentication failed");
    holds("/documents/base.json", "shop-db");
    holds("lifecycle-0/", "secret/shop/shop-db");
    holds("rollcall.ownership-0/", "shop.orders");
    holds("records of rollcall.shop.lifecycle", "line break");
    holds("records of rollcall.ownership", "shop.orders");
    holds("explain database/ledger", "28P01");
    holds("watch", "database/shop");
    holds("timeline", "module/portal");
    holds("command lines", "\0stand-in\0--module\0web\0");
    holds("command lines", "postgres: checkpointer");
    holds("environments", "ROLLCALL_SECRETS_ROOT=");
    holds("plan, one-shot", "shop");
}

/// The longest run of letters and digits of each value in the store, by the value's file.
fn secrets(stage: &Stage) -> BTreeMap<String, Forms> {
    let mut runs = BTreeMap::new();
    for (file, value) in files(&stage.secrets(), &[]) {
        // What begins with a dot is no key: it is how a copy is known.
        if Path::new(&file).file_name().unwrap().to_string_lossy().starts_with('.') {
            continue;
        }
        let run = value.split(|c: char| !c.is_ascii_alphanumeric()).max_by_key(|run| run.len()).unwrap();
        assert!(run.len() >= RUN, "{file} holds nothing that could be told apart");
        runs.insert(file, Forms::of(run));
    }
    assert_eq!(
        runs.len(),
        6,
        "administrator, observer, database, its copy, and two planted: {:?}",
        runs.keys()
    );
    runs
}

/// StoredKey and ServerKey of every role.
async fn verifiers(stage: &Stage) -> Vec<String> {
    // Written out, so that the control below sees it.
    catalog::execute(stage, "postgres", "CHECKPOINT").await;
    let stored = "SELECT split_part(rolpassword, '$', 3) FROM pg_authid WHERE rolpassword IS NOT NULL";
    let stored = catalog::rows(stage, "postgres", stored).await;
    let keys: Vec<String> = stored
        .iter()
        .flat_map(|row| row.trim_matches(['(', ')', '"']).split(':').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(
        keys.len() >= 6 && keys.iter().all(|key| key.len() > 40),
        "two keys of three roles: {}",
        keys.len()
    );
    let data = files(&stage.postgres().data_dir().join("global"), &[]);
    for key in &keys {
        assert!(
            data.values().any(|text| text.contains(key)),
            "a verifier is not found in the server's own files"
        );
    }
    keys
}

/// What every service answers over gRPC and at `/metrics`.
async fn answers(stage: &Stage) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    for service in Service::ALL {
        let (name, mut client) = (service.name(), DiagnosticsClient::new(ask::grpc(stage, service).await));
        let status = client.get_status(GetStatusRequest {}).await.unwrap();
        said.insert(format!("status of {name}"), format!("{status:?}"));
        said.insert(format!("plan of {name}"), format!("{:?}", client.get_plan(GetPlanRequest {}).await));
        said.insert(format!("metrics of {name}"), format!("{:?}", ask::metrics(stage, service).await));
    }
    let mut hub = HubClient::new(ask::grpc(stage, Service::WaitForDependency).await);
    let mut updates = hub.watch(WatchRequest::default()).await.unwrap().into_inner();
    let (mut watched, mut components) = (String::new(), BTreeSet::new());
    while let Some(Update::State(state)) = updates.message().await.unwrap().unwrap().update {
        let line = format!("{state:?}\n");
        watched.push_str(&line);
        components.insert(state.component);
    }
    said.insert("watch".to_owned(), watched);
    for component in components {
        let explained = hub.explain(ExplainRequest { component: component.clone() }).await.unwrap();
        said.insert(format!("explain {component}"), format!("{explained:?}"));
    }
    let mut exporter = TimelineClient::new(ask::grpc(stage, Service::TelemetryExporter).await);
    let timeline = exporter.get_timeline(GetTimelineRequest::default()).await.unwrap();
    said.insert("timeline".to_owned(), format!("{timeline:?}"));
    said
}

/// What one-shots say to a person, at their most talkative.
fn one_shots(stage: &Stage) -> BTreeMap<String, String> {
    let (documents, secrets) =
        (stage.documents().display().to_string(), stage.secrets().display().to_string());
    let env = [
        ("ROLLCALL_SECRETS_ROOT", secrets.as_str()),
        ("ROLLCALL_LOG", "trace"),
        ("ROLLCALL_DEADLINE", "10s"),
    ];
    let commands: [&[&str]; 4] = [
        &["plan"],
        &["postgres-init", "apply"],
        &["secret-syncer", "apply"],
        &["wait-for-dependency", "wait", "--module", "web"],
    ];
    let run = |command: &[&str]| {
        let output = acceptance::rollcall(&[command, &[&documents]].concat(), &env);
        (format!("{}, one-shot", command.join(" ")), text(&output))
    };
    commands.map(run).into()
}

/// Every record of both topics.
async fn records(stage: &Stage) -> BTreeMap<String, String> {
    let (mut said, brokers) = (BTreeMap::new(), stage.kafka().unwrap().brokers());
    for topic in [lifecycle_topic("shop"), OWNERSHIP_TOPIC.to_owned()] {
        let records = read_to_end(&brokers.as_str().into(), &topic, PATIENCE).await.unwrap();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let lines =
            records.iter().map(|r| format!("{} {}\n", r.key, text(r.value.as_deref().unwrap_or_default())));
        said.insert(format!("records of {topic}"), lines.collect());
    }
    said
}
