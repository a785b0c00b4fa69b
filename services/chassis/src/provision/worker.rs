//! One target being made as it should be: converge, announce, wait for a reason to look again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::{Component, Evidence, Kind, Phase};
use rand::RngExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::board::{Board, Verdict};
use super::crew::Slot;
use super::history::{Change, History};
use super::passes::Counter;
use crate::announcer::Announcer;
use crate::backoff::Backoff;
use crate::bus::Mode;
use crate::converge::{Fault, Note, Reconcile, Standing, Step, Told, converge};
use crate::exit::chain;
use crate::{Context, clock};

/// Looks that must agree before a one-shot believes that it will never be let in: a password may be being changed.
const CONVINCED: u32 = 3;

/// What keeps on being wrong is said on every change and every 30 s (design §9).
const SAID_AGAIN: Duration = Duration::from_secs(30);

/// What makes a worker look again at once.
#[derive(Debug, Clone)]
pub(super) struct Wakes {
    /// Something the provisioner itself watches changed: a reason to look whatever the state.
    pub(super) nudge: Arc<Notify>,
    /// Somebody else's component changed: a reason to look where something is still open.
    pub(super) news: Arc<Notify>,
    /// Hears of each look.
    pub(super) passes: Counter,
}

/// One target and how its making goes.
pub(super) struct Worker<R: Reconcile> {
    target: Arc<Slot<R>>,
    announcer: Announcer,
    wakes: Wakes,
    history: History,
    source: String,
    polling: bool,
    backoff: Backoff,
    hopeless: u32,
    /// Something was made to be as it should be.
    changed: bool,
    /// What was seen at the last pass, and nothing is done about.
    drift: BTreeSet<Note>,
    /// What was said to be wrong with components, and when.
    said: Mutex<BTreeMap<Component, (String, Instant)>>,
}

impl<R: Reconcile> Worker<R> {
    pub(super) fn new(
        target: Arc<Slot<R>>,
        announcer: &Announcer,
        wakes: Wakes,
        history: History,
        context: &Context,
    ) -> Self {
        Worker {
            target,
            announcer: announcer.clone(),
            wakes,
            history,
            source: context.source(),
            polling: context.settings.polling,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            hopeless: 0,
            changed: false,
            drift: BTreeSet::new(),
            said: Mutex::default(),
        }
    }

    /// Works until nothing is open any more, and tells after every pass how it stands.
    pub(super) async fn until_settled(&mut self, resync: Duration, board: &Board) {
        let name = self.target.get().0.clone();
        let told = |verdict: &Verdict| {
            board.stands(&name, verdict.clone());
            !verdict.is_open()
        };
        while self.look(resync, told).await.is_open() {}
    }

    /// Whether anything was made since this was asked last.
    pub(super) fn changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Works for ever: what is open is tried again, what is settled is looked at again every `resync`.
    pub(super) async fn keep(&mut self, resync: Duration) {
        loop {
            self.look(resync, |_| false).await;
        }
    }

    /// One pass, then, unless it is `enough`, a pause until there is a reason to look again.
    async fn look(&mut self, resync: Duration, enough: impl Fn(&Verdict) -> bool) -> Verdict {
        let wakes = self.wakes.clone();
        let (nudged, news) = (wakes.nudge.notified(), wakes.news.notified());
        tokio::pin!(nudged, news);
        // Registered before looking: what changes while it looks wakes it afterwards.
        nudged.as_mut().enable();
        news.as_mut().enable();
        wakes.passes.begin();
        let verdict = self.round().await;
        wakes.passes.end();
        if enough(&verdict) {
            return verdict;
        }
        if !verdict.is_open() {
            self.backoff.reset();
        }
        // Not all targets at the same moment.
        let resync = resync.mul_f64(rand::rng().random_range(0.9..=1.0));
        let delay = if verdict.is_open() { self.backoff.next_delay() } else { resync };
        let push = *self.announcer.bus().mode().borrow() == Mode::Push;
        let timer = async {
            if self.polling || !push {
                tokio::time::sleep(delay).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = nudged => self.backoff.reset(),
            () = news, if verdict.is_open() => self.backoff.reset(),
            () = timer => {}
        }
        verdict
    }

    /// One pass over the target.
    async fn round(&mut self) -> Verdict {
        let target = self.target.get();
        let (name, reconcile, spec) = &*target;
        let verdict = Mutex::new(Verdict::default());
        let (begun, drift) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
        let made_ready = AtomicBool::new(false);
        let made = converge(reconcile, spec, name, &|told| match told {
            Told::Drift(note) => {
                if !self.drift.contains(note) {
                    warn!(component = %note.component, "{}", note.text);
                }
                locked(&drift).insert(note.clone());
            }
            Told::Step(step) => {
                info!(component = %step.component(), "{step}");
                if locked(&begun).insert(step.component().clone()) {
                    let reason = step.to_string();
                    // What went wrong the last time is what to know while it is tried again, however long that takes.
                    let error = locked(&self.said).get(step.component()).map(|(last, _)| last.clone());
                    let evidence = Evidence { error: error.unwrap_or_default(), ..Evidence::default() };
                    if is_made_here(step.component()) {
                        self.announcer.attempt(step.component(), Phase::Working, reason, evidence);
                    } else {
                        self.say(step.component(), Phase::Working, reason, evidence);
                    }
                }
            }
            Told::Tried(step, failed) => self.history.add(Change {
                time: clock::now(),
                component: step.component().clone(),
                step: step.to_string(),
                error: failed.map(|error| chain(error)),
                code: failed.map(Fault::code).unwrap_or_default(),
                source: self.source.clone(),
            }),
            Told::Standing(component, standing) => {
                reconcile.told(&component, &standing);
                if matches!(standing, Standing::Ready { .. }) && locked(&begun).contains(&component) {
                    made_ready.store(true, Ordering::Relaxed);
                }
                self.announce(&component, standing, &mut locked(&verdict));
            }
        })
        .await;
        self.changed |= made_ready.into_inner();
        if made.is_ok() {
            self.drift = drift.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        match made {
            Ok(()) => {
                self.hopeless = 0;
                verdict.into_inner().unwrap_or_else(PoisonError::into_inner)
            }
            Err(error) => {
                reconcile.unseen(spec, &error);
                self.unseen(name, &error, &R::components(spec))
            }
        }
    }

    fn announce(&self, component: &Component, standing: Standing, verdict: &mut Verdict) {
        match standing {
            Standing::Ready { evidence, .. } => {
                locked(&self.said).remove(component);
                self.say(component, Phase::Ready, String::new(), evidence);
            }
            Standing::Pending(note) => {
                verdict.open.push(note.clone());
                self.waits(component, Phase::Waiting, note.text, Evidence::default());
            }
            Standing::Reported(text) => {
                verdict.left(component.clone());
                self.say(component, Phase::Waiting, text, Evidence::default());
            }
            Standing::Refused(text) => {
                verdict.refused([component.clone()], format!("{component}: {text}"));
                self.say(component, Phase::Failed, text, Evidence::default());
            }
            Standing::Failed { error, code, transient } => {
                let evidence = Evidence { error: error.clone(), error_code: code, ..Evidence::default() };
                if transient {
                    verdict.open.push(Note::new(component, &error));
                    self.warn(component, &error);
                    self.say(component, Phase::Working, error, evidence);
                } else {
                    verdict.refused([component.clone()], format!("{component}: {error}"));
                    self.say(component, Phase::Failed, error, evidence);
                }
            }
        }
    }

    /// The target cannot be looked at: everything on it waits, or, when that will not change, failed.
    fn unseen(&mut self, name: &Component, error: &R::Error, components: &[Component]) -> Verdict {
        let said = chain(error);
        let text = if said.starts_with(&name.to_string()) { said } else { format!("{name}: {said}") };
        let evidence = Evidence { error: text.clone(), error_code: error.code(), ..Evidence::default() };
        if error.is_transient() {
            self.hopeless = 0;
        } else {
            self.hopeless += 1;
        }
        let convinced = self.hopeless >= CONVINCED;
        if self.hopeless == CONVINCED {
            warn!(component = %name, "{text}");
        }
        let phase = if convinced { Phase::Failed } else { Phase::Waiting };
        for component in components {
            self.waits(component, phase, text.clone(), evidence.clone());
        }
        let mut verdict = Verdict::default();
        if convinced {
            verdict.refused(components.iter().cloned(), text);
        } else {
            verdict.open.extend(components.iter().map(|component| Note::new(component, &text)));
        }
        verdict
    }

    fn say(&self, component: &Component, phase: Phase, reason: String, evidence: Evidence) {
        if is_made_here(component) {
            self.announcer.announce(component, phase, reason, evidence);
        } else {
            self.announcer.note(component, phase, reason, evidence);
        }
    }

    /// Says what is wrong, unless it was just said.
    fn warn(&self, component: &Component, text: &str) {
        let mut said = locked(&self.said);
        let is_news =
            said.get(component).is_none_or(|(last, at)| *last != text || at.elapsed() >= SAID_AGAIN);
        if is_news {
            warn!(%component, "{text}");
            said.insert(component.clone(), (text.to_owned(), Instant::now()));
        }
    }

    /// Announces what keeps a component from becoming ready. One that was ready is the hub's to judge: that it cannot be
    /// looked at from here just now does not undo it.
    fn waits(&self, component: &Component, phase: Phase, text: String, evidence: Evidence) {
        if self.announcer.phase(component) != Some(Phase::Ready) {
            return self.say(component, phase, text, evidence);
        }
        self.warn(component, &text);
    }
}

/// A server or module is looked at here and not made: how it is, the hub alone tells the others.
fn is_made_here(component: &Component) -> bool {
    !matches!(component.kind(), Kind::Postgres | Kind::Kafka | Kind::Module)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
