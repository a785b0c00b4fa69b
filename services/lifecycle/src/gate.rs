//! The gate of a module: its start needs. It opens when each one's probe has passed.

use std::collections::BTreeMap;

use crate::{Component, Need};

/// The start needs of a module that are not met yet. A need that was met stays met: an init container that went on
/// cannot be called back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    unmet: BTreeMap<Component, Need>,
}

impl Gate {
    /// A gate with these needs, all unmet. Runtime needs do not count.
    pub fn new(needs: impl IntoIterator<Item = Need>) -> Self {
        let start = needs.into_iter().filter(|need| need.when == crate::When::Start);
        Gate { unmet: start.map(|need| (need.component.clone(), need)).collect() }
    }

    /// The component's probe passed. Says whether that was news.
    pub fn pass(&mut self, component: &Component) -> bool {
        self.unmet.remove(component).is_some()
    }

    /// The needs whose probe has not passed yet.
    pub fn unmet(&self) -> impl Iterator<Item = &Need> {
        self.unmet.values()
    }

    /// Whether every need was met.
    pub fn is_open(&self) -> bool {
        self.unmet.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::When;

    #[test]
    fn it_opens_with_the_last_start_need_and_stays_open() {
        let (database, audit): (Component, Component) =
            ("database/x".parse().unwrap(), "module/audit".parse().unwrap());
        let runtime = Need { when: When::Runtime, ..Need::start(audit.clone()) };
        let mut gate = Gate::new([Need::start(database.clone()), runtime]);
        assert!(!gate.is_open());
        assert!(!gate.pass(&audit), "a runtime need is not waited for");
        assert!(gate.pass(&database));
        assert!(!gate.pass(&database));
        assert!(gate.is_open());
    }
}
