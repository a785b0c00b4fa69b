//! Looking at one thing until it is ready: at once, then by polling, or when woken. The last look is always the waiter's
//! own; news only says when to look.

use std::sync::Arc;
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::secret::SecretStore;
use chassis::wire::ComponentState;
use lifecycle::{Evidence, Phase};
use tokio::sync::{mpsc, watch};

use crate::probe::{NotYet, Probe, State, probe};

/// How news reaches this waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// No hub is configured: it polls, which is normal.
    Direct,
    /// The hub was not reached yet.
    Connecting,
    /// The hub's stream lives.
    Live,
    /// The stream was lost.
    Lost,
}

/// What a look may depend on besides the thing itself.
#[derive(Debug, Clone)]
pub(super) struct Signal {
    /// How news reaches this waiter.
    pub(super) link: Link,
    /// What the hub said last; none before it did, or when it said it over a stream that was lost.
    pub(super) hub: Option<Arc<ComponentState>>,
    /// Grows with every piece of news.
    pub(super) wakes: u64,
}

impl Signal {
    /// Before any news.
    pub(super) fn new(link: Link) -> Self {
        Signal { link, hub: None, wakes: 0 }
    }
}

/// Why it was looked.
#[derive(Debug, Clone)]
pub(super) enum Cause {
    /// Because it began.
    First,
    /// Because time had passed.
    Polling,
    /// Because the hub said something.
    Woken(Arc<ComponentState>),
}

/// What a look saw.
#[derive(Debug)]
pub(super) struct Update {
    /// Which thing.
    pub(super) index: usize,
    /// What was seen.
    pub(super) seen: Result<Evidence, NotYet>,
    /// Why it was looked.
    pub(super) cause: Cause,
    /// What the hub had said when the look began.
    pub(super) hub: Option<Arc<ComponentState>>,
}

/// How often it is looked without being woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rhythm {
    /// Whether it polls at all. Off only to prove that news suffices.
    pub(super) polling: bool,
    /// The longest delay between looks; 1 s when absent.
    pub(super) interval: Option<Duration>,
}

/// The longest delay until the next look; none when only news brings one. While the hub's stream lives, what the hub
/// observes is not polled, but for what it called ready and the own look refused: there the two see differently. A look that was
/// `unanswered` has seen nothing, so that what brought it still asks for one.
pub(super) fn pace(rhythm: Rhythm, signal: &Signal, refused: bool, unanswered: bool) -> Option<Duration> {
    let cap = rhythm.interval.unwrap_or(Duration::from_secs(1));
    match signal.link {
        _ if !rhythm.polling && !unanswered => None,
        Link::Live if !refused && signal.hub.as_ref().is_some_and(|state| state.observable) => None,
        Link::Direct | Link::Connecting | Link::Live => Some(cap),
        Link::Lost => Some(Duration::from_secs(5)),
    }
}

/// Looks at `target` until it is ready, and tells each look.
pub(super) async fn drive(
    index: usize,
    target: Probe,
    secrets: Arc<SecretStore>,
    rhythm: Rhythm,
    mut signals: watch::Receiver<Signal>,
    told: mpsc::Sender<Update>,
) {
    let mut cause = Cause::First;
    let mut pauses = Pauses::default();
    let mut refused = false;
    loop {
        // Marked as seen before the look: what comes during it brings another.
        let signal = signals.borrow_and_update().clone();
        let seen = probe(&target, &secrets).await;
        let met = seen.is_ok();
        // Also when it was not this news that brought the look: the hub will not say the same again.
        refused |= !met && signal.hub.as_ref().is_some_and(|state| state.phase == Some(Phase::Ready));
        let unanswered = seen.as_ref().is_err_and(|not_yet| not_yet.state == State::TimedOut);
        let update = Update { index, seen, cause: cause.clone(), hub: signal.hub.clone() };
        if told.send(update).await.is_err() || met {
            return;
        }
        let news = unanswered.then_some(&cause).filter(|cause| matches!(cause, Cause::Woken(_)));
        cause = match pause(rhythm, &mut signals, &signal, refused, news, &mut pauses).await {
            Some(cause) => cause,
            None => return,
        };
    }
}

/// Waits for the next reason to look; none when nobody waits any more. `news` is what brought a look that had no answer.
async fn pause(
    rhythm: Rhythm,
    signals: &mut watch::Receiver<Signal>,
    seen: &Signal,
    refused: bool,
    news: Option<&Cause>,
    pauses: &mut Pauses,
) -> Option<Cause> {
    loop {
        let now = signals.borrow_and_update().clone();
        if now.wakes != seen.wakes
            && let Some(state) = now.hub
        {
            pauses.reset();
            return Some(Cause::Woken(state));
        }
        let delay = async {
            match pace(rhythm, &now, refused, news.is_some()) {
                Some(cap) => tokio::time::sleep(pauses.next(cap)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = signals.changed() => changed.ok()?,
            () = delay => return Some(news.cloned().unwrap_or(Cause::Polling)),
        }
    }
}

/// Growing delays under a cap that may change.
#[derive(Default)]
struct Pauses(Option<(Duration, Backoff)>);

impl Pauses {
    fn next(&mut self, cap: Duration) -> Duration {
        match &mut self.0 {
            Some((known, backoff)) if *known == cap => backoff.next_delay(),
            other => {
                let (_, backoff) = other.insert((cap, Backoff::new(Duration::from_millis(100), cap)));
                backoff.next_delay()
            }
        }
    }

    fn reset(&mut self) {
        if let Some((_, backoff)) = &mut self.0 {
            backoff.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lifecycle::Moment;
    use tokio::net::TcpListener;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::probe::faults::{self, Fault};
    use crate::probe::{Http, Tcp};

    fn state(phase: Phase, observable: bool) -> Arc<ComponentState> {
        Arc::new(ComponentState {
            component: "module/x".parse().unwrap(),
            phase: Some(phase),
            since: Moment(1),
            generation: 1,
            evidence: Evidence::default(),
            reason: String::new(),
            attempts: 0,
            source: String::new(),
            event_id: None,
            observable,
        })
    }

    #[test]
    fn the_pace_follows_the_design() {
        let on = Rhythm { polling: true, interval: None };
        let off = Rhythm { polling: false, interval: None };
        let signal = |link, hub| Signal { link, hub, wakes: 0 };
        let (second, five) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(5)));
        for (link, hub, refused, wanted) in [
            (Link::Direct, None, false, second),
            (Link::Connecting, None, false, second),
            (Link::Live, None, false, second),
            (Link::Live, Some(state(Phase::Working, true)), false, None),
            (Link::Live, Some(state(Phase::Working, false)), false, second),
            (Link::Live, Some(state(Phase::Ready, true)), true, second),
            (Link::Lost, None, false, five),
        ] {
            let signal = signal(link, hub);
            assert_eq!(pace(on, &signal, refused, false), wanted, "{signal:?} {refused}");
            assert_eq!(pace(off, &signal, refused, false), None);
            assert_eq!(pace(off, &signal, refused, true), wanted, "{signal:?} {refused}");
        }
        let slow = Rhythm { interval: Some(Duration::from_secs(7)), ..on };
        assert_eq!(pace(slow, &signal(Link::Direct, None), false, false), Some(Duration::from_secs(7)));
    }

    fn start(address: &str, polling: bool, link: Link) -> (watch::Sender<Signal>, mpsc::Receiver<Update>) {
        start_with(Probe::Tcp(Tcp { address: address.to_owned() }), polling, link)
    }

    fn start_with(
        target: Probe,
        polling: bool,
        link: Link,
    ) -> (watch::Sender<Signal>, mpsc::Receiver<Update>) {
        let (signals, heard) = watch::channel(Signal::new(link));
        let (told, updates) = mpsc::channel(8);
        let rhythm = Rhythm { polling, interval: None };
        tokio::spawn(drive(0, target, Arc::new(SecretStore::None), rhythm, heard, told));
        (signals, updates)
    }

    #[tokio::test]
    async fn without_polling_only_news_brings_a_look_and_the_look_decides() {
        let address = faults::closed_port().await;
        let (signals, mut updates) = start(&address, false, Link::Live);
        let first = updates.recv().await.unwrap();
        assert!(matches!(first.cause, Cause::First) && first.seen.is_err());

        // News that is not true costs a look and releases nobody.
        let tell = |phase| {
            signals.send_modify(|signal| {
                (signal.hub, signal.wakes) = (Some(state(phase, true)), signal.wakes + 1);
            });
        };
        tell(Phase::Ready);
        let second = updates.recv().await.unwrap();
        assert!(matches!(second.cause, Cause::Woken(_)) && second.seen.is_err());

        let _listener = TcpListener::bind(&address).await.unwrap();
        assert!(timeout(Duration::from_millis(50), updates.recv()).await.is_err(), "it looked by itself");
        tell(Phase::Ready);
        assert!(updates.recv().await.unwrap().seen.is_ok());
        assert!(updates.recv().await.is_none(), "it ends when it is met");
    }

    #[tokio::test(start_paused = true)]
    async fn without_polling_news_that_brought_a_look_without_an_answer_brings_another() {
        let silent = faults::serve(Fault::Stall(String::new())).await;
        let url = format!("http://{}/", silent.address).parse().unwrap();
        let (signals, mut updates) =
            start_with(Probe::Http(Http { url, status: None, json: BTreeMap::new() }), false, Link::Live);
        let timed_out = |update: &Update| update.seen.as_ref().is_err_and(|one| one.state == State::TimedOut);
        let first = updates.recv().await.unwrap();
        assert!(matches!(first.cause, Cause::First) && timed_out(&first));
        let by_itself = timeout(Duration::from_mins(1), updates.recv()).await;
        assert!(by_itself.is_err(), "no news, no look");
        signals.send_modify(|signal| {
            (signal.hub, signal.wakes) = (Some(state(Phase::Ready, false)), signal.wakes + 1);
        });
        for _ in 0..3 {
            let update = updates.recv().await.unwrap();
            assert!(matches!(update.cause, Cause::Woken(_)) && timed_out(&update));
        }
    }

    #[tokio::test]
    async fn what_the_hub_calls_ready_and_the_own_look_refuses_is_polled() {
        let address = faults::closed_port().await;
        let (signals, mut updates) = start(&address, true, Link::Live);
        signals.send_modify(|signal| {
            (signal.hub, signal.wakes) = (Some(state(Phase::Ready, true)), signal.wakes + 1);
        });
        assert!(updates.recv().await.unwrap().seen.is_err());
        let _listener = TcpListener::bind(&address).await.unwrap();
        let met = async { while updates.recv().await.unwrap().seen.is_err() {} };
        timeout(Duration::from_secs(5), met).await.unwrap();
    }

    #[tokio::test]
    async fn alone_it_polls_and_finds_what_comes_up() {
        let address = faults::closed_port().await;
        let (_signals, mut updates) = start(&address, true, Link::Direct);
        assert!(updates.recv().await.unwrap().seen.is_err());
        let _listener = TcpListener::bind(&address).await.unwrap();
        let since = Instant::now();
        while updates.recv().await.unwrap().seen.is_err() {}
        assert!(since.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn it_ends_when_nobody_waits_any_more() {
        let (signals, mut updates) = start(&faults::closed_port().await, false, Link::Live);
        updates.recv().await.unwrap();
        drop(signals);
        assert!(timeout(Duration::from_secs(5), updates.recv()).await.unwrap().is_none());
    }
}
