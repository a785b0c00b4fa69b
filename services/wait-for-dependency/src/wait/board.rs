//! What is waited for, in which state and since when: the one place that lines, JSON, announcements and the last message
//! come from. Pure: callers bring the time.

use std::time::Duration;

use lifecycle::Evidence;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::probe::{NotYet, State};

/// How one thing that is waited for stands.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// What it is called: the component, or the target as it was written.
    pub(super) label: String,
    /// What the last look said; none before the first.
    pub(super) last: Option<NotYet>,
    /// Since when it is in this state, and when it was first looked at.
    since: Instant,
    /// How often it was looked at.
    pub(super) looks: u32,
    met: bool,
    /// How long it may take.
    pub(super) within: Option<Duration>,
}

/// Everything that is waited for.
#[derive(Debug)]
pub(super) struct Board {
    begun: Instant,
    entries: Vec<Entry>,
}

impl Board {
    /// A board on which nothing is met.
    pub(super) fn new(labels: impl IntoIterator<Item = (String, Option<Duration>)>, now: Instant) -> Self {
        let entry = |(label, within)| Entry { label, last: None, since: now, looks: 0, met: false, within };
        Board { begun: now, entries: labels.into_iter().map(entry).collect() }
    }

    /// A look said "not yet". Returns whether that is news: another state, another code.
    pub(super) fn not_yet(&mut self, index: usize, seen: NotYet, now: Instant) -> bool {
        let entry = &mut self.entries[index];
        entry.looks += 1;
        let same =
            entry.last.as_ref().is_some_and(|last| (last.state, &last.code) == (seen.state, &seen.code));
        if !same {
            entry.since = now;
        }
        entry.last = Some(seen);
        !same
    }

    /// It is met. Returns whether that is news.
    pub(super) fn met(&mut self, index: usize) -> bool {
        let entry = &mut self.entries[index];
        entry.looks += 1;
        !std::mem::replace(&mut entry.met, true)
    }

    /// Whether everything is met. An empty board is not: nothing to wait for proves nothing.
    pub(super) fn is_open(&self) -> bool {
        !self.entries.is_empty() && self.entries.iter().all(|entry| entry.met)
    }

    /// One entry.
    pub(super) fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    /// What is not met, with its index.
    pub(super) fn unmet(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate().filter(|(_, entry)| !entry.met)
    }

    /// How long the whole wait has lasted.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        now - self.begun
    }

    /// The last message, when it ends without being open: each unmet thing, its state, its error and what to do.
    pub(super) fn verdict(&self, why: &str, now: Instant) -> String {
        let unmet: Vec<String> = self.unmet().map(|(_, entry)| format!("  {}", entry.line(now))).collect();
        format!("{why}; {} of {} not ready:\n{}", unmet.len(), self.entries.len(), unmet.join("\n"))
    }

    /// The same for machines.
    pub(super) fn result(&self, result: &str, now: Instant) -> Value {
        let unmet: Vec<Value> = self.unmet().map(|(_, entry)| entry.json(now)).collect();
        json!({"result": result, "waited_ms": millis(self.waited(now)), "unmet": unmet})
    }
}

impl Entry {
    /// What is known, in a line: name, state, since when, error, advice.
    pub(super) fn line(&self, now: Instant) -> String {
        let Some(last) = &self.last else {
            return format!("{}: the first look has not ended yet", self.label);
        };
        let code = if last.code.is_empty() { String::new() } else { format!(" ({})", last.code) };
        let looks = if self.looks == 1 { "1 look".to_owned() } else { format!("{} looks", self.looks) };
        let (state, since, error) = (last.state, short(now - self.since), &last.error);
        let advice = match state.advice() {
            "" => String::new(),
            advice => format!("; {advice}"),
        };
        format!("{}: {state} for {since}, {looks}: {error}{code}{advice}", self.label)
    }

    /// The same for machines.
    pub(super) fn json(&self, now: Instant) -> Value {
        let state = match (&self.last, self.met) {
            (_, true) => "ready",
            (Some(last), _) => last.state.as_str(),
            (None, _) => State::Unknown.as_str(),
        };
        let (error, code) =
            self.last.as_ref().filter(|_| !self.met).map_or(("", ""), |l| (&l.error, &l.code));
        json!({
            "target": self.label,
            "state": state,
            "for_ms": millis(now - self.since),
            "looks": self.looks,
            "error": error,
            "code": code,
        })
    }

    /// What the last look saw.
    pub(super) fn evidence(&self) -> Evidence {
        self.last.as_ref().map(NotYet::evidence).unwrap_or_default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration for people: no finer than it matters.
pub(super) fn short(duration: Duration) -> String {
    let rounded = if duration < Duration::from_secs(10) {
        Duration::from_millis(millis(duration) / 100 * 100)
    } else {
        Duration::from_secs(duration.as_secs())
    };
    humantime::format_duration(rounded).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(now: Instant) -> Board {
        Board::new([("tcp db:1".to_owned(), None), ("http://x/".to_owned(), None)], now)
    }

    #[tokio::test(start_paused = true)]
    async fn only_another_state_or_code_is_news() {
        let now = Instant::now();
        let mut board = board(now);
        let refused = || NotYet::new(State::Refused, "no");
        assert!(board.not_yet(0, refused(), now));
        assert!(!board.not_yet(0, refused(), now));
        assert!(board.not_yet(0, refused().code("X"), now));
        assert!(board.not_yet(0, NotYet::new(State::TimedOut, "late"), now));
        assert!(board.met(0));
        assert!(!board.met(0));
        assert!(!board.is_open());
        board.met(1);
        assert!(board.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_board_is_never_open() {
        assert!(!Board::new([], Instant::now()).is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_message_names_target_state_cause_and_what_to_do() {
        let now = Instant::now();
        let mut board = board(now);
        board.not_yet(0, NotYet::new(State::Refused, "Connection refused").code("ECONN"), now);
        let later = now + Duration::from_secs(75);
        let text = board.verdict("the deadline of 1m 15s passed", later);
        assert_eq!(
            text,
            "the deadline of 1m 15s passed; 2 of 2 not ready:\n  tcp db:1: refused for 1m 15s, 1 look: Connection refused (ECONN); \
             check that it is started and that host and port are right\n  http://x/: the first look has not ended yet"
        );
    }
}
