//! The files of a node: what its daemons keep at fixed places is in the node's folder, and what they would change for the
//! whole machine they change in a copy.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::Error;
use crate::namespaces::{self, Namespaces};

/// Where the node has folders of its own; nothing that it needs of this machine may be below.
pub(super) const COVERED: [&str; 3] = ["/run", "/var/lib", "/var/log"];
/// The kernel's settings that a kubelet writes, under `/proc/sys`.
const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Refuses a folder that the node would not see.
pub(super) fn visible(folder: &Path) -> Result<(), Error> {
    let real = folder.canonicalize().map_err(|source| Error::io("find", folder, source))?;
    match COVERED.into_iter().find(|covered| real.starts_with(covered)) {
        Some(covered) => Err(Error::Covered { path: folder.to_owned(), covered }),
        None => Ok(()),
    }
}

/// Mounts them in the namespaces of process `first`, where `/proc` shows the node's processes already.
pub(super) fn furnish(first: i32, dir: &Path) -> Result<(), Error> {
    namespaces::run(Namespaces::Of(first), || {
        for name in ["lib", "log"] {
            let own = dir.join(name);
            fs::create_dir(&own)?;
            bind(&own, &Path::new("/var").join(name))?;
        }
        mount(
            Some("tmpfs"),
            "/run",
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=755"),
        )?;
        // Where containerd keeps the network namespaces of pods.
        fs::create_dir("/run/netns")?;
        for setting in SETTINGS {
            let real = Path::new("/proc/sys").join(setting);
            let copy = dir.join(setting.replace('/', "."));
            fs::write(&copy, fs::read(&real)?)?;
            bind(&copy, &real)?;
        }
        // What the kubelet mounts for a pod must appear in the pod.
        Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)?)
    })
    .map_err(|source| Error::io("mount the files of the node in", dir, source))
}

fn bind(from: &Path, to: &Path) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_the_node_covers_are_refused() {
        let error = visible(Path::new("/var/lib")).expect_err("it is covered").to_string();
        assert!(error.contains("/var/lib"), "{error}");
        visible(Path::new("/var")).expect("it is not");
    }
}
