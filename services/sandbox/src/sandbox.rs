//! The sandbox itself: a directory, a supervisor, and the processes it runs.

use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::link::{Event, Link};
use crate::record::{self, GRACE, PREFIX, Record};
use crate::{Error, Handle, ProcessSpec, cache};

/// What a stopping sandbox may take beyond its servers' grace: a cluster with a hundred processes on a busy machine.
const STOP: Duration = Duration::from_mins(1);

/// How to execute the supervisor.
#[derive(Debug, Clone)]
pub struct Supervisor {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
}

impl Supervisor {
    /// A program that calls [`crate::supervise`] when it gets these arguments.
    pub fn command<A: Into<String>>(program: impl Into<PathBuf>, args: impl IntoIterator<Item = A>) -> Self {
        Self { program: program.into(), args: args.into_iter().map(Into::into).collect() }
    }

    /// This very test program, for crates without a program of their own: `test` is the name of an ignored test that calls
    /// [`crate::supervise`]. The harness writes to standard output too, so only the supervisor's own lines are let through.
    pub fn of_this_test(test: &str) -> Self {
        let run = r#""$0" -q --ignored --exact "$1" --nocapture | grep -E --line-buffered '^[{"]'"#;
        // A program that cannot be found cannot be started either, which says so.
        let program = std::env::current_exe().unwrap_or_default().display().to_string();
        Supervisor::command("sh", ["-c", run, &program, test])
    }
}

impl fmt::Display for Supervisor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.program.display(), self.args.join(" "))
    }
}

/// Told what takes long: downloads and installations.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// How a sandbox is made.
#[derive(Clone)]
pub struct Options {
    /// How to execute the supervisor.
    pub supervisor: Supervisor,
    /// Where data and logs go, and stay after the end; without it a temporary directory that is removed.
    pub keep_dir: Option<PathBuf>,
    /// Where downloads are kept; without it `/var/cache/rollcall` for root, else the user's cache directory.
    pub cache_dir: Option<PathBuf>,
    /// Told what takes long, besides the log.
    pub progress: Option<Progress>,
}

impl Options {
    /// Everything temporary, downloads in the usual place.
    pub fn new(supervisor: Supervisor) -> Self {
        Self { supervisor, keep_dir: None, cache_dir: None, progress: None }
    }
}

/// Real servers and any other processes on this machine, all of which end with this value or with the process that
/// holds it, even by `kill -9`.
pub struct Sandbox {
    dir: PathBuf,
    run: PathBuf,
    cache: PathBuf,
    link: Arc<Link>,
    names: AtomicU64,
    progress: Option<Progress>,
}

impl Sandbox {
    /// Sweeps what dead sandboxes left, then starts a supervisor with an empty directory.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let temporary = std::env::temp_dir();
        record::sweep(&temporary).await;
        let fail = |source| Error::io("create a directory in", &temporary, source);
        let run = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&temporary).map_err(fail)?;
        // Servers of another user must pass through, but not look around.
        passable(run.path())?;
        Record::owned()
            .and_then(|record| record.save(run.path()))
            .map_err(|source| Error::io("write the record in", run.path(), source))?;
        let dir = match options.keep_dir {
            None => run.path().to_owned(),
            Some(keep) => {
                fs::create_dir_all(&keep).map_err(|source| Error::io("create", &keep, source))?;
                std::path::absolute(&keep).map_err(|source| Error::io("find", &keep, source))?
            }
        };
        let link = Link::open(&options.supervisor, run.path()).await?;
        // From here on the supervisor removes it.
        let run = run.keep();
        let cache = options.cache_dir.unwrap_or_else(cache::default_dir);
        Ok(Self { dir, run, cache, link, names: AtomicU64::new(1), progress: options.progress })
    }

    /// Where its servers keep data and logs; a good place for what else lives only as long as the sandbox.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts a process; returns once it was executed.
    pub async fn spawn(&self, spec: ProcessSpec) -> Result<Handle, Error> {
        Handle::start_new(Arc::clone(&self.link), spec).await
    }

    /// Runs a process to its end, which must be a success and come in time; killed otherwise.
    pub async fn run(&self, spec: ProcessSpec, within: Duration) -> Result<(), Error> {
        self.spawn(spec).await?.succeeded(within).await
    }

    /// Starts and ends of all its processes from now on; who lags far behind loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.link.events()
    }

    /// Ends all processes and removes the directory; returns when that is done. Dropping does the same in the background.
    pub async fn stop(self) -> Result<(), Error> {
        self.link.close();
        if self.link.ended(GRACE + STOP).await {
            return Ok(());
        }
        Err(Error::late("the supervisor", "ended", GRACE + STOP, &self.run.join("supervisor.log")))
    }

    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    pub(crate) fn cache_dir(&self) -> &Path {
        &self.cache
    }

    /// The control group of what it runs, from the root of each hierarchy; removed with the run directory.
    pub(crate) fn group(&self) -> PathBuf {
        self.run.file_name().map(PathBuf::from).unwrap_or_default()
    }

    pub(crate) fn say(&self, what: &str) {
        tracing::info!("{what}");
        if let Some(progress) = &self.progress {
            progress(what);
        }
    }

    /// A new empty folder whose name begins as asked.
    pub(crate) fn new_dir(&self, kind: &str) -> Result<PathBuf, Error> {
        loop {
            let path = self.dir.join(format!("{kind}-{}", self.names.fetch_add(1, Ordering::Relaxed)));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                // A kept directory may hold those of an earlier sandbox.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create", path, error)),
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.link.close();
    }
}

fn passable(dir: &Path) -> Result<(), Error> {
    fs::set_permissions(dir, Permissions::from_mode(0o711))
        .map_err(|source| Error::io("set the rights of", dir, source))
}
