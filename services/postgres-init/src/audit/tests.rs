//! Each attack as a table, and the laws that hold for all servers.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::facts::{Database, Hole, Inside, Membership, Recorded, Rule, Shared, Verifier};
use super::*;

/// A server as `initdb` makes it, of this version.
fn fresh(version: u32) -> Facts {
    let database = |name: &str, oid| Database {
        name: name.to_owned(),
        oid,
        owner: "postgres".to_owned(),
        open: name != "template0",
        grants: BTreeSet::from(["=CONNECT".to_owned(), "=TEMPORARY".to_owned()]),
        ..Database::default()
    };
    let predefined =
        ["pg_execute_server_program", "pg_write_server_files", "pg_read_server_files", "pg_read_all_data"];
    let mut roles: Vec<Role> =
        predefined.map(|name| Role { name: name.to_owned(), ..Role::default() }).to_vec();
    roles.push(Role { oid: 10, login: true, superuser: true, inherit: true, ..role("postgres") });
    Facts {
        shared: Shared {
            version,
            wal_level: "logical".to_owned(),
            max_wal_senders: 10,
            max_replication_slots: 10,
            asker: "postgres".to_owned(),
            roles,
            memberships: Vec::new(),
            databases: vec![database("postgres", 5), database("template1", 1), database("template0", 4)],
        },
        verifiers: Some(BTreeMap::from([("postgres".to_owned(), Verifier::Scram)])),
        rules: Some(vec![
            rule("all", None),
            rule("all", Some("127.0.0.1")),
            rule("replication", None),
            rule("replication", Some("127.0.0.1")),
        ]),
        ..Facts::default()
    }
}

fn role(name: &str) -> Role {
    Role {
        name: name.to_owned(),
        oid: 20_000 + i64::from(name.as_bytes()[0]),
        login: true,
        inherit: true,
        ..Role::default()
    }
}

fn rule(database: &str, address: Option<&str>) -> Rule {
    Rule {
        line: 1,
        kind: "host".to_owned(),
        database: vec![database.to_owned()],
        user: vec!["all".to_owned()],
        address: address.map(ToOwned::to_owned),
        netmask: None,
        method: "scram-sha-256".to_owned(),
    }
}

fn member(role: &str, member: &str, admin: bool, inherit: bool, set: bool) -> Membership {
    Membership { role: role.to_owned(), member: member.to_owned(), admin, inherit, set }
}

/// A closed database of an owner, and the login role that is let into it.
fn tenant(facts: &mut Facts, name: &str) {
    let (owner, app) = (format!("{name}_owner"), format!("{name}_user"));
    facts.shared.roles.push(Role { login: false, ..role(&owner) });
    facts.shared.roles.push(role(&app));
    facts.shared.memberships.push(member(&owner, &app, false, true, true));
    facts.shared.databases.push(Database {
        name: name.to_owned(),
        oid: 30_000,
        owner,
        open: true,
        grants: BTreeSet::from([format!("{app}=CONNECT"), format!("{app}=TEMPORARY")]),
        ..Database::default()
    });
    facts.verifiers.get_or_insert_default().insert(app, Verifier::Scram);
}

fn attacks(facts: &Facts) -> Vec<(Class, Vec<String>)> {
    let attacks = audit(facts).into_iter().filter(|found| found.severity == Severity::Attack);
    attacks.map(|found| (found.class, found.who.into_iter().collect())).collect()
}

fn of(facts: &Facts, who: &str) -> BTreeSet<Class> {
    attacks(facts)
        .into_iter()
        .filter(|(_, all)| all.iter().any(|one| one == who))
        .map(|(class, _)| class)
        .collect()
}

#[test]
fn clean_servers_are_clean() {
    for version in [140_000, 150_000, 160_000, 180_000] {
        let mut facts = fresh(version);
        assert_eq!(audit(&facts), []);
        tenant(&mut facts, "registry");
        tenant(&mut facts, "pbms");
        assert_eq!(audit(&facts), []);
    }
}

#[test]
fn what_createrole_gives_depends_on_the_version() {
    for (version, expected) in [
        (150_000, vec![Class::OsCommand, Class::ForeignPassword, Class::ForeignDatabase, Class::ForeignRows]),
        (160_000, vec![]),
    ] {
        let mut facts = fresh(version);
        tenant(&mut facts, "one");
        tenant(&mut facts, "two");
        facts.shared.roles.iter_mut().find(|role| role.name == "one_user").unwrap().createrole = true;
        assert_eq!(of(&facts, "one_user"), expected.into_iter().collect(), "{version}");
        assert_eq!(of(&facts, "two_user"), BTreeSet::new());
    }
    // From 16 on with the ADMIN OPTION; what a role made itself is its own.
    let mut facts = fresh(180_000);
    tenant(&mut facts, "one");
    tenant(&mut facts, "two");
    facts.shared.roles.iter_mut().find(|role| role.name == "one_user").unwrap().createrole = true;
    facts.shared.memberships.push(member("two_user", "one_user", true, false, false));
    assert!(!of(&facts, "one_user").contains(&Class::ForeignPassword));
    facts.shared.memberships.push(member("two_user", "one_user", true, true, true));
    assert!(of(&facts, "one_user").contains(&Class::ForeignPassword));
}

#[test]
fn who_may_make_databases_copies_templates_of_others_and_needs_no_connection() {
    let with = |change: &dyn Fn(&mut Facts), who: &str| {
        let mut facts = fresh(180_000);
        tenant(&mut facts, "one");
        tenant(&mut facts, "two");
        facts.shared.roles.iter_mut().find(|role| role.name == "one_user").unwrap().createdb = true;
        change(&mut facts);
        of(&facts, who)
    };
    let template = |facts: &mut Facts, name: &str| {
        facts.shared.databases.iter_mut().find(|one| one.name == name).unwrap().template = true;
    };
    assert_eq!(with(&|facts| template(facts, "template1"), "one_user"), BTreeSet::new());
    assert_eq!(with(&|facts| template(facts, "one"), "one_user"), BTreeSet::new(), "its own");
    let rows = BTreeSet::from([Class::ForeignRows]);
    assert_eq!(with(&|facts| template(facts, "two"), "one_user"), rows);
    assert_eq!(with(&|facts| template(facts, "two"), "two_user"), BTreeSet::new());
    let acts = |facts: &mut Facts| {
        template(facts, "two");
        facts.shared.roles.push(role("three"));
        facts.shared.memberships.push(member("one_user", "three", false, false, true));
    };
    assert!(
        with(&acts, "three").contains(&Class::ForeignRows),
        "attributes count for who may act as the role"
    );
}

#[test]
fn replication_is_judged_by_settings_and_by_pg_hba() {
    let with = |change: &dyn Fn(&mut Facts)| {
        let mut facts = fresh(180_000);
        tenant(&mut facts, "one");
        facts.shared.roles.iter_mut().find(|role| role.name == "one_user").unwrap().replication = true;
        change(&mut facts);
        of(&facts, "one_user")
    };
    let (replication, slot) = (Class::Replication, Class::PhysicalSlot);
    assert_eq!(with(&|_| {}), BTreeSet::from([replication, slot]));
    let others = |facts: &mut Facts| facts.rules.as_mut().unwrap().retain(|rule| rule.database[0] == "all");
    assert_eq!(with(&others), BTreeSet::from([slot]), "`all` is not replication");
    let named = |facts: &mut Facts| {
        facts.rules.as_mut().unwrap().iter_mut().for_each(|r| r.user = vec!["+two".to_owned()]);
    };
    assert_eq!(with(&named), BTreeSet::from([slot]));
    let reject = |facts: &mut Facts| {
        facts.rules.as_mut().unwrap().iter_mut().for_each(|r| r.method = "reject".to_owned());
    };
    assert_eq!(with(&reject), BTreeSet::from([slot]));
    assert_eq!(
        with(&|facts| facts.rules = None),
        BTreeSet::from([replication, slot]),
        "unread counts as admitted"
    );
    assert_eq!(with(&|facts| facts.shared.max_replication_slots = 0), BTreeSet::from([replication]));
    assert_eq!(with(&|facts| facts.shared.wal_level = "minimal".to_owned()), BTreeSet::new());

    // Rows of others: only through a slot that decodes, in a database it may connect to.
    let open = |facts: &mut Facts| {
        tenant(facts, "two");
        facts.shared.databases.last_mut().unwrap().grants.insert("=CONNECT".to_owned());
    };
    assert_eq!(with(&open), BTreeSet::from([replication, slot, Class::ForeignDatabase, Class::LogicalSlot]));
    let replica = |facts: &mut Facts| {
        open(facts);
        facts.shared.wal_level = "replica".to_owned();
    };
    assert!(!with(&replica).contains(&Class::LogicalSlot));
}

#[test]
fn memberships_are_followed_as_the_server_follows_them() {
    let with = |memberships: Vec<Membership>| {
        let mut facts = fresh(180_000);
        facts.shared.roles.extend([role("app"), Role { login: false, replication: true, ..role("group") }]);
        facts.shared.memberships = memberships;
        of(&facts, "app")
    };
    let (os, slot) = (Class::OsCommand, Class::PhysicalSlot);
    let program = "pg_execute_server_program";
    assert_eq!(with(vec![member("group", "app", false, false, true)]), BTreeSet::from([slot]));
    assert_eq!(
        with(vec![member("group", "app", false, true, false)]),
        BTreeSet::new(),
        "attributes are not inherited"
    );
    assert_eq!(with(vec![member(program, "app", false, true, false)]), BTreeSet::from([os]));
    let through = |inherit, set| {
        vec![member("group", "app", false, inherit, set), member(program, "group", false, false, true)]
    };
    assert_eq!(with(through(false, true)), BTreeSet::from([os, slot]));
    assert_eq!(with(through(true, false)), BTreeSet::new(), "who only inherits may not SET ROLE further");
    assert_eq!(
        with(vec![member(program, "app", true, false, false)]),
        BTreeSet::from([os]),
        "the ADMIN OPTION is enough"
    );
}

#[test]
fn what_is_no_attack_is_told_as_less() {
    let mut facts = fresh(180_000);
    tenant(&mut facts, "one");
    facts.verifiers.as_mut().unwrap().insert("one_user".to_owned(), Verifier::Md5);
    let hole = Hole {
        role: "one_user".to_owned(),
        count: 2,
        example: "public.s".to_owned(),
        of: "postgres".to_owned(),
    };
    facts.inside.insert(
        "one".to_owned(),
        Ok(Inside {
            owners: BTreeMap::from([("one_owner".to_owned(), 1), ("one_user".to_owned(), 2)]),
            sequences: vec![hole.clone()],
            defaults: vec![hole],
        }),
    );
    facts.records = Some(vec![Recorded {
        kind: "database".to_owned(),
        name: "one".to_owned(),
        component: "database/one".to_owned(),
        oid: 30_000,
        adopted: Some(BTreeSet::from(["attributes".to_owned()])),
        ..Recorded::default()
    }]);
    let found: Vec<(Severity, Class)> =
        audit(&facts).into_iter().map(|found| (found.severity, found.class)).collect();
    assert_eq!(
        found,
        [
            (Severity::Warning, Class::WeakPassword),
            (Severity::Warning, Class::Grants),
            (Severity::Warning, Class::Grants),
            (Severity::Notice, Class::Owner),
            (Severity::Notice, Class::Adoption),
        ]
    );
    assert!(report("x".to_owned(), &facts).to_string().ends_with("= 0 attacks, 3 warnings, 2 notices\n"));
}

const NAMES: [&str; 5] = ["a", "b", "c", "pg_execute_server_program", "postgres"];

prop_compose! {
    fn any_role()(bits in 0u8..64) -> Role {
        Role {
            login: bits & 1 > 0, superuser: bits & 2 > 0 && bits & 4 > 0, createdb: bits & 4 > 0, createrole: bits & 8 > 0,
            replication: bits & 16 > 0, bypassrls: bits & 32 > 0, ..role("x")
        }
    }
}

prop_compose! {
    fn any_facts()(
        roles in prop::collection::vec(any_role(), 3),
        edges in prop::collection::vec((0usize..5, 0usize..5, 0u8..8), 0..6),
        doors in prop::collection::vec((0usize..3, 0usize..4), 0..4),
        version in prop_oneof![Just(140_000u32), Just(160_000), Just(180_000)],
        logical in any::<bool>(),
        read in any::<bool>(),
    ) -> Facts {
        let mut facts = fresh(version);
        for (role, name) in roles.into_iter().zip(NAMES) {
            facts.shared.roles.push(Role { name: name.to_owned(), ..role });
            facts.shared.databases.push(Database {
                name: format!("db_{name}"), oid: 40_000, owner: name.to_owned(), open: true, ..Database::default()
            });
        }
        for (to, from, bits) in edges {
            facts.shared.memberships.push(member(NAMES[to], NAMES[from], bits & 1 > 0, bits & 2 > 0, bits & 4 > 0));
        }
        for (to, from) in doors {
            let grantee = if from == 3 { "" } else { NAMES[from] };
            let database = facts.shared.databases.iter_mut().find(|d| d.name == format!("db_{}", NAMES[to])).unwrap();
            database.grants.insert(format!("{grantee}=CONNECT"));
        }
        if !logical { facts.shared.wal_level = "replica".to_owned(); }
        if !read { facts.rules = None; }
        facts
    }
}

proptest! {
    /// The order in which the server tells its roles, memberships and databases does not matter.
    #[test]
    fn order_does_not_matter(facts in any_facts()) {
        let mut turned = facts.clone();
        turned.shared.roles.reverse();
        turned.shared.memberships.reverse();
        turned.shared.databases.reverse();
        prop_assert_eq!(audit(&turned), audit(&facts));
        prop_assert_eq!(report("x".to_owned(), &turned), report("x".to_owned(), &facts));
    }

    /// Only who may log in is suspected, and nobody who is known to administer the server; naming one more takes findings about
    /// it away and adds none about others.
    #[test]
    fn administrators_are_not_suspected(facts in any_facts(), named in 0usize..3) {
        let mut knowing = facts.clone();
        knowing.administrators.insert(NAMES[named].to_owned());
        prop_assert_eq!(of(&knowing, NAMES[named]), BTreeSet::new());
        for name in NAMES {
            prop_assert!(of(&knowing, name).is_subset(&of(&facts, name)));
            if !facts.shared.roles.iter().any(|role| role.name == name && role.login && role.oid != BOOTSTRAP) {
                prop_assert_eq!(of(&facts, name), BTreeSet::new());
            }
        }
    }

    /// Taking a role's powers or memberships away never gives it an attack, but that what it was let into is not its own any more.
    #[test]
    fn less_power_is_never_more_attack(facts in any_facts(), which in 0usize..3) {
        let mut less = facts.clone();
        for role in less.shared.roles.iter_mut().filter(|role| role.name == NAMES[which]) {
            (role.superuser, role.createrole, role.replication) = (false, false, false);
        }
        // Of who is or can be a superuser only that is said.
        let was: BTreeSet<&str> = facts.shared.roles.iter().filter(|role| role.superuser).map(|role| role.name.as_str()).collect();
        prop_assume!(!facts.shared.memberships.iter().any(|membership| membership.role == "postgres"));
        if was.len() == 1 {
            // Of it: others may well reach what its powers kept from them.
            prop_assert!(of(&less, NAMES[which]).is_subset(&of(&facts, NAMES[which])));
        }
        let mut closed = facts.clone();
        closed.shared.memberships.clear();
        if was.len() == 1 {
            prop_assert!(of(&closed, "a").difference(&of(&facts, "a")).all(|class| *class == Class::ForeignDatabase || *class == Class::LogicalSlot || *class == Class::ForeignRows));
        }
    }
}
