//! The stand-in of a module: it does what the module would do. Its waiter has executed it, so the gate is open; it checks
//! every start need itself and dies if one is unmet, works in its databases and topics, then answers its health check.
//! Besides rehearsals, tests of charts run it in the pods of a cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis::hub::{Announcement, HubClient};
use chassis::secret::SecretStore;
use chassis::{Context, Exit, Failure, clock};
use clap::Args;
use lifecycle::document::{Declared, Environment, Module};
use lifecycle::{Component, Graph, Kind, Need, OnRestart, Phase};
use tokio::time::Instant;
use tracing::{info, warn};
use wait_for_dependency::{definition, probe};

use super::work;

/// How long a module that was killed may take to answer again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Stand in for a module of a rehearsal.
#[derive(Debug, Args)]
pub struct StandIn {
    /// The module it stands in for.
    #[arg(long, required_unless_present = "endpoint")]
    module: Option<String>,
    /// The endpoint it stands in for.
    #[arg(long, conflicts_with = "module")]
    endpoint: Option<String>,
    /// How long starting takes.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Where each stand-in leaves a mark once it answers its health check. Without such a folder nobody knows who has
    /// answered before.
    #[arg(long)]
    marks: Option<PathBuf>,
    /// Where it answers, instead of on the loopback interface at the port of its health check.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// The environment's documents.
    #[arg(required = true)]
    documents: Vec<PathBuf>,
}

/// Works as the module would, then answers its health check until it is asked to end.
pub async fn run(args: StandIn, context: Context) -> Result<(), Failure> {
    // As its waiter did: what is wrong with others' documents is not this module's.
    let (environment, _) = chassis::documents::load_partial(&args.documents)?;
    if let Some(endpoint) = &args.endpoint {
        let declared = environment.endpoints().find(|e| e.component.name() == endpoint);
        let ready = declared.map(|e| e.spec.clone());
        let ready =
            ready.ok_or_else(|| Failure::usage(format!("no document declares endpoint/{endpoint}")))?;
        let mark = mark(args.marks.as_deref(), "endpoint", endpoint);
        return super::answer::serve(&ready, args.listen, &context, mark.as_deref()).await;
    }
    let name = args.module.unwrap_or_default();
    let module = environment
        .module(&name)
        .ok_or_else(|| Failure::usage(format!("no document declares module/{name}")))?;
    // Files where the settings name a folder, as in a rehearsal; the API server in a pod.
    let reading = context.clone().with_reader(kubernetes::reader());
    let secrets = reading.secrets(&module.source.document.fragment.namespace);
    check_needs(&environment, &module, &secrets, args.marks.as_deref()).await?;
    work::at(&environment, &name, &secrets).await?;
    tokio::time::sleep(Duration::from_millis(args.delay_ms)).await;
    let Some(ready) = module.spec.ready.clone() else {
        info!(module = name, "works; it has no health check to answer");
        context.shutdown.requested().await;
        return Ok(());
    };
    // The client goes on telling for as long as it is held: the hub may be away just now.
    let _hub = announce(&context, &module.component)?;
    let mark = mark(args.marks.as_deref(), "module", &name);
    super::answer::serve(&ready, args.listen, &context, mark.as_deref()).await
}

fn mark(marks: Option<&Path>, kind: &str, name: &str) -> Option<PathBuf> {
    marks.map(|marks| marks.join(format!("{kind}-{name}")))
}

/// Every start need must be met now, without waiting: that is what the waiter promised. Only a module that has answered
/// before and was killed since then is waited for: it was there in time. Where nobody knows who has answered before, needs
/// that hold only a first start (`on_restart: report`) may be unmet.
async fn check_needs(
    environment: &Environment,
    module: &Declared<'_, Module>,
    secrets: &SecretStore,
    marks: Option<&Path>,
) -> Result<(), Failure> {
    let graph = Graph::of(environment);
    let has_answered =
        |component: &Component| mark(marks, "module", component.name()).is_some_and(|mark| mark.exists());
    let again = marks.is_none() || has_answered(&module.component);
    for need in graph.start_needs(&module.component) {
        let component = &need.component;
        let broken = |why: String| {
            let message =
                format!("{} was started although {component} is not ready: {why}", module.component);
            Failure::new(Exit::Deadlock, message)
        };
        let definition = definition::for_waiter(environment, module.source, component).map_err(broken)?;
        let answered = component.kind() == Kind::Module && has_answered(component);
        let mut seen = probe::probe(&definition, secrets).await;
        let patience = Instant::now() + PATIENCE;
        while seen.is_err() && answered && Instant::now() < patience {
            tokio::time::sleep(LOOK).await;
            seen = probe::probe(&definition, secrets).await;
        }
        match seen {
            Ok(evidence) => info!(%component, level = evidence.level, "met"),
            // A module that starts again may find this need unmet; at its first start it may not.
            Err(not_yet) if need.on_restart == OnRestart::Report && again => {
                warn!(%component, "not met: {not_yet}");
            }
            Err(not_yet) => return Err(broken(not_yet.to_string())),
        }
    }
    Ok(())
}

/// Tells the hub that the module is up, as a sidecar would, so that the hub looks at once.
fn announce(context: &Context, component: &Component) -> Result<Option<HubClient>, Failure> {
    let Some(uri) = &context.settings.hub else { return Ok(None) };
    let hub = HubClient::new(uri, context.source()).map_err(Failure::usage)?;
    hub.announce(Announcement {
        component: component.clone(),
        phase: Phase::Working,
        reason: "answers its health check".to_owned(),
        unmet: Vec::new(),
        attempts: 1,
        since: clock::now(),
    });
    Ok(Some(hub))
}

/// What a module works with: its start needs of one kind.
pub(super) fn needs_of(environment: &Environment, module: &str, kind: Kind) -> Vec<Component> {
    let needs = environment.module(module).map(|m| m.spec.needs.clone()).unwrap_or_default();
    let start = needs.into_iter().filter(|need: &Need| need.when == lifecycle::When::Start);
    start.map(|need| need.component).filter(|component| component.kind() == kind).collect()
}
