//! One client of one cluster, and what it asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::bus::{BusError, Cluster, Writer};
use chassis::secret::SecretStore;
use lifecycle::Component;
use rdkafka::ClientContext;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigSource, NewPartitions, NewTopic, OwnedResourceSpecifier,
    ResourceSpecifier, TopicResult,
};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaRespErr;
use tokio::time::Instant;

use super::{Error, REQUEST};
use crate::plan::{Partition, Setting, Topic, World};
use crate::spec::{Authority, Connection};

/// Topics whose settings are asked for in one request.
const DESCRIBED: usize = 500;

/// Settings of a topic, or why they cannot be read.
pub(super) type Settings = Result<BTreeMap<String, Setting>, String>;

/// A client of one cluster.
pub(super) struct Client {
    pub(super) cluster: Component,
    /// The same cluster for the records of ownership.
    pub(super) bus: Cluster,
    admin: Arc<AdminClient<Quiet>>,
    /// Kept once it was needed: the first write of an idempotent producer takes half a second.
    writer: Mutex<Option<Writer>>,
    heard: Quiet,
}

/// Keeps librdkafka's repeated words out of the log, and the last of its errors for ours. It is its log that tells them:
/// an admin client has no queue on which errors are delivered.
#[derive(Debug, Clone, Default)]
struct Quiet(Arc<Mutex<Option<String>>>);

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
        if (level as i32) <= (RDKafkaLogLevel::Error as i32) {
            // It begins with the name of a thread.
            let words = message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: "));
            let words = words.map_or(message, |(_, words)| words);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(words.to_owned());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl Client {
    pub(super) fn new(
        cluster: &Component,
        connection: &Connection,
        secrets: &SecretStore,
    ) -> Result<Self, Error> {
        let brokers = connection.brokers.join(",");
        let mut properties = Vec::new();
        if let Some(authority) = &connection.tls {
            properties.push(("security.protocol", "ssl".to_owned()));
            properties.push(match authority {
                Authority::System => ("ssl.ca.location", "probe".to_owned()),
                Authority::Secret { secret, key } => {
                    let failed =
                        |source| Error::Authority { cluster: cluster.clone(), source: Box::new(source) };
                    let pem = secrets.read(secret, key).map_err(failed)?;
                    ("ssl.ca.pem", String::from_utf8_lossy(pem.expose()).into_owned())
                }
            });
        }
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &brokers)
            .set("client.id", "rollcall")
            .set("allow.auto.create.topics", "false")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("reconnect.backoff.max.ms", "1000")
            .set("enable.metrics.push", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        let mut bus = Cluster::new(brokers);
        for (key, value) in properties {
            config.set(key, &value);
            bus = bus.with(key, value);
        }
        let heard = Quiet::default();
        let admin = config.create_with_context(heard.clone());
        let admin = admin.map_err(|error| judged(cluster, &bus, &heard, "make a client", "", &error))?;
        Ok(Client { cluster: cluster.clone(), bus, admin: Arc::new(admin), writer: Mutex::default(), heard })
    }

    fn judged(&self, action: &'static str, topic: &str, error: &KafkaError) -> Error {
        judged(&self.cluster, &self.bus, &self.heard, action, topic, error)
    }

    pub(super) fn refused(&self, action: &'static str, topic: &str, code: RDKafkaErrorCode) -> Error {
        Error::Refused { cluster: self.cluster.clone(), action, topic: topic.to_owned(), code }
    }

    /// Writes records of ownership.
    pub(super) fn writer(&self) -> Result<Writer, BusError> {
        let mut kept = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = &*kept {
            return Ok(writer.clone());
        }
        let writer = Writer::new(self.bus.clone())?;
        *kept = Some(writer.clone());
        Ok(writer)
    }

    /// Every topic and broker.
    pub(super) async fn topics(&self) -> Result<World, Error> {
        let admin = Arc::clone(&self.admin);
        // librdkafka's metadata calls block.
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = admin.inner().fetch_metadata(None, REQUEST)?;
            let id = admin.inner().fetch_cluster_id(REQUEST).unwrap_or_default();
            Ok::<_, KafkaError>(world(&metadata, id))
        });
        let given_up = || KafkaError::MetadataFetch(RDKafkaErrorCode::Fail);
        let answer = asked.await.unwrap_or_else(|_| Err(given_up()));
        answer.map_err(|error| self.judged("list topics", "", &error))
    }

    /// The settings of existing topics.
    pub(super) async fn settings(&self, topics: &[String]) -> Result<BTreeMap<String, Settings>, Error> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let mut settings = BTreeMap::new();
        for chunk in topics.chunks(DESCRIBED) {
            let asked: Vec<ResourceSpecifier<'_>> =
                chunk.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
            let answers = self.admin.describe_configs(&asked, &options).await;
            let answers = answers.map_err(|error| self.judged("describe topics", "", &error))?;
            // Answers come in the order of the questions; one that failed does not name its topic.
            for (name, answer) in chunk.iter().zip(answers) {
                let known = match answer {
                    Err(code) => Err(format!("{code:?}")),
                    Ok(resource) => {
                        debug_assert_eq!(resource.specifier, OwnedResourceSpecifier::Topic(name.clone()));
                        let entries = resource.entries.into_iter();
                        Ok(entries
                            .filter_map(|entry| {
                                let own = entry.source == ConfigSource::DynamicTopic;
                                Some((entry.name, Setting { value: entry.value?, own }))
                            })
                            .collect())
                    }
                };
                settings.insert(name.clone(), known);
            }
        }
        Ok(settings)
    }

    /// Creates topics in one request; how it went with each, in their order.
    pub(super) async fn create(&self, topics: &[NewTopic<'_>]) -> Result<Vec<TopicResult>, Error> {
        let answers = self.admin.create_topics(topics, &options()).await;
        answers.map_err(|error| self.judged("create topics", "", &error))
    }

    pub(super) async fn add_partitions(&self, partitions: &NewPartitions<'_>) -> Result<(), Error> {
        let name = partitions.topic_name;
        let answers = self.admin.create_partitions([partitions], &options()).await;
        let answers = answers.map_err(|error| self.judged("add partitions to", name, &error))?;
        match answers.into_iter().next() {
            Some(Err((_, code))) => Err(self.refused("add partitions to", name, code)),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Waits, at most so long, until topics have so many partitions and each a leader; those that do.
    pub(super) async fn settled(
        &self,
        topics: &BTreeMap<&str, usize>,
        within: Duration,
    ) -> Result<BTreeSet<String>, Error> {
        let give_up = Instant::now() + within;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            let world = self.topics().await?;
            let settled = |name: &str, partitions: usize| {
                world.topics.get(name).is_some_and(|topic| {
                    topic.trouble.is_none()
                        && topic.partitions.len() >= partitions
                        && topic.partitions.iter().all(|partition| partition.leader.is_some())
                })
            };
            let done: BTreeSet<String> = topics
                .iter()
                .filter(|(name, n)| settled(name, **n))
                .map(|(name, _)| (*name).to_owned())
                .collect();
            if done.len() == topics.len() || Instant::now() >= give_up {
                return Ok(done);
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

fn judged(
    cluster: &Component,
    bus: &Cluster,
    heard: &Quiet,
    action: &'static str,
    topic: &str,
    error: &KafkaError,
) -> Error {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
    match code {
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::TimedOutQueue
        | Code::Resolve
        | Code::Authentication
        | Code::SSL
        | Code::Fail => {
            let last = heard.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            let reason = last.unwrap_or_else(|| error.to_string());
            Error::Unreachable { cluster: cluster.clone(), brokers: bus.brokers().to_owned(), reason, code }
        }
        code => Error::Refused { cluster: cluster.clone(), action, topic: topic.to_owned(), code },
    }
}

fn world(metadata: &Metadata, cluster_id: String) -> World {
    let topics = metadata.topics().iter().filter_map(|topic| {
        let trouble = match topic.error() {
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => return None,
            Some(error) => Some(format!("{:?}", RDKafkaErrorCode::from(error))),
            None => None,
        };
        let partitions = topic.partitions().iter().map(|partition| Partition {
            id: partition.id(),
            leader: Some(partition.leader()).filter(|leader| *leader >= 0),
            replicas: partition.replicas().to_vec(),
            in_sync: partition.isr().to_vec(),
        });
        Some((topic.name().to_owned(), Topic { partitions: partitions.collect(), trouble, settings: None }))
    });
    World { cluster_id, brokers: metadata.brokers().len(), topics: topics.collect(), ..World::default() }
}
