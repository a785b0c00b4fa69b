//! Laws of documents, of their union and of the graph, over generated environments.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod generate;

use generate::{environments, source};
use lifecycle::document::{Document, Environment, check_fragment};
use lifecycle::{Component, Edge, Graph, Kind, Need, Timeline, When};
use proptest::prelude::*;

fn position(layers: &[Vec<Component>], component: &Component) -> Option<usize> {
    layers.iter().position(|layer| layer.contains(component))
}

fn modules(edges: &[(u8, u8)]) -> Graph {
    let module = |n: &u8| Component::new(Kind::Module, format!("m{n}"));
    let mut graph = Graph::default();
    for (from, to) in edges {
        graph.node(module(to));
        graph.edge(&module(from), Edge { need: Need::start(module(to)), implied: false });
    }
    graph
}

proptest! {
    #[test]
    fn a_document_that_passes_its_checks_round_trips(documents in environments()) {
        for document in documents {
            prop_assert_eq!(check_fragment(&document), vec![]);
            let json = document.canonical_json().unwrap();
            let read: Document = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&read, &document);
            prop_assert_eq!(read.canonical_json().unwrap(), json);
        }
    }

    #[test]
    fn merging_does_not_depend_on_order(
        (documents, shuffled) in environments().prop_flat_map(|d| (Just(d.clone()), Just(d).prop_shuffle()))
    ) {
        let merge = |documents: Vec<Document>| Environment::merge(documents.into_iter().map(source));
        prop_assert_eq!(merge(documents), merge(shuffled));
    }

    #[test]
    fn what_a_fragment_declares_twice_over_refuses_it_and_nobody_else(documents in environments()) {
        let mut twice = documents.clone();
        let mut copy = documents[0].clone();
        copy.fragment.name = "copy".to_owned();
        twice.push(copy);
        let merged = Environment::merge(twice.into_iter().map(source));
        let declares = !documents[0].databases.is_empty() || !documents[0].modules.is_empty()
            || !documents[0].secrets.is_empty() || !documents[0].topics.is_empty()
            || !documents[0].postgres.is_empty() || !documents[0].kafka.is_empty();
        prop_assert_eq!(declares, !merged.problems.is_empty());
        let left = merged.environment.map_or(0, |e| e.sources().count());
        prop_assert_eq!(left, if declares { documents.len() - 1 } else { documents.len() + 1 });
    }

    #[test]
    fn order_respects_every_edge(documents in environments()) {
        let merged = Environment::merge(documents.into_iter().map(source));
        let graph = Graph::of(&merged.environment.unwrap());
        let layers = graph.order().unwrap();
        prop_assert_eq!(layers.iter().map(Vec::len).sum::<usize>(), graph.components().count());
        for component in graph.components() {
            for need in graph.start_needs(component).filter(|need| graph.declares(&need.component)) {
                prop_assert!(position(&layers, &need.component) < position(&layers, component));
            }
        }
    }

    #[test]
    fn order_finds_a_layering_or_a_true_cycle(edges in prop::collection::vec((0..6u8, 0..6u8), 0..14)) {
        let graph = modules(&edges);
        match graph.order() {
            Ok(layers) => {
                for component in graph.components() {
                    for need in graph.start_needs(component) {
                        prop_assert!(position(&layers, &need.component) < position(&layers, component));
                    }
                }
            }
            Err(cycle) => {
                prop_assert!(cycle.0.len() >= 2);
                prop_assert_eq!(cycle.0.first(), cycle.0.last());
                for pair in cycle.0.windows(2) {
                    prop_assert!(graph.start_needs(&pair[0]).any(|need| need.component == pair[1]));
                }
            }
        }
    }

    #[test]
    fn runtime_needs_make_no_cycle(edges in prop::collection::vec((0..6u8, 0..6u8), 0..14)) {
        let module = |n: &u8| Component::new(Kind::Module, format!("m{n}"));
        let mut graph = Graph::default();
        for (from, to) in &edges {
            graph.node(module(to));
            let need = Need { when: When::Runtime, ..Need::start(module(to)) };
            graph.edge(&module(from), Edge { need, implied: false });
        }
        prop_assert!(graph.order().is_ok());
    }

    #[test]
    fn a_timeline_does_not_depend_on_order_or_repetition(
        (heard, shuffled) in generate::events().prop_flat_map(|h| {
            let twice: Vec<_> = h.iter().chain(&h).cloned().collect();
            (Just(h), Just(twice).prop_shuffle())
        })
    ) {
        let fold = |events: &[lifecycle::Event]| {
            let mut timeline = Timeline::default();
            for event in events {
                timeline.hear(event);
            }
            timeline
        };
        prop_assert_eq!(fold(&heard).entries(), fold(&shuffled).entries());
    }

    #[test]
    fn a_critical_path_is_a_path_of_the_graph_in_order_of_becoming_ready(
        edges in prop::collection::vec((0..6u8, 0..6u8), 0..14), heard in generate::events()
    ) {
        let graph = modules(&edges);
        let mut timeline = Timeline::default();
        for event in &heard {
            timeline.hear(event);
        }
        let path = timeline.critical_path(&graph);
        for pair in path.windows(2) {
            prop_assert!(graph.start_needs(&pair[1]).any(|need| need.component == pair[0]));
        }
        let last_ready = timeline.entries().into_iter().filter_map(|e| e.ready.map(|at| (at, e.component))).max();
        prop_assert_eq!(path.last().cloned(), last_ready.map(|(_, component)| component));
    }
}
