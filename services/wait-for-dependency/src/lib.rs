//! Waiting for dependencies: the ad-hoc waiter, the waiter from documents, and the hub that observes for all of them.

pub mod definition;
pub mod hub;
pub mod probe;
pub mod reads;
pub mod wait;

use chassis::{Context, Failure};

/// What this service is called.
pub const SERVICE: &str = "wait-for-dependency";

/// Waits for dependencies, or serves those who wait.
#[derive(Debug, clap::Parser)]
#[command(name = SERVICE, version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Wait(Box<wait::WaitArgs>),
    /// The hub: observes an environment and wakes those who wait, until it is asked to stop
    Serve(hub::ServeArgs),
}

/// Runs the command.
pub async fn run(args: Args, context: Context) -> Result<(), Failure> {
    let context = context.with_reader(kubernetes::reader());
    match args.command {
        Command::Wait(args) => wait::wait(*args, context).await,
        Command::Serve(args) => hub::serve(args, context).await,
    }
}
