//! The commands that every provisioner has: `apply` once, `plan` without touching, `serve` for as long as it lives.

mod account;
mod beside;
mod board;
mod crew;
mod history;
mod known;
mod nudges;
mod passes;
mod planned;
mod service;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use lifecycle::Component;
use lifecycle::document::{Environment, Problem};
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::announcer::Announcer;
use crate::bus::BusUpdate;
use crate::converge::Reconcile;
use crate::diagnostics::DiagnosticsService;
use crate::exit::{Exit, Failure};
use crate::grpc::{Callers, Server};
use crate::hub::HubClient;
use crate::output::Output;
use crate::wire::Fragment;
use crate::{Context, documents};

use account::Provisioner;
pub use beside::Beside;
use board::Board;
use crew::{Crew, Slot};
pub use history::Change;
use history::History;
pub use known::Known;
pub use nudges::Nudges;
use passes::{Counter, Passes};
pub use planned::{Planned, plans, print};
use service::ProvisionerService;
use worker::{Wakes, Worker};

/// How long a one-shot's last news may take to be sent; its work is done whether they arrive or not.
const FLUSH: Duration = Duration::from_secs(5);

/// What a provisioner is asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make everything as the documents say, then end. Waits for servers and Secrets that are not there yet.
    Apply {
        /// Documents, or folders of documents.
        #[arg(value_name = "DOCUMENTS", env = "ROLLCALL_DOCUMENTS", value_delimiter = ':', required = true)]
        documents: Vec<PathBuf>,
    },
    /// Say what would be done, and touch nothing. Ends with 65 when something is refused.
    Plan {
        /// Documents, or folders of documents.
        #[arg(value_name = "DOCUMENTS", env = "ROLLCALL_DOCUMENTS", value_delimiter = ':', required = true)]
        documents: Vec<PathBuf>,
        /// Plan against nothing instead of asking the servers.
        #[arg(long)]
        offline: bool,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Keep everything as the documents say, and answer over gRPC.
    Serve {
        /// Documents, or folders of documents.
        #[arg(value_name = "DOCUMENTS", env = "ROLLCALL_DOCUMENTS", value_delimiter = ':', required = true)]
        documents: Vec<PathBuf>,
    },
}

impl Command {
    /// Whether it goes on for as long as the process lives, and answers others.
    pub fn serves(&self) -> bool {
        matches!(self, Command::Serve { .. })
    }
}

/// What is looked at and changed: the component it is (a server, a Secret), the client, and what should be.
pub type Target<R> = (Component, R, <R as Reconcile>::Spec);

/// What a provisioner knows of its surroundings besides what it is told by documents.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// Wakes a target when something that the provisioner itself watches changed.
    pub nudges: Nudges,
    /// What is known to exist.
    pub known: Known,
    /// Who may have something made over gRPC from elsewhere than loopback; nobody when absent. Only who serves is asked.
    pub callers: Option<Callers>,
    /// Asks for the targets to be worked out anew from the same documents. Each keeps its name; some may be new,
    /// some not asked for any more, of some something else may be asked. Only who serves listens.
    pub changed: Arc<Notify>,
    /// What else is answered over gRPC, and may add to the environment. Only who serves listens.
    pub beside: Option<Beside>,
}

/// Runs a provisioner's command. `targets` says what the documents ask of it.
pub async fn run<R>(
    command: Command,
    context: Context,
    targets: impl Fn(&Environment) -> Result<Vec<Target<R>>, Failure>,
    around: Around,
) -> Result<(), Failure>
where
    R: Reconcile + Send + Sync + 'static,
    R::Spec: PartialEq + Send + Sync + 'static,
{
    match command {
        Command::Apply { documents } => {
            let (environment, problems) = documents::load_partial(&documents)?;
            told(&problems);
            let applied = apply(&environment, &context, targets(&environment)?, around).await;
            // The documents that are right were followed; the wrong ones decide the exit.
            match applied {
                Ok(()) if !problems.is_empty() => Err(documents::refusal(&problems)),
                applied => applied,
            }
        }
        Command::Plan { documents, offline, output } => {
            let (environment, problems) = documents::load_partial(&documents)?;
            told(&problems);
            print(&plans(&targets(&environment)?, offline).await, output)?;
            if problems.is_empty() { Ok(()) } else { Err(documents::refusal(&problems)) }
        }
        Command::Serve { documents } => {
            let (environment, problems) = documents::load_partial(&documents)?;
            told(&problems);
            serve(&environment, context, targets, around).await
        }
    }
}

fn told(problems: &[Problem]) {
    for problem in problems {
        warn!("refused a document: {problem}");
    }
}

/// Makes everything once: what `apply` does with documents that are read, for whoever has no documents to read.
///
/// # Errors
/// What is refused or will never work is exit code 65, what others have yet to make 69, a deadline that passed 124.
pub async fn apply<R>(
    environment: &Environment,
    context: &Context,
    targets: Vec<Target<R>>,
    around: Around,
) -> Result<(), Failure>
where
    R: Reconcile + Send + Sync + 'static,
    R::Spec: Send + Sync + 'static,
{
    let announcer = announcer(environment, context)?;
    let news = news(&announcer, &around.known);
    let names: Vec<Component> = targets.iter().map(|target| target.0.clone()).collect();
    let mut workers: Vec<Worker<R>> = targets
        .into_iter()
        .map(|target| {
            let wakes = Wakes {
                nudge: around.nudges.of(&target.0),
                news: Arc::clone(&news),
                passes: Counter::default(),
            };
            Worker::new(Slot::new(target), &announcer, wakes, History::default(), context)
        })
        .collect();
    // Whoever sets a deadline says how long what others make is waited for; without one that could be for ever.
    let board = Board::new(names, context.settings.deadline.is_some());
    let settle = async {
        // What one makes may be what another had looked at a moment before, and so on along a chain of them: it is done when
        // a pass finds nothing to do. Somebody who undoes it all the while does not keep it from ending.
        for _ in 0..=workers.len() {
            board.begin();
            let each = workers.iter_mut().map(|worker| worker.until_settled(context.settings.resync, &board));
            tokio::select! {
                _ = futures_util::future::join_all(each) => {}
                () = board.is_stuck() => {}
            }
            let mut changed = false;
            for worker in &mut workers {
                changed |= worker.changed();
            }
            if !changed {
                break;
            }
        }
    };
    let deadline = async {
        match context.settings.deadline {
            Some(deadline) => tokio::time::sleep(deadline).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        () = settle => Ok(()),
        () = deadline => Err(Failure::new(Exit::Deadline, format!("not done within {:?}: {}", context.settings.deadline.unwrap_or_default(), unfinished(&announcer)))),
        () = context.shutdown.requested() => Err(Failure::new(Exit::TryAgain, format!("asked to stop before everything was done: {}", unfinished(&announcer)))),
    };
    let unsent = announcer.flush(FLUSH).await;
    if unsent > 0 {
        warn!(unsent, "news could not be sent; nobody waits for it");
    }
    ended.and_then(|()| board.outcome())
}

fn unfinished(announcer: &Announcer) -> String {
    let open = announcer.current().into_iter().filter(|event| event.phase != lifecycle::Phase::Ready);
    let lines: Vec<String> =
        open.map(|event| format!("{} is {}: {}", event.component, event.phase, event.reason)).collect();
    if lines.is_empty() { "nothing was seen yet".to_owned() } else { lines.join("\n") }
}

/// Keeps everything as it should be.
async fn serve<R>(
    environment: &Environment,
    context: Context,
    targets: impl Fn(&Environment) -> Result<Vec<Target<R>>, Failure>,
    around: Around,
) -> Result<(), Failure>
where
    R: Reconcile + Send + Sync + 'static,
    R::Spec: PartialEq + Send + Sync + 'static,
{
    let first = targets(environment)?;
    let announcer = announcer(environment, &context)?;
    let news = news(&announcer, &around.known);
    let (nudges, passes, history) = (around.nudges, Passes::default(), History::default());
    let (bells, counters) = (nudges.clone(), passes.clone());
    let wakes = move |name: &Component| Wakes {
        nudge: bells.of(name),
        news: Arc::clone(&news),
        passes: counters.of(name),
    };
    let mut crew = Crew::new(&context, &announcer, wakes, history.clone());
    let account = Provisioner::new(&context, environment.identity(), announcer.clone(), crew.targets());
    let server = Server::new(&context.metrics);
    let (server, mut joined) = match &around.beside {
        Some(beside) => beside.join(environment, server),
        None => (server, watch::Sender::new(environment.clone()).subscribe()),
    };
    let service = ProvisionerService {
        environment: joined.clone(),
        targets: crew.targets(),
        nudges,
        passes,
        history,
        announcer: announcer.clone(),
        callers: around.callers,
    };
    let server = server.add_service(DiagnosticsService::new(account)).add_service(service.server());
    let servers = context.serve(server).await?;
    servers.readiness.set_ready(true).await;
    crew.work_on(first);
    let keep_up = async {
        loop {
            let added = async {
                if joined.changed().await.is_err() {
                    // Nobody adds anything any more.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = around.changed.notified() => {}
                () = added => {}
            }
            let environment = joined.borrow_and_update().clone();
            match targets(&environment) {
                Ok(targets) => crew.work_on(targets),
                Err(error) => warn!("what is to be made stays as it was: {error}"),
            }
        }
    };
    tokio::select! {
        () = servers.ended() => {}
        () = keep_up => {}
    }
    announcer.flush(FLUSH).await;
    Ok(())
}

/// An announcer whose generation is the one the hub names, or the latest one the bus speaks of.
fn announcer(environment: &Environment, context: &Context) -> Result<Announcer, Failure> {
    let identity = environment.identity().clone();
    let announcer = Announcer::new(context.bus(&identity), identity, context.source());
    if let Some(uri) = &context.settings.hub {
        let token_file = context.settings.hub_token_file.clone();
        let hub = HubClient::with_token(uri, context.source(), token_file).map_err(Failure::usage)?;
        let fragments: Result<Vec<Fragment>, _> =
            environment.sources().map(|s| (&s.document).try_into()).collect();
        hub.register(fragments.map_err(Failure::internal)?);
        let (announcer, mut generation) = (announcer.clone(), hub.generation());
        tokio::spawn(async move {
            while generation.changed().await.is_ok() {
                let generation = *generation.borrow_and_update();
                announcer.set_generation(announcer.generation().max(generation));
            }
            // The client lives as long as somebody holds it.
            drop(hub);
        });
    }
    let (bus, follower) = (announcer.bus().clone(), announcer.clone());
    tokio::spawn(async move {
        let mut news = bus.subscribe();
        while let Some(update) = news.next().await {
            if let BusUpdate::BringUp(bring_up) = update {
                follower.set_generation(follower.generation().max(bring_up.generation));
            }
        }
    });
    Ok(announcer)
}

/// News of others wakes too: a Secret appeared, a server came up, the bus is back.
fn news(announcer: &Announcer, known: &Known) -> Arc<Notify> {
    let heard = Arc::new(Notify::new());
    let (bus, announcer, news) = (announcer.bus().clone(), announcer.clone(), Arc::clone(&heard));
    let known = known.clone();
    tokio::spawn(async move {
        let mut updates = bus.subscribe();
        while let Some(update) = updates.next().await {
            let others = match update {
                BusUpdate::Event { event, .. } => {
                    known.hear(&event);
                    !announcer.current().iter().any(|own| own.component == event.component)
                }
                BusUpdate::CaughtUp => true,
                _ => false,
            };
            if others {
                news.notify_waiters();
            }
        }
    });
    heard
}
