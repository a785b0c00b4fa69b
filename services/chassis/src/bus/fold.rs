//! What the topic says, folded: the last record of each key, kept for those who subscribe late, and handed on in order.
//!
//! There is no queue per subscriber that could overflow: each has a cursor into the fold. One that falls behind skips what
//! was replaced meanwhile, exactly as compaction does, and never misses the last word about a key.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{BusUpdate, Mode};
use crate::wire::News;

/// How many deletions are remembered for subscribers that fall behind; one further behind gets everything anew.
const DELETIONS: usize = 1_024;
/// How much a subscriber takes over at once.
const BATCH: usize = 256;

/// Whether the fold follows the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// Not there yet.
    Connecting,
    /// Caught up, and following.
    Live,
    /// It was there, or should be, and is not. Why.
    Lost(String),
    /// The topic must not be used. Why.
    Refused(String),
}

#[derive(Debug)]
struct Held {
    seq: u64,
    /// None once deleted.
    news: Option<(u64, Option<String>, News)>,
}

#[derive(Debug)]
struct Inner {
    held: HashMap<String, Held>,
    order: BTreeMap<u64, String>,
    deleted: BTreeSet<u64>,
    /// The greatest sequence number of a deletion that is no longer remembered.
    forgotten: u64,
    next: u64,
    /// Counts readings from the beginning.
    epoch: u64,
    link: Link,
    link_version: u64,
    stopped: bool,
}

/// The folded topic.
#[derive(Debug)]
pub(super) struct Fold {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    mode: watch::Sender<Mode>,
}

impl Fold {
    pub(super) fn new(mode: Mode) -> Self {
        let inner = Inner {
            held: HashMap::new(),
            order: BTreeMap::new(),
            deleted: BTreeSet::new(),
            forgotten: 0,
            next: 1,
            epoch: 1,
            link: Link::Connecting,
            link_version: 0,
            stopped: false,
        };
        Fold { inner: Mutex::new(inner), changed: watch::Sender::new(0), mode: watch::Sender::new(mode) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    pub(super) fn mode(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    pub(super) fn link(&self) -> Link {
        self.lock().link.clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The topic is read from its beginning: what was known counts no more.
    pub(super) fn begin(&self) {
        let mut inner = self.lock();
        inner.held.clear();
        inner.order.clear();
        inner.deleted.clear();
        inner.forgotten = 0;
        inner.epoch += 1;
        drop(inner);
        self.tell();
    }

    /// A record stands under `key`.
    pub(super) fn apply(&self, key: &str, offset: u64, traceparent: Option<String>, news: News) {
        self.put(key, Some((offset, traceparent, news)));
    }

    /// The record under `key` was deleted.
    pub(super) fn delete(&self, key: &str) {
        self.put(key, None);
    }

    fn put(&self, key: &str, news: Option<(u64, Option<String>, News)>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let seq = inner.next;
        match inner.held.get_mut(key) {
            // Nobody heard of it: there is nothing to take back.
            None if news.is_none() => return,
            None => {
                inner.held.insert(key.to_owned(), Held { seq, news });
            }
            Some(held) => {
                inner.order.remove(&held.seq);
                inner.deleted.remove(&held.seq);
                if news.is_none() {
                    inner.deleted.insert(seq);
                }
                *held = Held { seq, news };
            }
        }
        inner.next += 1;
        inner.order.insert(seq, key.to_owned());
        while inner.deleted.len() > DELETIONS {
            let Some(oldest) = inner.deleted.pop_first() else { break };
            inner.forgotten = oldest;
            if let Some(key) = inner.order.remove(&oldest) {
                inner.held.remove(&key);
            }
        }
        drop(guard);
        self.tell();
    }

    /// The process stops: subscribers hear what is known and then the end.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.tell();
    }

    pub(super) fn set_link(&self, link: Link) {
        let mut inner = self.lock();
        if inner.link == link {
            return;
        }
        let mode = match &link {
            Link::Live => Some(Mode::Push),
            Link::Lost(reason) | Link::Refused(reason) => Some(Mode::Degraded(reason.clone())),
            Link::Connecting => None,
        };
        inner.link = link;
        inner.link_version += 1;
        drop(inner);
        if let Some(mode) = mode {
            self.mode.send_if_modified(|known| {
                let news = *known != mode;
                *known = mode;
                news
            });
        }
        self.tell();
    }
}

/// What one subscriber has heard. [`Subscription::next`] may be cancelled without losing anything.
#[derive(Debug)]
pub struct Subscription {
    fold: Arc<Fold>,
    changes: watch::Receiver<u64>,
    ready: VecDeque<BusUpdate>,
    cursor: u64,
    /// Deletions up to here are of keys this subscriber never heard of.
    fresh: u64,
    epoch: u64,
    link_version: u64,
    lost: bool,
}

impl Subscription {
    pub(super) fn new(fold: Arc<Fold>) -> Self {
        let changes = fold.changes();
        Subscription {
            fold,
            changes,
            ready: VecDeque::new(),
            cursor: 0,
            fresh: 0,
            epoch: 0,
            link_version: 0,
            lost: false,
        }
    }

    /// The next update: first everything that is known, then [`BusUpdate::CaughtUp`], then news. None when the process stops.
    /// Without a bus it waits for ever.
    pub async fn next(&mut self) -> Option<BusUpdate> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Some(update);
            }
            self.changes.mark_unchanged();
            let stopped = self.take_over();
            if self.ready.is_empty() {
                if stopped {
                    return None;
                }
                if self.changes.changed().await.is_err() {
                    return None;
                }
            }
        }
    }

    /// Takes over what changed since the last time, and says whether no more will come.
    fn take_over(&mut self) -> bool {
        let fold = Arc::clone(&self.fold);
        let inner = fold.lock();
        let missed = self.cursor < inner.forgotten && self.fresh < inner.forgotten;
        if self.epoch != inner.epoch || missed {
            if self.epoch != 0 && self.cursor > 0 && !self.lost {
                let reason = match &inner.link {
                    Link::Lost(reason) | Link::Refused(reason) => reason.clone(),
                    _ => "the topic is read again".to_owned(),
                };
                self.ready.push_back(BusUpdate::Lost(reason));
                self.lost = true;
            }
            self.epoch = inner.epoch;
            self.cursor = 0;
            self.fresh = inner.next - 1;
            // Whatever the link is, it is said again after the snapshot.
            self.link_version = 0;
        }
        for (seq, key) in inner.order.range(self.cursor + 1..) {
            if self.ready.len() >= BATCH {
                return false;
            }
            self.cursor = *seq;
            match inner.held.get(key).and_then(|held| held.news.as_ref()) {
                Some((offset, traceparent, news)) => {
                    self.ready.push_back(BusUpdate::of(*offset, traceparent.clone(), news.clone()));
                }
                None if *seq > self.fresh => self.ready.push_back(BusUpdate::Deleted(key.clone())),
                None => {}
            }
        }
        if self.link_version != inner.link_version {
            self.link_version = inner.link_version;
            match &inner.link {
                Link::Live => {
                    self.lost = false;
                    self.ready.push_back(BusUpdate::CaughtUp);
                }
                Link::Lost(reason) | Link::Refused(reason) if !self.lost => {
                    self.lost = true;
                    self.ready.push_back(BusUpdate::Lost(reason.clone()));
                }
                _ => {}
            }
        }
        inner.stopped
    }
}
