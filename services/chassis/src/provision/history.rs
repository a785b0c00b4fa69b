//! What a provisioner has done, for as long as it lives.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::{Component, Moment};

/// So many changes are kept; the oldest goes first.
const KEPT: usize = 1_000;

/// One change that was made, or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When it was done.
    pub time: Moment,
    /// What was changed.
    pub component: Component,
    /// What was done, in words.
    pub step: String,
    /// Why it failed; none when it was made.
    pub error: Option<String>,
    /// The error's code in the peer's terms; empty when there is none.
    pub code: String,
    /// Who did it: `<service>/<instance>`.
    pub source: String,
}

/// The last changes. Clones keep the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct History(Arc<Mutex<VecDeque<Change>>>);

impl History {
    pub(super) fn add(&self, change: Change) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(change);
    }

    /// The latest first.
    pub(super) fn latest(&self) -> Vec<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let history = History::default();
        let change = |step: usize| Change {
            time: Moment(0),
            component: "database/registry".parse().unwrap(),
            step: step.to_string(),
            error: None,
            code: String::new(),
            source: "postgres-init/a".to_owned(),
        };
        (0..=KEPT).for_each(|step| history.add(change(step)));
        let latest = history.latest();
        assert_eq!((latest.len(), &*latest[0].step, &*latest[KEPT - 1].step), (KEPT, "1000", "1"));
    }
}
