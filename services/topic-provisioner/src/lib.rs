//! topic-provisioner: makes the topics that documents declare, on clusters that many environments share.
//!
//! A topic that no record says is this environment's is not touched; what a crash left half-made the next run finishes.

pub mod plan;
pub mod spec;
pub mod world;

use std::collections::BTreeSet;

use chassis::provision::{Around, Command, Planned};
use chassis::secret::SecretStore;
use chassis::{Context, Failure};
use lifecycle::Component;
use lifecycle::document::Environment;

pub use spec::{Spec, specs};
pub use world::{Error, KafkaTarget};

/// Each cluster that the documents have topics on: its component, how it is looked at and changed, and what should be there.
pub fn targets(environment: &Environment, secrets: &SecretStore) -> Vec<(Component, KafkaTarget, Spec)> {
    let target =
        |spec: Spec| (spec.cluster.clone(), KafkaTarget::new(&spec, secrets.only(spec.reads())), spec);
    specs(environment).into_iter().map(target).collect()
}

/// The Secrets that are read for these documents, each by name.
pub fn reads(environment: &Environment) -> BTreeSet<Component> {
    specs(environment).iter().flat_map(Spec::reads).collect()
}

/// Make topics.
#[derive(Debug, clap::Parser)]
#[command(name = "topic-provisioner", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Runs the provisioner.
pub async fn run(args: Args, context: Context) -> Result<(), Failure> {
    let context = context.with_reader(kubernetes::reader());
    let secrets = context.clone();
    let targets =
        move |environment: &Environment| Ok(targets(environment, &secrets.secrets_of(environment)?));
    chassis::provision::run(args.command, context.as_keeper(), targets, Around::default()).await
}

/// What would be done on each cluster; `offline` asks none.
pub async fn plan(
    environment: &Environment,
    context: &Context,
    offline: bool,
) -> Result<Vec<Planned>, Failure> {
    let secrets = context.clone().with_reader(kubernetes::reader()).secrets_of(environment)?;
    Ok(chassis::provision::plans(&targets(environment, &secrets), offline).await)
}
