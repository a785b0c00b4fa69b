//! `rollcall plan`: what every provisioner would do.

use chassis::provision;
use chassis::{Context, Failure};
use clap::Args;

use super::Documents;

/// Show what every provisioner would do, and touch nothing.
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    documents: Documents,
    /// Plan against nothing instead of asking the servers.
    #[arg(long)]
    offline: bool,
}

/// Prints the plans: Secrets first, because databases need them, then databases, then topics.
pub async fn run(args: &Plan, context: &Context) -> Result<(), Failure> {
    let environment = chassis::documents::load_complete(&args.documents.paths)?;
    let mut plans = secret_syncer::plan(&environment, context, args.offline).await?;
    plans.extend(postgres_init::plan(&environment, context, args.offline).await?);
    plans.extend(topic_provisioner::plan(&environment, context, args.offline).await?);
    provision::print(&plans, args.documents.output)
}
