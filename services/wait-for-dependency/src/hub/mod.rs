//! The hub: it observes, it is told, it wakes those who wait. One per environment.
//!
//! What it decides is pure (`decide`, `state`, `fragments`, `explain`, `telling`); the rest carries it out.

mod core;
pub mod decide;
pub mod explain;
pub mod fragments;
mod meters;
mod prober;
mod service;
pub mod state;
mod teller;
pub mod telling;
mod watchers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chassis::announcer::Announcer;
use chassis::bus::{Bus, BusUpdate};
use chassis::diagnostics::DiagnosticsService;
use chassis::grpc::{Callers, Server};
use chassis::run::Servers;
use chassis::wire::Fragment;
use chassis::{Context, Failure, documents};
use kubernetes::Cluster;
use lifecycle::document::{Document, Identity};
use rollcall_proto::diagnostics::v1::hub_server::HubServer;

use self::core::Core;
use meters::Meters;
use prober::Rhythm;
use service::HubService;
use state::State;

/// How long the start waits for what an earlier life kept on the bus. Kafka may be one of the things that are waited for.
const RECALL: Duration = Duration::from_secs(1);

/// How long the end waits until the last words are on the bus.
const FAREWELL: Duration = Duration::from_secs(2);

/// The arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Files or folders with documents [default: ROLLCALL_DOCUMENTS]; more fragments are registered by waiters
    #[arg(value_name = "DOCUMENTS")]
    pub documents: Vec<PathBuf>,
    /// The environment's name, where no document says it
    #[arg(long, value_name = "NAME", requires = "uid")]
    pub environment: Option<String>,
    /// The environment's uid, where no document says it
    #[arg(long, value_name = "UUID", requires = "environment")]
    pub uid: Option<uuid::Uuid>,
    /// The namespace that ROLLCALL_SECRETS_DIR belongs to [default: the first document's]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// For which release the documents are mounted, `<namespace>/<name>`: what it had mounted before and has no more is forgotten
    /// [default: nothing is forgotten]
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<String>,
}

/// Serves until it is asked to stop.
pub async fn serve(args: ServeArgs, context: Context) -> Result<(), Failure> {
    let (callers, cluster) = kubernetes::callers().await.unzip();
    let hub = start(args, &context, callers, cluster.flatten()).await?;
    context.shutdown.requested().await;
    hub.stopped().await;
    Ok(())
}

/// A hub that serves.
#[derive(Debug)]
pub struct Serving {
    /// Its servers and their addresses.
    pub servers: Servers,
    core: Arc<Core>,
}

impl Serving {
    /// Ends its streams, and waits until its servers have ended. The shutdown was asked for.
    pub async fn stopped(self) {
        self.core.stop();
        self.servers.ended().await;
        self.core.flush(FAREWELL).await;
    }
}

/// Starts a hub. `callers` knows who may write from elsewhere than loopback; nobody when absent. In `cluster` pods are told why they
/// wait.
pub async fn start(
    args: ServeArgs,
    context: &Context,
    callers: Option<Callers>,
    cluster: Option<Cluster>,
) -> Result<Serving, Failure> {
    let (identity, mounted, refused) = who(&args, context)?;
    let settings = &context.settings;
    let bus = context.clone().as_keeper().bus(&identity);
    let namespace = args.namespace.or_else(|| mounted.first().map(|d| d.fragment.namespace.clone()));
    if settings.secrets_dir.is_some() && namespace.is_none() {
        return Err(Failure::usage("--namespace: say which namespace ROLLCALL_SECRETS_DIR belongs to"));
    }
    let secrets = context.secrets(&namespace.unwrap_or_default());
    let rhythm = Rhythm { polling: settings.polling, resync: settings.resync };
    let mut state = State::new(identity.clone(), context.source()).of_release(args.release);
    let all = refused.is_empty();
    state.refuse(refused);
    let announcer = Announcer::new(bus.clone(), identity, context.source());
    let core = Core::new(state, announcer, secrets, Meters::new(&context.metrics), rhythm);

    recall(&core, &bus).await;
    let fragments =
        mounted.iter().map(Fragment::try_from).collect::<Result<Vec<_>, _>>().map_err(Failure::internal)?;
    if !fragments.is_empty() {
        core.mount(fragments, all);
    }
    if let Some(cluster) = cluster {
        tokio::spawn(teller::tell(Arc::downgrade(&core), cluster, context.source()));
    }
    let server = Server::new(&context.metrics)
        .add_service(HubServer::new(HubService::new(core.clone(), callers)))
        .add_service(DiagnosticsService::new(core.clone()));
    let servers = context.serve(server).await?;
    servers.readiness.set_ready(true).await;
    Ok(Serving { servers, core })
}

/// Follows the bus, and gives it a moment to tell what an earlier life kept there.
async fn recall(core: &Arc<Core>, bus: &Bus) {
    if !bus.is_configured() {
        return;
    }
    let (mut updates, follower) = (bus.subscribe(), core.clone());
    let (told, caught_up) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut told = Some(told);
        while let Some(update) = updates.next().await {
            let first = update == BusUpdate::CaughtUp;
            follower.hear(update);
            if let Some(told) = told.take_if(|_| first) {
                // Nobody waits for it after the moment has passed.
                let _ = told.send(());
            }
        }
    });
    if tokio::time::timeout(RECALL, caught_up).await.is_err() {
        tracing::info!("the bus is not there yet; what an earlier life kept there comes later");
    }
}

/// Which environment is served, the documents that are mounted, and what is wrong with those that were refused.
fn who(args: &ServeArgs, context: &Context) -> Result<(Identity, Vec<Document>, Vec<String>), Failure> {
    let paths = if args.documents.is_empty() { &context.settings.documents } else { &args.documents };
    let named = args.environment.clone().zip(args.uid).map(|(name, uid)| Identity { name, uid });
    if paths.is_empty() {
        return named.map(|identity| (identity, Vec::new(), Vec::new())).ok_or_else(|| {
            Failure::usage("no documents, and nothing says which environment this is: name documents, or give --environment and --uid")
        });
    }
    let (environment, problems) = documents::load_partial(paths)?;
    for problem in &problems {
        tracing::error!("{problem}");
    }
    let identity = environment.identity().clone();
    if named.is_some_and(|named| named != identity) {
        return Err(Failure::usage("--environment, --uid: the documents say another environment"));
    }
    let documents = environment.sources().map(|source| source.document.clone()).collect();
    Ok((identity, documents, problems.iter().map(ToString::to_string).collect()))
}
