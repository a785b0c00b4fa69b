//! The play: set the stage, start everybody at once, follow until every module is ready, tell the story.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chassis::shutdown::Shutdown;
use chassis::{Context, Exit, Failure};
use sandbox::Event;
use serde_json::json;
use tokio::sync::broadcast;

use super::cast::Cast;
use super::chaos::Chaos;
use super::follow::{Board, Follower};
use super::show::Show;
use super::stage::{Error, KafkaStart, Service, Setting, Stage};
use super::{Rehearse, direct, real};
use crate::command::timeline;
use crate::output::print;

/// How often the end is looked for when nothing happens.
const LOOK: Duration = Duration::from_millis(250);
/// How long after the last module became ready the exporter may take to have heard of it.
const STORY: Duration = Duration::from_secs(20);

/// Brings the environment up on this machine. Fails with the root cause when it does not come up.
pub async fn run(args: Rehearse, context: Context) -> Result<(), Failure> {
    let environment = chassis::documents::load_complete(&args.documents)?;
    if environment.modules().next().is_none() {
        return Err(Failure::usage(
            "no document here declares a module, and modules are what is rehearsed; `rollcall plan --offline` tells what would be made",
        ));
    }
    if args.direct && environment.topics().next().is_some() {
        return Err(Failure::usage("--direct is for documents without topics; these declare some"));
    }
    if let Some(module) = &args.real {
        real::keycloak_of(&environment, module)?;
    }
    if let Some(folder) = args.keep.as_deref().filter(|folder| is_filled(folder)) {
        return Err(Failure::usage(format!(
            "--keep {}: what is there would be mixed with what comes; name an empty folder",
            folder.display()
        )));
    }
    let show = Arc::new(Show::begin(args.output));
    let program =
        std::env::current_exe().map_err(|e| Failure::internal(format!("cannot find this program: {e}")))?;
    let stage = Stage::set(&environment, setting(&args, program, &show)).await.map_err(failed)?;
    show.say(&format!("PostgreSQL {} answers on port {}", args.postgres, stage.postgres().port()));
    let outcome = tokio::select! {
        // First: an interruption is how holding ends, and no failure then.
        biased;
        outcome = perform(&args, &stage, &show, &context.shutdown) => outcome,
        () = context.shutdown.requested() => Err(Failure::new(Exit::TryAgain, "interrupted")),
    };
    show.end();
    show.say("ending every process");
    stage.strike().await.map_err(failed)?;
    outcome
}

fn setting(args: &Rehearse, program: PathBuf, show: &Arc<Show>) -> Setting {
    let show = Arc::clone(show);
    Setting {
        postgres: args.postgres,
        keep: args.keep.clone(),
        polling: !args.no_polling,
        bus: !args.direct,
        kafka: if args.late_kafka.is_some() { KafkaStart::Later } else { KafkaStart::AtOnce },
        log: args.log.clone(),
        progress: Some(Arc::new(move |what| show.say(what))),
        ..Setting::new(program)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
fn failed(error: Error) -> Failure {
    Failure::internal(chassis::exit::chain(&error))
}

async fn perform(args: &Rehearse, stage: &Stage, show: &Show, shutdown: &Shutdown) -> Result<(), Failure> {
    let mut deaths = stage.sandbox().events();
    let mut chaos = args.chaos.map(Chaos::new);
    let mut cast = Cast::default();
    let services: &[Service] =
        if args.direct { &[Service::SecretSyncer, Service::PostgresInit] } else { &Service::ALL };
    cast.services(stage, services).await.map_err(failed)?;
    let delay = || chaos.as_mut().map_or(Duration::ZERO, Chaos::delay);
    cast.stand_ins(stage, args.real.as_deref(), delay).await.map_err(failed)?;
    show.say(&format!("{} processes started, all at once", cast.players().count()));
    if !args.direct {
        let (hub, exporter) = (stage.url(Service::WaitForDependency), stage.url(Service::TelemetryExporter));
        show.say(&format!("--hub {hub} for status, explain and watch; --exporter {exporter} for timeline"));
        show.say("what follows is what the hub sees, when it sees it; when things happened is in the timeline at the end");
    }

    let mut board = Board::new(stage.environment());
    let play = async {
        if args.direct {
            direct::follow(stage, args.deadline).await
        } else {
            follow(stage, show, &mut board, &mut deaths).await
        }
    };
    let background = async {
        let servers = async {
            if let Some(kafka) = stage.kafka() {
                tokio::time::sleep(args.late_kafka.unwrap_or_default()).await;
                stage.start_kafka().await.map_err(failed)?;
                show.say(&format!("Kafka answers at {}", kafka.brokers()));
            }
            Ok::<(), Failure>(())
        };
        let keycloak = async {
            match &args.real {
                None => Ok(None),
                Some(module) => {
                    let keycloak = real::start(stage, module).await?;
                    show.say(&format!("the real Keycloak answers at {}", keycloak.url()));
                    Ok(Some(keycloak))
                }
            }
        };
        let reign = async {
            if let Some(chaos) = &mut chaos {
                chaos.reign(&cast, |name| show.say(&format!("killed {name}"))).await;
            }
        };
        let (started, keycloak, ()) = tokio::join!(servers, keycloak, reign);
        started?;
        keycloak?;
        std::future::pending::<Result<(), Failure>>().await
    };
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(args.deadline, play) => outcome,
        failure = background => Ok(failure),
    };
    let late = |_| {
        let causes = board.causes().join("\n");
        Failure::new(Exit::Deadline, format!("not ready after {} s:\n{causes}", args.deadline.as_secs()))
    };
    outcome.map_err(late)??;
    if args.direct {
        let seconds = show.elapsed().as_secs_f64();
        print(args.output, &json!({"complete": true, "seconds": seconds}), || {
            format!("every module is ready, {seconds:.2} s")
        })?;
    } else {
        tell(args, stage).await?;
    }
    if args.hold { hold(stage, show, &mut deaths, shutdown).await } else { Ok(()) }
}

/// Stays until it is interrupted, or a stand-in ends by itself.
async fn hold(
    stage: &Stage,
    show: &Show,
    deaths: &mut broadcast::Receiver<Event>,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    show.end();
    show.say("everything stays up until you interrupt it");
    while tokio::time::timeout(LOOK, shutdown.requested()).await.is_err() {
        broken_promise(stage, deaths)?;
    }
    Ok(())
}

fn is_filled(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Follows the hub until every module is ready, or nothing more can happen.
async fn follow(
    stage: &Stage,
    show: &Show,
    board: &mut Board,
    deaths: &mut broadcast::Receiver<Event>,
) -> Result<(), Failure> {
    let mut follower = Follower::start(stage.url(Service::WaitForDependency));
    loop {
        if let Some(state) = follower.next(LOOK).await {
            let reason = state.reason.clone();
            if let Some((component, phase)) = board.hear(state) {
                show.change(&component, phase, &reason, board);
            }
        }
        broken_promise(stage, deaths)?;
        if board.missing().is_empty() {
            return Ok(());
        }
        if board.is_stuck() {
            return Err(Failure::new(Exit::DependencyFailed, board.causes().join("\n")));
        }
    }
}

/// A stand-in that ends by itself says that its gate was opened too early, or that what it was promised does not work.
pub(super) fn broken_promise(stage: &Stage, deaths: &mut broadcast::Receiver<Event>) -> Result<(), Failure> {
    while let Ok(event) = deaths.try_recv() {
        if let Event::Exited { name, exit, .. } = event
            && name.starts_with("module/")
            && exit.code.is_some_and(|code| code != 0)
        {
            let log = stage.log(&name);
            let last = std::fs::read_to_string(&log).unwrap_or_default();
            let last = last.lines().next_back().unwrap_or("it logged nothing").to_owned();
            return Err(Failure::new(Exit::Internal, format!("{name} died ({exit}): {last}")));
        }
    }
    Ok(())
}

/// The exporter's story, once it has heard of everything.
async fn tell(args: &Rehearse, stage: &Stage) -> Result<(), Failure> {
    let url = stage.url(Service::TelemetryExporter);
    let complete = async {
        loop {
            match timeline::ask(&url, 0).await {
                Ok(story) if story.complete => return story,
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    };
    let story = tokio::time::timeout(STORY, complete).await.map_err(|_| {
        Failure::internal(format!(
            "every module is ready, but telemetry-exporter has not heard of it within {} s",
            STORY.as_secs()
        ))
    })?;
    print(args.output, &timeline::value(&story), || timeline::text(&story))
}
