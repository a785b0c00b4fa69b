//! A disk of a server's own, in memory and of a size: when it is full it really is.
//!
//! It is mounted in a mount namespace that only the server is in, and one process that keeps it while the server is away. With the
//! last of them the kernel takes it away, whoever was killed how.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::protocol::Place;
use crate::{Error, Handle, ProcessSpec, Sandbox};

/// How long mounting may take.
const MOUNT: Duration = Duration::from_mins(1);
/// The file that takes what room there is.
const BALLAST: &str = "ballast";
/// The least that a file in memory takes.
const PAGE: usize = 4096;

pub(crate) struct Disk {
    /// It keeps the namespace.
    holder: Handle,
    folder: PathBuf,
}

impl Disk {
    /// Mounts one in a folder, for this user.
    pub(crate) async fn mount(
        sandbox: &Sandbox,
        folder: PathBuf,
        bytes: u64,
        user: Option<(u32, u32)>,
    ) -> Result<Self, Error> {
        let Some((uid, gid)) = user else {
            return Err(Error::Refused {
                name: "a disk of a server's own".into(),
                reason: "only root may mount one: run as root, or leave its size out".into(),
            });
        };
        std::fs::create_dir(&folder).map_err(|source| Error::io("create", &folder, source))?;
        let log = folder.with_extension("log");
        let holder = ProcessSpec::new("disk", "sleep", &log).args(["infinity"]).place(Place::Mounts);
        let holder = sandbox.spawn(holder.stop_signal(Signal::SIGKILL)).await?;
        let options = format!("size={bytes},mode=0700,uid={uid},gid={gid}");
        let mount = ProcessSpec::new("mount", "mount", log)
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .args([folder.display().to_string()])
            .place(holder.place());
        sandbox.run(mount, MOUNT).await?;
        Ok(Self { holder, folder })
    }

    /// Where it is seen.
    pub(crate) fn place(&self) -> Place {
        self.holder.place()
    }

    /// The folder, for whoever is where it is seen.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path on it, for whoever is not.
    pub(crate) fn seen(&self, path: &Path) -> Result<PathBuf, Error> {
        let pid = self.holder.pid().ok_or(Error::Ended)?;
        Ok(PathBuf::from(format!("/proc/{pid}/root{}", path.display())))
    }

    /// Fills it up, but for so many bytes.
    pub(crate) fn fill(&self, but: usize) -> Result<(), Error> {
        let path = self.seen(&self.folder.join(BALLAST))?;
        let fill = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
            loop {
                match file.write_all(&[0; PAGE]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
            file.set_len(file.metadata()?.len().saturating_sub(but as u64))
        };
        fill().map_err(|source| Error::io("fill", &path, source))
    }

    /// Gives back what [`Disk::fill`] took.
    pub(crate) fn free(&self) -> Result<(), Error> {
        let path = self.seen(&self.folder.join(BALLAST))?;
        std::fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))
    }
}
