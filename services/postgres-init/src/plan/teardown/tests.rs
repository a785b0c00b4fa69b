//! What holds of every teardown, whatever is on the server.

use std::collections::BTreeSet;

use lifecycle::document::{Ddl, OnDelete};
use proptest::prelude::*;

use super::facts::{Database, Facts, Prepared, Role, Session, Slot, Subscription, Use};
use super::*;
use crate::plan::tests::model;
use crate::spec::ServerSpec;

const OTHER: &str = "00000000-0000-0000-0000-00000000000b";
const NAMES: [&str; 3] = ["a", "b", "old"];

/// The documents declare `a` and `b`; `old` was declared once.
fn spec(delete: [bool; 3], report: bool) -> ServerSpec {
    let on_delete = |delete| if delete { OnDelete::Delete } else { OnDelete::Retain };
    let mut spec = model::spec(Ddl::AsOwner, &[]);
    spec.databases = vec![model::database("a", Ddl::AsOwner, &[]), model::database("b", Ddl::None, &[])];
    spec.databases[0].on_delete = on_delete(delete[0]);
    spec.databases[1].on_delete = on_delete(delete[1]);
    spec.databases[1].report_only = report;
    spec.on_delete = on_delete(delete[2]);
    spec.given.components = spec.databases.iter().map(|database| database.component.clone()).collect();
    spec
}

fn record(kind: Kind, name: &str, component: &str, oid: i64) -> Record {
    Record {
        kind,
        name: name.to_owned(),
        environment_uid: "00000000-0000-0000-0000-00000000000a".to_owned(),
        environment_name: "dev".to_owned(),
        fragment: "base".to_owned(),
        component: component.to_owned(),
        oid,
        spec_hash: None,
        finished: true,
        system_identifier: Some("1".to_owned()),
        adopted: None,
        leaving: false,
        now: None,
        renamed_from: None,
    }
}

/// A server on which `a`, `b` and `old` were made, each with an owner and a user, and the observer.
fn server() -> Facts {
    let mut facts = Facts {
        version: 160_000,
        admin: "postgres".to_owned(),
        system_identifier: Some("1".to_owned()),
        runs: 2,
        ..Facts::default()
    };
    for (i, name) in NAMES.iter().enumerate() {
        let (oid, component) = (100 + 10 * i64::try_from(i).unwrap(), format!("database/{name}"));
        let database = Database {
            name: (*name).to_owned(),
            oid,
            owner: format!("{name}_owner"),
            open: true,
            governed: true,
            ..Database::default()
        };
        facts.databases.push(database);
        facts.records.push(record(Kind::Database, name, &component, oid));
        for (role, oid) in [("owner", oid + 1), ("user", oid + 2)] {
            let role = format!("{name}_{role}");
            facts.roles.push(Role { name: role.clone(), oid, governed: true, replicates: false });
            facts.records.push(record(Kind::Role, &role, &component, oid));
            facts.uses.push(Use { role, database: Some((*name).to_owned()), things: 1 });
        }
    }
    let observer = "rollcall_observer_dev".to_owned();
    facts.roles.push(Role { name: observer.clone(), oid: 200, governed: true, replicates: false });
    facts.records.push(record(Kind::Observer, &observer, "postgres/main", 200));
    facts.uses.push(Use { role: observer, database: Some("rollcall".to_owned()), things: 1 });
    facts
}

/// What may have happened to it since.
#[derive(Debug, Clone)]
enum Since {
    Foreign(usize),
    Moved(usize),
    Elsewhere(usize),
    Adopted(usize),
    Leaving(usize),
    OtherOid(usize),
    OtherRole(usize),
    Dropped(usize),
    RoleDropped(usize),
    Unrecorded(usize),
    Ungoverned(usize),
    Invalid(usize),
    Session(usize, bool),
    Slot(usize),
    Physical(usize),
    Prepared(usize),
    Subscription(usize),
    UsedElsewhere(usize, usize),
}

fn since() -> impl Strategy<Value = Since> {
    let one = |make: fn(usize) -> Since| (0usize..16).prop_map(make);
    prop_oneof![
        one(Since::Foreign),
        one(Since::Moved),
        one(Since::Elsewhere),
        one(Since::Adopted),
        one(Since::Leaving),
        one(Since::OtherOid),
        one(Since::OtherRole),
        one(Since::Dropped),
        one(Since::RoleDropped),
        one(Since::Unrecorded),
        one(Since::Ungoverned),
        one(Since::Invalid),
        (0usize..16, any::<bool>()).prop_map(|(i, ends)| Since::Session(i, ends)),
        one(Since::Slot),
        one(Since::Physical),
        one(Since::Prepared),
        one(Since::Subscription),
        (0usize..16, 0usize..4).prop_map(|(i, j)| Since::UsedElsewhere(i, j)),
    ]
}

fn at<T>(items: &mut [T], i: usize, change: impl FnOnce(&mut T)) {
    if !items.is_empty() {
        let i = i % items.len();
        change(&mut items[i]);
    }
}

fn suffer(facts: &mut Facts, since: &Since) {
    match since {
        Since::Foreign(i) => at(&mut facts.records, *i, |r| r.environment_uid = OTHER.to_owned()),
        Since::Moved(i) => at(&mut facts.records, *i, |r| r.fragment = "other".to_owned()),
        Since::Elsewhere(i) => at(&mut facts.records, *i, |r| r.system_identifier = Some("2".to_owned())),
        Since::Adopted(i) => at(&mut facts.records, *i, |r| r.adopted = Some(BTreeSet::new())),
        Since::Leaving(i) => at(&mut facts.records, *i, |r| r.leaving = r.kind == Kind::Database),
        Since::OtherOid(i) => at(&mut facts.databases, *i, |d| d.oid += 1_000),
        Since::OtherRole(i) => at(&mut facts.roles, *i, |r| r.oid += 1_000),
        Since::Dropped(i) if !facts.databases.is_empty() => {
            let name = facts.databases.remove(i % facts.databases.len()).name;
            facts.uses.retain(|one| one.database.as_ref() != Some(&name));
        }
        Since::RoleDropped(i) if !facts.roles.is_empty() => {
            let name = facts.roles.remove(i % facts.roles.len()).name;
            facts.uses.retain(|one| one.role != name);
        }
        Since::Unrecorded(i) if !facts.records.is_empty() => {
            facts.records.remove(i % facts.records.len());
        }
        Since::Ungoverned(i) => at(&mut facts.roles, *i, |r| r.governed = false),
        Since::Invalid(i) => at(&mut facts.databases, *i, |d| d.invalid = true),
        Since::Session(i, ends) => facts.sessions.push(Session {
            database: Some(NAMES[i % 3].to_owned()),
            role: format!("{}_user", NAMES[i / 3 % 3]),
            ends: *ends,
            ..Session::default()
        }),
        Since::Slot(i) => facts.slots.push(Slot {
            name: "s".to_owned(),
            database: Some(NAMES[i % 3].to_owned()),
            role: None,
        }),
        Since::Physical(i) => {
            at(&mut facts.roles, *i, |r| r.replicates = true);
            facts.slots.push(Slot { name: "p".to_owned(), ..Slot::default() });
        }
        Since::Prepared(i) => facts.prepared.push(Prepared {
            gid: "g".to_owned(),
            database: NAMES[i % 3].to_owned(),
            owner: "x".to_owned(),
        }),
        Since::Subscription(i) => {
            let database = NAMES[i % 3].to_owned();
            facts.subscriptions.push(Subscription { name: "s".to_owned(), database });
        }
        Since::UsedElsewhere(i, j) => {
            let database = [Some("a"), Some("b"), Some("foreign"), None][*j].map(str::to_owned);
            let role = format!("{}_user", NAMES[i % 3]);
            facts.uses.push(Use { role, database, things: 3 });
        }
        _ => {}
    }
}

/// What a step makes of the server.
fn step_on(facts: &mut Facts, step: &Change) {
    let forget = |facts: &mut Facts, database: bool, name: &str| {
        facts.records.retain(|r| (r.kind == Kind::Database) != database || r.name != name);
    };
    match step {
        Change::Close { name, .. } => {
            facts.databases.iter_mut().filter(|d| d.name == *name).for_each(|d| d.open = false);
            let own = facts.records.iter_mut().filter(|r| r.kind == Kind::Database && r.name == *name);
            own.for_each(|r| r.leaving = true);
        }
        Change::Reopen { name, .. } => {
            facts.databases.iter_mut().filter(|d| d.name == *name).for_each(|d| d.open = true);
            let own = facts.records.iter_mut().filter(|r| r.kind == Kind::Database && r.name == *name);
            own.for_each(|r| r.leaving = false);
        }
        Change::End { name, .. } => facts.sessions.retain(|s| s.database.as_ref() != Some(name)),
        Change::DropDatabase { name, .. } => {
            assert!(facts.sessions.iter().all(|s| s.database.as_ref() != Some(name)), "it is in use");
            facts.databases.retain(|d| d.name != *name);
            facts.uses.retain(|u| u.database.as_ref() != Some(name));
            let own = facts.records.iter_mut().filter(|r| r.kind == Kind::Database && r.name == *name);
            own.for_each(|r| r.leaving = true);
        }
        Change::ForgetDatabase { name } => forget(facts, true, name),
        Change::DropRole { name, .. } => {
            assert!(facts.uses.iter().all(|u| u.role != *name), "{name} has things left");
            facts.roles.retain(|r| r.name != *name);
            forget(facts, false, name);
        }
        Change::ForgetRole { name } => forget(facts, false, name),
        Change::DropObserver { name, .. } => {
            facts.uses.retain(|u| u.role != *name);
            facts.roles.retain(|r| r.name != *name);
            forget(facts, false, name);
        }
    }
}

fn steps(parts: &[Part]) -> Vec<Change> {
    parts.iter().flat_map(|part| part.steps.clone()).collect()
}

prop_compose! {
    fn scenes()(
        delete in any::<[bool; 3]>(), report in any::<bool>(), orphans in prop::option::of(Just("database/old".parse::<Component>().unwrap())), cancel in prop::bool::weighted(0.15),
        happened in prop::collection::vec(since(), 0..6), shuffle in any::<u64>(),
    ) -> (ServerSpec, Vec<Component>, bool, Facts, u64) {
        let mut facts = server();
        for one in &happened {
            suffer(&mut facts, one);
        }
        // Nobody is in a database that is not there, or uses it.
        let there: BTreeSet<String> = facts.databases.iter().map(|database| database.name.clone()).collect();
        let is = |name: &Option<String>| {
            name.as_ref().is_none_or(|name| there.contains(name) || !NAMES.contains(&name.as_str()))
        };
        facts.sessions.retain(|session| is(&session.database));
        facts.uses.retain(|one| is(&one.database));
        (spec(delete, report), orphans.into_iter().collect(), cancel, facts, shuffle)
    }
}

proptest! {
    #[test]
    fn nothing_foreign_and_nothing_retained_is_ever_touched((spec, orphans, cancel, facts, _) in scenes()) {
        let wanted = Wanted { spec: &spec, orphans: &orphans, cancel };
        for part in plan(wanted, &facts, Expect::Done) {
            let opens = part.steps.iter().all(|step| matches!(step, Change::Reopen { .. }));
            prop_assert!(part.refused.is_empty() || opens);
            for step in &part.steps {
                if let Some((name, oid)) = step.thing() {
                    let own = facts.records.iter().find(|r| {
                        r.name == name && r.oid == oid && r.environment_uid == spec.environment.uid.to_string()
                    });
                    let own = own.unwrap_or_else(|| panic!("{step}: it carries no mark of ours"));
                    let there = facts.database(name).map(|d| d.oid).or_else(|| facts.role(name).map(|r| r.oid));
                    prop_assert_eq!(there, Some(oid), "{}: another thing than the one that was recorded", step);
                    let reopens = matches!(step, Change::Reopen { .. });
                    prop_assert!(reopens || own.system_identifier == facts.system_identifier);
                    prop_assert!(reopens || !own.is_held());
                }
                if !matches!(step, Change::Reopen { .. } | Change::ForgetDatabase { .. } | Change::DropObserver { .. }) {
                    prop_assert!(!cancel);
                    let database = spec.database(&part.component);
                    let wished = match (part.orphaned, database) {
                        (true, _) => !orphans.is_empty() && spec.on_delete == OnDelete::Delete,
                        (false, Some(database)) => database.on_delete == OnDelete::Delete && !database.report_only,
                        (false, None) => true,
                    };
                    prop_assert!(wished, "{}: nobody wished it", step);
                }
                if let Change::DropDatabase { name, .. } = step {
                    prop_assert!(!facts.slots.iter().any(|s| s.database.as_ref() == Some(name)));
                    prop_assert!(!facts.prepared.iter().any(|p| p.database == *name));
                    prop_assert!(!facts.subscriptions.iter().any(|s| s.database == *name));
                }
            }
        }
    }

    #[test]
    fn what_is_shown_is_what_is_done_and_nothing_is_left_to_do((spec, orphans, cancel, facts, _) in scenes()) {
        let wanted = Wanted { spec: &spec, orphans: &orphans, cancel };
        let mut world = facts.clone();
        let shown = plan(wanted, &facts, Expect::Done);
        // As it is made: each step is decided anew, by what is seen then.
        for part in &shown {
            let own = |world: &Facts| plan(wanted, world, Expect::Nothing).into_iter().find(|now| now.is(part));
            let mut made = Vec::new();
            while let Some(step) = own(&world).and_then(|now| now.steps.first().cloned()) {
                step_on(&mut world, &step);
                made.push(step);
                prop_assert!(made.len() < 20, "it ends");
            }
            prop_assert_eq!(&made, &part.steps, "{:?}", part);
        }
        prop_assert!(steps(&plan(wanted, &world, Expect::Done)).is_empty());
        prop_assert!(steps(&plan(wanted, &world, Expect::Nothing)).is_empty());
    }

    #[test]
    fn cut_off_anywhere_the_next_run_ends_where_one_run_would((spec, orphans, _, facts, cut) in scenes()) {
        let wanted = Wanted { spec: &spec, orphans: &orphans, cancel: false };
        let run = |world: &mut Facts, at_most: usize| {
            let mut made = 0;
            for part in plan(wanted, world, Expect::Done) {
                let own = |world: &Facts| plan(wanted, world, Expect::Nothing).into_iter().find(|now| now.is(&part));
                while let Some(step) = own(world).and_then(|now| now.steps.first().cloned()) {
                    if made == at_most {
                        return;
                    }
                    step_on(world, &step);
                    made += 1;
                }
            }
        };
        let (mut once, mut twice) = (facts.clone(), facts.clone());
        run(&mut once, usize::MAX);
        run(&mut twice, usize::try_from(cut % 12).unwrap());
        run(&mut twice, usize::MAX);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn the_order_of_what_is_seen_and_declared_does_not_matter((spec, orphans, cancel, facts, _) in scenes()) {
        let wanted = Wanted { spec: &spec, orphans: &orphans, cancel };
        let mut turned = facts.clone();
        turned.records.reverse();
        turned.databases.reverse();
        turned.roles.reverse();
        turned.uses.reverse();
        turned.slots.reverse();
        let mut other = spec.clone();
        other.databases.reverse();
        let turned = plan(Wanted { spec: &other, ..wanted }, &turned, Expect::Done);
        prop_assert_eq!(plan(wanted, &facts, Expect::Done), turned);
    }
}

#[test]
fn an_orphan_goes_only_where_the_fragment_of_its_server_says_so_and_is_refused_otherwise() {
    let old: Component = "database/old".parse().unwrap();
    let asked = [old.clone()];
    for (delete, report, named, goes, refused) in [
        (true, false, true, true, false),
        (false, false, true, false, true),
        (true, true, true, false, true),
        (true, false, false, false, false),
    ] {
        let mut spec = spec([false, false, delete], false);
        spec.report_only = report;
        let facts = server();
        let wanted = Wanted { spec: &spec, orphans: if named { &asked } else { &[] }, cancel: false };
        assert_eq!(
            orphans(wanted, &facts),
            [old.clone()].into(),
            "what is listed does not depend on the rest"
        );
        let parts = plan(wanted, &facts, Expect::Done);
        let of_it: Vec<&Part> = parts.iter().filter(|part| part.component == old).collect();
        assert_eq!(of_it.iter().any(|part| !part.steps.is_empty()), goes, "{of_it:?}");
        assert_eq!(of_it.iter().any(|part| !part.refused.is_empty()), refused, "{of_it:?}");
    }
}
