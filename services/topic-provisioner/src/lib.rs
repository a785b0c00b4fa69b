//! topic-provisioner: makes the topics that documents declare, on clusters that many environments share.
//!
//! A topic that no record says is this environment's is not touched; what a crash left half-made the next run finishes.

pub mod plan;
pub mod spec;
mod teardown;
pub mod world;

use std::collections::BTreeSet;

use chassis::provision::{Around, Command, Planned};
use chassis::secret::SecretStore;
use chassis::teardown::Confirmation;
use chassis::{Context, Failure};
use lifecycle::Component;
use lifecycle::document::Environment;

pub use spec::{Spec, specs};
pub use teardown::teardown;
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
    command: Asked,
}

/// What topic-provisioner is asked to do.
#[derive(Debug, clap::Subcommand)]
enum Asked {
    /// What every provisioner does.
    #[command(flatten)]
    Provision(Command),
    /// Delete the topics of these documents, where both they (`on_delete: delete`) and this command say so; without --yes only say
    /// what would be deleted, what stays, and what keeps it.
    Teardown(Confirmation),
}

/// Runs the provisioner.
pub async fn run(args: Args, context: Context) -> Result<(), Failure> {
    let context = context.with_reader(kubernetes::reader());
    let command = match args.command {
        Asked::Provision(command) => command,
        Asked::Teardown(confirmation) => return teardown::run(&confirmation, &context).await,
    };
    let secrets = context.clone();
    let targets =
        move |environment: &Environment| Ok(targets(environment, &secrets.secrets_of(environment)?));
    let around = Around { callers: kubernetes::callers_of(&command).await, ..Around::default() };
    chassis::provision::run(command, context.as_keeper(), targets, around).await
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
