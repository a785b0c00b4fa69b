//! What was adopted is changed by a class of `converge` and by nothing else.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::model::{finished, full, reader, spec, step_on};
use super::*;
use crate::adopt::{Class, Held, Mark, Selected, class_of, record};
use crate::world::facts::Installed;

/// A server as the old script leaves it: powers, no owner of its own, open to everybody, nobody's mark.
fn old(spec: &ServerSpec, powers: bool) -> World {
    let mut world = finished(spec);
    world.records.clear();
    let app = spec.databases[0].app.role.clone();
    world.shared.roles.retain(|role| role.name == app);
    let role = &mut world.shared.roles[0];
    role.member_of.clear();
    role.acts_as.clear();
    if powers {
        role.powers.extend(["CREATEDB", "CREATEROLE", "REPLICATION"].map(str::to_owned));
    }
    world.inside.insert(
        "registry".to_owned(),
        Ok(Inside { extensions: [("pg_trgm".to_owned(), Installed::default())].into(), ..Inside::default() }),
    );
    let database = world.shared.databases.iter_mut().find(|facts| facts.name == "registry").unwrap();
    database.owner = "postgres".to_owned();
    database.grants.extend(["=CONNECT".to_owned(), "=TEMPORARY".to_owned()]);
    world
}

/// What the steps of `record` make of it.
fn adopt(spec: &ServerSpec, world: &mut World) {
    for step in record(spec, world, &Selected::default()).steps {
        let Mark::Adopt { kind, name, fragment, oid } = step.mark else { panic!("{step}") };
        world.records.push(crate::world::facts::Record {
            kind,
            name,
            environment_uid: spec.environment.uid.to_string(),
            environment_name: spec.environment.name.clone(),
            fragment,
            component: step.component.to_string(),
            oid,
            spec_hash: None,
            finished: true,
            system_identifier: None,
            adopted: Some(BTreeSet::new()),
            leaving: false,
            now: None,
            renamed_from: None,
        });
    }
}

fn converge(spec: &ServerSpec, world: &mut World, class: Class) -> Vec<Change> {
    let making = ServerSpec { converging: Some(class), ..spec.clone() };
    let steps = plan(&making, world).steps;
    for step in &steps {
        step_on(world, &making, step);
    }
    if class == Class::Ownership {
        let database = world.shared.databases.iter_mut().find(|facts| facts.name == "registry").unwrap();
        database.owner = "registry_owner".to_owned();
    }
    assert!(plan(&making, world).steps.is_empty(), "{class}: {}", plan(&making, world));
    for record in world.records.iter_mut().filter(|record| record.adopted.is_some()) {
        record.adopted.as_mut().unwrap().insert(class);
    }
    steps.into_iter().map(|step| step.change).collect()
}

#[test]
fn what_the_old_script_left_is_recorded_reported_and_then_converged() {
    for ddl in [Ddl::AsOwner, Ddl::None] {
        let spec = spec(ddl, &["pg_trgm"]);
        let mut world = old(&spec, true);
        let recording = record(&spec, &world, &Selected::default());
        assert_eq!(recording.to_string().lines().count(), 2, "its role and itself: {recording}");
        adopt(&spec, &mut world);
        assert!(record(&spec, &world, &Selected::default()).is_settled(), "once is enough");

        let held = plan(&spec, &world);
        assert!(held.is_settled(), "{held}");
        for says in [
            "set NOCREATEDB NOCREATEROLE NOREPLICATION",
            "belongs to role `postgres`",
            "close database `registry`",
        ] {
            assert!(held.drift.iter().any(|note| note.text.contains(says)), "{says}: {held}");
        }
        world.passwords.insert("registry_user".to_owned(), Password::Differs);
        assert!(plan(&spec, &world).is_settled(), "not even a password that differs is set");
        world.passwords.insert("registry_user".to_owned(), Password::Fits);

        for class in Class::ALL {
            let changes = converge(&spec, &mut world, class);
            assert!(!changes.is_empty(), "{class}");
        }
        let rest = plan(&spec, &world).steps;
        for step in &rest {
            step_on(&mut world, &spec, step);
        }
        assert!(rest.iter().all(|step| class_of(&step.change) == Held::Last), "{rest:?}");
        assert!(plan(&spec, &world).is_settled(), "{}", plan(&spec, &world));
    }
}

#[test]
fn a_password_that_was_in_use_is_not_rewritten_whatever_is_converged() {
    let spec = spec(Ddl::AsOwner, &[]);
    let mut world = old(&spec, true);
    adopt(&spec, &mut world);
    for class in Class::ALL {
        converge(&spec, &mut world, class);
    }
    world.passwords.insert("registry_user".to_owned(), Password::Differs);
    let plan = plan(&spec, &world);
    assert!(!plan.steps.iter().any(|step| matches!(step.change, Change::Password { .. })), "{plan}");
    assert!(plan.drift.iter().any(|note| note.text.contains("has another password")), "{plan}");
}

#[test]
fn a_role_that_comes_to_a_database_of_ours_later_is_held_too() {
    let spec = ServerSpec { databases: vec![full("registry")], ..spec(Ddl::None, &[]) };
    let mut world = finished(&spec);
    world.records.retain(|record| record.name != "registry_migrator");
    let migrator = world.shared.roles.iter_mut().find(|role| role.name == "registry_migrator").unwrap();
    migrator.powers.insert("CREATEROLE".to_owned());
    world.passwords.insert("registry_migrator".to_owned(), Password::Differs);
    assert!(!plan(&spec, &world).refusals.is_empty(), "nobody's is not touched");
    adopt(&spec, &mut world);
    let held = plan(&spec, &world);
    assert!(held.is_settled(), "{held}");
    assert!(
        held.drift.iter().any(|note| note.text.contains("set NOCREATEROLE on role `registry_migrator`")),
        "{held}"
    );
    let changes = converge(&spec, &mut world, Class::Attributes);
    assert!(changes.iter().all(|change| matches!(change, Change::Attributes { .. })), "{changes:?}");
}

#[test]
fn a_role_that_reads_is_recorded_and_only_gets_what_it_lacks() {
    let database = full("registry");
    let roles = vec![reader(&[&database])];
    let spec = ServerSpec { databases: vec![database], roles, ..spec(Ddl::None, &[]) };
    let mut world = finished(&spec);
    // It comes after its database.
    for step in plan(&spec, &world).steps {
        step_on(&mut world, &spec, &step);
    }
    world.records.retain(|record| record.name != "bi");
    let role = world.shared.roles.iter_mut().find(|role| role.name == "bi").unwrap();
    role.powers.insert("CREATEROLE".to_owned());
    role.member_of.clear();
    world.passwords.insert("bi".to_owned(), Password::Differs);
    assert!(!plan(&spec, &world).refusals.is_empty(), "nobody's is not touched");
    adopt(&spec, &mut world);
    let plan = plan(&spec, &world);
    let changes: Vec<_> = plan.steps.iter().map(|step| &step.change).collect();
    assert!(matches!(changes.as_slice(), [Change::Join { .. }, Change::FinishRole { .. }]), "{plan}");
    assert!(plan.drift.iter().any(|note| note.text.contains("set NOCREATEROLE on role `bi`")), "{plan}");
}

#[test]
fn who_is_let_in_comes_before_everybody_is_shut_out() {
    let spec = spec(Ddl::AsOwner, &[]);
    let mut world = old(&spec, false);
    world.shared.databases.iter_mut().for_each(|facts| facts.grants.retain(|grant| grant.starts_with('=')));
    adopt(&spec, &mut world);
    let changes = converge(&spec, &mut world, Class::PublicConnect);
    assert!(matches!(changes.as_slice(), [Change::Admit { .. }, Change::Seal { .. }]), "{changes:?}");
}

#[test]
fn what_is_half_there_or_an_administrators_is_not_recorded() {
    let mut spec = spec(Ddl::AsOwner, &[]);
    let mut world = old(&spec, false);
    let kept = world.shared.roles.clone();
    world.shared.roles.clear();
    let plan = record(&spec, &world, &Selected::default());
    assert!(
        plan.steps.is_empty() && plan.refusals[0].text.contains("role `registry_user` does not exist"),
        "{plan}"
    );
    world.shared.roles = kept;
    world.shared.databases.retain(|facts| facts.name == postgres::REGISTRY);
    let plan = record(&spec, &world, &Selected::default());
    assert!(plan.steps.is_empty() && plan.refusals[0].text.contains("does not exist"), "{plan}");
    let world = old(&spec, false);
    spec.admin.role = "registry_user".to_owned();
    let plan = record(&spec, &world, &Selected::default());
    assert!(
        plan.steps.is_empty() && plan.refusals[0].text.contains("administrator is not adopted"),
        "{plan}"
    );
    spec.admin.role = "postgres".to_owned();
    spec.databases[0].report_only = true;
    assert!(record(&spec, &world, &Selected::default()).refusals[0].text.contains("mode report"));
}

proptest! {
    /// Whatever classes are converged so far, in whatever order: `apply` makes no step of a class, and `converge` those of its
    /// own class alone.
    #[test]
    fn nothing_is_changed_but_by_its_class(order in Just(Class::ALL).prop_shuffle(), done in 0usize..4, powers in any::<bool>(), none in any::<bool>()) {
        let spec = spec(if none { Ddl::None } else { Ddl::AsOwner }, &["pg_trgm"]);
        let mut world = old(&spec, powers);
        adopt(&spec, &mut world);
        for class in &order[..done] {
            converge(&spec, &mut world, *class);
        }
        let by_itself = plan(&spec, &world);
        prop_assert!(by_itself.steps.iter().all(|step| class_of(&step.change) == Held::Free), "{}", by_itself);
        for class in Class::ALL {
            let steps = plan(&ServerSpec { converging: Some(class), ..spec.clone() }, &world).steps;
            for step in steps {
                let lets_in = class == Class::PublicConnect && matches!(step.change, Change::Admit { .. });
                prop_assert!(lets_in || [Held::Free, Held::Of(class)].contains(&class_of(&step.change)), "{}: {}", class, step);
            }
        }
    }

    /// What carries another environment's mark is recorded by nobody else.
    #[test]
    fn what_is_anothers_is_not_recorded(which in 0usize..2) {
        let spec = spec(Ddl::AsOwner, &[]);
        let mut world = old(&spec, true);
        adopt(&spec, &mut world);
        world.records[which].environment_uid = "00000000-0000-0000-0000-00000000000b".to_owned();
        world.records.swap_remove(1 - which);
        let plan = record(&spec, &world, &Selected::default());
        prop_assert!(plan.steps.is_empty() && plan.refusals.len() == 1, "{}", plan);
    }
}
