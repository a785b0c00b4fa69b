//! Following the lifecycle topic: snapshot, then tail, and from the beginning again after every loss.
//!
//! Reading anew is the one answer to every trouble (a broker gone, a topic wiped or made again): the topic is small, and
//! whoever hears the same news twice is not harmed.

use std::convert::Infallible;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::StreamConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use uuid::Uuid;

use super::Part;
use super::client::{Cluster, QuietContext};
use super::fold::{Fold, Link};
use super::io::{assigned, header, is_passing, release};
use super::topic::{BusError, ensure_topic, found, judged, look};
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
    pub(super) part: Part,
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
            let was = self.fold.link();
            self.fold.set_link(link.clone());
            // The reason changes with every try (how often, how long); that it is away is said once.
            if mem::discriminant(&was) == mem::discriminant(&link) {
                tracing::debug!(topic = self.topic, %error, "bus: not followed");
            } else {
                tracing::warn!(topic = self.topic, %error, "bus: not followed, news will be late");
            }
            let delay = if refused { refusals.next_delay() } else { backoff.next_delay() };
            tokio::time::sleep(delay).await;
        }
    }

    async fn session(&self, backoff: &mut Backoff) -> Result<Infallible, BusError> {
        let context = QuietContext::default();
        match self.part {
            Part::Keeper => ensure_topic(&self.cluster, &self.topic, SNAPSHOT).await?,
            Part::Member => found(&look(&self.cluster, &context, &self.topic).await?, &self.topic)?,
        }
        let (consumer, end) = assigned(&self.cluster, &context, &self.topic).await?;
        self.fold.begin();
        let error = self.follow(&consumer, end, &context, backoff).await;
        release(consumer);
        error
    }

    async fn follow(
        &self,
        consumer: &StreamConsumer<QuietContext>,
        end: u64,
        context: &QuietContext,
        backoff: &mut Backoff,
    ) -> Result<Infallible, BusError> {
        let failed = |error: &KafkaError| judged(&self.cluster, context, &self.topic, "read", error);
        let snapshot = tokio::time::sleep(SNAPSHOT);
        tokio::pin!(snapshot);
        let (mut next, mut unread) = (0, 0);
        let mut caught_up = false;
        loop {
            if !caught_up && next >= end {
                caught_up = true;
                backoff.reset();
                self.fold.set_link(Link::Live);
                tracing::info!(topic = self.topic, end, unread, "bus: followed");
            }
            let received = tokio::select! {
                received = consumer.recv() => received,
                () = &mut snapshot, if !caught_up => {
                    let reason = context.take_last().unwrap_or_else(|| "its end was not reached in time".to_owned());
                    return Err(BusError::Unreachable { brokers: self.cluster.brokers().to_owned(), reason });
                }
            };
            match received {
                Ok(message) => {
                    self.hear(&message, &mut unread)?;
                    next = u64::try_from(message.offset()).unwrap_or(0) + 1;
                }
                // The log may end in records that no reader is shown.
                Err(KafkaError::PartitionEOF(_)) => next = next.max(end),
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
