//! `rollcall`: the command line for people, and every service in one binary.

mod client;
pub mod command;
mod in_cluster;
pub mod output;
pub mod rehearse;
mod state;

use std::process::ExitCode;

use chassis::{Context, Failure};
use clap::{Parser, Subcommand};

/// Brings an environment of many modules up in order: every dependency answers before the next one starts.
#[derive(Debug, Parser)]
#[command(name = "rollcall", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(command::init::Init),
    Check(command::check::Check),
    /// Print the JSON Schema of documents.
    Schema,
    Graph(command::graph::GraphArgs),
    Plan(command::plan::Plan),
    Down(command::down::Down),
    Rbac(command::rbac::Rbac),
    Status(command::status::Status),
    Explain(command::explain::Explain),
    Watch(command::watch::Watch),
    Timeline(command::timeline::Timeline),
    Rehearse(rehearse::Rehearse),
    /// Make databases, roles, grants and extensions.
    PostgresInit(postgres_init::Args),
    /// Make topics.
    TopicProvisioner(topic_provisioner::Args),
    /// Generate and copy Secrets.
    SecretSyncer(secret_syncer::Args),
    /// Wait until everything needed answers; or, as the hub, observe and wake.
    WaitForDependency(wait_for_dependency::Args),
    /// Tell the story of a bring-up: metrics and timeline.
    TelemetryExporter(telemetry_exporter::Args),
    /// A module of a rehearsal.
    #[command(hide = true)]
    StandIn(rehearse::StandIn),
    /// The parent of a rehearsal's processes.
    #[command(hide = true)]
    SandboxSupervisor,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let command = match chassis::run::arguments::<Cli>() {
        Ok(arguments) => arguments.command,
        Err(exit) => return exit.into(),
    };
    match command {
        // It must not change anything it passes on to its children, so it has neither settings nor telemetry.
        Command::SandboxSupervisor => sandbox::supervise(),
        command => match service(&command) {
            Some(service) => chassis::run::run_with(service, chassis::run::environment(), async |context| {
                Box::pin(dispatch(command, context)).await
            }),
            None => chassis::run::run_for_people("rollcall", chassis::run::environment(), async |context| {
                Box::pin(dispatch(command, context)).await
            }),
        },
    }
}

/// The service a command is; none for the commands for people.
fn service(command: &Command) -> Option<&'static str> {
    match command {
        Command::PostgresInit(_) => Some("postgres-init"),
        Command::TopicProvisioner(_) => Some("topic-provisioner"),
        Command::SecretSyncer(_) => Some("secret-syncer"),
        Command::WaitForDependency(_) => Some("wait-for-dependency"),
        Command::TelemetryExporter(_) => Some("telemetry-exporter"),
        Command::StandIn(_) => Some("stand-in"),
        _ => None,
    }
}

async fn dispatch(command: Command, context: Context) -> Result<(), Failure> {
    match command {
        Command::Init(args) => command::init::run(&args),
        Command::Check(args) => command::check::run(&args),
        Command::Schema => command::schema::run(),
        Command::Graph(args) => command::graph::run(&args),
        Command::Plan(args) => command::plan::run(&args, &context).await,
        Command::Down(args) => Box::pin(command::down::run(&args, &context)).await,
        Command::Rbac(args) => command::rbac::run(&args),
        Command::Status(args) => command::status::run(&args).await,
        Command::Explain(args) => command::explain::run(&args).await,
        Command::Watch(args) => command::watch::run(&args, &context).await,
        Command::Timeline(args) => command::timeline::run(&args).await,
        Command::Rehearse(args) => rehearse::run(args, context).await,
        Command::PostgresInit(args) => postgres_init::run(args, context).await,
        Command::TopicProvisioner(args) => topic_provisioner::run(args, context).await,
        Command::SecretSyncer(args) => Box::pin(secret_syncer::run(args, context)).await,
        Command::WaitForDependency(args) => wait_for_dependency::run(args, context).await,
        Command::TelemetryExporter(args) => telemetry_exporter::run(args, context).await,
        Command::StandIn(args) => rehearse::stand_in(args, context).await,
        Command::SandboxSupervisor => Err(Failure::internal("the supervisor has no context")),
    }
}
