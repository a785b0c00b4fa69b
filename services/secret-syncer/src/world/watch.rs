//! Wake-ups from a store that is a directory.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};

use super::Error;

/// A folder made a moment ago is not watched yet, so what is put into it at once goes unseen: every wake is repeated.
const AGAIN: Duration = Duration::from_millis(300);

/// Wakes whenever something in a store may have changed; many changes are one wake. A wake may be lost or come for
/// nothing: look again from time to time all the same.
#[derive(Debug)]
pub struct Wakes {
    heard: mpsc::Receiver<()>,
    again: Option<Pin<Box<Sleep>>>,
    /// Watches as long as it lives.
    _watcher: RecommendedWatcher,
}

impl Wakes {
    pub(super) fn of(root: &Path) -> Result<Self, Error> {
        // One place is enough: a wake that waits to be heard stands for all that come meanwhile.
        let (wake, wakes) = mpsc::channel(1);
        let heard = move |event: Result<notify::Event, notify::Error>| {
            // An error may be an event that was lost, so it wakes too.
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            let _ = wake.try_send(());
        };
        let failed = |error: notify::Error| {
            let source = match error.kind {
                notify::ErrorKind::Io(error) => error,
                _ => std::io::Error::other(error),
            };
            Error::store(root, "watch", source)
        };
        let mut watcher = notify::recommended_watcher(heard).map_err(failed)?;
        watcher.watch(root, RecursiveMode::Recursive).map_err(failed)?;
        Ok(Wakes { heard: wakes, again: None, _watcher: watcher })
    }

    /// Waits for the next wake.
    pub async fn next(&mut self) {
        std::future::poll_fn(|context| self.poll_wake(context)).await;
    }

    fn poll_wake(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Some(())) = self.heard.poll_recv(context) {
            self.again = Some(Box::pin(sleep(AGAIN)));
            return Poll::Ready(());
        }
        if let Some(again) = &mut self.again
            && again.as_mut().poll(context).is_ready()
        {
            self.again = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// Reading is no change; were it one, looking after a wake would be the next wake.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}
