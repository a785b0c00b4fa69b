//! Whose a database is when documents give its name to another component, and that it is said once.

use std::collections::BTreeSet;

use lifecycle::Kind as ComponentKind;
use proptest::prelude::*;

use super::*;
use crate::spec::{DatabaseSpec, Given};
use crate::world::facts::Now;

/// These components with the names of their databases, and of the roles that log in to them.
fn declared(databases: &[(&str, &str, &str)]) -> ServerSpec {
    let mut spec = spec(Ddl::None, &[]);
    let database = |(component, name, login): &(&str, &str, &str)| DatabaseSpec {
        component: Component::new(ComponentKind::Database, *component),
        app: model::login(login),
        ..database(name, Ddl::AsOwner, &[])
    };
    spec.databases = databases.iter().map(database).collect();
    spec.given = Given::whole(&spec, &["base"]);
    spec
}

/// As somebody sees it who looks again.
fn look(world: &mut World) {
    let World { shared, records, .. } = world;
    for record in records {
        let database = shared.databases.iter().find(|one| one.oid == record.oid);
        let role = shared.roles.iter().find(|one| one.oid == record.oid);
        record.now = match record.kind {
            Kind::Database => database.map(|one| Now { name: one.name.clone(), ..Now::default() }),
            Kind::Role | Kind::Observer => role.map(|one| Now {
                name: one.name.clone(),
                login: one.login,
                member_of: one.member_of.clone(),
            }),
        };
    }
}

/// Does what is planned, each component by itself as it is done under its lock; what was refused, by component.
fn run(world: &mut World, spec: &ServerSpec) -> Vec<String> {
    let decided = plan(spec, world);
    let components: BTreeSet<Component> = decided.steps.iter().map(|step| step.component.clone()).collect();
    for component in components {
        let own = plan(&spec.only(&component), world);
        let steps = own.steps.iter().filter(|step| decided.steps.contains(step));
        for step in steps.cloned().collect::<Vec<_>>() {
            model::step_on(world, spec, &step);
        }
        look(world);
    }
    decided.refusals.iter().map(|note| format!("{}: {}", note.component, note.text)).collect()
}

fn made(databases: &[(&str, &str, &str)]) -> World {
    let mut world = world();
    let logins = ["u", "v", "w"].map(|login| (login.to_owned(), Password::Given));
    world.passwords.extend(logins);
    assert_eq!(run(&mut world, &declared(databases)), Vec::<String>::new());
    world
}

/// Whose each database is, by the records.
fn owners(world: &World) -> Vec<(&str, &str)> {
    let databases = world.records.iter().filter(|record| record.kind == Kind::Database);
    let mut owners: Vec<(&str, &str)> =
        databases.map(|record| (record.component.as_str(), record.name.as_str())).collect();
    owners.sort_unstable();
    owners
}

#[test]
fn a_component_that_has_its_own_takes_no_other_ones_database() {
    let mut world = made(&[("a", "x", "u"), ("b", "y", "v")]);
    let before = world.clone();
    let refused = run(&mut world, &declared(&[("a", "y", "u")]));
    assert_eq!(refused.len(), 1, "{refused:?}");
    for needle in [
        "database/a is recorded as database `x` (oid ",
        "names `y`, which is recorded for database/b",
        "leave database/a its `name: x`",
        "declare `x` under another component name first",
    ] {
        assert!(refused[0].contains(needle), "{needle}: {refused:?}");
    }
    assert_eq!(world, before, "nothing is recorded otherwise, nothing is made");

    // What it advises goes on with the other one's.
    run(&mut world, &declared(&[("c", "x", "u")]));
    assert_eq!(run(&mut world, &declared(&[("a", "y", "v"), ("c", "x", "u")])), Vec::<String>::new());
    assert_eq!(owners(&world), [("database/a", "y"), ("database/c", "x")]);
}

#[test]
fn databases_do_not_go_round_between_components() {
    let mut world = made(&[("a", "x", "u"), ("b", "y", "v")]);
    let refused = run(&mut world, &declared(&[("a", "y", "u"), ("b", "x", "v")]));
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!(owners(&world), [("database/a", "x"), ("database/b", "y")]);
    // Nor where the one that is to have it is of another fragment, which is refused.
    let mut elsewhere = declared(&[("a", "y", "v"), ("c", "x", "u")]);
    elsewhere.databases[1].fragment = "other".to_owned();
    elsewhere.given = Given::whole(&elsewhere, &["base", "other"]);
    assert_eq!(run(&mut world, &elsewhere).len(), 2);
    assert_eq!(owners(&world), [("database/a", "x"), ("database/b", "y")]);
    // Nor where the one that is to have it is held up by a login of its own that still gets in.
    let mut held = made(&[("a", "x", "u"), ("b", "y", "v")]);
    assert_eq!(run(&mut held, &declared(&[("c", "x", "w")])), Vec::<String>::new());
    let refused = run(&mut held, &declared(&[("a", "x", "w"), ("c", "y", "v")]));
    assert!(refused.iter().any(|text| text.starts_with("database/c: ")), "{refused:?}");
    assert_eq!(owners(&held), [("database/b", "y"), ("database/c", "x")]);
    // Components that are only called otherwise take theirs along, each from the next.
    assert_eq!(run(&mut world, &declared(&[("b", "x", "u"), ("c", "y", "v")])), Vec::<String>::new());
    assert_eq!(owners(&world), [("database/b", "x"), ("database/c", "y")]);
}

#[test]
fn what_was_taken_is_given_back_and_still_known_after_that() {
    let mut world = made(&[("a", "x", "u"), ("b", "y", "v")]);
    // As an earlier release left it.
    let taken = world.records.iter_mut().filter(|record| record.name.starts_with('y'));
    taken.for_each(|record| record.component = "database/a".to_owned());
    let right = declared(&[("a", "x", "u"), ("b", "y", "v")]);
    assert_eq!(run(&mut world, &right), Vec::<String>::new());
    assert_eq!(owners(&world), [("database/a", "x"), ("database/b", "y")]);
    assert_eq!(steps(&right, &world), Vec::<String>::new());
    let refused = run(&mut world, &declared(&[("a", "x", "u"), ("b", "z", "v")]));
    assert!(refused[0].contains("database/b is recorded as database `y`"), "{refused:?}");
}

#[test]
fn a_login_is_not_taken_while_another_still_gets_in() {
    let mut world = made(&[("a", "x", "u"), ("b", "y", "v")]);
    let wanted = declared(&[("a", "x", "v")]);
    let refused = run(&mut world, &wanted);
    assert!(
        refused[0].contains("role `u` recorded")
            && refused[0].contains("`v`, which is recorded for database/b"),
        "{refused:?}"
    );
    // Two that both name it share it.
    let shared = declared(&[("a", "x", "v"), ("b", "y", "v")]);
    assert_eq!(run(&mut world, &shared), Vec::<String>::new());
}

prop_compose! {
    /// Which components there are, each with a database and a login of its own; those that are shared read by one group.
    fn documents()(names in Just(["x", "y", "z"]).prop_shuffle(), there in any::<[bool; 3]>(), logins in Just(["u", "v", "w"]).prop_shuffle(), shared in any::<[bool; 3]>()) -> ServerSpec {
        let all = ["a", "b", "c"].into_iter().zip(names).zip(logins);
        let all = all.map(|((component, name), login)| (component, name, login));
        let here = all.zip(there).filter_map(|(one, there)| there.then_some(one));
        let mut spec = declared(&here.collect::<Vec<_>>());
        for (database, shared) in spec.databases.iter_mut().zip(shared) {
            database.readers = shared.then(|| "group".to_owned());
        }
        spec.given = Given::whole(&spec, &["base"]);
        spec
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn no_component_ever_has_two_databases_and_what_was_done_stays(all in prop::collection::vec(documents(), 1..5)) {
        let mut world = made(&[]);
        for spec in &all {
            let refused = run(&mut world, spec);
            let rest = plan(spec, &world);
            prop_assert!(rest.steps.is_empty(), "{rest}");
            prop_assert_eq!(rest.refusals.len(), refused.len());
            let owners = owners(&world);
            let components: BTreeSet<&str> = owners.iter().map(|(component, _)| *component).collect();
            prop_assert_eq!(components.len(), owners.len(), "{:?}", owners);
        }
    }
}
