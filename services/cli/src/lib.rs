//! `rollcall`: the command line for people, and every service in one binary.

mod client;
pub mod command;
mod in_cluster;
pub mod output;
pub mod rehearse;
mod state;

use std::ffi::OsString;
use std::path::Path;
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

/// Under these names this program is that service, as `postgres-init install` leaves it behind and as images link it.
const SERVICES: [&str; 5] =
    ["postgres-init", "topic-provisioner", "secret-syncer", "wait-for-dependency", "telemetry-exporter"];

/// The arguments of this process, of which the first says how it was called.
fn arguments(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut given: Vec<OsString> = given.into_iter().collect();
    let called = given.first().and_then(|path| Path::new(path).file_name()).map(ToOwned::to_owned);
    if let Some(service) = called.filter(|called| SERVICES.iter().any(|service| called == service)) {
        given.splice(..1, ["rollcall".into(), service]);
    }
    given
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let command = match chassis::run::arguments::<Cli>(arguments(std::env::args_os())) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn called(given: &[&str]) -> String {
        let arguments = arguments(given.iter().map(OsString::from));
        let command = Cli::try_parse_from(arguments).map(|cli| cli.command);
        command.map_or_else(|error| error.kind().to_string(), |command| format!("{:?}", service(&command)))
    }

    #[test]
    fn under_the_name_of_a_service_it_is_that_service() {
        for service in SERVICES {
            let there = format!("/run/bin/{service}");
            assert_eq!(called(&[&there, "serve", "a.yaml"]), format!("Some({service:?})"));
        }
        assert_eq!(called(&["/bin/rollcall", "check", "a.yaml"]), "None");
        assert_eq!(called(&["another-name", "check", "a.yaml"]), "None");
    }
}
