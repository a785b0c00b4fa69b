//! Why a component is not ready: the chain of unmet needs down to the root cause.

use std::collections::BTreeSet;

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
    follow(component, graph, roster, &mut BTreeSet::new())
}

fn follow(
    component: &Component,
    graph: &Graph,
    roster: &Roster,
    path: &mut BTreeSet<Component>,
) -> Vec<Link> {
    let ready = roster.get(component).is_some_and(|event| event.phase == Phase::Ready);
    let root = || vec![Link { component: component.clone(), waits_for: None }];
    if ready || !path.insert(component.clone()) {
        return root();
    }
    let worst = graph
        .start_needs(component)
        .filter(|need| roster.get(&need.component).is_none_or(|event| event.phase != Phase::Ready))
        .map(|need| follow(&need.component, graph, roster, path))
        .min_by_key(|chain| chain.last().map(|link| badness(&link.component, graph, roster)));
    path.remove(component);
    match worst {
        None => root(),
        Some(rest) => {
            let waits_for = rest.first().map(|link| link.component.clone());
            let mut chain = vec![Link { component: component.clone(), waits_for }];
            chain.extend(rest);
            chain
        }
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
}
