//! Other environments on the same cluster, PostgreSQL and Kafka: they come, are refused what is not theirs, and go, and the
//! first one does not notice.

use std::collections::BTreeSet;

use acceptance::documents::TEMPLATES;
use acceptance::node::{Place, READY, Servers, Whole, renamed, texts};
use acceptance::{catalog, text, topics};
use chassis::bus::{OWNERSHIP_TOPIC, read_to_end};
use sandbox::Postgres;
use serde_json::{Value, json};

use crate::openg2p::secrets;

const FIRST: &str = "openg2p";
const FIRST_UID: &str = "3f6f4f0e-8d0b-4c39-9a55-2d1f0c6b7a10";
const SECOND: (&str, &str) = ("second", "00000000-0000-4000-8000-000000000002");
const THIRD: (&str, &str) = ("third", "00000000-0000-4000-8000-000000000003");

/// One with names of its own and the same modules, and one that would take the first one's databases.
pub(crate) async fn come_and_go(place: &Place, servers: &Servers) {
    let before = belongings(place, servers).await;
    let documents = texts(&["commons-base", "commons-services"]);
    let documents = renamed(&documents, SECOND.0, SECOND.1, Some(TEMPLATES));
    let goes = documents.iter().map(|text| format!("{text}\npolicy: {{on_delete: delete}}\n"));
    let second = Whole::of(&goes.collect::<Vec<_>>());
    servers.found_in(place, SECOND.0);
    // For the first time, and Helm waits for all of it.
    second.install_and_wait(place);
    place.comes_up(SECOND.0).await;
    second.came_up_in_order(place, false).await;
    unchanged(&before, &belongings(place, servers).await);
    second.uninstall(place).await;
    unchanged(&before, &belongings(place, servers).await);
    is_taken_down(place, servers, &second).await;
    unchanged(&before, &belongings(place, servers).await);

    is_refused(place, servers).await;
    unchanged(&before, &belongings(place, servers).await);
    place.comes_up(FIRST).await;
}

/// It leaves nothing behind, once that is asked for in so many words.
async fn is_taken_down(place: &Place, servers: &Servers, second: &Whole) {
    let name = SECOND.0;
    let there = left_of_second(place, servers).await;
    assert!(there.len() > 20, "{there:?}");
    for (run, says) in [("plan", "to be removed"), ("delete", "removed")] {
        let mut values = second.values.clone();
        values["down"] = json!({"run": run, "environment": name});
        place.install(&["upgrade", "env", "environment", "--namespace", name], &values);
        let label = "app.kubernetes.io/component=down";
        place
            .until("the Job has ended", async || {
                let jobs = place.json(&["get", "jobs", "-n", name, "-l", label]);
                let conditions = jobs["items"][0]["status"]["conditions"].as_array().cloned();
                let ended = |one: &Value| one["type"] == "Complete" || one["type"] == "Failed";
                conditions.unwrap_or_default().iter().any(ended)
            })
            .await;
        let said = place.kubectl(&["logs", "-n", name, "-l", label, "--tail=-1"]);
        let removed = format!("{} {says}, 0 retained, 0 refused, 0 orphaned, 0 failed", removed(&said));
        assert!(said.contains(&removed), "{run}: {said}\n{}", place.why(name));
        let left = left_of_second(place, servers).await;
        assert_eq!(left, if run == "plan" { there.clone() } else { BTreeSet::new() }, "{said}");
        let gone = ["uninstall", "env", "--namespace", name, "--wait"];
        let gone = place.charts.over(place.node.kubeconfig(), &gone);
        assert!(gone.status.success(), "{}", text(&gone));
    }
}

/// How many lines tell of something that goes.
fn removed(said: &str) -> usize {
    said.lines().filter(|line| line.starts_with("- ")).count()
}

/// What there is of the second environment: its databases and roles, records of them, topics, and Secrets that somebody made for it.
async fn left_of_second(place: &Place, servers: &Servers) -> BTreeSet<String> {
    let (name, uid) = SECOND;
    let made = format!(
        "SELECT 'database ' || datname FROM pg_database WHERE datname ~ '^{name}_'
         UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname ~ '^{name}_'
         UNION ALL SELECT 'record of ' || name FROM rollcall.owned WHERE environment_uid = '{uid}'"
    );
    let mut left: BTreeSet<String> =
        catalog::rows_of(&servers.postgres, "rollcall", &made).await.into_iter().collect();
    let topics = topics::all_of(&servers.kafka).await;
    left.extend(topics.into_keys().filter(|topic| topic.contains(name)));
    // The administrator's is not the environment's.
    let secrets = secrets(place, name).into_keys().filter(|secret| secret != "commons-postgresql");
    left.extend(secrets.map(|secret| format!("Secret {secret}")));
    left
}

/// The third one's databases have the first one's names.
async fn is_refused(place: &Place, servers: &Servers) {
    let (name, uid) = THIRD;
    let third = Whole::of(&renamed(&texts(&["commons-base"]), name, uid, None));
    servers.found_in(place, name);
    let mut values = third.values.clone();
    values["postgresInit"] = json!({"run": "apply"});
    place.install(&["upgrade", "env", "environment", "--namespace", name], &values);
    let (label, word) = ("app.kubernetes.io/component=postgres-init", "belongs to environment `openg2p`");
    // It is of no use to try that again, and nobody does.
    place
        .until("the Job has failed", async || {
            let jobs = place.json(&["get", "jobs", "-n", name, "-l", label]);
            let conditions = jobs["items"][0]["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|one| one["type"] == "Failed" && one["reason"] == "PodFailurePolicy")
        })
        .await;
    let pod = place.pod(name, label);
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 65, "{ended:#}");
    assert!(ended["message"].as_str().unwrap().contains(word), "{ended:#}");
    place
        .until("it is explained", async || {
            text(&place.rollcall(&["explain", "module/keycloak", "-n", name])).contains(word)
        })
        .await;
    let gone = ["uninstall", "env", "--namespace", name, "--wait"];
    let gone = place.charts.over(place.node.kubeconfig(), &gone);
    assert!(gone.status.success(), "{}", text(&gone));
}

/// Everything that the first environment has on the servers and keeps secret: each row as it was written, by which
/// transaction, each topic with its settings, replicas and offsets, each Secret.
async fn belongings(place: &Place, servers: &Servers) -> BTreeSet<String> {
    let mut all: BTreeSet<String> =
        secrets(place, FIRST).iter().map(|secret| format!("{secret:?}")).collect();
    let databases =
        "SELECT datname FROM pg_database WHERE datname !~ '^(second_|template|postgres$|rollcall$)'";
    let databases = catalog::rows_of(&servers.postgres, "postgres", databases).await;
    assert!(databases.len() > 15, "{databases:?}");
    for database in databases.iter().map(|row| row.trim_matches(['(', ')'])) {
        let rows = catalog::local_of(&servers.postgres, database).await;
        all.extend(rows.iter().map(|row| format!("{database}: {row}")));
        let tables = "SELECT oid, xmin, relname, relowner, relacl::text FROM pg_class WHERE relkind = 'r' AND oid > 16384";
        let tables = catalog::rows_of(&servers.postgres, database, tables).await;
        all.extend(tables.iter().map(|row| format!("{database}: {row}")));
        for table in written(&servers.postgres, database).await {
            let rows = format!("SELECT xmin, t.* FROM {table} t");
            let rows = catalog::rows_of(&servers.postgres, database, &rows).await;
            all.extend(rows.iter().map(|row| format!("{database}: {table}: {row}")));
        }
    }
    let owned =
        format!("SELECT 'owned', o.xmin, o.* FROM rollcall.owned o WHERE environment_uid = '{FIRST_UID}'");
    let owned = catalog::rows_of(&servers.postgres, "rollcall", &owned).await;
    assert!(owned.len() > 40, "each database and its roles: {owned:?}");
    all.extend(owned);
    let brokers = servers.kafka.brokers();
    let records = read_to_end(&brokers.as_str().into(), OWNERSHIP_TOPIC, READY).await.unwrap();
    let records: Vec<_> = records.iter().filter(|record| record.key.ends_with(FIRST_UID)).collect();
    assert!(!records.is_empty(), "no record of ownership");
    all.extend(records.iter().map(|record| format!("{record:?}")));
    // A neighbour adds rows of its own, and lets its observer into database `rollcall`.
    let shared = catalog::shared_of(&servers.postgres).await;
    all.extend(shared.into_iter().filter(|row| !row.starts_with("(pg_database,rollcall,")));
    for (topic, lines) in topics::all_of(&servers.kafka).await {
        if topic.starts_with("openg2p.") {
            all.extend(lines.iter().map(|line| format!("{topic}: {line}")));
        }
    }
    all
}

/// The tables that modules made in a database.
async fn written(postgres: &Postgres, database: &str) -> Vec<String> {
    let tables = "SELECT quote_ident(nspname) || '.' || quote_ident(relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND nspname !~ '^(pg_|information_schema)'";
    let tables = catalog::rows_of(postgres, database, tables).await;
    tables.iter().map(|row| row.trim_matches(['(', ')']).to_owned()).collect()
}

fn unchanged(before: &BTreeSet<String>, after: &BTreeSet<String>) {
    assert!(before.len() > 300, "it was looked at: {before:?}");
    let gone: Vec<&String> = before.difference(after).collect();
    assert!(gone.is_empty(), "changed or gone: {gone:#?}");
}
