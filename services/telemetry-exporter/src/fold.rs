//! The fold: everything the exporter tells is a function of what stands in the lifecycle topic. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lifecycle::document::{Document, Environment, Identity, Source};
use lifecycle::{Component, Entry, Event, Graph, Kind, Moment, Phase, Roster, Timeline};

/// How many generations' timelines are kept; the hub keeps as many in the topic (design §7).
const GENERATIONS: usize = 10;

/// What was heard so far.
#[derive(Debug, Default)]
pub struct Fold {
    identity: Option<Identity>,
    roster: Roster,
    timelines: BTreeMap<u64, Timeline>,
    started: BTreeMap<u64, Moment>,
    documents: BTreeMap<String, Document>,
    graph: Graph,
    /// How often each component failed, and since when it did last: news told twice counts once.
    failures: BTreeMap<Component, (Moment, u64)>,
}

/// One generation's story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// Which bring-up.
    pub generation: u64,
    /// When it began.
    pub started: Moment,
    /// In order of becoming ready, those not ready last.
    pub entries: Vec<Entry>,
    /// The path that decided how long it took, first to last.
    pub critical_path: Vec<Component>,
    /// From the start to the last becoming ready.
    pub duration: Duration,
    /// Every declared module became ready.
    pub complete: bool,
}

impl Fold {
    /// What is known before anything was heard: the mounted documents.
    pub fn of(environment: &Environment) -> Self {
        let mut fold = Fold::default();
        for source in environment.sources() {
            fold.fragment(source.document.clone());
        }
        fold
    }

    /// Hears a lifecycle event that stands at `offset`.
    pub fn event(&mut self, offset: u64, event: Event) {
        self.timelines.entry(event.generation).or_default().hear(&event);
        while self.timelines.len() > GENERATIONS {
            self.timelines.pop_first();
        }
        if event.phase == Phase::Failed {
            let (last, count) = self.failures.entry(event.component.clone()).or_default();
            if *count == 0 || event.since > *last {
                (*last, *count) = (event.since, *count + 1);
            }
        }
        self.roster.hear(offset, event);
    }

    /// Hears of a fragment; the graph is that of all fragments heard of.
    pub fn fragment(&mut self, document: Document) {
        self.identity = Some(document.environment.clone());
        self.documents.insert(document.fragment.name.clone(), document);
        self.rebuild();
    }

    /// A fragment is gone.
    pub fn fragment_removed(&mut self, name: &str) {
        self.documents.remove(name);
        self.rebuild();
    }

    /// Hears that a bring-up began.
    pub fn bring_up(&mut self, generation: u64, started: Moment) {
        self.started.insert(generation, started);
        while self.started.len() > GENERATIONS {
            self.started.pop_first();
        }
    }

    /// The environment, once a fragment was heard of.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The greatest generation heard of; 0 when there is no hub.
    pub fn latest(&self) -> u64 {
        let greatest = |keys: Option<&u64>| keys.copied().unwrap_or(0);
        greatest(self.timelines.keys().next_back()).max(greatest(self.started.keys().next_back()))
    }

    /// The last known event of each component.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// How often each component failed.
    pub fn failures(&self) -> impl Iterator<Item = (&Component, u64)> {
        self.failures.iter().map(|(component, (_, count))| (component, *count))
    }

    /// One generation's story; none for a generation nothing is known of.
    pub fn story(&self, generation: u64) -> Option<Story> {
        let timeline = self.timelines.get(&generation);
        let entries = timeline.map(Timeline::entries).unwrap_or_default();
        let first = entries.iter().map(|entry| entry.first).min();
        let started = self.started.get(&generation).copied().or(first)?;
        let last = entries.iter().filter_map(|entry| entry.ready).max();
        let ready: BTreeSet<&Component> =
            entries.iter().filter(|entry| entry.ready.is_some()).map(|entry| &entry.component).collect();
        let mut modules = self.graph.components().filter(|c| c.kind() == Kind::Module).peekable();
        let complete = modules.peek().is_some() && modules.all(|module| ready.contains(module));
        Some(Story {
            generation,
            started,
            critical_path: timeline.map(|t| t.critical_path(&self.graph)).unwrap_or_default(),
            duration: last.map_or(Duration::ZERO, |last| last.since(started)),
            complete,
            entries,
        })
    }

    fn rebuild(&mut self) {
        let sources = self
            .documents
            .values()
            .map(|document| Source { file: document.fragment.name.clone(), document: document.clone() });
        self.graph = Environment::merge(sources).environment.as_ref().map(Graph::of).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use lifecycle::Evidence;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn event(component: &str, phase: Phase, since: u64) -> Event {
        Event {
            environment: Uuid::nil(),
            component: component.parse().unwrap(),
            phase,
            since: Moment(since),
            generation: 1,
            evidence: Evidence::default(),
            reason: String::new(),
            attempts: 1,
            source: String::new(),
            time: Moment(since),
        }
    }

    fn document() -> Document {
        let ready = json!({"tcp": {"address": "h:1"}});
        serde_json::from_value(json!({
            "rollcall": "v1",
            "environment": {"name": "dev", "uid": Uuid::from_u128(7)},
            "fragment": {"name": "base", "namespace": "dev"},
            "modules": {"a": {"ready": ready}, "b": {"needs": ["module/a"], "ready": ready}},
        }))
        .unwrap()
    }

    #[test]
    fn a_story_has_a_critical_path_and_an_end() {
        let mut fold = Fold::default();
        fold.fragment(document());
        fold.bring_up(1, Moment(100));
        fold.event(0, event("module/a", Phase::Ready, 300));
        assert!(!fold.story(1).unwrap().complete);
        fold.event(1, event("module/b", Phase::Ready, 900));
        let story = fold.story(1).unwrap();
        assert!(story.complete);
        assert_eq!(story.duration, Duration::from_millis(800));
        let path: Vec<String> = story.critical_path.iter().map(ToString::to_string).collect();
        assert_eq!(path, ["module/a", "module/b"]);
    }

    #[test]
    fn a_failure_told_twice_counts_once() {
        let mut fold = Fold::default();
        fold.event(0, event("module/a", Phase::Failed, 5));
        fold.event(1, event("module/a", Phase::Failed, 5));
        fold.event(2, event("module/a", Phase::Failed, 9));
        assert_eq!(fold.failures().map(|(_, n)| n).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn old_generations_are_forgotten() {
        let mut fold = Fold::default();
        for generation in 1..=30 {
            fold.event(generation, Event { generation, ..event("module/a", Phase::Ready, generation) });
            fold.bring_up(generation, Moment(generation));
        }
        assert_eq!(fold.latest(), 30);
        assert!(fold.story(20).is_none());
        assert!(fold.story(21).is_some());
    }
}
