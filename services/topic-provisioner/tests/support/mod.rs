//! A real cluster, documents, and a look at what is there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use chassis::bus::{OWNERSHIP_TOPIC, produce_acked, read_to_end};
use chassis::converge::{Fault, Reconcile, Standing, Told, converge};
use chassis::secret::SecretStore;
use lifecycle::document::{Environment, Source};
use prost::Message;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rollcall_proto::lifecycle::v1::{OwnershipState, TopicOwnership};
use sandbox::{Kafka, KafkaOptions, Options, Sandbox, Supervisor};
use topic_provisioner::plan::World;
use topic_provisioner::{Error, KafkaTarget, Spec, targets};
use uuid::Uuid;

const READY: Duration = Duration::from_mins(2);

/// A cluster of one broker.
pub(crate) struct Cluster {
    sandbox: Sandbox,
    pub(crate) kafka: Kafka,
}

impl Cluster {
    pub(crate) async fn start() -> Cluster {
        Cluster::with(KafkaOptions::default()).await
    }

    pub(crate) async fn with(options: KafkaOptions) -> Cluster {
        let sandbox = Sandbox::start(Options::new(Supervisor::of_this_test("supervises")))
            .await
            .expect("a sandbox starts");
        let kafka = sandbox.kafka(options).await.expect("a broker is made");
        kafka.ready(READY).await.expect("it is ready");
        Cluster { sandbox, kafka }
    }

    pub(crate) async fn stop(self) {
        self.sandbox.stop().await.expect("it stops");
    }

    /// A document of environment `name` with this uid, and these topics on the cluster.
    pub(crate) fn document(&self, name: &str, uid: u128, topics: &str) -> String {
        document(&self.kafka.brokers(), name, uid, topics)
    }

    /// The targets of such a document, which must be one.
    pub(crate) fn target(&self, name: &str, uid: u128, topics: &str) -> (KafkaTarget, Spec) {
        target(&self.document(name, uid, topics))
    }

    /// How every topic stands after one run.
    pub(crate) async fn once(&self, name: &str, uid: u128, topics: &str) -> BTreeMap<String, Standing> {
        let (target, spec) = self.target(name, uid, topics);
        once(&target, &spec).await
    }

    /// How every topic stands when nothing is pending any more.
    pub(crate) async fn settled(&self, name: &str, uid: u128, topics: &str) -> BTreeMap<String, Standing> {
        let (target, spec) = self.target(name, uid, topics);
        settled(&target, &spec).await
    }

    /// What is on the cluster.
    pub(crate) async fn world(&self) -> World {
        let (target, spec) = self.target("look", 99, "{look: {kafka: main, partitions: 1}}");
        target.observe(&spec).await.expect("it can be looked at")
    }

    pub(crate) async fn partitions(&self, topic: &str) -> usize {
        self.world().await.topics.get(topic).map_or(0, |topic| topic.partitions.len())
    }

    /// Creates a topic as somebody would who knows nothing of Rollcall.
    pub(crate) async fn stranger(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.kafka.brokers()).create().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let made =
            admin.create_topics(&[NewTopic::new(topic, 1, TopicReplication::Fixed(1))], &options).await;
        made.unwrap().remove(0).unwrap();
    }

    /// Writes a record of ownership by hand, or deletes it.
    pub(crate) async fn record(&self, topic: &str, uid: u128, state: Option<OwnershipState>) {
        let uid = Uuid::from_u128(uid).to_string();
        let key = format!("{topic}@{uid}");
        let environment = rollcall_proto::lifecycle::v1::Environment { name: "by-hand".to_owned(), uid };
        let value = state.map(|state| {
            let (environment, topic) = (Some(environment), topic.to_owned());
            let record =
                TopicOwnership { environment, topic, state: state.into(), ..TopicOwnership::default() };
            record.encode_to_vec()
        });
        let bus = self.kafka.brokers().as_str().into();
        produce_acked(&bus, OWNERSHIP_TOPIC, &key, value.as_deref()).await.expect("written");
    }

    /// The states recorded last, by topic and environment.
    pub(crate) async fn records(&self) -> BTreeMap<(String, u128), OwnershipState> {
        let bus = self.kafka.brokers().as_str().into();
        let kept = read_to_end(&bus, OWNERSHIP_TOPIC, Duration::from_secs(10)).await.expect("read");
        let mut states = BTreeMap::new();
        for record in kept {
            let (topic, uid) = record.key.rsplit_once('@').unwrap();
            let key = (topic.to_owned(), uid.parse::<Uuid>().unwrap().as_u128());
            match record.value {
                None => states.remove(&key),
                Some(value) => states.insert(key, TopicOwnership::decode(value.as_slice()).unwrap().state()),
            };
        }
        states
    }
}

pub(crate) fn document(brokers: &str, name: &str, uid: u128, topics: &str) -> String {
    format!(
        "
rollcall: v1
environment: {{name: {name}, uid: {}}}
fragment: {{name: app, namespace: app}}
naming: {{topic: '{{name}}'}}
kafka: {{main: {{brokers: ['{brokers}']}}}}
topics: {topics}
",
        Uuid::from_u128(uid)
    )
}

pub(crate) fn target(document: &str) -> (KafkaTarget, Spec) {
    target_with(document, &SecretStore::None)
}

pub(crate) fn target_with(document: &str, secrets: &SecretStore) -> (KafkaTarget, Spec) {
    let document = chassis::documents::parse("app.yaml", document).expect("a document");
    let merged = Environment::merge([Source { file: "app.yaml".to_owned(), document }]);
    assert_eq!(merged.problems, []);
    let environment: Environment = merged.environment.expect("an environment");
    let mut targets = targets(&environment, secrets);
    assert_eq!(targets.len(), 1);
    let (_, target, spec) = targets.remove(0);
    (target, spec)
}

pub(crate) async fn once(target: &KafkaTarget, spec: &Spec) -> BTreeMap<String, Standing> {
    try_once(target, spec).await.expect("the cluster can be looked at")
}

pub(crate) async fn try_once(target: &KafkaTarget, spec: &Spec) -> Result<BTreeMap<String, Standing>, Error> {
    let standings = Mutex::new(BTreeMap::new());
    let tell = |told: Told<'_, _>| {
        if let Told::Standing(component, standing) = told {
            standings.lock().unwrap().insert(component.to_string(), standing);
        }
    };
    converge(target, spec, &spec.cluster, &tell).await?;
    Ok(standings.into_inner().unwrap())
}

pub(crate) async fn settled(target: &KafkaTarget, spec: &Spec) -> BTreeMap<String, Standing> {
    for _ in 0..50 {
        let moving = |standing: &Standing| {
            matches!(standing, Standing::Pending(_) | Standing::Failed { transient: true, .. })
        };
        match try_once(target, spec).await {
            Ok(standings) if !standings.values().any(moving) => return standings,
            Err(error) if !error.is_transient() => panic!("{error:?}"),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("nothing is settled after 50 runs: {:?}", once(target, spec).await);
}

#[track_caller]
pub(crate) fn ready(standing: &Standing, expected: bool) {
    let Standing::Ready { changed, evidence } = standing else { panic!("not ready: {standing:?}") };
    assert_eq!((*changed, evidence.level.as_str()), (expected, "leaders"));
    assert!(!evidence.incarnation["cluster_id"].is_empty());
}

#[track_caller]
pub(crate) fn refused<'a>(standing: &'a Standing, says: &str) -> &'a str {
    let Standing::Refused(text) = standing else { panic!("not refused: {standing:?}") };
    assert!(text.contains(says), "{text}");
    text
}
