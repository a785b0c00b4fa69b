//! Waiting for what a module needs to start, as its documents say: by own looks, woken by the hub where there is one.

mod alarms;

use std::sync::Arc;
use std::time::Duration;

use chassis::bus::Mode;
use chassis::hub::{Announcement, HubClient, HubUpdate};
use chassis::wire::ComponentState;
use chassis::{Context, Exit, Failure, clock};
use lifecycle::{Evidence, Moment, OnRestart, Phase};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep_until};

use crate::hub::decide::{CYCLE, NOBODY};
use crate::probe::{NotYet, State};
use crate::wait::args::WaitArgs;
use crate::wait::board::Board;
use crate::wait::drive::{Cause, Link, Rhythm, Signal, Update, drive};
use crate::wait::gate::Gated;
use crate::wait::report::{EVERY, Reporter};
use crate::wait::timing;

/// How long the last word to the hub may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// A wrong password, as PostgreSQL calls it.
const WRONG_PASSWORD: &str = "28P01";

/// Waits until the module's gate is open.
pub(super) async fn wait(module: &str, args: &WaitArgs, context: &Context) -> Result<(), Failure> {
    let limits = timing(args, context)?;
    let gated = Gated::read(module, args, context)?;
    let hub = match &context.settings.hub {
        Some(uri) => {
            let token_file = context.settings.hub_token_file.clone();
            Some(HubClient::with_token(uri, context.source(), token_file).map_err(Failure::usage)?)
        }
        None => None,
    };
    let mut heard = hub.as_ref().map(|hub| {
        hub.register(gated.fragments.clone());
        let needs = gated.items.iter().map(|item| item.need.component.clone());
        let watched: Vec<_> = needs.chain([gated.module.clone()]).collect();
        hub.watch(module, &watched)
    });
    let rhythm = Rhythm { polling: context.settings.polling, interval: limits.interval };
    let (told, mut updates) = mpsc::channel(16);
    let mut waiter = Waiter::new(gated, hub, Reporter::new(args.output, args.quiet), args.fail_fast);
    let _drivers = waiter.look(rhythm, &told);
    let mut remind = interval_at(waiter.begun + EVERY, EVERY);
    while !waiter.is_open() {
        let alarm = waiter.next_alarm(limits.timeout);
        tokio::select! {
            // What is ready at the deadline is ready.
            biased;
            Some(update) = updates.recv() => waiter.saw(update).await?,
            Some(update) = next(heard.as_mut()) => waiter.heard(update).await?,
            () = context.shutdown.requested() => return Err(crate::wait::stopped(&waiter.board)),
            () = at(alarm) => waiter.alarm(limits.timeout).await?,
            _ = remind.tick() => waiter.remind(),
        }
    }
    waiter.released().await;
    Ok(())
}

async fn next(heard: Option<&mut mpsc::Receiver<HubUpdate>>) -> Option<HubUpdate> {
    match heard {
        Some(heard) => heard.recv().await,
        None => std::future::pending().await,
    }
}

async fn at(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => sleep_until(alarm).await,
        None => std::future::pending().await,
    }
}

struct Waiter {
    gated: Gated,
    hub: Option<HubClient>,
    reporter: Reporter,
    fail_fast: bool,
    board: Board,
    signals: Vec<watch::Sender<Signal>>,
    /// Needs whose time has passed and was said to have.
    overdue: Vec<bool>,
    /// Since when the hub says that nobody makes it.
    nobody: Vec<Option<Instant>>,
    ever_live: bool,
    begun: Instant,
    since: Moment,
}

impl Waiter {
    fn new(gated: Gated, hub: Option<HubClient>, reporter: Reporter, fail_fast: bool) -> Self {
        let (begun, link) = (Instant::now(), if hub.is_some() { Link::Connecting } else { Link::Direct });
        let mode = if hub.is_some() { "degraded" } else { "direct" };
        tracing::info!(mode, module = %gated.module, needs = gated.items.len(), "waiting");
        Waiter {
            board: Board::new(gated.labels(), begun),
            signals: gated.items.iter().map(|_| watch::Sender::new(Signal::new(link))).collect(),
            overdue: vec![false; gated.items.len()],
            nobody: vec![None; gated.items.len()],
            gated,
            hub,
            reporter,
            fail_fast,
            ever_live: false,
            begun,
            since: clock::now(),
        }
    }

    /// Starts looking at everything that can be looked at from here.
    fn look(&mut self, rhythm: Rhythm, told: &mpsc::Sender<Update>) -> JoinSet<()> {
        let secrets = Arc::new(self.gated.secrets.clone());
        let mut drivers = JoinSet::new();
        for index in 0..self.gated.items.len() {
            match self.gated.items[index].definition.clone() {
                Ok(probe) => {
                    let signals = self.signals[index].subscribe();
                    drivers.spawn(drive(index, probe, secrets.clone(), rhythm, signals, told.clone()));
                }
                Err(why) => {
                    // Without a hub nobody will ever tell of it either.
                    let found = NotYet::new(State::Unobservable, why);
                    let found = if self.hub.is_none() {
                        self.nobody[index] = Some(self.begun);
                        found.code(NOBODY)
                    } else {
                        found
                    };
                    self.not_yet(index, found);
                }
            }
        }
        drivers
    }

    fn is_open(&self) -> bool {
        let reported = self.gated.reports_only && self.board.unmet().all(|(_, entry)| entry.looks > 0);
        self.gated.items.is_empty() || self.board.is_open() || reported
    }

    /// Hears what an own look saw.
    async fn saw(&mut self, update: Update) -> Result<(), Failure> {
        match update.seen {
            Ok(evidence) => self.met(update.index, &evidence, &update.cause),
            Err(seen) => {
                // A role that is not made yet refuses like a wrong password. Only when the hub had seen the database ready
                // before this look began is the password known to be wrong.
                let wrong = seen.code == WRONG_PASSWORD && update.hub.as_deref().is_some_and(is_seen_ready);
                let hopeless = seen.never
                    || wrong
                    || (self.fail_fast && seen.state == State::Denied && self.hub.is_none());
                self.not_yet(update.index, seen);
                if hopeless {
                    let line = self.board.entry(update.index).line(Instant::now());
                    return self
                        .fail(Exit::NeverWorks, format!("will not become ready by itself: {line}"))
                        .await;
                }
            }
        }
        Ok(())
    }

    /// Hears the hub.
    async fn heard(&mut self, update: HubUpdate) -> Result<(), Failure> {
        match update {
            HubUpdate::State(state) if state.component == self.gated.module => {
                if matches!(state.phase, Some(Phase::Ready | Phase::Degraded)) {
                    self.start_again();
                }
            }
            HubUpdate::State(state) => {
                if let Some(index) = self.gated.index(&state.component) {
                    return self.state(index, Arc::new(state)).await;
                }
            }
            HubUpdate::CaughtUp { generation, mode } => {
                if matches!(mode, Mode::Degraded(_)) {
                    tracing::info!("the hub has lost its bus: it looks for itself");
                }
                tracing::info!(mode = "push", generation, "the hub's stream lives");
                self.ever_live = true;
                self.link(Link::Live);
                self.announce(Phase::Waiting);
            }
            HubUpdate::Lost(reason) => {
                tracing::info!(mode = "degraded", reason, "the hub is not there; polling meanwhile");
                self.link(if self.ever_live { Link::Lost } else { Link::Connecting });
            }
        }
        Ok(())
    }

    /// Hears a need's state from the hub: it wakes the own look, and decides only where there is none.
    async fn state(&mut self, index: usize, state: Arc<ComponentState>) -> Result<(), Failure> {
        self.signals[index].send_modify(|signal| {
            signal.hub = Some(state.clone());
            signal.wakes += 1;
        });
        let code = state.evidence.error_code.clone();
        self.nobody[index] = (code == NOBODY).then(|| self.nobody[index].unwrap_or_else(Instant::now));
        if self.gated.items[index].definition.is_err() {
            if is_seen_ready(&state) {
                self.met(index, &state.evidence.clone(), &Cause::Woken(state));
                return Ok(());
            }
            // Its phase is news, so it stands where another peer's error code would.
            let phase = state.phase.map_or("", Phase::as_str);
            let found = NotYet::new(State::Unobservable, hubs_words(&state));
            self.not_yet(index, found.code(if code.is_empty() { phase } else { &code }));
        }
        if self.fail_fast && state.phase == Some(Phase::Failed) && self.board.unmet().any(|(i, _)| i == index)
        {
            let exit = if code == CYCLE { Exit::Deadlock } else { Exit::DependencyFailed };
            return self.fail(exit, hubs_words(&state)).await;
        }
        Ok(())
    }

    /// The module was ready before in this environment: needs that only hold a first start are reported.
    fn start_again(&mut self) {
        for index in 0..self.gated.items.len() {
            let reports = self.gated.items[index].need.on_restart == OnRestart::Report;
            if reports && self.board.met(index) {
                let need = &self.gated.items[index].need.component;
                tracing::warn!(
                    "{need} is not waited for: {} was ready before (on_restart: report)",
                    self.gated.module
                );
            }
        }
    }

    fn link(&mut self, link: Link) {
        for signal in &self.signals {
            signal.send_modify(|signal| {
                signal.link = link;
                // What a lost hub said may be true no more.
                if link != Link::Live {
                    signal.hub = None;
                }
            });
        }
    }

    fn met(&mut self, index: usize, evidence: &Evidence, cause: &Cause) {
        if self.board.met(index) {
            self.reporter.released(self.board.entry(index), evidence, cause, Instant::now());
            self.announce(Phase::Waiting);
        }
    }

    fn not_yet(&mut self, index: usize, seen: NotYet) {
        let now = Instant::now();
        if self.board.not_yet(index, seen, now) {
            self.reporter.changed(self.board.entry(index), now);
            self.announce(Phase::Waiting);
        }
    }

    fn remind(&self) {
        self.reporter.still(&self.board, Instant::now());
        self.announce(Phase::Waiting);
    }

    /// Tells the hub how the module is. Best effort.
    fn announce(&self, phase: Phase) {
        let Some(hub) = &self.hub else { return };
        let waiting = phase == Phase::Waiting;
        let unmet = self
            .board
            .unmet()
            .filter(|_| waiting)
            .map(|(index, entry)| (self.gated.items[index].need.component.clone(), entry.evidence()));
        let unmet: Vec<_> = unmet.collect();
        let names: Vec<String> = unmet.iter().map(|(component, _)| component.to_string()).collect();
        let reason = if names.is_empty() { String::new() } else { format!("waits for {}", names.join(", ")) };
        let since = if waiting { self.since } else { clock::now() };
        hub.announce(Announcement {
            component: self.gated.module.clone(),
            phase,
            reason,
            unmet,
            attempts: 0,
            since,
        });
    }

    /// The gate is open.
    async fn released(&self) {
        let now = Instant::now();
        for (_, entry) in self.board.unmet() {
            tracing::warn!("mode is report; would wait for {}", entry.line(now));
        }
        self.reporter.done(&self.board, now);
        self.announce(Phase::Working);
        if let Some(hub) = self.hub.as_ref().filter(|_| self.ever_live) {
            hub.flush(FAREWELL).await;
        }
    }
}

/// Whether the hub itself saw it ready at its last look; that it was said to be does not count.
fn is_seen_ready(state: &ComponentState) -> bool {
    state.phase == Some(Phase::Ready) && state.observable && state.evidence.error.is_empty()
}

/// What the hub says about something, in words.
fn hubs_words(state: &ComponentState) -> String {
    let phase = state.phase.map_or("not heard of yet", Phase::as_str);
    let why = [&state.reason, &state.evidence.error].into_iter().find(|text| !text.is_empty());
    match why {
        Some(why) if state.evidence.error_code == NOBODY => why.clone(),
        Some(why) => format!("the hub says {phase}: {why}"),
        None => format!("the hub says {phase}"),
    }
}

#[cfg(test)]
mod tests;
