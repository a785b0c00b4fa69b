//! Showing a rehearsal: a line for each change, and on a terminal a line below that is always current.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use lifecycle::{Component, Phase};
use tokio::time::Instant;

use super::follow::Board;
use crate::output::{Output, phase as shown};

/// Writes progress to standard error, so that standard output holds the result alone.
pub(super) struct Show {
    begun: Instant,
    live: bool,
    quiet: bool,
}

impl Show {
    /// Begins the clock. JSON output has no progress.
    pub(super) fn begin(output: Output) -> Show {
        let live = std::io::stderr().is_terminal();
        Show { begun: Instant::now(), live, quiet: output == Output::Json }
    }

    /// How long it runs.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Says something.
    pub(super) fn say(&self, text: &str) {
        self.write(&format!("{:>8.2}s  {text}", self.elapsed().as_secs_f64()));
    }

    /// Shows that a component reached a phase. Why is of interest for what is not ready only.
    pub(super) fn change(&self, component: &Component, phase: Phase, reason: &str, board: &Board) {
        self.say(&format!(
            "{} {component}{}",
            shown(phase),
            if reason.is_empty() || phase == Phase::Ready { String::new() } else { format!("  {reason}") }
        ));
        self.status(board);
    }

    /// Refreshes the line below.
    pub(super) fn status(&self, board: &Board) {
        if self.live && !self.quiet {
            let (ready, all) = board.count();
            let missing = board.missing();
            let next = missing
                .first()
                .map(|m| format!(", waiting for {m}{}", if missing.len() > 1 { " and others" } else { "" }));
            Self::raw(&format!("\r\x1b[2K{ready}/{all} ready{}", next.unwrap_or_default()));
        }
    }

    /// Clears the line below.
    pub(super) fn end(&self) {
        if self.live && !self.quiet {
            Self::raw("\r\x1b[2K");
        }
    }

    fn write(&self, line: &str) {
        if !self.quiet {
            let clear = if self.live { "\r\x1b[2K" } else { "" };
            Self::raw(&format!("{clear}{line}\n"));
        }
    }

    /// Progress that cannot be written is no reason to stop.
    fn raw(text: &str) {
        let mut stderr = anstream::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}
