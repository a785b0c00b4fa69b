//! Reading a whole topic once, and writing single records that are known to have arrived.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::Offset;
use tokio::time::Instant;

use super::client::{Cluster, QuietContext};
use super::topic::{BusError, REQUEST, judged};

/// One record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its key.
    pub key: String,
    /// Its value; none for a deletion.
    pub value: Option<Vec<u8>>,
    /// Where it stands.
    pub offset: u64,
}

/// Reads partition 0 of a topic from its beginning to its end: every record that compaction left, in order.
pub async fn read_to_end(cluster: &Cluster, topic: &str, deadline: Duration) -> Result<Vec<Kept>, BusError> {
    let context = QuietContext::default();
    let give_up = Instant::now() + deadline;
    let (consumer, end) = assigned(cluster, &context, topic).await?;
    let mut kept = Vec::<Kept>::new();
    let result = loop {
        if kept.last().map_or(0, |last| last.offset + 1) >= end {
            break Ok(kept);
        }
        match tokio::time::timeout_at(give_up, consumer.recv()).await {
            Err(_) => {
                let timed_out = KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
                break Err(judged(cluster, &context, topic, "read", &timed_out));
            }
            Ok(Ok(message)) => kept.push(Kept {
                key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                value: message.payload().map(<[u8]>::to_vec),
                offset: u64::try_from(message.offset()).unwrap_or(0),
            }),
            Ok(Err(KafkaError::PartitionEOF(_))) => break Ok(kept),
            Ok(Err(error)) if is_passing(&error) => {}
            Ok(Err(error)) => break Err(judged(cluster, &context, topic, "read", &error)),
        }
    };
    release(consumer);
    result
}

/// A consumer that reads partition 0 from the beginning, and the offset at which the partition ends now: reading has caught up
/// there. (`PartitionEOF` says so as well, but only after a long poll has passed without news.)
pub(super) async fn assigned(
    cluster: &Cluster,
    context: &QuietContext,
    topic: &str,
) -> Result<(Arc<StreamConsumer<QuietContext>>, u64), BusError> {
    let failed = |error: &KafkaError| judged(cluster, context, topic, "read", error);
    let consumer = Arc::new(cluster.consumer(context).map_err(|error| failed(&error))?);
    let (asking, name) = (Arc::clone(&consumer), topic.to_owned());
    // librdkafka's call blocks.
    let marks = tokio::task::spawn_blocking(move || asking.fetch_watermarks(&name, 0, REQUEST)).await;
    let marks = marks.unwrap_or(Err(KafkaError::Canceled));
    let (low, high) = marks.map_err(|error| failed(&error))?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning).map_err(|error| failed(&error))?;
    consumer.assign(&partitions).map_err(|error| failed(&error))?;
    let end = if low >= high { 0 } else { u64::try_from(high).unwrap_or(0) };
    Ok((consumer, end))
}

/// Lets go of a consumer where it may block.
pub(super) fn release(consumer: Arc<StreamConsumer<QuietContext>>) {
    drop(tokio::task::spawn_blocking(move || drop(consumer)));
}

/// Errors that librdkafka mends by itself, and those of a group that is never joined.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::GroupAuthorizationFailed
                | Code::CoordinatorNotAvailable
        )
    )
}

/// Writes single records and waits until the cluster has them.
#[derive(Clone)]
pub struct Writer {
    cluster: Cluster,
    context: QuietContext,
    producer: FutureProducer<QuietContext>,
}

impl Writer {
    /// A writer to this cluster. It connects when it first writes.
    pub fn new(cluster: impl Into<Cluster>) -> Result<Self, BusError> {
        let (cluster, context) = (cluster.into(), QuietContext::default());
        let producer =
            cluster.producer(&context).map_err(|error| judged(&cluster, &context, "-", "client", &error))?;
        Ok(Writer { cluster, context, producer })
    }

    /// Writes a record, or with no value deletes the one under `key`, and returns when all in-sync replicas have it.
    pub async fn put(
        &self,
        topic: &str,
        key: &str,
        value: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) -> Result<(), BusError> {
        let mut all = OwnedHeaders::new_with_capacity(headers.len());
        for (key, value) in headers {
            all = all.insert(Header { key, value: Some(*value) });
        }
        let mut record = FutureRecord::to(topic).key(key).partition(0).headers(all);
        if let Some(value) = value {
            record = record.payload(value);
        }
        match self.producer.send(record, Duration::from_secs(1)).await {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(judged(&self.cluster, &self.context, topic, "write", &error)),
        }
    }
}

/// Writes one record and waits until the cluster has it. Whoever writes several keeps a [`Writer`].
pub async fn produce_acked(
    cluster: &Cluster,
    topic: &str,
    key: &str,
    value: Option<&[u8]>,
) -> Result<(), BusError> {
    Writer::new(cluster.clone())?.put(topic, key, value, &[]).await
}

/// The header of this name, as text.
pub(super) fn header(message: &impl Message, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok().map(str::to_owned)
}
