//! A Kafka cluster has its brokers, or a topic a leader and an in-sync replica for every partition. The client lives for
//! one look: an idle waiter has none.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use chassis::secret::SecretStore;
use lifecycle::{Component, Evidence};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};
use std::time::Instant;

use super::postgres::Authority;
use super::secret;
use super::{DEADLINE, NotYet, State};

/// Ready when at least `expect_brokers` brokers are there, and `topic`, where one is named, is served.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kafka {
    /// `host:port` of at least one broker.
    pub brokers: Vec<String>,
    /// How many brokers must be there.
    pub expect_brokers: u16,
    /// Whether brokers speak TLS, with the authority that signed their certificates (the system's when none is named).
    pub tls: Option<Option<Authority>>,
    /// The topic's physical name.
    pub topic: Option<String>,
}

impl fmt::Display for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka {}", self.brokers.join(","))?;
        match &self.topic {
            Some(topic) => write!(f, "/{topic}"),
            None => Ok(()),
        }
    }
}

impl Kafka {
    /// The Secret that is read to speak with the brokers.
    pub(super) fn reads(&self) -> impl Iterator<Item = &Component> {
        self.tls.iter().flatten().filter_map(Authority::secret)
    }

    pub(super) async fn look(&self, secrets: &SecretStore) -> Result<Evidence, NotYet> {
        let config = self.config(secrets).await?;
        let probe = self.clone();
        // librdkafka blocks, also while it is dropped. What outlives the probe's deadline ends by itself soon after.
        match tokio::task::spawn_blocking(move || probe.ask(&config)).await {
            Ok(seen) => seen,
            Err(error) => Err(NotYet::new(State::Unknown, error)),
        }
    }

    async fn config(&self, secrets: &SecretStore) -> Result<ClientConfig, NotYet> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "rollcall-wait")
            .set("allow.auto.create.topics", "false")
            .set("enable.auto.commit", "false")
            .set("socket.timeout.ms", DEADLINE.as_millis().to_string())
            .set("socket.connection.setup.timeout.ms", DEADLINE.as_millis().to_string())
            .set_log_level(RDKafkaLogLevel::Emerg);
        if let Some(authority) = &self.tls {
            config.set("security.protocol", "ssl");
            let pem = match authority {
                None => None,
                Some(Authority::Secret(key)) => Some(secret::authority(key, secrets).await?),
                Some(Authority::File(path)) => Some(std::fs::read(path).map_err(|error| {
                    NotYet::new(State::Unknown, format!("{} cannot be read: {error}", path.display())).never()
                })?),
            };
            if let Some(pem) = pem {
                config.set("ssl.ca.pem", String::from_utf8_lossy(&pem));
            }
        }
        Ok(config)
    }

    /// Asks for metadata until it is there, the deadline passes, or no broker is left to ask.
    fn ask(&self, config: &ClientConfig) -> Result<Evidence, NotYet> {
        let until = Instant::now() + DEADLINE.saturating_sub(Duration::from_millis(100));
        let client = BaseConsumer::from_config_and_context(config, Heard::default())
            .map_err(|error| NotYet::new(State::Unknown, error).never())?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let error =
                match client.fetch_metadata(self.topic.as_deref(), left.min(Duration::from_millis(500))) {
                    Ok(metadata) => return self.judge(&metadata, &client),
                    Err(error) => error,
                };
            // Errors of connections are told on a queue of their own.
            while client.poll(Duration::ZERO).is_some() {}
            if let Some(found) = client.context().verdict() {
                return Err(found);
            }
            if left.is_zero() {
                let code = code(&error);
                return Err(match client.context().last() {
                    Some((_, said)) => NotYet::new(State::TimedOut, said),
                    None => NotYet::timed_out(),
                }
                .code(code.map_or_else(String::new, |code| format!("{code:?}"))));
            }
        }
    }

    fn judge(&self, metadata: &Metadata, client: &BaseConsumer<Heard>) -> Result<Evidence, NotYet> {
        let (brokers, expected) = (metadata.brokers().len(), usize::from(self.expect_brokers));
        if brokers < expected {
            return Err(NotYet::new(State::Unhealthy, format!("{brokers} of {expected} brokers are there")));
        }
        let mut evidence = Evidence::level("brokers").with("brokers", brokers.to_string());
        if let Some(name) = &self.topic {
            let topic = metadata.topics().iter().find(|topic| topic.name() == name).ok_or_else(|| {
                NotYet::new(State::Absent, format!("the cluster says nothing about topic `{name}`"))
            })?;
            served(topic)?;
            evidence = Evidence { level: "leaders".to_owned(), ..evidence }
                .with("partitions", topic.partitions().len().to_string());
        }
        Ok(match client.client().fetch_cluster_id(Duration::from_millis(50)) {
            Some(id) => evidence.with("cluster_id", id),
            None => evidence,
        })
    }
}

/// Whether a topic is there, and every partition has a leader and an in-sync replica.
fn served(topic: &MetadataTopic) -> Result<(), NotYet> {
    let name = topic.name();
    if let Some(error) = topic.error() {
        let code = RDKafkaErrorCode::from(error);
        let (state, said) = match code {
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
                (State::Absent, format!("topic `{name}` is not there"))
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                (State::Denied, format!("topic `{name}`: no permission to describe it"))
            }
            other => (State::Unhealthy, format!("topic `{name}`: {other}")),
        };
        let not_yet = NotYet::new(state, said).code(format!("{code:?}"));
        return Err(if state == State::Denied { not_yet.blind() } else { not_yet });
    }
    if topic.partitions().is_empty() {
        return Err(NotYet::new(State::Absent, format!("topic `{name}` has no partitions")));
    }
    for partition in topic.partitions() {
        let id = partition.id();
        if partition.leader() < 0 {
            return Err(NotYet::new(
                State::Unhealthy,
                format!("topic `{name}` partition {id} has no leader"),
            )
            .code("LeaderNotAvailable"));
        }
        if partition.isr().is_empty() {
            return Err(NotYet::new(
                State::Unhealthy,
                format!("topic `{name}` partition {id} has no in-sync replica"),
            ));
        }
    }
    Ok(())
}

/// What librdkafka says while it tries: kept instead of logged.
#[derive(Default)]
struct Heard(Mutex<Vec<(RDKafkaErrorCode, String)>>);

impl Heard {
    fn errors(&self) -> Vec<(RDKafkaErrorCode, String)> {
        self.0.lock().map(|heard| heard.clone()).unwrap_or_default()
    }

    /// The last thing said about a broker.
    fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.errors().into_iter().rfind(|(code, _)| *code != RDKafkaErrorCode::AllBrokersDown)
    }

    /// The answer, when trying on within this probe is pointless.
    fn verdict(&self) -> Option<NotYet> {
        let errors = self.errors();
        let is = |wanted: RDKafkaErrorCode| errors.iter().any(|(code, _)| *code == wanted);
        let last = self.last();
        let down = is(RDKafkaErrorCode::AllBrokersDown);
        let (code, said) = last.or_else(|| errors.into_iter().next_back())?;
        let state = match code {
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => State::Denied,
            _ if !down => return None,
            RDKafkaErrorCode::Resolve => State::Unresolved,
            RDKafkaErrorCode::SSL => State::Rejecting,
            _ => State::Refused,
        };
        Some(NotYet::new(state, said).code(format!("{code:?}")))
    }
}

impl ClientContext for Heard {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if let (Some(code), Ok(mut heard)) = (code(&error), self.0.lock()) {
            heard.push((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Heard {}

fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    error.rdkafka_error_code()
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::super::Probe;
    use super::super::faults;
    use super::*;

    async fn look(brokers: &str, expect_brokers: u16, topic: Option<&str>) -> Result<Evidence, NotYet> {
        let brokers = brokers.split(',').map(str::to_owned).collect();
        faults::look(Probe::Kafka(Kafka {
            brokers,
            expect_brokers,
            tls: None,
            topic: topic.map(str::to_owned),
        }))
        .await
    }

    #[tokio::test]
    async fn brokers_are_counted_and_topics_must_be_served() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("events", 3, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        assert_eq!(look(&brokers, 1, None).await.unwrap().level, "brokers");
        let evidence = look(&brokers, 1, Some("events")).await.unwrap();
        assert_eq!((evidence.level.as_str(), evidence.incarnation["partitions"].as_str()), ("leaders", "3"));
        let few = look(&brokers, 3, None).await.unwrap_err();
        assert_eq!((few.state, few.error.as_str()), (State::Unhealthy, "1 of 3 brokers are there"));
    }

    #[tokio::test]
    async fn a_topic_that_is_not_there_is_absent() {
        let cluster = MockCluster::new(1).unwrap();
        cluster
            .topic_error("events", rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
            .unwrap();
        let error = look(&cluster.bootstrap_servers(), 1, Some("events")).await.unwrap_err();
        assert_eq!(error.state, State::Absent, "{error}");
    }

    #[tokio::test]
    async fn refused_and_unresolved_are_told_apart_before_the_deadline() {
        let error = look(&faults::closed_port().await, 1, None).await.unwrap_err();
        assert_eq!(error.state, State::Refused, "{error}");
        let error = look("no-such-host.invalid:9092", 1, None).await.unwrap_err();
        assert_eq!(error.state, State::Unresolved, "{error}");
    }

    #[tokio::test]
    async fn a_peer_that_speaks_something_else_does_not_pass() {
        let peer = faults::serve(faults::Fault::Answer("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned())).await;
        assert!(look(&peer.address, 1, None).await.is_err());
    }
}
