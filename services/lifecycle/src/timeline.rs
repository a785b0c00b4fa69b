//! The timeline of a bring-up and its critical path, folded from lifecycle events.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Component, Event, Graph, Moment, Phase};

/// What one component did in one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The component.
    pub component: Component,
    /// The phase it is in.
    pub phase: Phase,
    /// When it was first heard of in this generation.
    pub first: Moment,
    /// When it became ready for the first time in this generation.
    pub ready: Option<Moment>,
    /// How long it waited, up to its first becoming ready.
    pub waited: Duration,
    /// How long it worked, up to its first becoming ready.
    pub worked: Duration,
    /// Tries, as last reported.
    pub attempts: u32,
    /// The last reason given.
    pub reason: String,
}

/// The fold of one generation's events. Neither order nor repetition matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    phases: BTreeMap<Component, BTreeMap<Phase, Stay>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stay {
    first: Moment,
    last: Moment,
    attempts: u32,
    reason: String,
}

impl Timeline {
    /// Hears an event of this generation.
    pub fn hear(&mut self, event: &Event) {
        let stay = Stay {
            first: event.since,
            last: event.since,
            attempts: event.attempts,
            reason: event.reason.clone(),
        };
        let phases = self.phases.entry(event.component.clone()).or_default();
        match phases.get_mut(&event.phase) {
            None => {
                phases.insert(event.phase, stay);
            }
            Some(known) => {
                known.first = known.first.min(event.since);
                known.attempts = known.attempts.max(event.attempts);
                // Among equals the longer reason, so that the order of hearing does not matter.
                if (event.since, event.reason.len(), &event.reason)
                    > (known.last, known.reason.len(), &known.reason)
                {
                    known.last = event.since;
                    known.reason.clone_from(&event.reason);
                }
            }
        }
    }

    /// The entries: in order of becoming ready, those not ready last.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> =
            self.phases.iter().filter_map(|(component, phases)| entry(component, phases)).collect();
        entries.sort_by(|a, b| {
            (a.ready.is_none(), a.ready, a.first, &a.component).cmp(&(
                b.ready.is_none(),
                b.ready,
                b.first,
                &b.component,
            ))
        });
        entries
    }

    /// The path that decided how long the bring-up took: from the component that became ready last back through, of each
    /// one's start needs, the one that became ready last. First to last.
    pub fn critical_path(&self, graph: &Graph) -> Vec<Component> {
        let ready: BTreeMap<&Component, Moment> = self
            .phases
            .iter()
            .filter_map(|(component, phases)| phases.get(&Phase::Ready).map(|stay| (component, stay.first)))
            .collect();
        let latest = |components: &mut dyn Iterator<Item = &Component>| {
            components
                .filter_map(|c| ready.get_key_value(c).map(|(c, at)| (*at, (*c).clone())))
                .max()
                .map(|(_, component)| component)
        };
        let mut path = Vec::new();
        let mut next = latest(&mut ready.keys().copied());
        while let Some(component) = next {
            next = latest(
                &mut graph.start_needs(&component).map(|need| &need.component).filter(|c| !path.contains(*c)),
            );
            path.push(component);
        }
        path.reverse();
        path
    }
}

fn entry(component: &Component, phases: &BTreeMap<Phase, Stay>) -> Option<Entry> {
    let first = phases.values().map(|stay| stay.first).min()?;
    let (phase, last) = phases.iter().max_by_key(|(phase, stay)| (stay.last, **phase))?;
    let at = |phase: Phase| phases.get(&phase).map(|stay| stay.first);
    let (waiting, working, ready) = (at(Phase::Waiting), at(Phase::Working), at(Phase::Ready));
    let span = |from: Option<Moment>, to: Option<Moment>| match (from, to) {
        (Some(from), Some(to)) => to.since(from),
        _ => Duration::ZERO,
    };
    Some(Entry {
        component: component.clone(),
        phase: *phase,
        first,
        ready,
        waited: span(waiting, working.or(ready)),
        worked: span(working, ready),
        attempts: phases.values().map(|stay| stay.attempts).max().unwrap_or(0),
        reason: last.reason.clone(),
    })
}
