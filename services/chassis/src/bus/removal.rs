//! Deleting an environment's lifecycle topic, when nothing of the environment is left that it could speak of.

use std::time::Duration;

use lifecycle::document::Identity;
use rdkafka::admin::AdminOptions;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::{Cluster, QuietContext, lifecycle_topic};
use super::io::read_to_end;
use super::topic::{BusError, REQUEST, judged, look};
use crate::wire;

/// How long reading the topic may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Deletes the environment's lifecycle topic with `yes`, and else only looks; whether it is there. A topic that speaks of another
/// environment is left alone.
///
/// # Errors
/// The cluster, or a record of another environment's.
pub async fn remove_lifecycle(
    cluster: impl Into<Cluster>,
    environment: &Identity,
    yes: bool,
) -> Result<bool, BusError> {
    let cluster = cluster.into();
    let (context, topic) = (QuietContext::default(), lifecycle_topic(&environment.name));
    if look(&cluster, &context, &topic).await?.partitions.is_none() {
        return Ok(false);
    }
    let kept = read_to_end(&cluster, &topic, DEADLINE).await?;
    let uids = kept.iter().filter_map(|record| wire::record_uid(record.value.as_deref()?));
    if let Some(found) = uids.into_iter().find(|uid| *uid != environment.uid) {
        return Err(BusError::Foreign { topic, found, ours: environment.uid });
    }
    if !yes {
        return Ok(true);
    }
    let failed = |error: KafkaError| judged(&cluster, &context, &topic, "delete", &error);
    let admin = cluster.admin(&context).map_err(failed)?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
    let answers = admin.delete_topics(&[topic.as_str()], &options).await.map_err(failed)?;
    match answers.into_iter().next() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::UnknownTopicOrPartition => {
            Err(BusError::Kafka { topic, action: "delete", code })
        }
        _ => Ok(true),
    }
}
