//! Components that are only reported on: why, and in which words.

use std::fmt;

use lifecycle::Component;

use super::Reconcile;

/// Why a component is only reported on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reported {
    /// Its fragment is in mode `report`.
    Mode,
    /// What stands is left, in these words.
    Left(&'static str),
}

impl Reported {
    pub(super) fn of<R: Reconcile>(
        spec: &R::Spec,
        world: &R::World,
        component: &Component,
    ) -> Option<Reported> {
        if R::reports_only(spec, component) {
            return Some(Reported::Mode);
        }
        R::leaves(spec, world, component).map(Reported::Left)
    }

    /// What is said of steps that are not made.
    pub(super) fn steps<S: fmt::Display>(self, steps: &[S]) -> String {
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        let steps = steps.join(", ");
        match self {
            Reported::Mode => format!("mode is report; would {steps}"),
            Reported::Left(words) => format!("{words}; would otherwise {steps}"),
        }
    }

    /// What is said of refusals that nobody fails by.
    pub(super) fn refusals(self, texts: &[&String]) -> String {
        let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
        let texts = texts.join("; ");
        match self {
            Reported::Mode => format!("mode is report; would be refused: {texts}"),
            Reported::Left(words) => format!("{words}: {texts}"),
        }
    }
}
