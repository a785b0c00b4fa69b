//! Control groups of a sandbox: one folder in each hierarchy of the machine, named like its run directory, for the pods of
//! its nodes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the kernel lists what is mounted.
const MOUNTS: &str = "/proc/self/mounts";
/// What the kubelet limits pods by, where one hierarchy holds all controllers.
const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];
/// A group cannot be removed before the kernel has buried the last process in it.
const BURIAL: Duration = Duration::from_secs(5);
/// How often that is tried.
const LOOK: Duration = Duration::from_millis(20);

/// A hierarchy of control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hierarchy {
    /// Version 1: some controllers have this hierarchy for themselves.
    Separate(PathBuf),
    /// Version 2: the one of all controllers.
    Unified(PathBuf),
    /// Version 2 beside version 1, without any that limits pods. runc makes groups in it all the same.
    Beside(PathBuf),
}

impl Hierarchy {
    fn folder(&self) -> &Path {
        match self {
            Self::Separate(folder) | Self::Unified(folder) | Self::Beside(folder) => folder,
        }
    }
}

/// Makes the folder `name`, of one level or more, in each hierarchy.
pub(crate) fn make(name: &Path) -> std::io::Result<()> {
    for hierarchy in hierarchies() {
        let mut group = hierarchy.folder().to_owned();
        for part in name {
            let parent = group.clone();
            group.push(part);
            match &hierarchy {
                Hierarchy::Separate(_) => {
                    fs::create_dir_all(&group)?;
                    inherit_cpus(&parent, &group)?;
                }
                Hierarchy::Unified(_) => {
                    delegate(&parent)?;
                    fs::create_dir_all(&group)?;
                }
                Hierarchy::Beside(_) => {}
            }
        }
        if matches!(hierarchy, Hierarchy::Unified(_)) {
            delegate(&group)?;
        }
    }
    Ok(())
}

/// In version 1 a new group of controller cpuset has no processor and no memory node, and nothing can run in it.
fn inherit_cpus(parent: &Path, group: &Path) -> std::io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if group.join(file).exists() {
            fs::write(group.join(file), fs::read(parent.join(file))?)?;
        }
    }
    Ok(())
}

/// In version 2 a group says which controllers the groups below it have.
fn delegate(group: &Path) -> std::io::Result<()> {
    let text: Vec<String> = wanted(group)?.into_iter().map(|name| format!("+{name}")).collect();
    fs::write(group.join("cgroup.subtree_control"), text.join(" "))
}

/// Those controllers of a group that limit pods.
fn wanted(group: &Path) -> std::io::Result<Vec<&'static str>> {
    let available = fs::read_to_string(group.join("cgroup.controllers"))?;
    let has = |name: &&str| available.split_whitespace().any(|had| had == *name);
    Ok(CONTROLLERS.into_iter().filter(has).collect())
}

/// Removes the folder `name` and all below it from each hierarchy; the processes in them have been ended.
pub(crate) async fn remove(name: &OsStr) {
    for hierarchy in hierarchies() {
        let group = hierarchy.folder().join(name);
        let removed = async {
            while group.exists() && empty(&group).is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(BURIAL, removed).await.is_err() {
            tracing::warn!(group = %group.display(), "cannot remove a control group of the sandbox");
        }
    }
}

fn empty(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            empty(&entry.path())?;
        }
    }
    // The files in it are the kernel's and go with it.
    fs::remove_dir(group)
}

fn hierarchies() -> Vec<Hierarchy> {
    let limits_pods = |folder: &Path| wanted(folder).is_ok_and(|wanted| !wanted.is_empty());
    parse(&fs::read_to_string(MOUNTS).unwrap_or_default(), limits_pods)
}

fn parse(mounts: &str, limits_pods: impl Fn(&Path) -> bool) -> Vec<Hierarchy> {
    let hierarchy = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let folder = PathBuf::from(fields.get(1)?);
        match *fields.get(2)? {
            "cgroup" => Some(Hierarchy::Separate(folder)),
            "cgroup2" if limits_pods(&folder) => Some(Hierarchy::Unified(folder)),
            "cgroup2" => Some(Hierarchy::Beside(folder)),
            _ => None,
        }
    };
    mounts.lines().filter_map(hierarchy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_told_apart_by_what_they_hold() {
        let separate = |path: &str| Hierarchy::Separate(path.into());
        for (mounts, controllers, expected) in [
            ("proc /proc proc rw 0 0\n", false, vec![]),
            (
                "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
                true,
                vec![Hierarchy::Unified("/sys/fs/cgroup".into())],
            ),
            (
                "cgroup /c/cpu,cpuacct cgroup rw,cpu 0 0\ncgroup /c/memory cgroup rw 0 0\ncgroup2 /c/unified cgroup2 rw 0 0",
                false,
                vec![
                    separate("/c/cpu,cpuacct"),
                    separate("/c/memory"),
                    Hierarchy::Beside("/c/unified".into()),
                ],
            ),
        ] {
            assert_eq!(parse(mounts, |_| controllers), expected, "{mounts}");
        }
    }
}
