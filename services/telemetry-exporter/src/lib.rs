//! telemetry-exporter: folds the environment's lifecycle topic into Prometheus metrics and a timeline with its critical
//! path. It observes; it makes nothing.

pub mod fold;
pub mod series;
mod service;

use std::path::PathBuf;

use chassis::bus::{Bus, BusUpdate};
use chassis::diagnostics::DiagnosticsService;
use chassis::grpc::Server;
use chassis::{Context, Failure, clock, documents};
use clap::{Parser, Subcommand};
use lifecycle::document::Environment;
use rollcall_proto::diagnostics::v1::timeline_server::TimelineServer;
use tracing::{info, warn};

use fold::Fold;
use series::Shared;
use service::Teller;

/// Tell the story of a bring-up: metrics and timeline.
#[derive(Debug, Parser)]
#[command(name = "telemetry-exporter", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the lifecycle topic; answer /metrics and the Timeline service until asked to end.
    Serve {
        /// The environment's documents; they say which environment this is.
        #[arg(value_name = "DOCUMENTS", env = "ROLLCALL_DOCUMENTS", value_delimiter = ':', required = true)]
        documents: Vec<PathBuf>,
    },
}

/// Runs the exporter.
pub async fn run(args: Args, context: Context) -> Result<(), Failure> {
    let Command::Serve { documents } = args.command;
    let (environment, problems) = documents::load_partial(&documents)?;
    for problem in &problems {
        warn!(%problem, "refused a document");
    }
    let identity = environment.identity().clone();
    if context.settings.brokers.is_empty() {
        return Err(Failure::usage(
            "ROLLCALL_BROKERS is not set; the exporter reads the lifecycle topic and knows nothing without it",
        ));
    }
    let bus = context.bus(&identity);
    let shared = Shared::default();
    shared.with(|fold| *fold = Fold::of(&environment));
    context.metrics.register(|registry| registry.register_collector(Box::new(shared.clone())));

    let teller = Teller { shared: shared.clone(), identity, mode: bus.mode(), started: clock::now() };
    let server = Server::new(&context.metrics)
        .add_service(TimelineServer::new(teller.clone()))
        .add_service(DiagnosticsService::new(teller));
    let servers = context.serve(server).await?;
    servers.readiness.set_ready(true).await;
    listen(&bus, &shared, &environment).await;
    servers.ended().await;
    Ok(())
}

/// Folds what the bus says, until the process is asked to end.
async fn listen(bus: &Bus, shared: &Shared, environment: &Environment) {
    let mut news = bus.subscribe();
    // What is heard anew after the topic was lost; until it is complete, what was known is told.
    let mut anew: Option<Fold> = None;
    while let Some(update) = news.next().await {
        let mut fold = |change: &mut dyn FnMut(&mut Fold)| match &mut anew {
            Some(fold) => change(fold),
            None => shared.with(|fold| change(fold)),
        };
        match update {
            BusUpdate::Event { offset, event, .. } => fold(&mut |fold| fold.event(offset, event.clone())),
            BusUpdate::Fragment(fragment) => match fragment.document() {
                Ok(document) => fold(&mut |fold| fold.fragment(document.clone())),
                Err(error) => {
                    warn!(fragment = fragment.name, %error, "set a fragment aside that cannot be read");
                }
            },
            BusUpdate::BringUp(bring_up) => {
                info!(generation = bring_up.generation, "a bring-up began");
                fold(&mut |fold| fold.bring_up(bring_up.generation, bring_up.started));
            }
            // That it is gone its own deleted record says.
            BusUpdate::Forgotten(_) => {}
            BusUpdate::Deleted(key) => {
                if let Some(name) = key.strip_prefix("fragment/") {
                    fold(&mut |fold| fold.fragment_removed(name));
                }
            }
            BusUpdate::CaughtUp => {
                info!("caught up with the lifecycle topic");
                if let Some(complete) = anew.take() {
                    shared.with(|fold| *fold = complete);
                }
            }
            BusUpdate::Lost(reason) => {
                warn!(reason, "lost the lifecycle topic; telling what was known until it is back");
                anew = Some(Fold::of(environment));
            }
        }
    }
}
