//! What a document that changes a name makes: nothing beside what is there; and what somebody renamed is followed.

use super::*;
use crate::spec::{Account, Given};
use crate::world::facts::Now;

/// A server on which all of `spec` is made, as it looks to who asks for `wanted`: oids with the names that they have.
fn seen(spec: &ServerSpec, wanted: &ServerSpec, called: &[(&str, &str)]) -> World {
    let mut found = finished(spec);
    found.shared.system_identifier = Some("7".to_owned());
    let called =
        |name: &str| called.iter().find(|(from, _)| *from == name).map_or(name, |(_, to)| *to).to_owned();
    for record in &mut found.records {
        record.system_identifier = Some("7".to_owned());
        let role = found.shared.roles.iter().find(|role| role.oid == record.oid);
        let login = role.is_some_and(|role| role.login);
        let member_of = role.map(|role| role.member_of.clone()).unwrap_or_default();
        record.now = Some(Now { name: called(&record.name), login, member_of });
    }
    found.shared.databases.iter_mut().for_each(|database| {
        (database.name, database.owner) = (called(&database.name), called(&database.owner));
        database.grants = database
            .grants
            .iter()
            .map(|grant| {
                grant
                    .split_once('=')
                    .map_or_else(|| grant.clone(), |(who, what)| format!("{}={what}", called(who)))
            })
            .collect();
    });
    found.shared.roles.iter_mut().for_each(|role| role.name = called(&role.name));
    found.inside = found.inside.into_iter().map(|(name, inside)| (called(&name), inside)).collect();
    found.passwords = found.passwords.into_iter().map(|(name, one)| (called(&name), one)).collect();
    let identifier = found.shared.system_identifier.clone();
    found.records = follow(wanted, found.records, identifier.as_ref());
    found
}

fn named(spec: &ServerSpec, name: &str) -> ServerSpec {
    let mut spec = spec.clone();
    spec.databases[0].name = name.to_owned();
    spec.databases[0].owner = format!("{name}_owner");
    spec
}

#[test]
fn a_new_name_of_a_database_makes_no_empty_one_beside_what_is_there() {
    let before = spec(Ddl::AsOwner, &[]);
    let wanted = named(&before, "people");
    let found = seen(&before, &wanted, &[]);
    let text = refusal(&wanted, &found);
    for needle in [
        "database/registry is recorded as database `registry` (oid ",
        "the document now names `people`",
        "ALTER DATABASE \"registry\" RENAME TO \"people\"; ALTER ROLE \"registry_owner\" RENAME TO \"people_owner\"",
        "another component name",
    ] {
        assert!(text.contains(needle), "{needle}: {text}");
    }
    // What is gone is in nobody's way.
    let mut gone = found;
    gone.records.iter_mut().for_each(|record| record.now = None);
    gone.shared.databases.retain(|database| database.name == postgres::REGISTRY);
    gone.shared.roles.clear();
    assert!(plan(&wanted, &gone).refusals.is_empty());
}

#[test]
fn what_was_renamed_is_followed_and_recorded_once() {
    let before = spec(Ddl::AsOwner, &[]);
    let wanted = named(&before, "people");
    let mut found = seen(&before, &wanted, &[("registry", "people"), ("registry_owner", "people_owner")]);
    let made = steps(&wanted, &found);
    assert_eq!(
        made[..2],
        [
            "record role `people_owner` under this name, which was recorded as role `registry_owner`",
            "record database `people` under this name, which was recorded as database `registry`"
        ]
    );
    assert!(!made.iter().any(|step| step.starts_with("make ")), "{made:?}");
    for step in plan(&wanted, &found).steps {
        model::step_on(&mut found, &wanted, &step);
    }
    assert!(plan(&wanted, &found).is_settled(), "{}", plan(&wanted, &found));
}

#[test]
fn an_oid_tells_nothing_on_another_cluster_nor_for_another_component() {
    let before = spec(Ddl::AsOwner, &[]);
    let mut wanted = named(&before, "people");
    let called = [("registry", "people"), ("registry_owner", "people_owner")];
    let found = seen(&before, &wanted, &called);
    for theirs in [None, Some("8".to_owned())] {
        let mut records = finished(&before).records;
        for record in &mut records {
            record.system_identifier.clone_from(&theirs);
            record.now = Some(Now { name: "people".to_owned(), ..Now::default() });
        }
        assert_eq!(follow(&wanted, records.clone(), Some(&"7".to_owned())), records);
    }
    wanted.databases[0].component = Component::new(lifecycle::Kind::Database, "other");
    let text = refusal(&wanted, &found);
    assert!(
        text.contains("for database/registry and renamed since; database/other does not take it"),
        "{text}"
    );
}

#[test]
fn a_new_name_of_a_login_leaves_no_old_one_its_access() {
    let before = spec(Ddl::None, &[]);
    let mut wanted = before.clone();
    wanted.databases[0].app = model::login("a_user");
    let text = refusal(&wanted, &seen(&before, &wanted, &[]));
    for needle in [
        "database/registry has role `registry_user` recorded",
        "ALTER ROLE \"registry_user\" RENAME TO \"a_user\"",
        "ALTER ROLE \"registry_user\" NOLOGIN",
    ] {
        assert!(text.contains(needle), "{needle}: {text}");
    }
    let renamed = seen(&before, &wanted, &[("registry_user", "a_user")]);
    assert!(steps(&wanted, &renamed)[0].starts_with("record role `a_user` under this name"));
    // Its access was ended by somebody: the new one is made.
    let mut ended = seen(&before, &wanted, &[]);
    ended.records.iter_mut().filter_map(|record| record.now.as_mut()).for_each(|now| now.login = false);
    assert!(steps(&wanted, &ended).contains(&"make role `a_user`, which logs in".to_owned()));
    // Taking one away makes nothing.
    let mut more = before.clone();
    let others = model::full("registry").others;
    more.databases[0].others = others;
    assert!(plan(&before, &seen(&more, &before, &[])).refusals.is_empty());
}

#[test]
fn what_a_document_still_names_was_taken_from_under_it() {
    let wanted = spec(Ddl::AsOwner, &[]);
    let called = [("registry", "registry_old")];
    // For a restore, say: the name is free, and nothing empty is made under it.
    let text = refusal(&wanted, &seen(&wanted, &wanted, &called));
    for needle in [
        "database `registry` is called `registry_old` by now",
        "ALTER DATABASE \"registry_old\" RENAME TO \"registry\"",
        "name it so in the document",
    ] {
        assert!(text.contains(needle) && !text.contains("vanished"), "{needle}: {text}");
    }
    // What somebody dropped, or had on another cluster, has vanished.
    for elsewhere in [true, false] {
        let mut found = seen(&wanted, &wanted, &called);
        let records = found.records.iter_mut().filter(|record| record.kind == Kind::Database);
        for record in records {
            if elsewhere {
                record.system_identifier = Some("8".to_owned());
            } else {
                record.now = None;
            }
        }
        let text = refusal(&wanted, &found);
        assert!(text.contains("has vanished"), "{text}");
    }
    // Also where the record has the name of a component from before.
    let mut other = wanted.clone();
    other.databases[0].component = Component::new(lifecycle::Kind::Database, "people");
    let text = refusal(&other, &seen(&wanted, &other, &called));
    assert!(text.contains("`registry_old` by now"), "{text}");
    assert!(text.contains("rebind DOCUMENTS --component database/people"), "{text}");
}

#[test]
fn no_login_is_made_where_one_that_was_renamed_still_gets_in() {
    let wanted = spec(Ddl::AsOwner, &[]);
    let mut found = seen(&wanted, &wanted, &[("registry_user", "registry_old")]);
    let text = refusal(&wanted, &found);
    for needle in [
        "role `registry_user` is called `registry_old` by now",
        "ALTER ROLE \"registry_old\" RENAME TO \"registry_user\"",
        "ALTER ROLE \"registry_old\" NOLOGIN",
    ] {
        assert!(text.contains(needle), "{needle}: {text}");
    }
    found.records.iter_mut().filter_map(|record| record.now.as_mut()).for_each(|now| now.login = false);
    found.passwords.insert("registry_user".to_owned(), Password::Given);
    assert!(steps(&wanted, &found).contains(&"make role `registry_user`, which logs in".to_owned()));
}

#[test]
fn what_moved_is_told_by_the_component_that_asks() {
    let before = spec(Ddl::AsOwner, &[]);
    let mut wanted = before.clone();
    wanted.databases[0].component = Component::new(lifecycle::Kind::Database, "people");
    wanted.databases[0].fragment = "moved".to_owned();
    wanted.given = Given::whole(&wanted, &["base", "moved"]);
    let text = refusal(&wanted, &seen(&before, &wanted, &[]));
    assert!(text.contains("rebind DOCUMENTS --component database/people"), "{text}");
}

#[test]
fn a_login_for_a_change_of_passwords_waits_for_no_earlier_one() {
    let with = |login: &str| {
        let mut spec = spec(Ddl::AsOwner, &[]);
        let account = spec.databases[0].accounts().remove(0);
        spec.databases[0].others = vec![Account { login: model::login(login), ..account }];
        spec
    };
    let (before, wanted) = (with("registry_migrator"), with("registry_user_b"));
    let found = seen(&before, &wanted, &[]);
    let made = steps(&wanted, &found);
    assert!(made.contains(&"make role `registry_user_b`, which logs in".to_owned()), "{made:?}");
}

#[test]
fn a_new_name_of_a_login_that_migrates_leaves_no_old_one_the_owners_rights() {
    for ddl in [Ddl::None, Ddl::AsOwner] {
        let with = |login: &str| {
            let mut spec = spec(ddl, &[]);
            let database = &mut spec.databases[0];
            let account = Account { ddl: Ddl::AsOwner, ..database.accounts().remove(0) };
            database.others = vec![Account { login: model::login(login), ..account }];
            database.migrator = Some(login.to_owned());
            spec
        };
        let (before, wanted) = (with("registry_migrator"), with("registry_user_b"));
        let mut found = seen(&before, &wanted, &[]);
        let text = refusal(&wanted, &found);
        assert!(
            text.contains("role `registry_migrator` recorded")
                && text.contains("ALTER ROLE \"registry_migrator\" NOLOGIN"),
            "{text}"
        );
        // One that does not act as the owner came and went with a change of passwords.
        let mut now = found.records.iter_mut().filter_map(|record| record.now.as_mut());
        now.find(|now| now.name == "registry_migrator").unwrap().member_of.clear();
        assert!(plan(&wanted, &found).refusals.is_empty(), "{}", plan(&wanted, &found));
    }
}

#[test]
fn a_component_that_is_called_otherwise_takes_its_records_along() {
    let before = spec(Ddl::AsOwner, &[]);
    let mut wanted = before.clone();
    wanted.databases[0].component = Component::new(lifecycle::Kind::Database, "people");
    wanted.given = Given::whole(&wanted, &["base"]);
    let mut found = seen(&before, &wanted, &[]);
    let made = steps(&wanted, &found);
    assert_eq!(made.len(), found.records.iter().filter(|one| one.kind != Kind::Observer).count(), "{made:?}");
    assert!(
        made.contains(
            &"record database `registry` here, which was recorded for database/registry".to_owned()
        )
    );
    for step in plan(&wanted, &found).steps {
        model::step_on(&mut found, &wanted, &step);
    }
    assert_eq!(steps(&wanted, &found), Vec::<String>::new());
    // So a name that changes after that is still known not to be free.
    let mut next = wanted.clone();
    next.databases[0].name = "citizens".to_owned();
    next.given = Given::whole(&next, &["base"]);
    assert!(refusal(&next, &found).contains("is recorded as database `registry`"));

    // Where its own is declared elsewhere, or a document is missing that may declare it, a record stays where it is.
    let found = seen(&before, &wanted, &[]);
    for more in [Some(before.databases[0].component.clone()), None] {
        let mut wanted = wanted.clone();
        if more.is_none() {
            wanted.given.fragments.clear();
        }
        wanted.given.components.extend(more);
        assert_eq!(steps(&wanted, &found), Vec::<String>::new());
    }
}
