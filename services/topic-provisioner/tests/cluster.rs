//! Topics on a real Kafka: made once, grown, left alone, refused, fought over, and finished after a crash.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chassis::converge::{Fault, Reconcile, Standing};
use rollcall_proto::lifecycle::v1::OwnershipState;
use support::{Cluster, document, once, ready, refused, settled, target, try_once};

#[test]
#[ignore = "the sandbox's supervisor, not a test"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

// One broker for all of them: starting one takes longer than any of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_and_left_alone_as_they_should() {
    let cluster = Cluster::start().await;
    made_once_and_grown(&cluster).await;
    unowned_and_foreign_are_refused_and_neighbours_made(&cluster).await;
    what_a_crash_left_is_finished(&cluster).await;
    deleted_topics_are_made_again(&cluster).await;
    the_cluster_refuses_and_says_why(&cluster).await;
    two_at_once_agree(&cluster).await;
    two_environments_never_share(&cluster).await;
    many_at_once(&cluster).await;
    killed_anywhere(&cluster).await;
    a_broker_that_went_away(&cluster).await;
    cluster.stop().await;
}

async fn made_once_and_grown(cluster: &Cluster) {
    let topics = "{m.a: {kafka: main, partitions: 3, config: {retention.ms: '604800000'}}, m.b: {kafka: main, partitions: 1}}";
    let first = cluster.once("dev", 7, topics).await;
    for topic in ["topic/m.a", "topic/m.b"] {
        ready(&first[topic], true);
        ready(&cluster.once("dev", 7, topics).await[topic], false);
    }
    let records = cluster.records().await;
    assert_eq!(records[&("m.a".to_owned(), 7)], OwnershipState::Made);

    let grown = topics.replace("partitions: 3", "partitions: 6");
    ready(&cluster.once("dev", 7, &grown).await["topic/m.a"], true);
    ready(&cluster.once("dev", 7, &grown).await["topic/m.a"], false);
    assert_eq!(cluster.partitions("m.a").await, 6);

    // Back to fewer: said, not done, and not refused. The record follows the wish.
    let (target, spec) = cluster.target("dev", 7, topics);
    settled(&target, &spec).await;
    let plan = topic_provisioner::plan::plan(&spec, &target.observe(&spec).await.unwrap());
    assert!(
        plan.is_settled() && plan.to_string().contains("m.a` has 6 partitions, 3 are asked for"),
        "{plan}"
    );

    let other = topics.replace("604800000", "5");
    let (target, spec) = cluster.target("dev", 7, &other);
    let plan = topic_provisioner::plan::plan(&spec, &target.observe(&spec).await.unwrap());
    assert!(plan.to_string().contains("has retention.ms=604800000, 5 is asked for"), "{plan}");

    let three = "{m.b: {kafka: main, partitions: 1, replication: 3}, m.c: {kafka: main, partitions: 1, replication: 3}}";
    let standings = cluster.once("dev", 7, three).await;
    refused(&standings["topic/m.b"], "asks for 3 replicas, partition 0 has 1");
    let Standing::Pending(note) = &standings["topic/m.c"] else { panic!("{standings:?}") };
    assert!(note.text.contains("`m.c` asks for 3 replicas: needs 3 brokers, the cluster has 1"), "{note:?}");
}

async fn unowned_and_foreign_are_refused_and_neighbours_made(cluster: &Cluster) {
    cluster.stranger("u.unowned").await;
    cluster.stranger("u.col_lides").await;
    ready(
        &cluster.settled("prod", 8, "{u.foreign: {kafka: main, partitions: 2}}").await["topic/u.foreign"],
        true,
    );
    let topics = "{u.unowned: {kafka: main, partitions: 3}, u.foreign: {kafka: main, partitions: 3}, u.col.lides: {kafka: main, partitions: 1}, u.ours: {kafka: main, partitions: 1}}";
    let before = cluster.world().await.topics;
    let standings = cluster.once("dev", 7, topics).await;
    refused(&standings["topic/u.unowned"], "no record says who made it");
    let text =
        refused(&standings["topic/u.foreign"], "environment `prod` (00000000-0000-0000-0000-000000000008)");
    assert!(text.contains("naming: {topic:"), "{text}");
    refused(&standings["topic/u.col.lides"], "beside the existing topic `u.col_lides`");
    ready(&standings["topic/u.ours"], true);
    let after = cluster.world().await.topics;
    assert!(before.iter().all(|(name, topic)| after[name] == *topic));
    ready(
        &cluster.once("prod", 8, "{u.foreign: {kafka: main, partitions: 2}}").await["topic/u.foreign"],
        false,
    );
}

async fn what_a_crash_left_is_finished(cluster: &Cluster) {
    let topic = |name: &str| format!("{{{name}: {{kafka: main, partitions: 1}}}}");
    // After the intent.
    cluster.record("c.intent", 7, Some(OwnershipState::Intent)).await;
    ready(&cluster.once("dev", 7, &topic("c.intent")).await["topic/c.intent"], true);
    // After the creation.
    cluster.record("c.created", 7, Some(OwnershipState::Intent)).await;
    cluster.stranger("c.created").await;
    ready(&cluster.once("dev", 7, &topic("c.created")).await["topic/c.created"], true);
    ready(&cluster.once("dev", 7, &topic("c.created")).await["topic/c.created"], false);
    // After the intent that came too late: withdrawn, refused, and the other's is left.
    cluster.record("c.late", 8, Some(OwnershipState::Intent)).await;
    cluster.record("c.late", 7, Some(OwnershipState::Intent)).await;
    refused(&cluster.once("dev", 7, &topic("c.late")).await["topic/c.late"], "environment `by-hand`");
    ready(&cluster.settled("prod", 8, &topic("c.late")).await["topic/c.late"], true);
    // Both say made: nobody may go on.
    cluster.record("c.both", 7, Some(OwnershipState::Made)).await;
    cluster.record("c.both", 8, Some(OwnershipState::Made)).await;
    refused(&cluster.once("dev", 7, &topic("c.both")).await["topic/c.both"], "cannot be told whose");
    let records = cluster.records().await;
    for name in ["c.intent", "c.created"] {
        assert_eq!(records[&(name.to_owned(), 7)], OwnershipState::Made, "{name}");
    }
    assert!(!records.contains_key(&("c.late".to_owned(), 7)));
}

async fn deleted_topics_are_made_again(cluster: &Cluster) {
    cluster.record("d.deleted", 7, Some(OwnershipState::Made)).await;
    ready(
        &cluster.once("dev", 7, "{d.deleted: {kafka: main, partitions: 2}}").await["topic/d.deleted"],
        true,
    );
    assert_eq!(cluster.partitions("d.deleted").await, 2);
}

async fn the_cluster_refuses_and_says_why(cluster: &Cluster) {
    let topics = "{r.bad: {kafka: main, partitions: 1, config: {retention.ms: many}}, r.good: {kafka: main, partitions: 1}}";
    let standings = cluster.once("dev", 7, topics).await;
    let Standing::Failed { error, code, transient: false } = &standings["topic/r.bad"] else {
        panic!("{standings:?}")
    };
    assert!(error.contains("`r.bad`") && error.contains("correct the topic's `config`"), "{error}");
    assert_eq!(code, "InvalidConfig");
    ready(&standings["topic/r.good"], true);
    // Corrected, the intent of the run before is no hindrance.
    let topics = topics.replace("many", "'5'");
    ready(&cluster.once("dev", 7, &topics).await["topic/r.bad"], true);
}

fn many(prefix: &str, count: usize, partitions: usize) -> String {
    let mut topics = String::from("{");
    for i in 0..count {
        let _ = write!(topics, "{prefix}.t{i}: {{kafka: main, partitions: {partitions}}}, ");
    }
    topics.trim_end_matches(", ").to_owned() + "}"
}

async fn two_at_once_agree(cluster: &Cluster) {
    for round in 0..10 {
        let topics = many(&format!("a{round}"), 5, 1);
        let run = || cluster.settled("dev", 7, &topics);
        let (a, b, c) = tokio::join!(run(), run(), run());
        for standing in a.values().chain(b.values()).chain(c.values()) {
            assert!(matches!(standing, Standing::Ready { .. }), "round {round}: {standing:?}");
        }
        let records = cluster.records().await;
        for i in 0..5 {
            assert_eq!(records[&(format!("a{round}.t{i}"), 7)], OwnershipState::Made);
        }
    }
}

async fn two_environments_never_share(cluster: &Cluster) {
    let mut won = BTreeMap::<&str, usize>::new();
    for round in 0..10 {
        let topics = many(&format!("e{round}"), 5, 1);
        let (dev, prod) =
            tokio::join!(cluster.settled("dev", 7, &topics), cluster.settled("prod", 8, &topics));
        for (topic, of_dev) in &dev {
            let (winner, loser, name) = match (of_dev, &prod[topic]) {
                (Standing::Ready { .. }, other) => ("dev", other, "`dev`"),
                (other, Standing::Ready { .. }) => ("prod", other, "`prod`"),
                both => panic!("nobody has {topic}: {both:?}"),
            };
            refused(loser, name);
            *won.entry(winner).or_default() += 1;
        }
        let records = cluster.records().await;
        for i in 0..5 {
            let claims = [7, 8].map(|uid| records.get(&(format!("e{round}.t{i}"), uid)));
            assert!(
                matches!(claims, [Some(OwnershipState::Made), None] | [None, Some(OwnershipState::Made)]),
                "{claims:?}"
            );
        }
    }
    eprintln!("topics won: {won:?}");
}

async fn many_at_once(cluster: &Cluster) {
    let topics = many("many", 300, 2);
    let (target, spec) = cluster.target("dev", 7, &topics);
    let start = Instant::now();
    let standings = settled(&target, &spec).await;
    let made = start.elapsed();
    assert!(standings.values().all(|standing| matches!(standing, Standing::Ready { .. })));
    let start = Instant::now();
    let standings = once(&target, &spec).await;
    let again = start.elapsed();
    assert!(standings.values().all(|standing| matches!(standing, Standing::Ready { changed: false, .. })));
    eprintln!("300 topics of 2 partitions: made in {made:?}, looked at again in {again:?}");
}

async fn killed_anywhere(cluster: &Cluster) {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..12_u64 {
        let topics = many(&format!("k{round}"), 20, 1);
        let file = dir.path().join("app.yaml");
        std::fs::write(&file, cluster.document("dev", 7, &topics)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_topic-provisioner"));
        command
            .arg("apply")
            .arg(&file)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(20 + 90 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let (target, spec) = cluster.target("dev", 7, &topics);
        let there = target.observe(&spec).await.unwrap();
        let made = there.topics.keys().filter(|name| name.starts_with(&format!("k{round}."))).count();
        let standings = settled(&target, &spec).await;
        eprintln!("killed after {} ms: {made} of 20 topics were there", 20 + 90 * round);
        assert!(
            standings.values().all(|standing| matches!(standing, Standing::Ready { .. })),
            "{standings:?}"
        );
        let output = command.output().unwrap();
        assert!(output.status.success());
    }
}

async fn a_broker_that_went_away(cluster: &Cluster) {
    let (target, spec) = cluster.target("dev", 7, "{w.t: {kafka: main, partitions: 1}}");
    ready(&once(&target, &spec).await["topic/w.t"], true);
    cluster.kafka.kill().await.unwrap();
    let error = try_once(&target, &spec).await.unwrap_err();
    let text = chassis::exit::chain(&error);
    assert!(
        error.is_transient() && text.contains("kafka/main") && text.contains(&cluster.kafka.brokers()),
        "{text}"
    );
    cluster.kafka.start().await.unwrap();
    cluster.kafka.ready(Duration::from_mins(1)).await.unwrap();
    ready(&settled(&target, &spec).await["topic/w.t"], false);
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_named() {
    let (target, spec) = target(&document("127.0.0.1:1", "dev", 7, "{t: {kafka: main, partitions: 1}}"));
    let start = Instant::now();
    let error = target.observe(&spec).await.unwrap_err();
    let text = chassis::exit::chain(&error);
    assert!(error.is_transient() && text.contains("kafka/main at 127.0.0.1:1 cannot be reached"), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(15));
}
