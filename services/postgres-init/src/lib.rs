//! postgres-init: databases, roles, grants and extensions as the documents say, on servers that many environments share.
//!
//! What it does not know to be its environment's own it does not touch; a password that logs in it does not rewrite; what
//! a crash left half-made the next run finishes.

pub mod ident;
pub mod plan;
pub mod scram;
pub mod spec;
pub mod world;

use std::collections::BTreeSet;

use chassis::provision::{Around, Command, Planned};
use chassis::secret::SecretStore;
use chassis::{Context, Failure};
use lifecycle::Component;
use lifecycle::document::Environment;
use tracing::warn;

pub use plan::{Change, Step};
pub use spec::{DatabaseSpec, ServerSpec, specs};
pub use world::{Error, PostgresTarget};

/// Each server that these documents let us provision: the server's component, how it is looked at and changed, and what
/// should be on it.
pub fn targets(
    environment: &Environment,
    secrets: &SecretStore,
) -> Vec<(Component, PostgresTarget, ServerSpec)> {
    specs(environment)
        .into_iter()
        .map(|(component, spec)| (component, PostgresTarget::new(secrets.only(spec.reads())), spec))
        .collect()
}

/// The Secrets that are read for these documents, each by name.
pub fn reads(environment: &Environment) -> BTreeSet<Component> {
    specs(environment).values().flat_map(ServerSpec::reads).collect()
}

/// Make databases, roles, grants and extensions.
#[derive(Debug, clap::Parser)]
#[command(name = "postgres-init", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Runs the provisioner.
pub async fn run(args: Args, context: Context) -> Result<(), Failure> {
    let context = context.with_reader(kubernetes::reader());
    let secrets = context.clone();
    let targets = move |environment: &Environment| {
        for (database, server) in spec::left_out(environment) {
            warn!("{database} is left to whoever has the fragment that declares {server} with `admin`");
        }
        Ok(targets(environment, &secrets.secrets_of(environment)?))
    };
    chassis::provision::run(args.command, context, targets, Around::default()).await
}

/// What would be done on each server; `offline` asks none.
pub async fn plan(
    environment: &Environment,
    context: &Context,
    offline: bool,
) -> Result<Vec<Planned>, Failure> {
    let secrets = context.clone().with_reader(kubernetes::reader()).secrets_of(environment)?;
    Ok(chassis::provision::plans(&targets(environment, &secrets), offline).await)
}
