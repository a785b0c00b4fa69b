//! Following the lifecycle topic: snapshot, then tail, and from the beginning again after every loss.
//!
//! Reading anew is the one answer to every trouble (a broker gone, a topic wiped or made again): the topic is small, and
//! whoever hears the same news twice is not harmed.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::StreamConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use uuid::Uuid;

use super::client::{Cluster, QuietContext};
use super::fold::{Fold, Link};
use super::io::{assigned, header, is_passing, release};
use super::topic::{BusError, ensure_topic, judged, look};
use crate::backoff::Backoff;
use crate::wire::{News, WireError, record_uid};

/// How long the snapshot may take.
const SNAPSHOT: Duration = Duration::from_secs(30);
/// How often a refused topic is looked at again: somebody may have mended it.
const REFUSED: Duration = Duration::from_secs(30);

/// What the reader needs to know.
pub(super) struct Reader {
    pub(super) fold: Arc<Fold>,
    pub(super) cluster: Cluster,
    pub(super) topic: String,
    pub(super) uid: Uuid,
    /// Whether the topic is made and checked, or only used: a mock cluster can do neither.
    pub(super) ensure: bool,
}

impl Reader {
    /// Follows the topic for ever.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::reconnecting();
        let mut refusals = Backoff::new(REFUSED, 4 * REFUSED);
        loop {
            let Err(error) = self.session(&mut backoff).await;
            let reason = error.to_string();
            let refused = matches!(error, BusError::Foreign { .. } | BusError::Shape { .. });
            let link = if refused { Link::Refused(reason) } else { Link::Lost(reason) };
            if self.fold.set_link(link) {
                tracing::warn!(topic = self.topic, %error, "bus: not followed, news will be late");
            }
            let delay = if refused { refusals.next_delay() } else { backoff.next_delay() };
            tokio::time::sleep(delay).await;
        }
    }

    async fn session(&self, backoff: &mut Backoff) -> Result<std::convert::Infallible, BusError> {
        let context = QuietContext::default();
        if self.ensure {
            ensure_topic(&self.cluster, &self.topic, SNAPSHOT).await?;
        } else {
            look(&self.cluster, &context, &self.topic).await?;
        }
        let consumer = assigned(&self.cluster, &context, &self.topic)?;
        self.fold.begin();
        let result = self.follow(&consumer, &context, backoff).await;
        release(consumer);
        result
    }

    async fn follow(
        &self,
        consumer: &StreamConsumer<QuietContext>,
        context: &QuietContext,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, BusError> {
        let failed = |error: &KafkaError| judged(&self.cluster, context, &self.topic, "read", error);
        let snapshot = tokio::time::sleep(SNAPSHOT);
        tokio::pin!(snapshot);
        let mut caught_up = false;
        let mut unread = 0u64;
        loop {
            let received = tokio::select! {
                received = consumer.recv() => received,
                () = &mut snapshot, if !caught_up => {
                    let reason = context.take_last().unwrap_or_else(|| "its end was not reached in time".to_owned());
                    return Err(BusError::Unreachable { brokers: self.cluster.brokers().to_owned(), reason });
                }
            };
            match received {
                Ok(message) => self.hear(&message, &mut unread)?,
                Err(KafkaError::PartitionEOF(_)) => {
                    if !caught_up {
                        caught_up = true;
                        backoff.reset();
                        self.fold.set_link(Link::Live);
                        tracing::info!(topic = self.topic, unread, "bus: followed");
                    }
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    fn hear(&self, message: &BorrowedMessage<'_>, unread: &mut u64) -> Result<(), BusError> {
        let offset = u64::try_from(message.offset()).unwrap_or(0);
        let Some(key) = message.key().and_then(|key| std::str::from_utf8(key).ok()) else {
            return Ok(());
        };
        let Some(value) = message.payload() else {
            self.fold.delete(key);
            return Ok(());
        };
        if let Some(found) = record_uid(value).filter(|uid| *uid != self.uid) {
            return Err(BusError::Foreign { topic: self.topic.clone(), found, ours: self.uid });
        }
        match News::read(key, value) {
            Ok(news) => self.fold.apply(key, offset, header(message, "traceparent"), news),
            Err(error) => {
                *unread += 1;
                // Once at a level that is seen: a newer version may write many of them.
                if *unread == 1 && error != WireError::Kind {
                    tracing::warn!(key, offset, %error, "bus: a record is not understood and left out, as others may be");
                } else {
                    tracing::debug!(key, offset, %error, "bus: a record is not understood and left out");
                }
            }
        }
        Ok(())
    }
}
