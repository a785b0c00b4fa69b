//! Namespaces of the kernel (network, mounts, process ids): made or entered by a thread, and left with it.
//!
//! What a thread starts while it is in them stays in them, and is a child of this process all the same: no program in
//! between has to pass on signals and exit codes.

use std::fs::File;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// Where a piece of work is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Namespaces {
    /// Where this process is.
    Own,
    /// In new ones. The first process that is started there is process 1 of them.
    New,
    /// Where this process is, but for what is mounted from then on.
    Mounts,
    /// In those of the process with this pid.
    Of(i32),
}

/// Does a piece of work there: on a thread of its own, unless that is here.
pub(crate) fn run<T: Send>(
    at: Namespaces,
    work: impl FnOnce() -> std::io::Result<T> + Send,
) -> std::io::Result<T> {
    let enter: &(dyn Fn() -> std::io::Result<()> + Sync) = match at {
        Namespaces::Own => return work(),
        Namespaces::New => &|| make(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID),
        Namespaces::Mounts => &|| make(CloneFlags::empty()),
        Namespaces::Of(pid) => &move || join(pid),
    };
    let panicked = || std::io::Error::other("the thread in other namespaces panicked");
    std::thread::scope(|scope| scope.spawn(|| enter().and_then(|()| work())).join())
        .unwrap_or_else(|_| Err(panicked()))
}

fn make(besides: CloneFlags) -> std::io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | besides)?;
    // What is mounted in there shall not appear on the machine.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    Ok(mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?)
}

fn join(pid: i32) -> std::io::Result<()> {
    let open = |name: &str| File::open(format!("/proc/{pid}/ns/{name}"));
    let (network, mounts, processes) = (open("net")?, open("mnt")?, open("pid")?);
    // A thread that shares its root and current folder with others may not go where there are other mounts.
    unshare(CloneFlags::CLONE_FS)?;
    setns(network, CloneFlags::CLONE_NEWNET)?;
    setns(processes, CloneFlags::CLONE_NEWPID)?;
    Ok(setns(mounts, CloneFlags::CLONE_NEWNS)?)
}
