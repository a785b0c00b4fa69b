//! What a node takes of the machine it gives back, however it ends.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{ALONE, READY, eventually, start};

/// What the machine has that a node could leave behind; what others do with it meanwhile does not count.
#[derive(Debug)]
struct Machine {
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
    groups: BTreeSet<String>,
    settings: Vec<String>,
}

/// What the names of such things contain.
const OURS: [&str; 5] = ["rollcall", "kube", "containerd", "cni", "netns"];

impl Machine {
    fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let within = |folder: &str| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
        };
        let hierarchies = within("/sys/fs/cgroup");
        let groups = hierarchies.iter().flat_map(|folder| within(folder)).chain(hierarchies.iter().cloned());
        let settings =
            ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"];
        Self {
            links: ours(within("/sys/class/net")),
            mounts: ours(read("/proc/self/mounts").lines().map(str::to_owned)),
            groups: ours(groups.filter(|path| Path::new(path).is_dir())),
            settings: settings.map(|name| read(&format!("/proc/sys/{name}"))).to_vec(),
        }
    }

    /// What is there now that was not, and which settings are not what they were. What was there may have gone: the kernel
    /// takes away a moment later what a test before had given back.
    fn more(&self) -> Vec<String> {
        let now = Self::look();
        let parts = [(&now.links, &self.links), (&now.mounts, &self.mounts), (&now.groups, &self.groups)];
        let things = parts.iter().flat_map(|(now, before)| now.difference(before)).cloned();
        let changed = now.settings.iter().zip(&self.settings).filter(|(now, before)| now != before);
        things.chain(changed.map(|(now, before)| format!("{now} was {before}"))).collect()
    }

    /// Waits until nothing is there that was not.
    async fn is_back(&self) {
        let mut more = Vec::new();
        let wait = async {
            loop {
                more = self.more();
                if more.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(READY, wait).await;
        assert!(waited.is_ok(), "the machine is not as it was: {more:?}");
    }
}

fn ours(names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    names.into_iter().filter(|name| OURS.iter().any(|part| name.contains(part))).collect()
}

/// Those whose environment names the sandbox as theirs, and those who see its files: containers and what runs them.
fn inhabitants(dir: &Path) -> usize {
    let mark = format!("SANDBOX_RUN_DIRECTORY={}", dir.display());
    let lives_there = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
            || mounts.contains(&*dir.file_name().unwrap_or_default().to_string_lossy())
    };
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(lives_there).count()
}

/// An owner of a node in a process of its own, ended at the latest with this value.
pub(crate) struct Owner {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    dir: PathBuf,
}

impl Owner {
    /// Returns when its sandbox has begun, without waiting for the node.
    pub(crate) fn start(temporary: &Path, variables: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sandbox-owner"))
            .args([env!("CARGO_BIN_EXE_sandbox-supervisor"), "node"])
            .env("TMPDIR", temporary)
            .env_remove("SANDBOX_KUBECONFIG")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the owner starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let dir = lines.next().expect("it says where").expect("a line").into();
        Self { process, lines, dir }
    }

    /// Waits until its node is ready; gives this machine's address for it.
    pub(crate) fn ready(&mut self) -> Ipv4Addr {
        self.lines.next().expect("its node comes up").expect("a line").parse().expect("an address")
    }

    fn pid(&self) -> i32 {
        self.process.id().try_into().expect("a pid")
    }

    /// Waits until nothing of it is left.
    async fn is_gone(&self, before: &Machine) {
        eventually("every process is gone", || inhabitants(&self.dir) == 0).await;
        eventually("the directory is gone", || !self.dir.exists()).await;
        before.is_back().await;
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end();
    }
}

#[tokio::test]
#[ignore = "needs root and takes a whole cluster: cargo test -p sandbox --test node -- --ignored"]
async fn two_nodes_live_side_by_side_and_leave_the_machine_as_it_was() {
    let _alone = ALONE.lock().await;
    let before = Machine::look();
    let sandbox = start().await;
    let dir = sandbox.dir().to_owned();
    let (one, other) = tokio::join!(sandbox.node(), sandbox.node());
    let (one, other) = (one.expect("made"), other.expect("made"));
    let (ready, too) = tokio::join!(one.ready(READY), other.ready(READY));
    ready.and(too).expect("ready");
    assert_ne!(one.network().expect("its own"), other.network().expect("its own"));
    let host = one.host().expect("an address");
    assert!(TcpListener::bind((host, 0)).is_ok(), "the link is there");
    assert_ne!(before.more(), [""; 0], "what is looked at shows a node");
    sandbox.stop().await.expect("ends");
    assert!(!dir.exists());
    eventually("every process is gone", || inhabitants(&dir) == 0).await;
    before.is_back().await;
}

#[tokio::test]
#[ignore = "needs root and takes a whole cluster: cargo test -p sandbox --test node -- --ignored"]
async fn nothing_outlives_an_owner_that_is_killed() {
    let _alone = ALONE.lock().await;
    let before = Machine::look();
    let temporary = tempfile::tempdir().expect("a directory");
    let mut owner = Owner::start(temporary.path(), &[]);
    let host = owner.ready();
    assert!(inhabitants(&owner.dir) > 8);
    assert!(TcpListener::bind((host, 0)).is_ok(), "the link is there");
    owner.end();
    owner.is_gone(&before).await;
}

#[tokio::test]
#[ignore = "needs root and takes a whole cluster: cargo test -p sandbox --test node -- --ignored"]
async fn nothing_outlives_an_owner_that_is_killed_while_its_node_starts() {
    let _alone = ALONE.lock().await;
    let before = Machine::look();
    let temporary = tempfile::tempdir().expect("a directory");
    for file in ["first.log", "ca.crt", "containerd.log", "kubelet.log"] {
        let mut owner = Owner::start(temporary.path(), &[]);
        let begun = owner.dir.join("node-1").join(file);
        eventually("it has come so far", || begun.exists()).await;
        owner.end();
        owner.is_gone(&before).await;
    }
}

#[tokio::test]
#[ignore = "needs root and takes a whole cluster: cargo test -p sandbox --test node -- --ignored"]
async fn the_next_start_sweeps_a_node_whose_owner_and_supervisor_were_killed() {
    let _alone = ALONE.lock().await;
    let before = Machine::look();
    let temporary = tempfile::tempdir().expect("a directory");
    let mut owner = Owner::start(temporary.path(), &[]);
    owner.ready();
    let record = std::fs::read(owner.dir.join("record.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    let supervisor = record["supervisor"]["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a pid");
    // Stopped first, so that it cannot notice the supervisor's end and tidy up itself.
    kill(Pid::from_raw(owner.pid()), Signal::SIGSTOP).expect("it lives");
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).expect("it lives");
    owner.end();
    assert!(inhabitants(&owner.dir) > 5, "the node is an orphan now");
    let mut next = Owner::start(temporary.path(), &[]);
    assert!(!owner.dir.exists());
    assert_eq!(inhabitants(&owner.dir), 0);
    next.end();
    before.is_back().await;
    let empty = || std::fs::read_dir(temporary.path()).is_ok_and(|mut left| left.next().is_none());
    eventually("the next is gone too", empty).await;
}
