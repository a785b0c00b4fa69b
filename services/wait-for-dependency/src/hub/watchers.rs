//! Those who watch: each has a buffer of its own. Whoever does not read fast enough is let go, so that it connects anew and
//! hears everything again; nobody ever misses a change without knowing.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream::{self, Stream, StreamExt};
use lifecycle::Component;
use rollcall_proto::diagnostics::v1 as pb;
use rollcall_proto::diagnostics::v1::watch_response::Update;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::state::State;

/// So many changes a client may be behind.
const BEHIND: usize = 256;

/// What a client reads: every state known, a mark, then changes.
pub(super) type Subscription = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

/// Everybody who watches.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    module: String,
    source: String,
    components: Option<BTreeSet<Component>>,
    news: mpsc::Sender<pb::WatchResponse>,
    behind: Arc<AtomicBool>,
}

impl Watchers {
    /// Subscribes to some components, or to all, on behalf of a module, by who calls itself so.
    pub(super) fn subscribe(
        &mut self,
        state: &State,
        (module, source): (&str, &str),
        components: Option<&BTreeSet<Component>>,
        mode: pb::Mode,
    ) -> Subscription {
        let (news, heard) = mpsc::channel(BEHIND);
        let behind = Arc::new(AtomicBool::new(false));
        let known: Vec<pb::WatchResponse> = match components {
            Some(components) => components.iter().map(|component| update(state, component, module)).collect(),
            None => state.components().map(|component| update(state, component, module)).collect(),
        };
        let mark = pb::CaughtUp { generation: state.generation(), mode: mode.into() };
        let mark = pb::WatchResponse { update: Some(Update::CaughtUp(mark)) };
        self.0.push(Watcher {
            module: module.to_owned(),
            source: source.to_owned(),
            components: components.cloned(),
            news,
            behind: behind.clone(),
        });
        let end = stream::once(async move {
            behind.load(Ordering::Relaxed).then(|| {
                Err(Status::resource_exhausted("read too slowly; watch anew to hear everything again"))
            })
        });
        let known = stream::iter(known).chain(stream::iter([mark])).chain(ReceiverStream::new(heard)).map(Ok);
        Box::pin(known.chain(end.filter_map(|end| async { end })))
    }

    /// Tells a component's state to those who watch it.
    pub(super) fn tell(&mut self, state: &State, component: &Component) {
        self.0.retain(|watcher| {
            if watcher.components.as_ref().is_some_and(|components| !components.contains(component)) {
                return !watcher.news.is_closed();
            }
            match watcher.news.try_send(update(state, component, &watcher.module)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::warn!(module = watcher.module, "a client reads too slowly and is let go");
                    watcher.behind.store(true, Ordering::Relaxed);
                    false
                }
            }
        });
    }

    /// Whether somebody who calls itself so watches.
    pub(super) fn has(&self, source: &str) -> bool {
        self.0.iter().any(|watcher| watcher.source == source && !watcher.news.is_closed())
    }

    /// How many watch.
    pub(super) fn count(&self) -> usize {
        self.0.iter().filter(|watcher| !watcher.news.is_closed()).count()
    }
}

fn update(state: &State, component: &Component, module: &str) -> pb::WatchResponse {
    pb::WatchResponse { update: Some(Update::State((&state.state(component, module)).into())) }
}

#[cfg(test)]
mod tests {
    use lifecycle::document::Identity;

    use super::*;

    fn state() -> State {
        State::new(Identity { name: "dev".to_owned(), uid: uuid::Uuid::from_u128(1) }, "hub/1")
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_let_go_with_the_reason_and_skips_nothing() {
        let (mut watchers, state, x) = (Watchers::default(), state(), "module/x".parse().unwrap());
        let mut slow = watchers.subscribe(&state, ("", "a/1"), None, pb::Mode::Direct);
        for _ in 0..BEHIND {
            watchers.tell(&state, &x);
        }
        assert_eq!(watchers.count(), 1);
        watchers.tell(&state, &x);
        assert_eq!(watchers.count(), 0);
        let mut told = 0;
        let end = loop {
            match slow.next().await.unwrap() {
                Ok(_) => told += 1,
                Err(status) => break status,
            }
        };
        assert_eq!((told, end.code()), (BEHIND + 1, tonic::Code::ResourceExhausted));
        assert!(slow.next().await.is_none());
    }

    #[tokio::test]
    async fn only_what_is_watched_is_told_and_who_left_is_forgotten() {
        let (mut watchers, state) = (Watchers::default(), state());
        let (x, y): (Component, Component) = ("module/x".parse().unwrap(), "module/y".parse().unwrap());
        let mut stream = watchers.subscribe(&state, ("", "a/1"), Some(&[x.clone()].into()), pb::Mode::Direct);
        watchers.tell(&state, &y);
        watchers.tell(&state, &x);
        let mut named = Vec::new();
        for _ in 0..3 {
            match stream.next().await.unwrap().unwrap().update.unwrap() {
                Update::State(state) => named.push(state.component),
                Update::CaughtUp(_) => named.push("-".to_owned()),
            }
        }
        assert_eq!(named, ["module/x", "-", "module/x"]);
        assert!(watchers.has("a/1") && !watchers.has("a/2"));
        drop(stream);
        assert!(!watchers.has("a/1"));
        watchers.tell(&state, &y);
        assert_eq!(watchers.count(), 0);
    }
}
