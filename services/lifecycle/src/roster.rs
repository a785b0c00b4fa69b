//! The roster: the last known phase of each component, folded from lifecycle events.

use std::collections::BTreeMap;

use crate::{Component, Event};

/// The fold of lifecycle events. For each component it keeps the event with the greatest
/// (generation, since), and among equals the one with the greatest offset, so neither the order
/// nor the repetition of what is heard matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    heard: BTreeMap<Component, (u64, Event)>,
}

impl Roster {
    /// An empty roster.
    pub fn new() -> Self {
        Roster::default()
    }

    /// Hears an event that stands at `offset` of the lifecycle topic. Says whether it changed what is known.
    pub fn hear(&mut self, offset: u64, event: Event) -> bool {
        let rank = |offset: u64, event: &Event| (event.generation, event.since, offset);
        match self.heard.get(&event.component) {
            Some((known_offset, known)) if rank(*known_offset, known) >= rank(offset, &event) => false,
            _ => {
                self.heard.insert(event.component.clone(), (offset, event));
                true
            }
        }
    }

    /// The last known event of a component.
    pub fn get(&self, component: &Component) -> Option<&Event> {
        self.heard.get(component).map(|(_, event)| event)
    }

    /// The last known event of each component, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.heard.values().map(|(_, event)| event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{Evidence, Kind, Moment, Phase};

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let one = (0..3u8, 0..6usize, 0..4u64, 0..4u64).prop_map(|(name, phase, generation, since)| Event {
            environment: Uuid::nil(),
            component: Component::new(Kind::Module, format!("m{name}")),
            phase: Phase::ALL[phase],
            since: Moment(since),
            generation,
            evidence: Evidence::default(),
            reason: String::new(),
            attempts: 0,
            source: String::new(),
            time: Moment(since),
        });
        prop::collection::vec(one, 0..20)
            .prop_map(|events| events.into_iter().enumerate().map(|(i, e)| (i as u64, e)).collect())
    }

    fn fold(heard: impl IntoIterator<Item = (u64, Event)>) -> Roster {
        let mut roster = Roster::new();
        for (offset, event) in heard {
            roster.hear(offset, event);
        }
        roster
    }

    proptest! {
        #[test]
        fn repetition_does_not_matter(heard in events()) {
            let twice = heard.iter().chain(&heard).cloned();
            prop_assert_eq!(fold(twice), fold(heard.clone()));
        }

        #[test]
        fn order_does_not_matter(heard in events().prop_flat_map(|h| (Just(h.clone()), Just(h).prop_shuffle()))) {
            prop_assert_eq!(fold(heard.0), fold(heard.1));
        }

        #[test]
        fn a_later_generation_outranks_an_earlier_one(heard in events()) {
            let roster = fold(heard.clone());
            for (_, event) in &heard {
                let known = roster.get(&event.component).unwrap();
                prop_assert!((known.generation, known.since) >= (event.generation, event.since));
            }
        }
    }
}
