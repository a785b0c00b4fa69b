//! How a process ends: the exit codes of design §5, everywhere the same, and one message that says why.

use std::fmt;
use std::process::ExitCode;

/// Exit codes of one-shots. The numbers are a contract: Jobs and scripts decide by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or released.
    Done = 0,
    /// A fault of Rollcall itself.
    Internal = 1,
    /// Wrong usage or an invalid document.
    Usage = 2,
    /// It will never work: permission, refused by ownership, a wrong password where the thing is known to be ready.
    NeverWorks = 65,
    /// A dependency failed.
    DependencyFailed = 69,
    /// A cycle, or a wait for something that nobody makes.
    Deadlock = 70,
    /// It may work when tried again.
    TryAgain = 75,
    /// The deadline passed.
    Deadline = 124,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a process ends without being done: the code, and one message that names what, where and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What, where, what to do.
    pub message: String,
    /// The exit code of a command that was run for somebody and failed: the process ends with it instead.
    pub command: Option<u8>,
}

impl Failure {
    /// A failure with this code and message.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Failure { exit, message: message.to_string(), command: None }
    }

    /// Wrong usage or an invalid document.
    pub fn usage(message: impl fmt::Display) -> Self {
        Failure::new(Exit::Usage, message)
    }

    /// A command that was run for somebody failed with this exit code.
    pub fn of_command(code: u8, message: impl fmt::Display) -> Self {
        Failure { command: Some(code), ..Failure::new(Exit::DependencyFailed, message) }
    }

    /// The code that the process ends with.
    pub fn code(&self) -> ExitCode {
        self.command.map_or_else(|| self.exit.into(), ExitCode::from)
    }

    /// A fault of Rollcall itself, or of the machine.
    pub fn internal(message: impl fmt::Display) -> Self {
        Failure::new(Exit::Internal, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An error with its causes, `: ` between them: what a log line or a failure message says.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat their source in their own message.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
