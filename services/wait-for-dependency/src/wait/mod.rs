//! `wait`: until what was named, or what a module needs to start, is ready; then become the command.

mod adhoc;
mod args;
mod board;
mod documents;
mod drive;
pub(crate) mod gate;
mod login;
mod report;
mod target;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use chassis::{Context, Exit, Failure};
use tokio::time::Instant;

pub use args::WaitArgs;
use board::Board;
pub use report::Output;

/// Waits, and becomes the command after it.
pub async fn wait(args: WaitArgs, context: Context) -> Result<(), Failure> {
    // An address here is a forgotten flag; reading it as a file would repeat its password.
    if args.documents.iter().any(|path| path.to_string_lossy().contains("://")) {
        return Err(Failure::usage(
            "an address stands where documents are named; write its flag before it, such as --http or --postgres",
        ));
    }
    match &args.module {
        Some(_) if args.has_targets() => {
            return Err(Failure::usage(
                "--module: its needs stand in documents; it cannot be combined with targets",
            ));
        }
        Some(module) => documents::wait(module, &args, &context).await?,
        None if !args.documents.is_empty() => {
            return Err(Failure::usage("--module: documents are named, but not whose needs are waited for"));
        }
        None => adhoc::wait(&args, &context).await?,
    }
    become_command(&args.command)
}

/// How long, and how often.
#[derive(Debug, Clone, Copy)]
struct Timing {
    timeout: Option<Duration>,
    interval: Option<Duration>,
}

fn timing(args: &WaitArgs, context: &Context) -> Result<Timing, Failure> {
    let timeout = match args.timeout.as_deref() {
        None => context.settings.deadline,
        Some("0") => None,
        Some(text) => Some(duration("--timeout", text)?).filter(|timeout| !timeout.is_zero()),
    };
    let interval = duration("--interval", &args.interval)?;
    if interval < Duration::from_millis(10) {
        return Err(Failure::usage(
            "--interval: give at least 10ms; a dependency that starts has better things to do",
        ));
    }
    Ok(Timing { timeout, interval: Some(interval) })
}

fn duration(flag: &str, text: &str) -> Result<Duration, Failure> {
    humantime::parse_duration(text).map_err(|error| {
        Failure::usage(format!("{flag}: `{text}` is not a duration such as 90s or 5m: {error}"))
    })
}

/// Asked to stop while waiting.
fn stopped(board: &Board) -> Failure {
    Failure::new(Exit::TryAgain, board.verdict("asked to stop", Instant::now()))
}

/// Becomes the command: its process id, its signals and its exit code are those of this process.
fn become_command(command: &[OsString]) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::usage(format!("{}: cannot be started: {error}", program.display())))
}
