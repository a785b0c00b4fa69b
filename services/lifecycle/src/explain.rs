//! Why a component is not ready: the chain of unmet needs down to the root cause.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Component, Graph, Phase, Roster};

/// One component of the chain and the unmet need that leads to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The component.
    pub component: Component,
    /// What it needs and lacks; none for the root cause.
    pub waits_for: Option<Component>,
}

/// The chain from `component` to the root of why it is not ready: only itself when nothing it needs is unmet.
/// Where several needs are unmet it follows the one whose root is the worst: failed, then declared by nobody, degraded,
/// never heard of, working, waiting; among equals the one that has been so longest.
pub fn explain(component: &Component, graph: &Graph, roster: &Roster) -> Vec<Link> {
    Explainer { graph, roster, path: BTreeSet::new(), known: BTreeMap::new() }.follow(component).0
}

struct Explainer<'a> {
    graph: &'a Graph,
    roster: &'a Roster,
    /// The components on the way to the one looked at, so that a cycle is followed once.
    path: BTreeSet<Component>,
    /// Chains that do not depend on the way to them, so that each component is looked at once.
    known: BTreeMap<Component, Vec<Link>>,
}

impl Explainer<'_> {
    fn is_ready(&self, component: &Component) -> bool {
        self.roster.get(component).is_some_and(|event| event.phase == Phase::Ready)
    }

    /// The chain from a component, and whether a cycle ended it.
    fn follow(&mut self, component: &Component) -> (Vec<Link>, bool) {
        if let Some(chain) = self.known.get(component) {
            return (chain.clone(), false);
        }
        let root = vec![Link { component: component.clone(), waits_for: None }];
        if self.is_ready(component) {
            return (root, false);
        }
        if !self.path.insert(component.clone()) {
            return (root, true);
        }
        let (graph, roster) = (self.graph, self.roster);
        let failed = roster.get(component).is_some_and(|event| event.phase == Phase::Failed);
        // That something failed says more than that nothing was heard of what it needs.
        let silent = |need: &Component| failed && graph.declares(need) && roster.get(need).is_none();
        let mut cut = false;
        let mut worst: Option<((u8, u64), Vec<Link>)> = None;
        let unmet = graph.start_needs(component).map(|need| &need.component);
        let unmet = unmet.filter(|need| !self.is_ready(need) && !silent(need)).collect::<Vec<_>>();
        for need in unmet {
            let (chain, ended) = self.follow(need);
            cut |= ended;
            let Some(rank) = chain.last().map(|link| badness(&link.component, graph, self.roster)) else {
                continue;
            };
            if worst.as_ref().is_none_or(|(known, _)| rank < *known) {
                worst = Some((rank, chain));
            }
        }
        self.path.remove(component);
        let chain = match worst {
            None => root,
            Some((_, rest)) => {
                let waits_for = rest.first().map(|link| link.component.clone());
                std::iter::once(Link { component: component.clone(), waits_for }).chain(rest).collect()
            }
        };
        if !cut {
            self.known.insert(component.clone(), chain.clone());
        }
        (chain, cut)
    }
}

/// Smaller is worse.
fn badness(root: &Component, graph: &Graph, roster: &Roster) -> (u8, u64) {
    match roster.get(root) {
        _ if !graph.declares(root) => (1, 0),
        None => (3, 0),
        Some(event) => {
            let rank = match event.phase {
                Phase::Failed => 0,
                Phase::Removed => 1,
                Phase::Degraded => 2,
                Phase::Working => 4,
                Phase::Waiting => 5,
                Phase::Ready => 6,
            };
            (rank, event.since.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Edge, Event, Evidence, Moment, Need};

    fn component(text: &str) -> Component {
        text.parse().unwrap()
    }

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in edges {
            graph.edge(&component(from), Edge { need: Need::start(component(to)), implied: false });
            graph.node(component(to));
        }
        graph
    }

    fn roster(phases: &[(&str, Phase)]) -> Roster {
        let mut roster = Roster::new();
        for (i, (name, phase)) in phases.iter().enumerate() {
            let event = Event {
                environment: uuid::Uuid::nil(),
                component: component(name),
                phase: *phase,
                since: Moment(i as u64),
                generation: 1,
                evidence: Evidence::default(),
                reason: String::new(),
                attempts: 0,
                source: String::new(),
                time: Moment(i as u64),
            };
            roster.hear(i as u64, event);
        }
        roster
    }

    fn names(chain: &[Link]) -> Vec<String> {
        chain.iter().map(|link| link.component.to_string()).collect()
    }

    #[test]
    fn the_chain_ends_at_the_root_cause() {
        let graph = graph(&[("module/a", "topic/t"), ("topic/t", "kafka/main"), ("module/a", "database/d")]);
        let roster = roster(&[
            ("module/a", Phase::Waiting),
            ("topic/t", Phase::Waiting),
            ("kafka/main", Phase::Failed),
            ("database/d", Phase::Working),
        ]);
        let chain = explain(&component("module/a"), &graph, &roster);
        assert_eq!(names(&chain), ["module/a", "topic/t", "kafka/main"]);
        assert_eq!(chain[0].waits_for, Some(component("topic/t")));
        assert_eq!(chain[2].waits_for, None);
    }

    #[test]
    fn what_failed_is_the_root_where_nothing_was_heard_of_its_needs() {
        let graph = graph(&[("module/a", "database/d"), ("database/d", "secret/dev/s")]);
        let roster = roster(&[("module/a", Phase::Waiting), ("database/d", Phase::Failed)]);
        assert_eq!(names(&explain(&component("module/a"), &graph, &roster)), ["module/a", "database/d"]);
    }

    #[test]
    fn a_cycle_is_followed_once() {
        let graph = graph(&[("module/a", "module/b"), ("module/b", "module/a")]);
        let chain = explain(&component("module/a"), &graph, &Roster::new());
        assert_eq!(names(&chain), ["module/a", "module/b", "module/a"]);
    }

    #[test]
    fn a_ready_component_explains_itself() {
        let graph = graph(&[("module/a", "topic/t")]);
        let chain = explain(&component("module/a"), &graph, &roster(&[("module/a", Phase::Ready)]));
        assert_eq!(names(&chain), ["module/a"]);
    }

    #[test]
    fn diamonds_upon_diamonds_are_explained_at_once() {
        // 2^60 ways from the first to the last.
        let names: Vec<String> =
            (0..61).flat_map(|i| [format!("module/a{i}"), format!("module/b{i}")]).collect();
        let edges: Vec<(&str, &str)> = (0..60)
            .flat_map(|i| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(from, to)| (2 * i + from, 2 * (i + 1) + to)))
            .map(|(from, to)| (names[from].as_str(), names[to].as_str()))
            .collect();
        let chain = explain(&component("module/a0"), &graph(&edges), &Roster::new());
        assert_eq!(chain.len(), 61);
    }
}
