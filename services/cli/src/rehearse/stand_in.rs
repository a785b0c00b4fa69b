//! The stand-in of a module: it does what the module would do. Its waiter has executed it, so the gate is open; it checks
//! every start need itself and dies if one is unmet, works in its databases and topics, then answers its health check.

use std::path::PathBuf;
use std::time::Duration;

use chassis::secret::SecretStore;
use chassis::{Context, Exit, Failure};
use clap::Args;
use lifecycle::document::Environment;
use lifecycle::{Component, Evidence, Kind, Need, Phase};
use tracing::info;

use super::work;

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
    /// The rehearsal's documents.
    #[arg(required = true)]
    documents: Vec<PathBuf>,
}

/// Works as the module would, then answers its health check until it is asked to end.
pub async fn run(args: StandIn, context: Context) -> Result<(), Failure> {
    let environment = chassis::documents::load_complete(&args.documents)?;
    if let Some(endpoint) = &args.endpoint {
        let declared = environment.endpoints().find(|e| e.component.name() == endpoint);
        let ready = declared.map(|e| e.spec.clone());
        let ready = ready.ok_or_else(|| Failure::usage(format!("no document declares endpoint/{endpoint}")))?;
        return super::answer::serve(&ready, &context).await;
    }
    let name = args.module.unwrap_or_default();
    let module = environment
        .module(&name)
        .ok_or_else(|| Failure::usage(format!("no document declares module/{name}")))?;
    let secrets = context.secrets(&module.source.document.fragment.namespace);
    check_needs(&environment, &name, &secrets).await?;
    work::at(&environment, &name, &secrets).await?;
    tokio::time::sleep(Duration::from_millis(args.delay_ms)).await;
    let Some(ready) = module.spec.ready.clone() else {
        info!(module = name, "works; it has no health check to answer");
        context.shutdown.requested().await;
        return Ok(());
    };
    announce(&context, &module.component);
    super::answer::serve(&ready, &context).await
}

/// Every start need must be met now, without waiting: that is what the waiter promised.
async fn check_needs(environment: &Environment, module: &str, secrets: &SecretStore) -> Result<(), Failure> {
    let seen = wait_for_dependency::look(environment, module, secrets).await?;
    for (component, result) in seen {
        match result {
            Ok(evidence) => info!(%component, level = evidence.level, "met"),
            Err(not_yet) => {
                return Err(Failure::new(
                    Exit::Deadlock,
                    format!("module/{module} was started although {component} is not ready: {not_yet}"),
                ));
            }
        }
    }
    Ok(())
}

/// Tells the hub that the module is up, as a sidecar would, so that the hub looks at once.
fn announce(context: &Context, component: &Component) {
    if let Some(hub) = context.hub() {
        hub.announce(component, Phase::Working, "answers its health check", &[]);
    }
}

/// What a module works with: its start needs of one kind.
pub(super) fn needs_of(environment: &Environment, module: &str, kind: Kind) -> Vec<Component> {
    let needs = environment.module(module).map(|m| m.spec.needs.clone()).unwrap_or_default();
    let start = needs.into_iter().filter(|need: &Need| need.when == lifecycle::When::Start);
    start.map(|need| need.component).filter(|component| component.kind() == kind).collect()
}

/// Keeps the type of a look in one place.
pub type Seen = (Component, Result<Evidence, String>);
