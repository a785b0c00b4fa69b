//! What owner and supervisor say to each other: one JSON document a line, requests on the supervisor's standard input,
//! notices on its standard output. The end of the input means that the owner is gone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// Names the run directory to the supervisor, and marks each process of a sandbox as its own.
pub(crate) const RUN_VARIABLE: &str = "SANDBOX_RUN_DIRECTORY";

/// Whether the supervisor starts a process again that ended without being told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Restart {
    /// It stays ended.
    #[default]
    Never,
    /// It is started again after this pause, however it ended.
    Always {
        /// Between the end and the next start.
        backoff: Duration,
    },
}

/// Which namespaces of the kernel a process is in: network, mounts and process ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Place {
    /// The supervisor's own.
    #[default]
    Here,
    /// New ones, whose first process it is: when it ends, the kernel ends all others in them.
    New,
    /// The supervisor's own, but for mounts.
    Mounts,
    /// Those of another process of the sandbox, which has this id and must be running.
    Of {
        /// The id under which the other process was started.
        id: u64,
    },
}

/// A process that the supervisor shall run.
#[derive(Clone, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// What people call it; part of errors and events.
    pub name: String,
    /// What is executed: a path, or a name looked up in `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment, but for a few variables passed on (`PATH`, `HOME`, `LANG`, `LC_ALL`, `TZ`, `TMPDIR`,
    /// `USER`, `JAVA_HOME`).
    pub env: BTreeMap<String, String>,
    /// Where it runs; without it, in the sandbox's directory.
    pub dir: Option<PathBuf>,
    /// Its output and errors are appended here.
    pub log_file: PathBuf,
    /// What happens when it ends by itself.
    pub restart: Restart,
    pub(crate) user: Option<(u32, u32)>,
    pub(crate) stop_signal: i32,
    pub(crate) place: Place,
}

impl ProcessSpec {
    /// A process without arguments or environment that is not started again.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log_file: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            dir: None,
            log_file: log_file.into(),
            restart: Restart::Never,
            user: None,
            stop_signal: Signal::SIGTERM as i32,
            place: Place::Here,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Sets what happens when it ends by itself.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    pub(crate) fn user(mut self, user: Option<(u32, u32)>) -> Self {
        self.user = user;
        self
    }

    pub(crate) fn place(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    pub(crate) fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = signal as i32;
        self
    }
}

/// Variables carry passwords: only their names are shown.
impl fmt::Debug for ProcessSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ProcessSpec")
            .field("name", &self.name)
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &self.env.keys())
            .field("log_file", &self.log_file)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

/// How a process ended: by itself with a code, or by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The number of the signal that ended it.
    pub signal: Option<i32>,
}

impl Exit {
    /// Whether it ended by itself with code 0.
    pub fn success(self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal.map(Signal::try_from)) {
            (Some(code), _) => write!(out, "exit code {code}"),
            (None, Some(Ok(signal))) => write!(out, "{signal}"),
            _ => write!(out, "an unknown end"),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    /// Starts a process; a known id is started again, as it now is described.
    Start { id: u64, spec: Box<ProcessSpec> },
    /// Signals a process that still has this pid.
    Signal { id: u64, pid: i32, signal: i32 },
    /// SIGKILL for the process and all that descends from it.
    Kill { id: u64, pid: i32 },
    /// Ends a process and does not start it again; answered by `Exited` or, when it did not run, by `Halted`.
    Halt { id: u64 },
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Notice {
    Ready,
    Started { id: u64, pid: i32, at: SystemTime },
    Refused { id: u64, error: String },
    Exited { id: u64, pid: i32, exit: Exit, at: SystemTime, again: bool },
    Halted { id: u64 },
}
