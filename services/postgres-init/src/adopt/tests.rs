//! What is given back and bound anew, whom a class cuts off, and in which order things change their owner.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::{Ddl, Identity, Postgres, SecretKey, Tls};
use lifecycle::{Component, Kind as ComponentKind};
use proptest::prelude::*;

use super::moves::{Borrowed, Held as Inside, Thing, moves};
use super::*;
use crate::audit::facts::Recorded;
use crate::plan::{Change, Step};
use crate::spec::{DatabaseSpec, Login, ServerSpec, Unmarked};
use crate::world::facts::{DatabaseFacts, Kind, Record, RoleFacts, TextFacts, World};

fn login(role: &str) -> Login {
    let secret = Component::namespaced(ComponentKind::Secret, "dev", "db");
    Login { role: role.to_owned(), password: SecretKey { secret, key: "password".to_owned() } }
}

fn database(name: &str, ddl: Ddl) -> DatabaseSpec {
    let component = Component::new(ComponentKind::Database, name);
    let (owner, app) = (format!("{name}_owner"), login(&format!("{name}_user")));
    DatabaseSpec::new(component, "base".to_owned(), name.to_owned(), owner, app, ddl)
}

fn spec(databases: &[&str]) -> ServerSpec {
    ServerSpec {
        component: Component::new(ComponentKind::Postgres, "main"),
        fragment: "base".to_owned(),
        namespace: "dev".to_owned(),
        connection: Postgres {
            host: "db".to_owned(),
            port: 5432,
            tls: Tls::default(),
            admin: None,
            observer: None,
            delegate: Vec::new(),
        },
        admin: login("postgres"),
        environment: Identity { name: "dev".to_owned(), uid: uuid::Uuid::from_u128(10) },
        observer: Some(login("rollcall_observer_dev")),
        databases: databases.iter().map(|name| database(name, Ddl::AsOwner)).collect(),
        roles: Vec::new(),
        report_only: false,
        on_delete: lifecycle::document::OnDelete::Retain,
        unmarked: Unmarked::Refused,
        prefers_tls: false,
        converging: None,
        delegated: std::collections::BTreeSet::new(),
        namespaces: std::collections::BTreeMap::new(),
        given: crate::spec::Given::default(),
    }
}

fn recorded(kind: &str, name: &str, component: &str, uid: u128) -> Recorded {
    Recorded {
        kind: kind.to_owned(),
        name: name.to_owned(),
        component: component.to_owned(),
        fragment: "base".to_owned(),
        environment_uid: uuid::Uuid::from_u128(uid).to_string(),
        oid: 1,
        ..Recorded::default()
    }
}

fn records(databases: &[&str], uid: u128) -> Vec<Recorded> {
    let mut all = vec![recorded(
        "observer",
        if uid == 10 { "rollcall_observer_dev" } else { "rollcall_observer_b" },
        "postgres/main",
        uid,
    )];
    for name in databases {
        let component = format!("database/{name}");
        all.push(recorded("database", name, &component, uid));
        all.push(recorded("role", &format!("{name}_owner"), &component, uid));
        all.push(recorded("role", &format!("{name}_user"), &component, uid));
    }
    all
}

fn observed() -> World {
    let mut world = World::default();
    world.shared.roles.push(RoleFacts {
        name: "rollcall_observer_dev".to_owned(),
        oid: 1,
        login: true,
        powers: BTreeSet::new(),
        member_of: BTreeSet::new(),
        admin_of: BTreeSet::new(),
        acts_as: BTreeSet::new(),
        limit: -1,
        settings: BTreeSet::new(),
        governed: true,
    });
    world
}

fn select(components: &[&str]) -> Selected {
    Selected::new(components.iter().map(|name| name.parse().unwrap()))
}

#[test]
fn the_observer_goes_with_the_last_mark_of_its_environment_and_the_registry_with_the_last_of_all() {
    let (spec, world) = (spec(&["a", "b"]), observed());
    let all = records(&["a", "b"], 10);
    let one = release(&spec, &world, &all, &select(&["database/a"]), true);
    assert_eq!(one.steps.len(), 3, "{one}");
    assert!(
        one.to_string().contains("observes 3 more things") && one.to_string().contains("holds 4 more"),
        "{one}"
    );

    let every = release(&spec, &world, &all, &Selected::default(), false);
    assert_eq!(every.steps.len(), 7, "{every}");
    assert!(
        every.to_string().contains("drop role `rollcall_observer_dev`")
            && every.to_string().contains("--drop-registry")
    );
    let with = release(&spec, &world, &all, &Selected::default(), true);
    assert_eq!(with.steps.last().unwrap().mark, Mark::DropRegistry);

    // Another's records keep it, and none of them is touched.
    let mut both = all.clone();
    both.extend(records(&["c"], 11));
    let plan = release(&spec, &world, &both, &Selected::default(), true);
    assert!(!plan.steps.iter().any(|step| step.mark == Mark::DropRegistry), "{plan}");
    // A role that is not the recorded one is not dropped.
    let mut world = world;
    world.shared.roles[0].oid = 2;
    let plan = release(&spec, &world, &all, &Selected::default(), false);
    assert!(!plan.to_string().contains("drop role"), "{plan}");
}

#[test]
fn what_is_being_torn_down_is_not_released_whatever_it_is_called_by_now() {
    let spec = spec(&["a"]);
    let all = records(&["a"], 10);
    for (name, renamed_from) in [("a", None), ("b", Some("a".to_owned()))] {
        let mut world = observed();
        let leaving = Record {
            kind: Kind::Database,
            name: name.to_owned(),
            environment_uid: spec.environment.uid.to_string(),
            environment_name: "dev".to_owned(),
            fragment: "base".to_owned(),
            component: "database/a".to_owned(),
            oid: 1,
            spec_hash: None,
            finished: true,
            system_identifier: None,
            adopted: None,
            leaving: true,
            now: None,
            renamed_from,
        };
        world.records = vec![leaving];
        let plan = release(&spec, &world, &all, &Selected::default(), false);
        assert!(plan.refusals[0].text.contains("is being torn down"), "{name}: {plan}");
    }
}

proptest! {
    /// What is given back is only ever this environment's own, of a component that is declared by the fragment that has it.
    #[test]
    fn nothing_foreign_is_released(
        who in prop::collection::vec((10u128..12, prop::bool::ANY, 0usize..3), 1..8), chosen in prop::option::of(0usize..3), drop in any::<bool>()
    ) {
        let names = ["a", "b", "c"];
        let spec = spec(&["a", "b"]);
        let all: Vec<Recorded> = who
            .iter()
            .enumerate()
            .map(|(i, (uid, own, name))| Recorded {
                fragment: if *own { "base" } else { "other" }.to_owned(),
                ..recorded("role", &format!("r{i}"), &format!("database/{}", names[*name]), *uid)
            })
            .collect();
        let selected = chosen.map_or_else(Selected::default, |i| select(&[&format!("database/{}", names[i])]));
        let plan = release(&spec, &World::default(), &all, &selected, drop);
        for step in &plan.steps {
            if let Mark::Release { name, .. } = &step.mark {
                let record = all.iter().find(|record| record.name == *name).unwrap();
                prop_assert!(record.environment_uid == spec.environment.uid.to_string() && record.fragment == "base");
                prop_assert!(selected.takes(&step.component) && record.component != "database/c");
            } else {
                prop_assert_eq!(&step.mark, &Mark::DropRegistry);
                prop_assert_eq!(plan.steps.len() - 1, all.len(), "only with the last record");
            }
        }
        let mut turned = all.clone();
        turned.reverse();
        prop_assert_eq!(release(&spec, &World::default(), &turned, &selected, drop).steps, plan.steps);
    }
}

fn crossing(sessions: &[(&str, u64)], strangers: &[&str]) -> Crossing {
    Crossing {
        sessions: sessions.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect::<BTreeMap<_, _>>(),
        strangers: strangers.iter().map(ToString::to_string).collect(),
        ..Crossing::default()
    }
}

#[test]
fn who_is_connected_is_not_cut_off_unless_that_is_said() {
    let database = database("a", Ddl::AsOwner);
    let crossing = crossing(&[("reader", 2), ("a_user", 5)], &["reader", "idle"]);
    let run = |leave: &Leave| cut(Class::PublicConnect, &database, &World::default(), &[], &crossing, leave);
    let Cut { said, refused } = run(&Leave::default());
    assert_eq!((said.len(), refused.len()), (2, 1), "{said:?} {refused:?}");
    assert!(refused[0].contains("`reader` is connected") && refused[0].contains("2 sessions"), "{refused:?}");
    let named = |name: &str| BTreeSet::from([name.to_owned()]);
    assert!(run(&Leave { connect_also: named("reader"), ..Leave::default() }).refused.is_empty());
    assert!(run(&Leave { cut_off: named("reader"), ..Leave::default() }).refused.is_empty());
    // The document says so too.
    let let_in = DatabaseSpec { connect_also: named("reader"), ..database.clone() };
    let none = Leave::default();
    assert!(cut(Class::PublicConnect, &let_in, &World::default(), &[], &crossing, &none).refused.is_empty());

    let mut world = World::default();
    world.shared.databases.push(DatabaseFacts {
        name: "a".to_owned(),
        oid: 1,
        owner: "legacy".to_owned(),
        open: true,
        grants: BTreeSet::new(),
        limit: -1,
        settings: BTreeSet::new(),
        text: TextFacts::default(),
    });
    let owns =
        |crossing: &Crossing, leave: &Leave| cut(Class::Ownership, &database, &world, &[], crossing, leave);
    let Cut { said, refused } = owns(&crossing, &Leave::default());
    assert!(said[0].contains("`legacy` owns the database no more") && refused.is_empty(), "{said:?}");
    let mut connected = crossing.clone();
    connected.sessions.insert("legacy".to_owned(), 1);
    assert!(owns(&connected, &Leave::default()).refused[0].contains("--cut-off legacy"));
    assert!(owns(&connected, &Leave { cut_off: named("legacy"), ..Leave::default() }).refused.is_empty());
    connected.supers.insert("legacy".to_owned());
    assert!(owns(&connected, &Leave::default()).refused.is_empty(), "a superuser keeps all it can do");
}

#[test]
fn limits_and_attributes_that_shut_out_who_is_connected_are_refused() {
    let database = database("a", Ddl::AsOwner);
    let mut crossing = crossing(&[("a_user", 5), ("postgres", 9)], &[]);
    crossing.everywhere = BTreeMap::from([("a_user".to_owned(), 7), ("a_owner".to_owned(), 1)]);
    crossing.walsenders.insert("a_user".to_owned(), 1);
    crossing.supers.insert("postgres".to_owned());
    let set = |set: &str| vec![set.to_owned()];
    for (change, refused, who) in [
        (
            Change::RoleLimit { role: "a_user".to_owned(), limit: 6 },
            "7 sessions now and is to have 6",
            Some("a_user"),
        ),
        (Change::RoleLimit { role: "a_user".to_owned(), limit: 7 }, "", None),
        (Change::DatabaseLimit { name: "a".to_owned(), limit: 4 }, "5 sessions now, and is to take 4", None),
        (Change::DatabaseLimit { name: "a".to_owned(), limit: 5 }, "", None),
        (
            Change::Attributes { role: "a_owner".to_owned(), set: set("NOLOGIN") },
            "not to log in",
            Some("a_owner"),
        ),
        (
            Change::Attributes { role: "a_user".to_owned(), set: set("NOREPLICATION") },
            "replicates now",
            Some("a_user"),
        ),
        (Change::Attributes { role: "a_user".to_owned(), set: set("NOCREATEDB") }, "", None),
    ] {
        let steps = [Step { component: database.component.clone(), change }];
        let run =
            |leave| cut(Class::Attributes, &database, &World::default(), &steps, &crossing, &leave).refused;
        let found = run(Leave::default());
        assert_eq!(found.is_empty(), refused.is_empty(), "{found:?}");
        assert!(found.iter().all(|text| text.contains(refused)), "{found:?}");
        if let Some(who) = who {
            let cut_off = BTreeSet::from([who.to_owned()]);
            assert!(run(Leave { cut_off, ..Leave::default() }).is_empty());
        }
    }
}

fn thing(kind: &str, name: &str) -> Thing {
    Thing { kind: kind.to_owned(), name: name.to_owned(), owner: "a_user".to_owned(), sequences: Vec::new() }
}

#[test]
fn things_change_their_owner_in_an_order_in_which_nothing_is_out_of_reach() {
    let inside = Inside {
        things: vec![
            thing("SCHEMA", "s"),
            thing("TABLE", "s.t"),
            thing("VIEW", "s.v"),
            thing("ROUTINE", "s.f()"),
        ],
        borrowed: vec![
            Borrowed { kind: "TABLE".to_owned(), name: "x.t".to_owned(), privileges: "SELECT".to_owned() },
            Borrowed { kind: "SCHEMA".to_owned(), name: "x".to_owned(), privileges: "USAGE".to_owned() },
        ],
        others: Vec::new(),
        beyond: Vec::new(),
    };
    let sql = |ddl, member: bool, version, inside: &Inside| -> Vec<String> {
        let members = member.then(|| "a_user".to_owned()).into_iter().collect();
        moves(&database("a", ddl), "postgres", &members, version, inside)
            .unwrap()
            .into_iter()
            .map(|one| one.sql)
            .collect()
    };
    let all = sql(Ddl::AsOwner, false, 180_000, &inside);
    assert_eq!(
        all,
        [
            "GRANT \"a_owner\" TO \"a_user\" WITH INHERIT TRUE, SET TRUE",
            "ALTER DATABASE \"a\" OWNER TO \"a_owner\"",
            "GRANT USAGE ON SCHEMA x TO \"a_owner\"",
            "ALTER SCHEMA s OWNER TO \"a_owner\"",
            "ALTER TABLE s.t OWNER TO \"a_owner\"",
            "GRANT SELECT ON TABLE x.t TO \"a_owner\"",
            "ALTER VIEW s.v OWNER TO \"a_owner\"",
            "ALTER ROUTINE s.f() OWNER TO \"a_owner\"",
        ]
    );
    assert!(
        sql(Ddl::AsOwner, false, 150_000, &inside)[0].starts_with("ALTER ROLE \"a_user\" INHERIT; GRANT")
    );
    // Who does not act as the owner is granted each thing in the very transaction that gives it away.
    for one in sql(Ddl::None, false, 180_000, &inside)
        .iter()
        .filter(|one| one.starts_with("ALTER") && !one.contains(" SCHEMA x"))
    {
        assert!(one.contains("; GRANT") && one.ends_with("TO \"a_user\""), "{one}");
    }
    // Who is no superuser is a member for as long as it takes.
    let borrowed = sql(Ddl::AsOwner, true, 160_000, &Inside { beyond: vec!["a_user".to_owned()], ..inside });
    assert_eq!(borrowed.first().unwrap(), "GRANT \"a_user\" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE");
    assert_eq!(borrowed.last().unwrap(), "REVOKE \"a_user\" FROM CURRENT_USER");
    let members = BTreeSet::from(["a_user".to_owned()]);
    let nothing =
        moves(&database("a", Ddl::AsOwner), "a_owner", &members, 160_000, &Inside::default()).unwrap();
    assert_eq!(nothing, [], "what is done is not done again");
}
