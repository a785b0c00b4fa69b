//! What can go wrong: each error names what, where, and what to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::protocol::Exit;

/// How much of a log an error shows.
const TAIL_LINES: usize = 15;
/// How much of a log is read for that.
const TAIL_BYTES: u64 = 16 * 1024;

/// Why a sandbox could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action} {subject}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        subject: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Programs are missing and may not be installed by this process.
    #[error(
        "{missing} missing: install with `apt-get install {packages}` (or your system's packages of that name)"
    )]
    MissingTools {
        /// The programs.
        missing: String,
        /// The Debian packages that hold them.
        packages: String,
    },
    /// Nothing is published for this machine or version.
    #[error("there is no {what}; possible: {possible}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// What may be asked for.
        possible: String,
    },
    /// This process may not do what a node takes.
    #[error(
        "a Kubernetes node needs {missing}: run as root with these capabilities, or name the kubeconfig of a cluster that is there already in SANDBOX_KUBECONFIG"
    )]
    Privileges {
        /// What is missing.
        missing: String,
    },
    /// A cluster that was given lacks what a cluster of the sandbox's own has.
    #[error("the cluster that SANDBOX_KUBECONFIG names has not {what}: {remedy}")]
    Given {
        /// What was asked for.
        what: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A node does not see a path of this machine.
    #[error(
        "{path} is not seen by a Kubernetes node, which has a {covered} of its own: choose another place (TMPDIR, or the sandbox's options)"
    )]
    Covered {
        /// The path.
        path: PathBuf,
        /// The folder that it lies in.
        covered: &'static str,
    },
    /// The server's user cannot reach a directory that only others' rights open to it.
    #[error(
        "{directory} cannot be entered by user nobody, who runs PostgreSQL for root: choose another directory or `chmod o+x {directory}`"
    )]
    Unreachable {
        /// The directory in the way.
        directory: PathBuf,
    },
    /// A process could not be started at all.
    #[error("{name} cannot be started: {reason}")]
    Refused {
        /// Which process.
        name: String,
        /// Why.
        reason: String,
    },
    /// A process ended when it should not have, or without success.
    #[error("{name} ended with {exit}; last lines of {log}:\n{tail}")]
    Died {
        /// Which process.
        name: String,
        /// How it ended.
        exit: Exit,
        /// Its log.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// Something did not come true in time.
    #[error("{name} is not {what} after {after:?}; last lines of {log}:\n{tail}")]
    Late {
        /// Which process.
        name: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
        /// Its log.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// The supervisor did not come up.
    #[error("the sandbox's supervisor `{command}` did not start: {reason}")]
    Supervisor {
        /// What was executed.
        command: String,
        /// What went wrong.
        reason: String,
    },
    /// The sandbox has ended, by itself or because its supervisor was killed.
    #[error("the sandbox has ended: start a new one")]
    Ended,
}

impl Error {
    pub(crate) fn io(action: &'static str, subject: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { action, subject: subject.as_ref().display().to_string(), source }
    }

    pub(crate) fn died(name: &str, exit: Exit, log: &Path) -> Self {
        Self::Died { name: name.to_owned(), exit, log: log.to_owned(), tail: tail(log) }
    }

    pub(crate) fn late(name: &str, what: &'static str, after: Duration, log: &Path) -> Self {
        Self::Late { name: name.to_owned(), what, after, log: log.to_owned(), tail: tail(log) }
    }
}

/// The last lines of a log; empty when there is none.
pub(crate) fn tail(log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};

    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
