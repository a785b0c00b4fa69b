//! What is still to be told: at most one record per key, in the order of their last change, sent when the bus is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tokio::sync::watch;

use super::client::{Cluster, QuietContext};
use super::fold::{Fold, Link};
use super::topic::judged;
use crate::backoff::Backoff;
use crate::wire::content_type;

/// More than an environment has components in several phases; beyond it the oldest is dropped, loudly.
const SIZE: usize = 4_096;
/// How many records are on their way at once.
const BATCH: usize = 256;

/// One record that is to be sent.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) key: String,
    /// None deletes.
    pub(super) value: Option<Vec<u8>>,
    /// The deterministic id of an event.
    pub(super) id: Option<String>,
    pub(super) traceparent: Option<String>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    letters: BTreeMap<u64, Arc<Letter>>,
    keys: HashMap<String, u64>,
}

/// The records that are not known to have arrived.
#[derive(Debug)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    size: watch::Sender<usize>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Outbox { inner: Mutex::default(), size: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a letter in; an earlier one of the same key goes.
    pub(super) fn put(&self, letter: Letter) {
        let mut inner = self.lock();
        let seq = inner.next;
        inner.next += 1;
        if let Some(earlier) = inner.keys.insert(letter.key.clone(), seq) {
            inner.letters.remove(&earlier);
        }
        inner.letters.insert(seq, Arc::new(letter));
        if inner.letters.len() > SIZE
            && let Some((seq, oldest)) = inner.letters.pop_first()
        {
            if inner.keys.get(&oldest.key) == Some(&seq) {
                inner.keys.remove(&oldest.key);
            }
            tracing::warn!(key = oldest.key, "bus: outbox full, the oldest record is dropped");
        }
        self.size.send_replace(inner.letters.len());
    }

    fn batch(&self) -> Vec<(u64, Arc<Letter>)> {
        self.lock().letters.iter().take(BATCH).map(|(seq, letter)| (*seq, Arc::clone(letter))).collect()
    }

    fn arrived(&self, seq: u64) {
        let mut inner = self.lock();
        if let Some(letter) = inner.letters.remove(&seq)
            && inner.keys.get(&letter.key) == Some(&seq)
        {
            inner.keys.remove(&letter.key);
        }
        self.size.send_replace(inner.letters.len());
    }

    /// How many records are not known to have arrived.
    pub(super) fn size(&self) -> watch::Receiver<usize> {
        self.size.subscribe()
    }
}

/// Sends what is in the outbox, whenever the fold follows the topic: so nothing is written to a topic that was not seen to
/// be ours.
pub(super) struct Sender {
    pub(super) outbox: Arc<Outbox>,
    pub(super) fold: Arc<Fold>,
    pub(super) cluster: Cluster,
    pub(super) topic: String,
}

impl Sender {
    /// Sends for ever.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::reconnecting();
        let mut size = self.outbox.size();
        let mut changes = self.fold.changes();
        let context = QuietContext::default();
        // Made at once: an idempotent producer needs half a second before its first record, which passes while the reader reads.
        let mut producer = self.cluster.producer(&context).ok();
        let mut troubled = false;
        loop {
            if size.wait_for(|size| *size > 0).await.is_err() {
                return;
            }
            changes.mark_unchanged();
            if self.fold.link() != Link::Live {
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            }
            match self.send(&mut producer, &context).await {
                Ok(()) => {
                    troubled = false;
                    backoff.reset();
                }
                Err(error) => {
                    if !std::mem::replace(&mut troubled, true) {
                        let error = judged(&self.cluster, &context, &self.topic, "write", &error);
                        tracing::warn!(%error, "bus: not written, it will be tried again");
                    }
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    async fn send(
        &self,
        slot: &mut Option<FutureProducer<QuietContext>>,
        context: &QuietContext,
    ) -> Result<(), KafkaError> {
        let producer = match slot.take() {
            Some(producer) => producer,
            None => self.cluster.producer(context)?,
        };
        let mut on_their_way = Vec::new();
        let mut result = Ok(());
        for (seq, letter) in self.outbox.batch() {
            match producer.send_result(self.record(&letter, &headers(&letter))) {
                Ok(delivery) => on_their_way.push((seq, delivery)),
                Err((error, _)) => {
                    result = Err(error);
                    break;
                }
            }
        }
        for (seq, delivery) in on_their_way {
            match delivery.await {
                Ok(Ok(_)) => self.outbox.arrived(seq),
                Ok(Err((error, _))) => result = Err(error),
                Err(_) => result = Err(KafkaError::Canceled),
            }
        }
        // After a fatal error an idempotent producer works no more.
        if producer.client().fatal_error().is_none() {
            *slot = Some(producer);
        } else {
            drop(tokio::task::spawn_blocking(move || drop(producer)));
        }
        result
    }

    fn record<'a>(&'a self, letter: &'a Letter, headers: &OwnedHeaders) -> FutureRecord<'a, str, [u8]> {
        let mut record =
            FutureRecord::to(&self.topic).partition(0).key(letter.key.as_str()).headers(headers.clone());
        if let Some(value) = &letter.value {
            record = record.payload(value.as_slice());
        }
        record
    }
}

fn headers(letter: &Letter) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(3);
    if letter.value.is_some() {
        headers = headers.insert(Header { key: "content-type", value: Some(content_type()) });
    }
    for (key, value) in [("id", &letter.id), ("traceparent", &letter.traceparent)] {
        if let Some(value) = value {
            headers = headers.insert(Header { key, value: Some(value) });
        }
    }
    headers
}
