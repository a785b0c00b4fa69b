//! What a cluster says of its topics, so that "nothing changed" can be compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rollcall::rehearse::Stage;
use sandbox::Kafka;

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Every topic by name, with lines that say all of it: its id, its settings, and each partition's replicas and offsets.
pub async fn all(stage: &Stage) -> BTreeMap<String, Vec<String>> {
    all_of(stage.kafka().expect("a stage with Kafka")).await
}

/// A file that the broker writes, a moment after it said so.
fn written(file: &Path) -> String {
    let started = Instant::now();
    loop {
        match std::fs::read_to_string(file) {
            Ok(text) => return text,
            Err(error) => assert!(started.elapsed() < ANSWER, "{}: {error}", file.display()),
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "between two looks at a condition that has a deadline"
        )]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The same of a cluster.
pub async fn all_of(kafka: &Kafka) -> BTreeMap<String, Vec<String>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers()).set("allow.auto.create.topics", "false");
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let data = kafka.data_dir().to_owned();
    // librdkafka's calls block.
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(None, ANSWER).unwrap();
        let mut topics = BTreeMap::new();
        for topic in metadata.topics().iter().filter(|topic| !topic.name().starts_with("__")) {
            let mut lines = Vec::new();
            for partition in topic.partitions() {
                let (low, high) = consumer.fetch_watermarks(topic.name(), partition.id(), ANSWER).unwrap();
                // The client cannot tell a topic's id; the broker keeps it here.
                let file =
                    data.join(format!("{}-{}", topic.name(), partition.id())).join("partition.metadata");
                let id = written(&file).replace('\n', " ");
                let (number, replicas) = (partition.id(), partition.replicas());
                lines.push(format!(
                    "partition {number}: {id}, replicas {replicas:?}, offsets {low} to {high}"
                ));
            }
            topics.insert(topic.name().to_owned(), lines);
        }
        topics
    });
    let mut topics = asked.await.unwrap();
    let resources = topics.keys().map(|name| ResourceSpecifier::Topic(name)).collect::<Vec<_>>();
    let described =
        admin.describe_configs(&resources, &AdminOptions::new().request_timeout(Some(ANSWER))).await;
    for resource in described.unwrap() {
        let resource = resource.unwrap();
        let OwnedResourceSpecifier::Topic(name) = &resource.specifier else { continue };
        let settings = resource.entries.iter().map(|e| format!("{}={:?} ({:?})", e.name, e.value, e.source));
        topics.entry(name.clone()).or_default().extend(settings);
    }
    topics
}
