//! Waiting for dependencies: the ad-hoc waiter, the waiter from documents, and the hub that observes for all of them.

pub mod definition;
pub mod probe;
pub mod wait;

use chassis::{Context, Failure};

/// Waits for dependencies, or serves those who wait.
#[derive(Debug, clap::Parser)]
#[command(name = "wait-for-dependency", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Wait(Box<wait::WaitArgs>),
}

/// Runs the command.
pub async fn run(args: Args, context: Context) -> Result<(), Failure> {
    match args.command {
        Command::Wait(args) => wait::wait(*args, context).await,
    }
}
