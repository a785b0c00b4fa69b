//! One process of the sandbox, as its owner sees and steers it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::watch;

use crate::Error;
use crate::link::{Link, State};
use crate::protocol::{Exit, Place, ProcessSpec, Request};

/// How long the supervisor may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A process that the supervisor runs for this owner. Dropping the handle leaves the process running.
pub struct Handle {
    id: u64,
    spec: ProcessSpec,
    link: Arc<Link>,
    state: watch::Receiver<State>,
}

impl Handle {
    pub(crate) async fn start_new(link: Arc<Link>, spec: ProcessSpec) -> Result<Self, Error> {
        let (id, state) = link.register(&spec.name);
        let handle = Self { id, spec, link, state };
        handle.start().await?;
        Ok(handle)
    }

    /// The namespaces that it is in.
    pub(crate) fn place(&self) -> Place {
        Place::Of { id: self.id }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The file its output goes to.
    pub fn log(&self) -> &Path {
        &self.spec.log_file
    }

    /// Its pid while it runs; another one after each start.
    pub fn pid(&self) -> Option<i32> {
        self.state.borrow().pid
    }

    /// How often it was started.
    pub fn starts(&self) -> u64 {
        self.state.borrow().starts
    }

    /// Starts it again after it ended, as it was first described.
    pub async fn start(&self) -> Result<(), Error> {
        let before = self.starts();
        self.link.forget_refusal(self.id);
        self.link.send(&Request::Start { id: self.id, spec: Box::new(self.spec.clone()) })?;
        let state = self
            .reach("started", ANSWER, |state| state.lost || state.refused.is_some() || state.starts > before)
            .await?;
        match state {
            State { refused: Some(reason), .. } => {
                Err(Error::Refused { name: self.name().to_owned(), reason })
            }
            State { lost: true, .. } => Err(Error::Ended),
            _ => Ok(()),
        }
    }

    /// Sends it a signal; nothing happens when it does not run.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        match self.pid() {
            Some(pid) => self.link.send(&Request::Signal { id: self.id, pid, signal: signal as i32 }),
            None => Ok(()),
        }
    }

    /// `kill -9` for it and all that descends from it, and waits until they are gone. What is to be restarted always is
    /// restarted.
    pub async fn kill(&self) -> Result<(), Error> {
        let Some(pid) = self.pid() else { return Ok(()) };
        self.link.send(&Request::Kill { id: self.id, pid })?;
        self.reach("gone", ANSWER, |state| state.pid != Some(pid)).await.map(drop)
    }

    /// Ends it for good: asks in its own way, kills it after `grace`, returns when it is gone.
    pub async fn stop(&self, grace: Duration) -> Result<(), Error> {
        self.link.send(&Request::Halt { id: self.id })?;
        match self.reach("stopped", grace, |state| state.lost || (state.pid.is_none() && !state.again)).await
        {
            Err(Error::Late { .. }) => self.kill().await,
            other => other.map(drop),
        }
    }

    /// Waits until it has ended and will not be started again.
    pub async fn exited(&self, within: Duration) -> Result<Exit, Error> {
        let over = |state: &State| state.lost || (state.starts > 0 && state.pid.is_none() && !state.again);
        let state = self.reach("ended", within, over).await?;
        state.exit.filter(|_| !state.lost).ok_or(Error::Ended)
    }

    /// Waits for its end, which must be a success and come in time; killed otherwise.
    pub(crate) async fn succeeded(&self, within: Duration) -> Result<(), Error> {
        match self.exited(within).await {
            Ok(exit) if exit.success() => Ok(()),
            Ok(exit) => Err(Error::died(self.name(), exit, self.log())),
            Err(error) => {
                let _ = self.kill().await;
                Err(error)
            }
        }
    }

    /// Waits until `check` holds. Fails at once, with the end of the log, when the process ends before that.
    pub(crate) async fn until(
        &self,
        what: &'static str,
        within: Duration,
        check: impl AsyncFn() -> bool,
    ) -> Result<(), Error> {
        let holds = async {
            loop {
                let state = self.state.borrow().clone();
                if state.lost {
                    return Err(Error::Ended);
                }
                if let (None, false, Some(exit)) = (state.pid, state.again, state.exit) {
                    return Err(Error::died(self.name(), exit, self.log()));
                }
                if state.pid.is_some() && check().await {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(within, holds).await {
            Ok(result) => result,
            Err(_) => Err(Error::late(self.name(), what, within, self.log())),
        }
    }

    async fn reach(
        &self,
        what: &'static str,
        within: Duration,
        wanted: impl FnMut(&State) -> bool,
    ) -> Result<State, Error> {
        let mut state = self.state.clone();
        match tokio::time::timeout(within, state.wait_for(wanted)).await {
            Ok(Ok(state)) => Ok(state.clone()),
            Ok(Err(_)) => Err(Error::Ended),
            Err(_) => Err(Error::late(self.name(), what, within, self.log())),
        }
    }
}
