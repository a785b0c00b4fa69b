//! The hub's client: registers fragments, watches components, announces modules.
//!
//! Waiters keep it for as long as they wait: it is a few tasks, no thread, and nothing in it polls. What is wished (fragments,
//! announcements) is kept, sent again until it arrives, and sent again when the hub came back, for the hub may have forgotten.

mod keeper;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::{Component, Evidence, Moment, Phase};
use rollcall_proto::diagnostics::v1 as pb;
use rollcall_proto::diagnostics::v1::hub_client::HubClient as Stub;
use tokio::sync::{Notify, mpsc, watch as cell};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::bus::Mode;
use crate::grpc::Traced;
use crate::wire::{self, ComponentState, Fragment, WireError};

/// A call that is no stream takes at most this long.
const CALL: Duration = Duration::from_secs(10);

/// Why the hub did not answer.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The address is none.
    #[error("`{uri}` is not an address of a hub: {reason}")]
    Address {
        /// The address.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The hub cannot be reached, or refused.
    #[error("the hub: {0}")]
    Call(String),
    /// The hub's answer is not understood.
    #[error("the hub's answer: {0}")]
    Answer(#[from] WireError),
}

/// What the hub said to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The bring-up the fragments belong to.
    pub generation: u64,
    /// Fragments the hub did not take, with the reason.
    pub rejected: Vec<(String, String)>,
}

/// What a watcher hears.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly every update is a state")]
pub enum HubUpdate {
    /// A component's state, now or changed.
    State(ComponentState),
    /// Every state known was said; what follows is news.
    CaughtUp {
        /// The bring-up under way.
        generation: u64,
        /// How news travels to the hub.
        mode: Mode,
    },
    /// The hub is lost. It is looked for; when it is found everything known is said again.
    Lost(String),
}

/// What a waiter or sidecar says about its module. It wakes the hub's probe and decides nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The module.
    pub component: Component,
    /// Its phase.
    pub phase: Phase,
    /// Why, for people.
    pub reason: String,
    /// What it waits for, and what its own probe saw last.
    pub unmet: Vec<(Component, Evidence)>,
    /// Tries so far.
    pub attempts: u32,
    /// When it entered the phase.
    pub since: Moment,
}

/// Why a component is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// From the asked component to the root cause, each with the need that leads to the next.
    pub chain: Vec<(ComponentState, Option<Component>)>,
    /// The chain as one line of text.
    pub text: String,
    /// What else becomes possible when the root is mended.
    pub also_unblocks: Vec<Component>,
}

/// A client of the hub. Clones share what is wished; when the last is gone, so is its background task.
#[derive(Debug, Clone)]
pub struct HubClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Link,
    wishes: Mutex<Wishes>,
    wake: Arc<Notify>,
    registration: cell::Sender<Option<Registration>>,
    generation: cell::Sender<u64>,
    /// How many wishes have not arrived.
    due: cell::Sender<usize>,
}

/// How the hub is reached.
#[derive(Debug, Clone)]
struct Link {
    channel: Channel,
    source: String,
    token_file: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Wishes {
    fragments: Vec<Fragment>,
    register: bool,
    announcements: BTreeMap<Component, Announcement>,
    announce: BTreeSet<Component>,
    /// What the hub denied when it was sent last.
    denied: BTreeSet<String>,
}

impl HubClient {
    /// A client that calls itself `source` (`<service>/<instance>`). It connects when it first has something to do. Needs a
    /// tokio runtime.
    pub fn new(uri: &str, source: impl Into<String>) -> Result<Self, HubError> {
        HubClient::with_token(uri, source, None)
    }

    /// A client that shows the service-account token in this file, read for every call because tokens are renewed.
    pub fn with_token(
        uri: &str,
        source: impl Into<String>,
        token_file: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        let link = Link { channel: channel(uri)?, source: source.into(), token_file };
        let inner = Arc::new(Inner {
            link,
            wishes: Mutex::default(),
            wake: Arc::new(Notify::new()),
            registration: cell::Sender::new(None),
            generation: cell::Sender::new(0),
            due: cell::Sender::new(0),
        });
        tokio::spawn(keeper::keep(Arc::downgrade(&inner), Arc::clone(&inner.wake)));
        Ok(HubClient(inner))
    }

    /// Registers these fragments, in the background, until it succeeds, and again when a [watch](HubClient::watch) finds the
    /// hub again. They take the place of those registered before. The answer is the next value of the receiver.
    pub fn register(&self, fragments: Vec<Fragment>) -> cell::Receiver<Option<Registration>> {
        let mut wishes = self.0.lock();
        wishes.fragments = fragments;
        wishes.register = true;
        // What the hub said to other fragments is no answer to these.
        self.0.registration.send_replace(None);
        self.0.wake(wishes);
        self.0.registration.subscribe()
    }

    /// The generation that the hub named last; 0 before it named one.
    pub fn generation(&self) -> cell::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Watches components (all when none are named) on behalf of a module (empty: of nobody). It ends when the receiver is
    /// dropped.
    pub fn watch(&self, module: &str, components: &[Component]) -> mpsc::Receiver<HubUpdate> {
        let (sender, receiver) = mpsc::channel(64);
        let request = pb::WatchRequest {
            module: module.to_owned(),
            components: components.iter().map(ToString::to_string).collect(),
            source: self.0.link.source.clone(),
        };
        tokio::spawn(watch::watch(Arc::clone(&self.0), request, sender));
        receiver
    }

    /// Says how a module is, best effort: the latest of each module is sent until it arrives.
    pub fn announce(&self, announcement: Announcement) {
        let mut wishes = self.0.lock();
        wishes.announce.insert(announcement.component.clone());
        wishes.announcements.insert(announcement.component.clone(), announcement);
        self.0.wake(wishes);
    }

    /// Waits until the hub has all that was registered and announced, at most for `deadline`, and returns how much it has not.
    pub async fn flush(&self, deadline: Duration) -> usize {
        let mut due = self.0.due.subscribe();
        let _ = tokio::time::timeout(deadline, due.wait_for(|due| *due == 0)).await;
        *due.borrow()
    }

    /// Asks why a component is not ready.
    pub async fn explain(&self, component: &Component) -> Result<Explanation, HubError> {
        let request = pb::ExplainRequest { component: component.to_string() };
        let request = self.0.link.request(request).await;
        let answer = self.0.link.stub().explain(request).await.map_err(|status| failed(&status))?;
        let answer = answer.into_inner();
        let mut chain = Vec::with_capacity(answer.chain.len());
        for link in answer.chain {
            let state = link.state.ok_or(WireError::Missing("chain.state"))?;
            chain.push((state.try_into()?, component_or_none(&link.waits_for)?));
        }
        let also = answer.also_unblocks.iter().map(|text| text.parse().map_err(WireError::from));
        Ok(Explanation { chain, text: answer.text, also_unblocks: also.collect::<Result<_, _>>()? })
    }
}

fn component_or_none(text: &str) -> Result<Option<Component>, WireError> {
    if text.is_empty() { Ok(None) } else { Ok(Some(text.parse()?)) }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, wishes: MutexGuard<'_, Wishes>) {
        self.count(&wishes);
        drop(wishes);
        self.wake.notify_one();
    }

    fn count(&self, wishes: &Wishes) {
        self.due.send_replace(usize::from(wishes.register) + wishes.announce.len());
    }

    fn heard_generation(&self, generation: u64) {
        self.generation.send_if_modified(|known| std::mem::replace(known, generation) != generation);
    }

    /// The hub was lost and is there again: it may be another that knows nothing.
    fn all_due(&self) {
        let mut wishes = self.lock();
        wishes.register = !wishes.fragments.is_empty();
        wishes.announce = wishes.announcements.keys().cloned().collect();
        self.wake(wishes);
    }
}

impl Link {
    fn stub(&self) -> Stub<InterceptedService<Channel, Traced>> {
        Stub::with_interceptor(self.channel.clone(), Traced)
    }

    async fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.stream_request(message).await;
        request.set_timeout(CALL);
        request
    }

    async fn stream_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        crate::grpc::show(&mut request, self.token_file.as_deref()).await;
        request
    }
}

/// As [`crate::grpc::channel`], but a hub that vanished without a word is noticed within seconds: until then its waiters
/// neither hear nor probe.
fn channel(uri: &str) -> Result<Channel, HubError> {
    let endpoint = Endpoint::from_shared(uri.to_owned())
        .map_err(|error| HubError::Address { uri: uri.to_owned(), reason: crate::exit::chain(&error) })?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(3))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(4))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true)
        .connect_lazy())
}

fn failed(status: &Status) -> HubError {
    HubError::Call(describe(status))
}

fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), crate::exit::chain(status))
}

fn announced(announcement: &Announcement, source: &str) -> pb::AnnounceRequest {
    let unmet = announcement.unmet.iter().map(|(component, evidence)| pb::Unmet {
        component: component.to_string(),
        evidence: Some(wire::evidence(evidence)),
    });
    pb::AnnounceRequest {
        component: announcement.component.to_string(),
        source: source.to_owned(),
        phase: wire::phase(announcement.phase).into(),
        reason: announcement.reason.clone(),
        unmet: unmet.collect(),
        attempts: announcement.attempts,
        since: Some(wire::timestamp(announcement.since)),
    }
}
