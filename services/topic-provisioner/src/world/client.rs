//! One client of one cluster, and what it asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::bus::{BusError, Cluster, OWNERSHIP_TOPIC, QuietContext, Writer};
use chassis::secret::SecretStore;
use lifecycle::Component;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigEntry, ConfigResourceResult, ConfigSource, NewPartitions, NewTopic,
    ResourceSpecifier, TopicResult,
};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::groups::GroupList;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::types::RDKafkaRespErr;
use tokio::time::Instant;

use super::{Error, REQUEST};
use crate::plan::teardown::{Readers, topics_of};
use crate::plan::{Partition, Setting, Topic, World};
use crate::spec::{Authority, Connection};

/// Topics whose settings are asked for in one request.
const DESCRIBED: usize = 500;
/// How long finding out why nobody answers may take.
const REASON: Duration = Duration::from_secs(2);

/// Settings of a topic, or why they cannot be read.
pub(super) type Settings = Result<BTreeMap<String, Setting>, String>;

/// A client of one cluster.
pub(super) struct Client {
    pub(super) cluster: Component,
    /// The same cluster for the records of ownership.
    pub(super) bus: Cluster,
    admin: Arc<AdminClient<QuietContext>>,
    /// Kept once it was needed: the first write of an idempotent producer takes half a second.
    writer: Mutex<Option<Writer>>,
    config: ClientConfig,
}

impl Client {
    pub(super) async fn new(
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
                    let pem = secrets.read(secret, key).await.map_err(failed)?;
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
        // It fails for what it was given and not for what it meets: it connects when it is asked something.
        let failed = |error: KafkaError| Error::Unreachable {
            cluster: cluster.clone(),
            brokers: bus.brokers().to_owned(),
            reason: error.to_string(),
            code: error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail),
        };
        let admin = Arc::new(config.create_with_context(QuietContext::default()).map_err(failed)?);
        Ok(Client { cluster: cluster.clone(), bus, admin, writer: Mutex::default(), config })
    }

    async fn judged(&self, action: &'static str, topic: &str, error: &KafkaError) -> Error {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        if !matches!(
            code,
            Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::TimedOutQueue
                | Code::Resolve
                | Code::Authentication
                | Code::SSL
                | Code::Fail
        ) {
            return self.refused(action, topic, code);
        }
        let reason = self.reason().await.unwrap_or_else(|| error.to_string());
        let (cluster, brokers) = (self.cluster.clone(), self.bus.brokers().to_owned());
        Error::Unreachable { cluster, brokers, reason, code }
    }

    /// Why nobody answers. An admin client is not told (its main queue is never polled), so another one asks again.
    async fn reason(&self) -> Option<String> {
        let config = self.config.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let heard = QuietContext::default();
            let asker: BaseProducer<QuietContext> = config.create_with_context(heard.clone()).ok()?;
            let give_up = Instant::now() + REASON;
            loop {
                // Asking makes it connect.
                drop(asker.client().fetch_metadata(Some(OWNERSHIP_TOPIC), Duration::from_millis(100)));
                asker.poll(Duration::from_millis(50));
                let reason = heard.take_last();
                if reason.is_some() || Instant::now() >= give_up {
                    return reason;
                }
            }
        });
        asked.await.ok().flatten()
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
        let answer = asked.await.unwrap_or(Err(KafkaError::MetadataFetch(RDKafkaErrorCode::Fail)));
        match answer {
            Ok(world) => Ok(world),
            Err(error) => Err(self.judged("list topics", "", &error).await),
        }
    }

    /// The settings of existing topics.
    pub(super) async fn settings(&self, topics: &[String]) -> Result<BTreeMap<String, Settings>, Error> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        let mut settings = BTreeMap::new();
        for chunk in topics.chunks(DESCRIBED) {
            let asked: Vec<ResourceSpecifier<'_>> =
                chunk.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
            let answers = match self.admin.describe_configs(&asked, &options).await {
                Ok(answers) => answers,
                Err(error) => return Err(self.judged("describe topics", "", &error).await),
            };
            // Answers come in the order of the questions; one that failed does not name its topic.
            settings.extend(chunk.iter().cloned().zip(answers.into_iter().map(known)));
        }
        Ok(settings)
    }

    /// Creates topics in one request; how it went with each, in their order.
    pub(super) async fn create(&self, topics: &[NewTopic<'_>]) -> Result<Vec<TopicResult>, Error> {
        match self.admin.create_topics(topics, &options()).await {
            Ok(answers) => Ok(answers),
            Err(error) => Err(self.judged("create topics", "", &error).await),
        }
    }

    /// Deletes a topic; one that is gone already is as good.
    pub(super) async fn delete(&self, name: &str) -> Result<(), Error> {
        let answers = match self.admin.delete_topics(&[name], &options()).await {
            Ok(answers) => answers,
            Err(error) => return Err(self.judged("delete", name, &error).await),
        };
        match answers.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) | Ok(_)) | None => Ok(()),
            Some(Err((_, code))) => Err(self.refused("delete", name, code)),
        }
    }

    /// Who reads which topic now: members of consumer groups, by what they are assigned or have subscribed to.
    pub(super) async fn readers(&self) -> Result<Readers, Error> {
        let admin = Arc::clone(&self.admin);
        // librdkafka's group calls block.
        let asked = tokio::task::spawn_blocking(move || {
            Ok::<_, KafkaError>(readers(&admin.inner().fetch_group_list(None, REQUEST)?))
        });
        let answer = asked.await.unwrap_or(Err(KafkaError::GroupListFetch(RDKafkaErrorCode::Fail)));
        match answer {
            Ok(readers) => Ok(readers),
            Err(error) => Err(self.judged("list consumer groups", "", &error).await),
        }
    }

    pub(super) async fn add_partitions(&self, partitions: &NewPartitions<'_>) -> Result<(), Error> {
        let name = partitions.topic_name;
        let answers = match self.admin.create_partitions([partitions], &options()).await {
            Ok(answers) => answers,
            Err(error) => return Err(self.judged("add partitions to", name, &error).await),
        };
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
            let done = topics.iter().filter(|(name, partitions)| settled(name, **partitions));
            let done: BTreeSet<String> = done.map(|(name, _)| (*name).to_owned()).collect();
            if done.len() == topics.len() || Instant::now() >= give_up {
                return Ok(done);
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}

fn readers(groups: &GroupList) -> Readers {
    let mut readers = Readers::default();
    // Workers of Connect are members of groups too, and read by groups of their own.
    for group in groups.groups().iter().filter(|group| ["consumer", ""].contains(&group.protocol_type())) {
        for member in group.members() {
            let assigned = member.assignment().and_then(|bytes| topics_of(bytes, true));
            let subscribed = member.metadata().and_then(|bytes| topics_of(bytes, false));
            let who =
                format!("group `{}` (`{}` at {})", group.name(), member.client_id(), member.client_host());
            if assigned.is_none() && subscribed.is_none() {
                readers.unclear.insert(who.clone());
            }
            for topic in assigned.into_iter().chain(subscribed).flatten() {
                readers.of.entry(topic).or_default().insert(who.clone());
            }
        }
    }
    readers
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

fn known(answer: ConfigResourceResult) -> Settings {
    let entries = answer.map_err(|code| format!("{code:?}"))?.entries.into_iter();
    let setting = |entry: ConfigEntry| {
        let own = entry.source == ConfigSource::DynamicTopic;
        Some((entry.name, Setting { value: entry.value?, own }))
    };
    Ok(entries.filter_map(setting).collect())
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
