//! Waking when one named object changes. Only its metadata travels: a watch wakes, a read decides.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use kube::api::WatchParams;
use kube::core::{PartialObjectMeta, WatchEvent};
use tokio::time::Instant;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use crate::client::{Refusal, api, built, judged, judged_plain};
use crate::{Cluster, Error, Name};

/// A watch that the server has not ended so long after its time is dead, though its connection may not know.
const OVERDUE: Duration = Duration::from_secs(10);

/// What is watched.
pub(crate) enum Watched<'a> {
    /// One object.
    Named(&'a Name),
    /// Something that is neither Secret nor ConfigMap.
    Plain(&'static str),
}

impl Watched<'_> {
    fn judged(&self, refusal: Refusal) -> Error {
        match self {
            Watched::Named(name) => judged("watch", name, refusal),
            Watched::Plain(what) => judged_plain(what, refusal),
        }
    }
}

impl fmt::Display for Watched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Watched::Named(name) => name.fmt(f),
            Watched::Plain(what) => f.write_str(what),
        }
    }
}

impl Cluster {
    /// Follows an object, which need not exist, for as long as one watch `lasts` (whole seconds), and calls `changed` once it is
    /// followed and on every change, with the version it has then, if it is there and that is known. Ends well when the server
    /// ended the watch in its time; whoever wants to go on begins anew, and whoever reads at every call loses nothing that
    /// happened in between. The right to `watch` it by name suffices.
    pub async fn follow(
        &self,
        name: &Name,
        lasts: Duration,
        changed: impl FnMut(Option<&str>),
    ) -> Result<(), Error> {
        // By field: a plain watch of a name needs no right to list, and tells of everything from now on.
        let params = WatchParams::default()
            .fields(&format!("metadata.name={}", name.name))
            .timeout(u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX));
        let request = built(name, api(name).watch_metadata(&params, ""))?;
        self.watch(request, &Watched::Named(name), lasts, changed).await
    }

    /// Follows what a request asks for, as [`follow`](Cluster::follow) does.
    pub(crate) async fn watch(
        &self,
        request: http::Request<Vec<u8>>,
        watched: &Watched<'_>,
        lasts: Duration,
        mut changed: impl FnMut(Option<&str>),
    ) -> Result<(), Error> {
        let failed = |error: &kube::Error| watched.judged(Refusal::of(error));
        let lost = |reason: String| Error::Unreachable { what: watched.to_string(), reason };
        // As with every call, the client itself logs nothing.
        let (client, _place) = self.watching.place()?;
        let opening = client.request_events::<PartialObjectMeta<()>>(request);
        let opening = opening.with_subscriber(Dispatch::none());
        let events = tokio::time::timeout(crate::client::REQUEST, opening)
            .await
            .map_err(|_| lost("the watch does not begin".to_owned()))?
            .map_err(|error| failed(&error))?;
        let mut events = pin!(events);
        let overdue = Instant::now() + lasts + OVERDUE;
        changed(None);
        loop {
            match tokio::time::timeout_at(overdue, events.try_next()).await {
                Err(_) => {
                    return Err(lost(format!(
                        "the server has not ended the watch {OVERDUE:?} after its time"
                    )));
                }
                Ok(Err(error)) => return Err(failed(&error)),
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(WatchEvent::Error(status)))) => {
                    return Err(watched.judged(Refusal::Status(status)));
                }
                Ok(Ok(Some(WatchEvent::Bookmark(_)))) => {}
                Ok(Ok(Some(WatchEvent::Deleted(_)))) => changed(None),
                Ok(Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    changed(object.metadata.resource_version.as_deref());
                }
            }
        }
    }
}
