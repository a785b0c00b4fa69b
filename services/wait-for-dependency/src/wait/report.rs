//! What a waiter says while it waits: log lines for people, or JSON lines on standard output for machines.

use std::io::Write;
use std::time::Duration;

use lifecycle::Evidence;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::board::{Board, Entry, short};
use super::drive::Cause;

/// How often it is said again what is still waited for.
pub(super) const EVERY: Duration = Duration::from_secs(30);

/// How a waiter speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Log lines on standard error.
    Text,
    /// One JSON object a line on standard output.
    Json,
}

/// Says what happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reporter {
    output: Output,
    quiet: bool,
}

impl Reporter {
    /// A reporter; a quiet one says only how it ended.
    pub(super) fn new(output: Output, quiet: bool) -> Self {
        Reporter { output, quiet }
    }

    /// Something is not ready, in another way than before.
    pub(super) fn changed(self, entry: &Entry, now: Instant) {
        match (&entry.last, self.output) {
            _ if self.quiet => {}
            (_, Output::Json) => print(&entry.json(now)),
            (Some(last), Output::Text) => {
                let code = if last.code.is_empty() { String::new() } else { format!(" ({})", last.code) };
                tracing::info!(state = %last.state, "{}: {}{code}", entry.label, last.error);
            }
            (None, Output::Text) => {}
        }
    }

    /// Something is ready. Says what woke the look that saw it.
    pub(super) fn released(self, entry: &Entry, evidence: &Evidence, cause: &Cause, now: Instant) {
        let woken = woken(cause);
        match self.output {
            _ if self.quiet => {}
            Output::Json => {
                let mut line = entry.json(now);
                line["level"] = json!(evidence.level);
                line["released_by"] = json!(woken);
                print(&line);
            }
            Output::Text => tracing::info!(level = evidence.level, "released: {}, {woken}", entry.label),
        }
    }

    /// What is still waited for, in which state and since when.
    pub(super) fn still(self, board: &Board, now: Instant) {
        for (_, entry) in board.unmet() {
            match self.output {
                _ if self.quiet => {}
                Output::Json => print(&entry.json(now)),
                Output::Text => tracing::info!("still waiting: {}", entry.line(now)),
            }
        }
    }

    /// Everything is ready.
    pub(super) fn done(self, board: &Board, now: Instant) {
        match self.output {
            Output::Json => print(&board.result("released", now)),
            _ if self.quiet => {}
            Output::Text => tracing::info!("all ready after {}", short(board.waited(now))),
        }
    }

    /// It ends without everything being ready.
    pub(super) fn ended(self, board: &Board, result: &str, now: Instant) {
        if self.output == Output::Json {
            print(&board.result(result, now));
        }
    }
}

/// What brought the look that released.
pub(super) fn woken(cause: &Cause) -> String {
    match cause {
        Cause::First => "at the first look".to_owned(),
        Cause::Polling => "by its own polling".to_owned(),
        Cause::Woken(state) => {
            let phase = state.phase.map_or("no phase", lifecycle::Phase::as_str);
            match state.event_id {
                Some(id) => format!("woken by event {id} ({phase}, from {})", state.source),
                None if state.phase == Some(lifecycle::Phase::Ready) => {
                    format!("woken by the hub's own look ({phase})")
                }
                None => format!("woken by news from the hub ({phase})"),
            }
        }
    }
}

fn print(line: &Value) {
    // Whoever closed the pipe does not want to know.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
