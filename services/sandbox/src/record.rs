//! What a sandbox leaves on disk about itself, and the sweep that ends what outlived both its owner and its supervisor.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::cgroups;
use crate::process::{self, Identity};
use crate::protocol::RUN_VARIABLE;

/// How long servers may take to stop before they are killed.
pub(crate) const GRACE: Duration = Duration::from_secs(3);
/// How the name of each run directory begins.
pub(crate) const PREFIX: &str = "rollcall-sandbox-";

const FILE: &str = "record.json";
/// A directory without a record that is older than this belongs to a start that was cut off.
const UNRECORDED: Duration = Duration::from_mins(1);

/// Who works in a run directory.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Pids mean something only in one boot of one machine, and in one pid namespace of it.
    boot: String,
    namespace: PathBuf,
    pub(crate) owner: Identity,
    pub(crate) supervisor: Option<Identity>,
    pub(crate) children: Vec<Child>,
}

/// A process of the sandbox and how it likes to be stopped.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Child {
    pub(crate) identity: Identity,
    pub(crate) stop_signal: i32,
}

impl Child {
    pub(crate) fn stop(self) {
        self.identity.signal_group(Signal::try_from(self.stop_signal).unwrap_or(Signal::SIGTERM));
    }
}

impl Record {
    /// A record of this process's ownership.
    pub(crate) fn owned() -> std::io::Result<Self> {
        let owner = Identity::own().ok_or_else(|| std::io::Error::other("/proc/self/stat cannot be read"))?;
        Ok(Self { boot: boot()?, namespace: namespace()?, owner, supervisor: None, children: Vec::new() })
    }

    pub(crate) fn load(run: &Path) -> std::io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(run.join(FILE))?)?)
    }

    /// Replaces the record at once: a reader sees the old or the new one.
    pub(crate) fn save(&self, run: &Path) -> std::io::Result<()> {
        let new = run.join(".record.new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(new, run.join(FILE))
    }
}

fn boot() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn namespace() -> std::io::Result<PathBuf> {
    std::fs::read_link("/proc/self/ns/pid")
}

/// Ends and removes what sandboxes left in `directory` whose owner and supervisor are both dead. Only directories of
/// this user count: anybody may put a record into a shared temporary directory.
pub(crate) async fn sweep(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
            && entry
                .metadata()
                .is_ok_and(|meta| meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw());
        if ours && abandoned(&entry.path()) {
            tracing::info!(directory = %entry.path().display(), "sweeping what an earlier sandbox left");
            clear(&entry.path()).await;
        }
    }
}

fn abandoned(run: &Path) -> bool {
    let Ok(record) = Record::load(run) else {
        let age = std::fs::metadata(run).and_then(|meta| meta.modified()).map(|time| time.elapsed());
        return matches!(age, Ok(Ok(age)) if age > UNRECORDED);
    };
    match (boot(), namespace()) {
        (Ok(boot), _) if boot != record.boot => true,
        (Ok(_), Ok(namespace)) if namespace == record.namespace => {
            !record.owner.lives() && !record.supervisor.is_some_and(Identity::lives)
        }
        // Another container's pids say nothing here.
        _ => false,
    }
}

/// Ends every process that verifiably belongs to the run directory and removes it: those recorded with pid and start
/// time, those whose environment names the directory, and all that descends from them.
pub(crate) async fn clear(run: &Path) {
    let record = Record::load(run).ok().filter(|record| boot().is_ok_and(|boot| boot == record.boot));
    let children = record.map(|record| record.children).unwrap_or_default();
    let own = Identity::own();
    let living = || {
        let mut found = process::marked(RUN_VARIABLE, run);
        found.extend(children.iter().map(|child| child.identity).filter(|identity| identity.lives()));
        let roots: Vec<i32> = found.iter().map(|identity| identity.pid).collect();
        found.extend(process::descendants(&roots));
        found.retain(|identity| Some(*identity) != own);
        found
    };
    // Listed before anything stops: what loses its parent can no longer be found as a descendant.
    let family = living();
    for child in &children {
        child.stop();
    }
    for identity in &family {
        if !children.iter().any(|child| child.identity == *identity)
            && !is_descendant_of(*identity, &children)
        {
            identity.signal(Signal::SIGTERM);
        }
    }
    let rest = || {
        let mut all = living();
        all.extend(family.iter().copied().filter(|identity| identity.lives()));
        all
    };
    process::end(rest, GRACE).await;
    remove(run).await;
}

/// A server stops its own children in its own way; telling them too would disturb that.
fn is_descendant_of(identity: Identity, children: &[Child]) -> bool {
    let roots: Vec<i32> = children.iter().map(|child| child.identity.pid).collect();
    process::descendants(&roots).contains(&identity)
}

/// Removes a run directory, which may already be gone, and the control groups of its name.
pub(crate) async fn remove(run: &Path) {
    if let Some(name) = run.file_name() {
        cgroups::remove(name).await;
    }
    match std::fs::remove_dir_all(run) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(directory = %run.display(), %error, "cannot remove the sandbox's directory");
        }
        _ => {}
    }
}
