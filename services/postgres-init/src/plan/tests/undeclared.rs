//! What is recorded and declared no more is told, and only that.

use super::*;
use crate::spec::{Given, ServerSpec};
use crate::world::facts::Now;

/// What is told of a server on which `before` was made, to who now has only `now`.
fn told(before: &ServerSpec, now: &ServerSpec, change: impl Fn(&mut World)) -> Vec<String> {
    let mut found = finished(before);
    for record in &mut found.records {
        let login = found.shared.roles.iter().any(|role| role.oid == record.oid && role.login);
        record.now = Some(Now { name: record.name.clone(), login, ..Now::default() });
    }
    change(&mut found);
    let plan = plan(now, &found);
    assert!(plan.refusals.is_empty(), "{plan}");
    plan.drift.iter().map(|note| format!("{}: {}", note.component, note.text)).collect()
}

#[test]
fn only_what_a_given_fragment_declares_no_more_is_told() {
    let mut before = spec(Ddl::None, &[]);
    before.databases.push(database("b", Ddl::None, &[]));
    let mut now = spec(Ddl::None, &[]);
    now.given.fragments = ["base".to_owned()].into();
    let all = told(&before, &now, |_| {});
    assert_eq!(all.len(), 1, "{all:?}");
    for needle in [
        "postgres/main: database `b`, role `b_owner`, role `b_user` are recorded for database/b of fragment `base`",
        "`b_user` still logs in; ALTER ROLE \"b_user\" NOLOGIN ends its access",
        "`postgres-init teardown DOCUMENTS --orphan database/b`",
        "on_delete: delete",
    ] {
        assert!(all[0].contains(needle), "{needle}: {all:?}");
    }

    let nothing = |now: &ServerSpec, change: fn(&mut World)| {
        let all = told(&before, now, change);
        assert!(all.is_empty(), "{all:?}");
    };
    nothing(&ServerSpec { given: Given::default(), ..now.clone() }, |_| {});
    nothing(&before, |_| {});
    nothing(&now, |world| {
        let going = world.records.iter_mut().filter(|record| record.component == "database/b");
        going.for_each(|record| record.leaving = true);
    });
    nothing(&now, |world| {
        world.records.iter_mut().for_each(|record| record.now = None);
    });
    nothing(&now, |world| {
        let theirs = world.records.iter_mut().filter(|record| record.component == "database/b");
        theirs.for_each(|record| record.environment_uid = "00000000-0000-0000-0000-00000000000b".to_owned());
    });
    // One component at a time is looked at as well, and its neighbours are declared all the same.
    let mut whole = before.clone();
    whole.given = Given::whole(&before, &["base"]);
    nothing(&whole.only(&whole.databases[0].component), |_| {});
}
