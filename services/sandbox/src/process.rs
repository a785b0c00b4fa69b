//! Who a process is: its pid and when it started, read from `/proc`, so that a pid given away again is never mistaken
//! for the process that had it before.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How often the process table is read while processes are ending.
const LOOK: Duration = Duration::from_millis(10);
/// How long a killed process may take to leave the process table.
const KILLED: Duration = Duration::from_secs(2);

/// One process, for as long as it lives and never any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks between the machine's start and the process's.
    pub(crate) start: u64,
}

/// What `/proc/<pid>/stat` says that matters here.
pub(crate) struct Stat {
    pub(crate) identity: Identity,
    pub(crate) parent: i32,
    pub(crate) zombie: bool,
}

impl Identity {
    /// The process that has this pid now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| stat.identity)
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether exactly this process still runs; a zombie does not.
    pub(crate) fn lives(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.identity == self && !stat.zombie)
    }

    /// Signals the process, if it is still the one meant.
    pub(crate) fn signal(self, signal: Signal) {
        if self.lives() {
            // It may end between the look and the signal: that is what was wanted.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Signals the group that the process leads, if it is still the one meant.
    pub(crate) fn signal_group(self, signal: Signal) {
        if self.lives() {
            let _ = killpg(Pid::from_raw(self.pid), signal);
        }
    }
}

fn stat(pid: i32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in the second field may hold blanks and brackets: the fields are counted from its last bracket.
fn parse(line: &str) -> Option<Stat> {
    let pid = line.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        identity: Identity { pid, start: fields.get(19)?.parse().ok()? },
        parent: fields.get(1)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
    })
}

/// Every process of the machine that this one can see.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| stat(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// Those that descend from `roots` and live, without the roots. Postgres's backends leave their server's process group,
/// so a group is not enough to find all of a server.
pub(crate) fn descendants(roots: &[i32]) -> Vec<Identity> {
    let table = all();
    let mut family: BTreeSet<i32> = roots.iter().copied().collect();
    let mut found = BTreeSet::new();
    loop {
        let before = family.len();
        for stat in &table {
            if family.contains(&stat.parent) && family.insert(stat.identity.pid) && !stat.zombie {
                found.insert(stat.identity);
            }
        }
        if family.len() == before {
            return found.into_iter().collect();
        }
    }
}

/// Those whose environment at their start named `value` for `key`; processes of other users stay unseen.
pub(crate) fn marked(key: &str, value: &Path) -> Vec<Identity> {
    let wanted = [key.as_bytes(), b"=", value.as_os_str().as_encoded_bytes()].concat();
    let carries = |identity: &Identity| {
        std::fs::read(format!("/proc/{}/environ", identity.pid))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|variable| variable == wanted))
    };
    all().into_iter().filter(|stat| !stat.zombie).map(|stat| stat.identity).filter(carries).collect()
}

/// Waits until none of these lives; says whether that came true in time.
pub(crate) async fn gone(processes: &[Identity], within: Duration) -> bool {
    tokio::time::timeout(within, async {
        while processes.iter().any(|process| process.lives()) {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
    .is_ok()
}

/// Ends what `living` lists, asked again as it may grow: a grace for those already told to stop, then SIGKILL.
pub(crate) async fn end(living: impl Fn() -> Vec<Identity>, grace: Duration) {
    let empty = async {
        while !living().is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(grace, empty).await.is_ok() {
        return;
    }
    let killed = async {
        loop {
            let rest = living();
            if rest.is_empty() {
                return;
            }
            for process in rest {
                process.signal(Signal::SIGKILL);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(KILLED, killed).await.is_err() {
        tracing::warn!("processes of the sandbox outlive SIGKILL (uninterruptible I/O?)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat =
            parse("42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0").expect("parses");
        assert_eq!(stat.identity, Identity { pid: 42, start: 987_654 });
        assert_eq!(stat.parent, 7);
        assert!(!stat.zombie);
    }

    #[test]
    fn a_pid_with_another_start_is_another_process() {
        let own = Identity::own().expect("this process has a stat");
        assert!(own.lives());
        assert!(!Identity { start: own.start + 1, ..own }.lives());
    }
}
