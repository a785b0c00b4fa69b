//! The processes of a command: a group of their own, so that whoever stops the command stops all of them, and none goes on unseen.

use std::time::Duration;

use chassis::backoff::Backoff;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::process::Child;

/// How long processes have for their end once the one that began them has ended, and to be gone once they are killed.
const LEFT: Duration = Duration::from_secs(3);
const KILLED: Duration = Duration::from_secs(1);

/// A group. What is left of it when this is dropped is killed.
#[derive(Debug)]
pub(super) struct Group(Option<Pid>);

impl Group {
    /// The group of a child that was begun as the first of one.
    pub(super) fn led_by(child: &Child) -> Group {
        Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    /// Passes a signal on: one that stops to all of them, and one that has its own meaning to the first, which knows it.
    pub(super) fn pass(&self, signal: Signal) {
        let Some(leader) = self.0 else { return };
        // Those that have just ended need no signal.
        let _ = if stops(signal) { killpg(leader, signal) } else { kill(leader, signal) };
    }

    /// Whether any of them is there.
    pub(super) fn is_there(&self) -> bool {
        let Some(leader) = self.0 else { return false };
        // As the first process of a container we are the parent of whatever is left, and nobody else buries it.
        let any = Pid::from_raw(-leader.as_raw());
        while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
            waitpid(any, Some(WaitPidFlag::WNOHANG))
        {}
        killpg(leader, None) != Err(Errno::ESRCH)
    }

    /// Asks what is left for its end, waits for it, and kills what does not come to it.
    pub(super) async fn end(self) {
        self.pass(Signal::SIGTERM);
        if tokio::time::timeout(LEFT, self.gone()).await.is_err() {
            self.kill();
            let _ = tokio::time::timeout(KILLED, self.gone()).await;
        }
        // Its number may be another's by now.
        self.leave();
    }

    async fn gone(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(200));
        while self.is_there() {
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Leaves what is left to itself.
    pub(super) fn leave(mut self) {
        self.0 = None;
    }

    /// Kills all of them.
    pub(super) fn kill(&self) {
        if let Some(leader) = self.0 {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a signal asks for the end of whoever gets it.
pub(super) fn stops(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT)
}
