//! What happens to a wait by the passing of time alone, and how a wait ends in vain.

use std::time::Duration;

use chassis::{Exit, Failure};
use lifecycle::Phase;
use tokio::time::Instant;

use super::{FAREWELL, Waiter};
use crate::wait::board::short;

/// How long a waiter that is to fail fast lets other fragments come that may declare what it needs.
const GRACE: Duration = Duration::from_mins(1);

impl Waiter {
    /// When something happens by the passing of time alone. To a waiter that only reports, nothing: its first looks end
    /// it, and each is bounded.
    pub(super) fn next_alarm(&self, timeout: Option<Duration>) -> Option<Instant> {
        if self.gated.reports_only {
            return None;
        }
        let overdue =
            self.board.unmet().filter(|(i, _)| !self.overdue[*i]).filter_map(|(_, entry)| entry.within);
        let nobody = self.board.unmet().filter(|_| self.fail_fast).filter_map(|(i, _)| self.nobody[i]);
        let grace = if self.hub.is_some() { GRACE } else { Duration::ZERO };
        let limits = overdue.chain(timeout).map(|limit| self.begun + limit);
        limits.chain(nobody.map(|since| since + grace)).min()
    }

    /// Time has passed: for one need, for all, or for somebody who would make what nobody makes.
    pub(super) async fn alarm(&mut self, timeout: Option<Duration>) -> Result<(), Failure> {
        let now = Instant::now();
        if timeout.is_some_and(|timeout| now >= self.begun + timeout) {
            let why = format!("the deadline of {} passed", short(timeout.unwrap_or_default()));
            return self.fail(Exit::Deadline, why).await;
        }
        let late: Vec<(usize, String)> = self
            .board
            .unmet()
            .filter(|(i, entry)| {
                !self.overdue[*i] && entry.within.is_some_and(|within| now >= self.begun + within)
            })
            .map(|(i, entry)| {
                (
                    i,
                    format!(
                        "{} was to be ready within {}",
                        entry.label,
                        short(entry.within.unwrap_or_default())
                    ),
                )
            })
            .collect();
        for (index, why) in late {
            self.overdue[index] = true;
            if self.fail_fast {
                return self.fail(Exit::Deadline, why).await;
            }
            tracing::error!("{why}; still waiting: {}", self.board.entry(index).line(now));
            self.announce(Phase::Waiting);
        }
        let grace = if self.hub.is_some() { GRACE } else { Duration::ZERO };
        let alone =
            self.board.unmet().find(|(i, _)| self.nobody[*i].is_some_and(|since| now >= since + grace));
        match alone.map(|(_, entry)| entry.last.as_ref().map_or_else(String::new, |last| last.error.clone()))
        {
            Some(why) if self.fail_fast => self.fail(Exit::Deadlock, why).await,
            _ => Ok(()),
        }
    }

    /// Ends the wait in vain: with each unmet need, and with the hub's explanation down to the root where it gives one.
    /// A waiter that only reports goes on, whatever it finds.
    pub(super) async fn fail(&self, exit: Exit, why: String) -> Result<(), Failure> {
        let now = Instant::now();
        if self.gated.reports_only {
            tracing::warn!("mode is report; would end: {why}");
            return Ok(());
        }
        self.reporter.ended(&self.board, if exit == Exit::Deadline { "timeout" } else { "failed" }, now);
        let mut message = self.board.verdict(&why, now);
        if let Some(hub) = self.hub.as_ref().filter(|_| self.ever_live)
            && let Ok(Ok(explained)) = tokio::time::timeout(FAREWELL, hub.explain(&self.gated.module)).await
        {
            message.push_str("\nthe hub explains: ");
            message.push_str(&explained.text);
        }
        Err(Failure::new(exit, message))
    }
}
