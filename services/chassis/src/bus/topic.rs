//! Making and checking the compacted topics that Rollcall itself keeps.

use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use tokio::time::Instant;

use super::client::{Cluster, QuietContext};
use crate::backoff::Backoff;

/// One request to the cluster takes at most this long.
pub(super) const REQUEST: Duration = Duration::from_secs(5);

/// Why the bus cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// No broker answered, or not in time.
    #[error("Kafka at {brokers} cannot be reached: {reason}")]
    Unreachable {
        /// The brokers asked.
        brokers: String,
        /// The last error heard.
        reason: String,
    },
    /// There is no such topic yet, and making it is not this process's part.
    #[error("topic {topic} does not exist yet: the hub or topic-provisioner makes it")]
    Missing {
        /// The topic.
        topic: String,
    },
    /// The cluster answered with an error.
    #[error("topic {topic}: {action}: {code}")]
    Kafka {
        /// The topic concerned.
        topic: String,
        /// What was tried.
        action: &'static str,
        /// What it answered.
        code: RDKafkaErrorCode,
    },
    /// The topic exists and is not of the shape that Rollcall relies on.
    #[error("topic {topic} has {found}, Rollcall needs {needed}: delete it, or mend it, and it will be used")]
    Shape {
        /// The topic.
        topic: String,
        /// What it has.
        found: String,
        /// What it must have.
        needed: &'static str,
    },
    /// The topic speaks of another environment.
    #[error("topic {topic} belongs to environment {found}, not to {ours}: two environments have one name")]
    Foreign {
        /// The topic.
        topic: String,
        /// The uid found there.
        found: uuid::Uuid,
        /// Our uid.
        ours: uuid::Uuid,
    },
}

impl BusError {
    /// Whether trying again may help without anybody's doing something.
    pub fn is_transient(&self) -> bool {
        match self {
            BusError::Unreachable { .. } | BusError::Missing { .. } => true,
            BusError::Shape { .. } | BusError::Foreign { .. } => false,
            BusError::Kafka { code, .. } => !matches!(
                code,
                RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::PolicyViolation
                    | RDKafkaErrorCode::InvalidTopic
                    | RDKafkaErrorCode::InvalidConfig
            ),
        }
    }
}

pub(super) fn judged(
    cluster: &Cluster,
    context: &QuietContext,
    topic: &str,
    action: &'static str,
    error: &KafkaError,
) -> BusError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            code @ (Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::Authentication
            | Code::SSL
            | Code::TimedOutQueue),
        ) => BusError::Unreachable {
            brokers: cluster.brokers().to_owned(),
            reason: context.take_last().unwrap_or_else(|| code.to_string()),
        },
        Some(code) => BusError::Kafka { topic: topic.to_owned(), action, code },
        None => BusError::Unreachable { brokers: cluster.brokers().to_owned(), reason: error.to_string() },
    }
}

/// What a cluster says about a topic.
pub(super) struct Seen {
    pub(super) brokers: usize,
    /// Whether each partition has a leader; none when there is no such topic.
    pub(super) partitions: Option<Vec<bool>>,
}

/// Asks the cluster about a topic.
pub(super) async fn look(cluster: &Cluster, context: &QuietContext, topic: &str) -> Result<Seen, BusError> {
    let asker = cluster.asker(context).map_err(|error| judged(cluster, context, topic, "client", &error))?;
    let name = topic.to_owned();
    // librdkafka's metadata call blocks, and so does letting go of its client.
    let answer = tokio::task::spawn_blocking(move || {
        let metadata = asker.fetch_metadata(Some(&name), REQUEST)?;
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        let (partitions, error) = match found {
            None => (None, None),
            Some(topic) => {
                (Some(topic.partitions().iter().map(|p| p.leader() >= 0).collect()), topic.error())
            }
        };
        Ok((Seen { brokers: metadata.brokers().len(), partitions }, error))
    })
    .await;
    let Ok(answer) = answer else {
        let reason = "the request was given up".to_owned();
        return Err(BusError::Unreachable { brokers: cluster.brokers().to_owned(), reason });
    };
    let (seen, error) = answer.map_err(|error| judged(cluster, context, topic, "metadata", &error))?;
    match error {
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => {
            Ok(Seen { partitions: None, ..seen })
        }
        // No leader yet: the topic exists.
        None | Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) => Ok(seen),
        Some(error) => {
            Err(BusError::Kafka { topic: topic.to_owned(), action: "metadata", code: error.into() })
        }
    }
}

/// Every setting of a topic of ours; shared brokers have defaults of their own, some of them harmful.
fn settings(replicas: i32) -> [(&'static str, &'static str); 12] {
    [
        ("cleanup.policy", "compact"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("segment.ms", "3600000"),
        ("segment.bytes", "16777216"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("min.compaction.lag.ms", "0"),
        ("max.compaction.lag.ms", "3600000"),
        ("delete.retention.ms", "604800000"),
        ("min.insync.replicas", if replicas >= 3 { "2" } else { "1" }),
        ("unclean.leader.election.enable", "false"),
        ("compression.type", "producer"),
    ]
}

/// Whether the topic is there, and of one partition.
pub(super) fn found(seen: &Seen, topic: &str) -> Result<(), BusError> {
    let topic = topic.to_owned();
    match seen.partitions.as_deref() {
        None => Err(BusError::Missing { topic }),
        Some([_]) => Ok(()),
        Some(partitions) => Err(BusError::Shape {
            topic,
            found: format!("{} partitions", partitions.len()),
            needed: "one, so that news has one order",
        }),
    }
}

/// Makes sure that a compacted topic of one partition is there and can be led: creates it when it is missing, checks it when
/// it is not. It may be called by many at once.
pub async fn ensure_topic(cluster: &Cluster, topic: &str, deadline: Duration) -> Result<(), BusError> {
    let context = QuietContext::default();
    let give_up = Instant::now() + deadline;
    let mut backoff = Backoff::probing();
    let mut made = false;
    loop {
        let attempt = async {
            let seen = look(cluster, &context, topic).await?;
            match &seen.partitions {
                None if !made => {
                    create(cluster, &context, topic, seen.brokers).await?;
                    made = true;
                    Ok(false)
                }
                // Created, but not known to the broker that was asked.
                None => Ok::<bool, BusError>(false),
                Some(leaders) => {
                    found(&seen, topic)?;
                    Ok(leaders.iter().all(|led| *led))
                }
            }
        };
        match attempt.await {
            Ok(true) => return check_policy(cluster, &context, topic).await,
            Err(error) if !error.is_transient() || Instant::now() >= give_up => return Err(error),
            Ok(false) if Instant::now() >= give_up => {
                return Err(BusError::Kafka {
                    topic: topic.to_owned(),
                    action: "waiting for a leader",
                    code: RDKafkaErrorCode::LeaderNotAvailable,
                });
            }
            Ok(false) | Err(_) => tokio::time::sleep(backoff.next_delay()).await,
        }
    }
}

async fn create(
    cluster: &Cluster,
    context: &QuietContext,
    topic: &str,
    brokers: usize,
) -> Result<(), BusError> {
    let failed = |error: &KafkaError| judged(cluster, context, topic, "create", error);
    let admin = cluster.admin(context).map_err(|error| failed(&error))?;
    let replicas = i32::try_from(brokers.clamp(1, 3)).unwrap_or(1);
    let settings = settings(replicas);
    let mut new = NewTopic::new(topic, 1, TopicReplication::Fixed(replicas));
    for (key, value) in &settings {
        new = new.set(key, value);
    }
    let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
    let answers = admin.create_topics([&new], &options).await.map_err(|error| failed(&error))?;
    match answers.into_iter().next() {
        // Two who create it at once are of one mind.
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
            tracing::info!(topic, replicas, "topic created");
            Ok(())
        }
        Some(Err((_, code))) => Err(BusError::Kafka { topic: topic.to_owned(), action: "create", code }),
    }
}

async fn check_policy(cluster: &Cluster, context: &QuietContext, topic: &str) -> Result<(), BusError> {
    let failed = |error: &KafkaError| judged(cluster, context, topic, "describe", error);
    let admin = cluster.admin(context).map_err(|error| failed(&error))?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST));
    let asked = [ResourceSpecifier::Topic(topic)];
    let answers = admin.describe_configs(&asked, &options).await.map_err(|error| failed(&error))?;
    let config = match answers.into_iter().next() {
        Some(Ok(config)) => config,
        // A principal that may read and write need not be allowed to describe settings; news only costs time.
        Some(Err(
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
        )) => {
            tracing::warn!(
                topic,
                "may not describe the topic's settings: whether it is compacted is not checked"
            );
            return Ok(());
        }
        Some(Err(code)) => {
            return Err(BusError::Kafka { topic: topic.to_owned(), action: "describe", code });
        }
        None => return Ok(()),
    };
    let policy = config.get("cleanup.policy").and_then(|entry| entry.value.clone()).unwrap_or_default();
    // `compact,delete` would forget what was not repeated for a while.
    if policy.trim() == "compact" {
        Ok(())
    } else {
        Err(BusError::Shape {
            topic: topic.to_owned(),
            found: format!("cleanup.policy={policy}"),
            needed: "cleanup.policy=compact, so that the last state of everything stays",
        })
    }
}
