//! The bus: news of an environment on its lifecycle topic (design §7). Everything here is best effort by design: events wake,
//! probes decide, and a service without a bus, or with one that is away, does its work all the same.

mod client;
mod fold;
mod io;
mod outbox;
mod reader;
mod removal;
#[cfg(test)]
mod tests;
mod topic;

use std::sync::Arc;
use std::time::Duration;

use lifecycle::Event;
use lifecycle::document::Identity;
use prost::Message as _;
use rollcall_proto::diagnostics::v1 as diagnostics;
use tokio::sync::watch;

use crate::shutdown::Shutdown;
use crate::wire::{BringUp, Forgotten, Fragment, News};

pub use client::{Cluster, OWNERSHIP_TOPIC, QuietContext, lifecycle_topic};
pub use fold::Subscription;
pub use io::{Kept, Writer, produce_acked, read_to_end};
pub use removal::remove_lifecycle;
pub use topic::{BusError, ensure_topic};

use fold::{Fold, Link};
use outbox::{Letter, Outbox, Sender};
use reader::Reader;

/// How news travels to and from this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Woken by events.
    Push,
    /// No bus or hub is configured, which is normal.
    Direct,
    /// A bus or hub is configured and cannot be used. Why.
    Degraded(String),
}

impl From<&Mode> for diagnostics::Mode {
    fn from(mode: &Mode) -> Self {
        match mode {
            Mode::Push => diagnostics::Mode::Push,
            Mode::Direct => diagnostics::Mode::Direct,
            Mode::Degraded(_) => diagnostics::Mode::Degraded,
        }
    }
}

/// What a process has to do with the lifecycle topic itself. With ACLs only keepers need the right to create and describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// Makes the topic when it is missing and checks its settings: the hub and topic-provisioner (design §7).
    Keeper,
    /// Uses it once it is there.
    #[default]
    Member,
}

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusUpdate {
    /// A component reached a phase, or did before.
    Event {
        /// Where the record stands.
        offset: u64,
        /// The news.
        event: Event,
        /// The trace it belongs to (W3C Trace Context).
        traceparent: Option<String>,
    },
    /// A fragment is registered.
    Fragment(Fragment),
    /// A bring-up began.
    BringUp(BringUp),
    /// A fragment is mounted no more.
    Forgotten(Forgotten),
    /// The record under this key was deleted.
    Deleted(String),
    /// Everything that is known was said; what follows is news.
    CaughtUp,
    /// News does not arrive any more. When it does again, everything known is said again, then [`BusUpdate::CaughtUp`].
    Lost(String),
}

impl BusUpdate {
    fn of(offset: u64, traceparent: Option<String>, news: News) -> Self {
        match news {
            News::Event(event) => BusUpdate::Event { offset, event, traceparent },
            News::Fragment(fragment) => BusUpdate::Fragment(fragment),
            News::BringUp(bring_up) => BusUpdate::BringUp(bring_up),
            News::Forgotten(forgotten) => BusUpdate::Forgotten(forgotten),
        }
    }
}

/// A handle on the bus. Clones share it.
#[derive(Debug, Clone)]
pub struct Bus {
    environment: Option<Identity>,
    fold: Arc<Fold>,
    outbox: Arc<Outbox>,
}

impl Bus {
    /// No bus: nothing is heard, nothing is sent, and that is normal.
    pub fn none() -> Self {
        Bus { environment: None, fold: Arc::new(Fold::new(Mode::Direct)), outbox: Arc::new(Outbox::new()) }
    }

    /// Follows the environment's lifecycle topic in the background; Kafka may come minutes later. Needs a tokio runtime.
    pub fn start(
        cluster: impl Into<Cluster>,
        environment: Identity,
        shutdown: &Shutdown,
        part: Part,
    ) -> Self {
        let cluster = cluster.into();
        let fold = Arc::new(Fold::new(Mode::Degraded("connecting".to_owned())));
        let outbox = Arc::new(Outbox::new());
        let topic = lifecycle_topic(&environment.name);
        let sender = Sender {
            outbox: Arc::clone(&outbox),
            fold: Arc::clone(&fold),
            cluster: cluster.clone(),
            topic: topic.clone(),
        };
        let reader = Reader { fold: Arc::clone(&fold), cluster, topic, uid: environment.uid, part };
        let (shutdown, stopping) = (shutdown.clone(), Arc::clone(&fold));
        tokio::spawn(async move {
            let reading = async {
                tokio::select! {
                    () = reader.run() => {}
                    () = shutdown.requested() => {}
                }
            };
            let sending = sender.run();
            tokio::pin!(reading, sending);
            tokio::select! {
                () = &mut reading => {}
                () = &mut sending => {}
            }
            // Subscribers hear the end. What is in the outbox still goes out if the topic was followed; how long the process
            // waits for that is said to `flush`.
            stopping.stop();
            sending.await;
        });
        Bus { environment: Some(environment), fold, outbox }
    }

    /// Whether a bus is configured.
    pub fn is_configured(&self) -> bool {
        self.environment.is_some()
    }

    /// Subscribes: everything known first, then news. See [`Subscription::next`].
    pub fn subscribe(&self) -> Subscription {
        Subscription::new(Arc::clone(&self.fold))
    }

    /// How news travels now, and every change of that.
    pub fn mode(&self) -> watch::Receiver<Mode> {
        self.fold.mode()
    }

    /// Tells the environment. It is sent when the bus is there, again and again until it arrived; a later record of the same
    /// key takes the place of an earlier one that was not sent yet. Without a bus nothing happens.
    pub fn publish(&self, news: &News) {
        let Some(environment) = &self.environment else { return };
        let id = match news {
            News::Event(event) => Some(event.id().to_string()),
            News::Fragment(_) | News::BringUp(_) | News::Forgotten(_) => None,
        };
        let value = news.record(&environment.name).encode_to_vec();
        let traceparent = crate::telemetry::traceparent();
        self.outbox.put(Letter { key: news.key(), value: Some(value), id, traceparent });
    }

    /// Deletes the record under `key`, in the same way.
    pub fn tombstone(&self, key: &str) {
        if self.environment.is_some() {
            self.outbox.put(Letter { key: key.to_owned(), value: None, id: None, traceparent: None });
        }
    }

    /// How many records are not known to have arrived.
    pub fn unsent(&self) -> usize {
        *self.outbox.size().borrow()
    }

    /// Waits until every record has arrived, at most for `deadline`, and returns how many have not. Does not wait for a topic
    /// that is refused.
    pub async fn flush(&self, deadline: Duration) -> usize {
        let mut size = self.outbox.size();
        let mut changes = self.fold.changes();
        let refused = async {
            loop {
                changes.mark_unchanged();
                if matches!(self.fold.link(), Link::Refused(_)) || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(deadline, async {
            tokio::select! {
                _ = size.wait_for(|size| *size == 0) => {}
                () = refused => {}
            }
        })
        .await;
        self.unsent()
    }
}
