//! What is decided about a migration, as a table, and the laws of every plan.

use std::collections::BTreeSet;

use lifecycle::document::{Environment, Source};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::migrate::spec::specs;

fn spec() -> MigrationSpec {
    let document = json!({
        "rollcall": "v1", "environment": {"name": "dev", "uid": "00000000-0000-4000-8000-00000000000a"},
        "fragment": {"name": "base", "namespace": "dev"},
        "postgres": {"main": {"host": "db", "admin": {"user": "postgres", "password": {"secret": "pg", "key": "password"}}}},
        "databases": {"registry": {"server": "main", "roles": {"app":
            {"name": "user", "password": {"secret": "db", "key": "k"}, "ddl": "as-owner"}}}},
        "migrations": {"registry": {"database": "registry", "native": {}, "sources": [{"configmap": "sql"}]}},
    });
    let source = Source { file: "a.yaml".to_owned(), document: serde_json::from_value(document).unwrap() };
    let (mut specs, left) = specs(&Environment::merge([source]).environment.unwrap());
    assert_eq!(left, []);
    specs.remove(0)
}

fn here(steps: &[&str]) -> Seen {
    let steps = steps.iter().map(|step| (*step).to_owned()).collect();
    Seen::Here { steps, refusals: Vec::new(), warnings: Vec::new() }
}

fn mark(done: bool, hash: &str) -> Mark {
    Mark { done, hash: hash.to_owned() }
}

fn holds(state: State, hash: &str, same_database: bool) -> Ledger {
    Ledger::Holds { state, hash: hash.to_owned(), same_database }
}

/// The world after a step.
fn after(spec: &MigrationSpec, world: &World, step: &Step) -> World {
    let mut world = world.clone();
    match &step.change {
        Change::Migrate { .. } => {
            world.files = here(&[]);
            world.mark = Some(mark(false, &spec.hash));
            if world.ledger != Ledger::Closed {
                world.ledger = holds(State::Running, &spec.hash, true);
            }
        }
        Change::Mark => world.mark = Some(mark(true, &spec.hash)),
        Change::Record => world.ledger = holds(State::Done, &spec.hash, true),
    }
    world
}

fn words(plan: &Plan<Step>) -> String {
    let steps = plan.steps.iter().map(|step| match step.change {
        Change::Migrate { .. } => "migrate",
        Change::Mark => "mark",
        Change::Record => "record",
    });
    let mut words: Vec<&str> = steps.collect();
    words.extend(plan.refusals.iter().map(|_| "refuse"));
    words.extend(plan.pending.iter().map(|_| "wait"));
    words.join(" ")
}

#[test]
fn what_is_to_be_done_follows_from_files_mark_and_ledger() {
    let spec = spec();
    let hash = spec.hash.as_str();
    let done =
        || World { mark: Some(mark(true, hash)), ledger: holds(State::Done, hash, true), ..World::default() };
    let elsewhere = || Seen::Elsewhere("folder /sql is not here".to_owned());
    for (world, wanted) in [
        (done(), ""),
        (World { files: here(&["V1"]), ..World::default() }, "migrate mark"),
        (World { files: here(&["V1"]), ledger: Ledger::Empty, ..World::default() }, "migrate mark record"),
        (World { files: here(&["V2"]), ..done() }, "migrate mark record"),
        (World { mark: Some(mark(true, "another")), ..done() }, "mark record"),
        (World { mark: Some(mark(false, hash)), ..done() }, "mark record"),
        (World { ledger: holds(State::Running, hash, true), ..done() }, "record"),
        (World { ledger: holds(State::Done, hash, false), ..done() }, "record"),
        (World { files: elsewhere(), ..done() }, ""),
        // Whoever has the files has run it; here it is written where the hub reads it.
        (World { files: elsewhere(), ledger: Ledger::Empty, ..done() }, "record"),
        (World { files: elsewhere(), mark: Some(mark(false, hash)), ..done() }, "wait"),
        (World { files: elsewhere(), mark: Some(mark(true, "another")), ..done() }, "wait"),
        (World { files: here(&["V2"]), failed: Some("V2.sql:1".to_owned()), ..done() }, "refuse"),
        (World { waits: Some((spec.database().component.clone(), "no".to_owned())), ..done() }, "wait"),
        (World { refused: Some("a superuser".to_owned()), ..done() }, "refuse"),
    ] {
        assert_eq!(words(&plan(&spec, &world)), wanted, "{world:?}");
    }
}

fn world() -> impl Strategy<Value = World> {
    let hashes = prop_oneof![Just(spec().hash), Just("another".to_owned())];
    let files = prop_oneof![
        proptest::collection::vec("V[1-9]", 0..3)
            .prop_map(|steps| { Seen::Here { steps, refusals: Vec::new(), warnings: Vec::new() } }),
        Just(Seen::Elsewhere("not here".to_owned())),
        Just(Seen::Here { steps: Vec::new(), refusals: vec!["no".to_owned()], warnings: Vec::new() }),
    ];
    let mark = proptest::option::of((any::<bool>(), hashes.clone()))
        .prop_map(|mark| mark.map(|(done, hash)| Mark { done, hash }));
    let states = [State::Running, State::Failed, State::Done, State::Baseline];
    let ledger = prop_oneof![
        Just(Ledger::Closed),
        Just(Ledger::Empty),
        (0usize..4, hashes, any::<bool>()).prop_map(move |(state, hash, same_database)| Ledger::Holds {
            state: states[state],
            hash,
            same_database,
        }),
    ];
    (files, mark, ledger, proptest::option::of(Just("failed".to_owned())))
        .prop_map(|(files, mark, ledger, failed)| World { files, mark, ledger, failed, ..World::default() })
}

proptest! {
    #[test]
    fn applying_a_plan_leaves_nothing_to_do_and_touches_nothing_else(world in world()) {
        let spec = spec();
        let first = plan(&spec, &world);
        // A component that is refused or undecided is left alone, whole.
        prop_assert!(first.steps.is_empty() || (first.refusals.is_empty() && first.pending.is_empty()));
        let about: BTreeSet<&Component> = first.steps.iter().map(|step| &step.component).collect();
        prop_assert!(about.iter().all(|component| **component == spec.component));
        let mut now = world.clone();
        for step in &first.steps {
            now = after(&spec, &now, step);
            // It is never said to be done before it is.
            let said = matches!(&now.ledger, Ledger::Holds { state: State::Done, .. }) && step.change == Change::Record;
            let marked = now.mark == Some(mark(true, &spec.hash));
            prop_assert!(!said || marked);
        }
        if first.refusals.is_empty() && first.pending.is_empty() {
            prop_assert!(plan(&spec, &now).steps.is_empty(), "{now:?}");
            // And doing a step twice is doing it once.
            for step in &first.steps {
                prop_assert_eq!(after(&spec, &after(&spec, &now, step), step), after(&spec, &now, step));
            }
        } else {
            prop_assert_eq!(plan(&spec, &now), first);
        }
    }
}
