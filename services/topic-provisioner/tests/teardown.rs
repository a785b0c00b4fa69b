//! Taking topics down on a real cluster: only what is recorded as this environment's goes, where its document says so and nobody
//! reads it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use std::time::Duration;

use chassis::exit::Exit;
use chassis::settings::Settings;
use chassis::shutdown::Shutdown;
use chassis::teardown::Report;
use chassis::{Context, documents};
use lifecycle::document::{Environment, Source};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use support::Cluster;

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

async fn down(document: &str, yes: bool, orphan: Option<&str>) -> Report {
    let document = documents::parse("app.yaml", document).unwrap();
    let merged = Environment::merge([Source { file: "app.yaml".to_owned(), document }]);
    let none: [(String, String); 0] = [];
    let context = Context::new("topic-provisioner", Settings::load(none).unwrap(), Shutdown::manual());
    topic_provisioner::teardown(
        &merged.environment.unwrap(),
        &context,
        yes,
        &orphan.map(|one| one.parse().unwrap()).into_iter().collect::<Vec<_>>(),
    )
    .await
    .unwrap()
}

const DELETE: &str = "policy: {on_delete: delete}\n";

/// Somebody who reads a topic, as a member of a group.
async fn member(cluster: &Cluster, topic: &str) -> StreamConsumer {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.kafka.brokers())
        .set("group.id", "registry")
        .set("client.id", "reader")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let joined = async {
        while consumer.assignment().unwrap().count() == 0 {
            let _ = tokio::time::timeout(Duration::from_millis(50), consumer.recv()).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), joined).await.expect("it is assigned the topic");
    consumer
}

async fn delete(cluster: &Cluster, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", cluster.kafka.brokers()).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    admin.delete_topics(&[topic], &options).await.unwrap().remove(0).unwrap();
    let gone = async {
        while cluster.partitions(topic).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), gone).await.expect("it is gone");
}

#[tokio::test]
async fn only_what_is_ours_and_unread_goes_and_only_when_both_say_so() {
    let cluster = Cluster::start().await;
    let topics = "{a: {kafka: main, partitions: 2}, b: {kafka: main, partitions: 1}, kept: {kafka: main, partitions: 1, on_delete: retain}}";
    for (name, uid, topics) in [("dev", 1, topics), ("other", 2, "{theirs: {kafka: main, partitions: 1}}")] {
        cluster.settled(name, uid, topics).await.values().for_each(|standing| support::ready(standing, true));
    }
    cluster.stranger("strange").await;
    let all = "{a: {kafka: main, partitions: 2}, b: {kafka: main, partitions: 1}, kept: {kafka: main, partitions: 1, on_delete: retain}, \
               theirs: {kafka: main, partitions: 1}, strange: {kafka: main, partitions: 1}}";
    let declared = cluster.document("dev", 1, all);
    let report = down(&declared, true, None).await;
    assert!(report.removed.is_empty() && report.retained.len() == 3, "by default all stays: {report}");

    let document = format!("{declared}{DELETE}");
    let reader = member(&cluster, "a").await;
    let said = down(&document, false, None).await;
    let text = said.to_string();
    assert!(text.contains("! topic/a: topic `a` is being read by group `registry` (`reader` at"), "{text}");
    assert!(text.contains("- topic/b: delete topic `b`") && text.contains("= topic/kept"), "{text}");
    assert!(text.contains("topic `theirs` belongs to environment `other`"), "{text}");
    assert!(text.contains("topic `strange` carries no record"), "{text}");
    assert_eq!(said.outcome().unwrap_err().exit, Exit::NeverWorks);
    assert!(cluster.partitions("b").await > 0, "nothing was done");

    let report = down(&document, true, None).await;
    assert_eq!(report.removed, said.removed, "what was said is done");
    assert_eq!((cluster.partitions("a").await, cluster.partitions("b").await), (2, 0));
    reader.unsubscribe();
    drop(reader);
    let gone = async {
        while !down(&document, true, None).await.refused.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), gone).await.expect("once nobody reads it, it goes");
    let left: Vec<String> = cluster
        .world()
        .await
        .topics
        .into_keys()
        .filter(|name| !name.starts_with("rollcall") && !name.starts_with("__"))
        .collect();
    assert_eq!(left, ["kept", "strange", "theirs"]);
    let records = cluster.records().await;
    assert_eq!(records.keys().map(|key| key.0.as_str()).collect::<Vec<_>>(), ["kept", "theirs"]);

    // Cut off after the deletion, the next run takes the record away; what nobody declares goes only when that is said.
    cluster.settled("dev", 1, topics).await;
    delete(&cluster, "b").await;
    let report = down(&document, true, None).await.to_string();
    assert!(
        report.contains("take away the record of topic `b`") && report.contains("delete topic `a`"),
        "{report}"
    );
    let fewer = format!("{}{DELETE}", cluster.document("dev", 1, "{a: {kafka: main, partitions: 2}}"));
    let report = down(&fewer, true, None).await;
    assert!(
        report
            .to_string()
            .contains("* topic/kept: topic `kept` of fragment `app`: no document here declares it"),
        "{report}"
    );
    assert!(report.removed.is_empty(), "{report}");
    assert_eq!(down(&fewer, true, Some("topic/kept")).await.removed.len(), 1);
    assert_eq!(cluster.partitions("kept").await, 0);
    // What is gone, or never was, is said to be nothing.
    for none in ["topic/kept", "topic/typo"] {
        let report = down(&fewer, true, Some(none)).await;
        let said = format!("{none}: nothing to delete: no record says");
        assert!(report.to_string().contains(&said) && report.outcome().is_ok(), "{report}");
        assert!(report.removed.is_empty(), "{report}");
    }
    // What went is made anew.
    cluster.settled("dev", 1, topics).await.values().for_each(|standing| support::ready(standing, true));
    cluster.stop().await;
}

#[tokio::test]
async fn a_cluster_that_is_away_is_said_and_may_come_back() {
    let document = support::document("127.0.0.1:1", "dev", 1, "{a: {kafka: main, partitions: 2}}");
    let report = down(&format!("{document}{DELETE}"), true, None).await;
    assert_eq!(report.outcome().unwrap_err().exit, Exit::TryAgain, "{report}");
    assert!(report.staying().contains(&"topic/a".parse().unwrap()), "{report}");
}
