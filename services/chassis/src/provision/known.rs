//! What is known to exist, from the news of others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::{Component, Event, Phase};

/// The components that somebody has said to be ready, in this bring-up or an earlier one. Clones know the same. News can be
/// lost or forged, so this is a reason to be careful and never one to go on.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<Mutex<BTreeSet<Component>>>);

impl Known {
    /// Whether a component has been ready once and was not removed since.
    pub fn exists(&self, component: &Component) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(component)
    }

    pub(super) fn hear(&self, event: &Event) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event.phase {
            Phase::Ready | Phase::Degraded => drop(known.insert(event.component.clone())),
            Phase::Removed => drop(known.remove(&event.component)),
            Phase::Waiting | Phase::Working | Phase::Failed => {}
        }
    }
}
