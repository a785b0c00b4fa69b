//! postgres-init: databases, roles, grants and extensions as the documents say, on servers that many environments share.
//!
//! What it does not know to be its environment's own it does not touch; a password that logs in it does not rewrite; what
//! a crash left half-made the next run finishes.

pub mod adopt;
pub mod audit;
pub mod command;
mod delegation;
pub mod ident;
pub mod migrate;
mod needs;
pub mod plan;
pub mod scram;
pub mod spec;
pub mod step;
pub mod target;
pub mod variables;
pub mod world;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use chassis::grpc::Callers;
use chassis::provision::{Around, Command as Provision, Planned, Target};
use chassis::secret::SecretStore;
use chassis::settings::SAID_BY_DOCUMENTS;
use chassis::{Context, Failure, SecretValue};
use lifecycle::Component;
use lifecycle::document::Environment;
use tracing::{info, warn};

pub use command::delegations::delegations;
pub use command::teardown::{How, orphans_are_there, teardown};
pub use command::{Adoption, Command, Migrate};
pub use migrate::{MigrationSpec, MigrationTarget};
pub use plan::{Change, Step};
pub use spec::{DatabaseSpec, ServerSpec, Unmarked, specs};
pub use variables::{Owner, Said, Variables};
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

/// Everything that these documents let us make: servers with their databases, and migrations.
fn everything(
    environment: &Environment,
    mounted: &Environment,
    secrets: &SecretStore,
    context: &Context,
) -> Vec<Target<target::Maker>> {
    let delegated = delegation::delegated(environment, mounted);
    let servers = specs(environment).into_iter().map(|(component, spec)| {
        let spec = ServerSpec { delegated: delegated.clone(), ..spec };
        let target = PostgresTarget::new(secrets.only(spec.reads()));
        (component, target::Maker::Server(target.of(context.source())), target::Spec::Server(Box::new(spec)))
    });
    let migrations = migrate::specs(environment).0.into_iter();
    servers.chain(migrations.map(|spec| migration_target(spec, secrets, context))).collect()
}

fn migration_target(spec: MigrationSpec, secrets: &SecretStore, context: &Context) -> Target<target::Maker> {
    let target = MigrationTarget::new(secrets.only(spec.reads()), context.source());
    (spec.component.clone(), target::Maker::Migration(target), target::Spec::Migration(Box::new(spec)))
}

/// The Secrets and ConfigMaps that are read for these documents, each by name.
pub fn reads(environment: &Environment) -> BTreeSet<Component> {
    let servers = specs(environment).into_values().flat_map(|spec| spec.reads());
    servers.chain(migrate::specs(environment).0.iter().flat_map(MigrationSpec::reads)).collect()
}

/// Make databases, roles, grants and extensions.
///
/// Without a command and without documents it obeys the environment variables of OpenG2P's image `openg2p/postgres-init`.
#[derive(Debug, clap::Parser)]
#[command(name = "postgres-init", version)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

/// Runs the provisioner.
pub async fn run(args: Args, context: Context) -> Result<(), Failure> {
    let Some(command) = args.command else {
        return match Variables::of(std::env::vars_os()) {
            Some(variables) => as_variables_say(&variables, &context).await,
            None => Err(Failure::usage(format!(
                "no command: apply, plan or serve with documents (see --help); or, without any, the variables {}",
                variables::REQUIRED.join(", ")
            ))),
        };
    };
    let settings = &context.settings;
    if settings.environment_name.is_some()
        || settings.environment_uid.is_some()
        || settings.fragment.is_some()
    {
        return Err(Failure::usage(format!(
            "documents say whose databases they are, so {} are only for whoever starts this without a command; take them away",
            SAID_BY_DOCUMENTS.join(", ")
        )));
    }
    let context = context.with_reader(kubernetes::reader());
    let command = match command {
        Command::Provision(command) => command,
        Command::Adoption(command) => return command::adopt(command, &context).await,
        Command::Migrate(args) => return command::migrate(args, &context).await,
        Command::Step(args) => return Box::pin(step::run(args, &context)).await,
        Command::Teardown(args) => return Box::pin(command::teardown::run(&args, &context)).await,
        Command::Delegations(args) => return command::delegations::run(&args, &context).await,
        Command::Install { folder } => return command::install(&folder),
    };
    let callers = kubernetes::callers_of(&command).await;
    Box::pin(provision(command, context, callers)).await
}

/// What every provisioner does, for callers that are known like this while it serves. What the documents of `apply` cannot make by
/// themselves is asked for, where the settings name somebody to ask.
///
/// # Errors
/// What is refused or will never work is exit code 65, what others have yet to make 69, a deadline that passed 124.
pub async fn provision(
    command: Provision,
    mut context: Context,
    callers: Option<Callers>,
) -> Result<(), Failure> {
    let mut asks = false;
    if let (Provision::Apply { documents }, Some(address)) =
        (&command, context.settings.postgres_init.clone())
    {
        asks = true;
        let (environment, _) = chassis::documents::load_partial(documents)?;
        let begun = tokio::time::Instant::now();
        delegation::within(&context, delegation::provision(&environment, &address, &context)).await?;
        let left = |deadline: std::time::Duration| deadline.saturating_sub(begun.elapsed());
        context.settings.deadline = context.settings.deadline.map(left);
    }
    // The documents that are mounted, as they were when this began, and how their Secrets are read.
    let mounted: Arc<OnceLock<(Environment, SecretStore)>> = Arc::default();
    let (known, within) = (Arc::clone(&mounted), context.clone());
    let targets = move |environment: &Environment| {
        if known.get().is_none() {
            // Of what joins later no Secret is read.
            let _ = known.set((environment.clone(), within.secrets_of(environment)?));
        }
        let Some((mounted, secrets)) = known.get() else { return Ok(Vec::new()) };
        for (component, server) in spec::left_out(environment).into_iter().filter(|_| !asks) {
            warn!("{component} is left to whoever has the fragment that declares {server} with `admin`");
        }
        let told = if asks { delegation::without_made(environment) } else { environment.clone() };
        for (migration, why) in migrate::specs(&told).1 {
            warn!("{migration} cannot be run from here: {why}");
        }
        Ok(everything(&told, mounted, secrets, &within))
    };
    let beside = delegation::beside(&context, callers.clone(), mounted);
    let around = Around { callers, beside: Some(beside), ..Around::default() };
    chassis::provision::run(command, context, targets, around).await
}

async fn as_variables_say(variables: &Variables, context: &Context) -> Result<(), Failure> {
    let settings = &context.settings;
    if !settings.documents.is_empty() {
        return Err(Failure::usage(format!(
            "both documents (ROLLCALL_DOCUMENTS) and variables such as {} say what is to be made; give one of them",
            variables::REQUIRED[0]
        )));
    }
    let mount = Path::new(variables::MOUNT);
    let said = Said {
        uid: settings.environment_uid,
        name: settings.environment_name.as_deref(),
        fragment: settings.fragment.as_deref(),
    };
    let owner = Owner::of(said, mount);
    apply_variables(variables, &owner.map_err(Failure::usage)?, context).await
}

/// Makes once, for this owner, what the variables ask for. What exists already and carries nobody's mark is reported on.
///
/// # Errors
/// Variables that are missing or of no use are exit code 2; otherwise as `apply` with documents.
pub async fn apply_variables(variables: &Variables, owner: &Owner, context: &Context) -> Result<(), Failure> {
    let asked = variables.asked(owner).map_err(Failure::usage)?;
    let held = match &asked.authority {
        None => asked.held,
        Some(path) => {
            let unreadable =
                |error| Failure::usage(format!("{}: {}: {error}", variables::TLS_CA, path.display()));
            asked.held.with(variables::TLS_CA, SecretValue::new(std::fs::read(path).map_err(unreadable)?))
        }
    };
    let Owner { environment, fragment, .. } = owner;
    info!(environment = %environment.name, uid = %environment.uid, %fragment, "{}", variables);
    if asked.prefers_tls {
        warn!(
            "the connection is encrypted only where the server offers it, and whoever stands between can say that it does not: set \
             {}=require, or better verify-full",
            variables::TLS_MODE
        );
    }
    let store = SecretStore::Reader(Arc::new(held));
    let targets = targets(&asked.environment, &store).into_iter().map(|(component, target, spec)| {
        // Others of its kind make the other databases of the same fragment.
        let given = spec::Given::default();
        let spec = ServerSpec { unmarked: Unmarked::Reported, prefers_tls: asked.prefers_tls, given, ..spec };
        (component, target, spec)
    });
    chassis::provision::apply(&asked.environment, context, targets.collect(), Around::default()).await
}

/// What would be done on each server; `offline` asks none.
pub async fn plan(
    environment: &Environment,
    context: &Context,
    offline: bool,
) -> Result<Vec<Planned>, Failure> {
    let context = context.clone().with_reader(kubernetes::reader());
    let secrets = context.secrets_of(environment)?;
    Ok(chassis::provision::plans(&everything(environment, environment, &secrets, &context), offline).await)
}
