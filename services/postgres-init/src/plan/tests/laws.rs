//! What holds whatever is on the server.

use std::collections::BTreeSet;

use lifecycle::document::Ddl;
use proptest::prelude::*;

use super::model::{database, finished, full, login, reader, spec, step_on};
use super::*;
use crate::spec::Unmarked;
use crate::world::facts::{Inside, Password, Record};

const OTHER: &str = "00000000-0000-0000-0000-00000000000b";

/// A server on which `a` and `b` were made, and then this happened.
#[derive(Debug, Clone)]
enum Mischief {
    ForgetRecord(usize),
    ForeignRecord(usize),
    OtherOid(usize),
    DropDatabase(usize),
    DropRole(usize),
    Powers(usize),
    Unfinish(usize),
    Open(usize),
    Close(usize),
    Empty(usize),
    Steal(usize),
    PasswordDiffers(usize),
    PasswordMissing(usize),
    Limits(usize),
    Settings(usize),
    Lacking(usize),
    Joined(usize),
    Ungoverned(usize),
    NoRegistry,
    /// Database `rollcall` takes no connections, so that nobody's mark can be read.
    Unreadable,
    Old,
}

fn mischief() -> impl Strategy<Value = Mischief> {
    let some = |make: fn(usize) -> Mischief| (0usize..8).prop_map(make);
    prop_oneof![
        some(Mischief::ForgetRecord),
        some(Mischief::ForeignRecord),
        some(Mischief::OtherOid),
        some(Mischief::DropDatabase),
        some(Mischief::DropRole),
        some(Mischief::Powers),
        some(Mischief::Unfinish),
        some(Mischief::Open),
        some(Mischief::Close),
        some(Mischief::Empty),
        some(Mischief::Steal),
        some(Mischief::PasswordDiffers),
        some(Mischief::PasswordMissing),
        some(Mischief::Limits),
        some(Mischief::Settings),
        some(Mischief::Lacking),
        some(Mischief::Joined),
        some(Mischief::Ungoverned),
        Just(Mischief::NoRegistry),
        Just(Mischief::Unreadable),
        Just(Mischief::Old),
    ]
}

/// Changes one of the items, if there are any.
fn at<T>(items: &mut [T], i: usize, change: impl FnOnce(&mut T)) {
    if !items.is_empty() {
        change(&mut items[i % items.len()]);
    }
}

fn suffer(world: &mut World, spec: &ServerSpec, mischief: &Mischief) {
    match mischief {
        Mischief::ForgetRecord(i) if !world.records.is_empty() => {
            drop(world.records.remove(i % world.records.len()));
        }
        Mischief::ForeignRecord(i) => {
            at(&mut world.records, *i, |r| r.environment_uid = OTHER.to_owned());
        }
        Mischief::OtherOid(i) => at(&mut world.records, *i, |r| r.oid += 5000),
        Mischief::DropDatabase(i) if !world.shared.databases.is_empty() => {
            let gone = world.shared.databases.remove(i % world.shared.databases.len());
            world.inside.remove(&gone.name);
            world
                .shared
                .roles
                .iter_mut()
                .for_each(|r| r.acts_as.retain(|a| !a.starts_with(&format!("{}=", gone.name))));
            if gone.name == postgres::REGISTRY {
                (world.registry, world.records) = (Registry::Missing, Vec::new());
            }
        }
        Mischief::DropRole(i) if !world.shared.roles.is_empty() => {
            let name = world.shared.roles[i % world.shared.roles.len()].name.clone();
            if world.shared.databases.iter().all(|d| d.owner != name) {
                world.shared.roles.retain(|role| role.name != name);
                let own = format!("{name}=");
                world.shared.databases.iter_mut().for_each(|d| d.grants.retain(|g| !g.starts_with(&own)));
            }
        }
        Mischief::Powers(i) => at(&mut world.shared.roles, *i, |role| {
            role.powers.insert("CREATEDB".to_owned());
            role.login = !role.login;
        }),
        Mischief::Unfinish(i) => {
            at(&mut world.records, *i, |r| (r.finished, r.spec_hash) = (false, None));
        }
        Mischief::Open(i) => {
            at(&mut world.shared.databases, *i, |d| d.grants.extend(["=CONNECT".to_owned()]));
        }
        Mischief::Close(i) => at(&mut world.shared.databases, *i, |d| d.open = false),
        Mischief::Empty(i) => {
            let name = spec.databases[i % spec.databases.len()].name.clone();
            world.inside.entry(name).and_modify(|seen| *seen = Ok(Inside::default()));
        }
        Mischief::Steal(i) => {
            at(&mut world.shared.databases, *i, |d| d.owner = "dba".to_owned());
        }
        Mischief::PasswordDiffers(i) => {
            let role = spec.databases[i % spec.databases.len()].app.role.clone();
            world.passwords.insert(role, Password::Differs);
        }
        Mischief::PasswordMissing(i) => {
            let role = spec.databases[i % spec.databases.len()].app.role.clone();
            world.passwords.insert(role, Password::Pending("secret missing".to_owned()));
        }
        Mischief::Limits(i) => {
            at(&mut world.shared.roles, *i, |role| role.limit = 1);
            at(&mut world.shared.databases, *i, |database| database.limit = 1);
        }
        Mischief::Settings(i) => {
            at(&mut world.shared.roles, *i, |role| role.settings.clear());
            at(&mut world.shared.databases, *i, |d| d.settings = ["search_path=other".to_owned()].into());
        }
        Mischief::Lacking(i) => {
            let database = &spec.databases[i % spec.databases.len()];
            let lacking =
                database.grants().into_iter().map(|(grantee, _)| format!("{grantee}:r:SELECT")).collect();
            if let Some(Ok(seen)) = world.inside.get_mut(&database.name) {
                seen.lacking = lacking;
            }
        }
        Mischief::Joined(i) => at(&mut world.shared.roles, *i, |role| {
            role.member_of.extend(["b_readers".to_owned(), "dba".to_owned()]);
        }),
        Mischief::Ungoverned(i) => at(&mut world.shared.roles, *i, |role| role.governed = false),
        Mischief::NoRegistry => {
            world.shared.databases.retain(|database| database.name != postgres::REGISTRY);
            (world.registry, world.records) = (Registry::Missing, Vec::new());
        }
        Mischief::Unreadable => {
            for registry in world.shared.databases.iter_mut().filter(|d| d.name == postgres::REGISTRY) {
                registry.open = false;
                (world.registry, world.records) = (Registry::Missing, Vec::new());
            }
        }
        Mischief::Old => world.shared.version = 140_000,
        _ => {}
    }
}

prop_compose! {
    fn specs()(ddl_a in any::<bool>(), ddl_b in any::<bool>(), trgm in any::<bool>(), observer in any::<bool>(), reported in any::<bool>(), whole in any::<bool>(), reads in any::<bool>()) -> ServerSpec {
        let ddl = |as_owner| if as_owner { Ddl::AsOwner } else { Ddl::None };
        let extensions: &[&str] = if trgm { &["pg_trgm"] } else { &[] };
        let mut spec = spec(Ddl::None, &[]);
        spec.databases = vec![database("a", ddl(ddl_a), extensions), database("b", ddl(ddl_b), &[])];
        if whole {
            spec.databases[0] = full("a");
        }
        if reads {
            spec.databases[1].readers = Some("b_readers".to_owned());
        }
        let read: Vec<&DatabaseSpec> = spec.databases.iter().filter(|database| database.readers.is_some()).collect();
        spec.roles = if read.is_empty() { Vec::new() } else { vec![reader(&read)] };
        spec.unmarked = if reported { Unmarked::Reported } else { Unmarked::Refused };
        spec.observer = observer.then(|| login("rollcall_observer_dev"));
        spec
    }
}

prop_compose! {
    /// What was made by one spec and suffered, and the spec that is to be now.
    fn cases()(before in specs(), now in specs(), half in 0usize..20, all in prop::collection::vec(mischief(), 0..4))
        -> (ServerSpec, World)
    {
        let mut world = super::model::world();
        if let Some(observer) = now.observer.as_ref().or(before.observer.as_ref()) {
            world.passwords.insert(observer.role.clone(), Password::Given);
        }
        // A run that died after some steps, or did not.
        for step in plan(&before, &world).steps.iter().take(if half < 15 { 2 * half } else { usize::MAX }) {
            step_on(&mut world, &before, step);
        }
        if half > 16 {
            plan(&before, &world).steps.iter().for_each(|step| step_on(&mut world, &before, step));
        }
        for mischief in &all {
            suffer(&mut world, &before, mischief);
        }
        (now, world)
    }
}

fn awaits_database(plan: &Plan<Step>) -> bool {
    plan.pending.iter().any(
        |note| matches!(&note.awaits, Awaits::Component(first) if first.kind() == lifecycle::Kind::Database),
    )
}

/// What is not this environment's: existing and without a record of ours.
fn foreign(world: &World, record: Option<&Record>, oid: i64) -> bool {
    let _ = world;
    record.is_none_or(|record| record.environment_uid == OTHER || record.oid != oid)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn applying_a_plan_leaves_nothing_to_do((spec, mut world) in cases()) {
        if !world.marks_were_read() {
            // What makes the records readable comes first; only then is it known whose the rest is.
            for step in &plan(&spec, &world).steps {
                step_on(&mut world, &spec, step);
            }
            prop_assert!(world.marks_were_read());
        }
        let mut before = plan(&spec, &world);
        if awaits_database(&before) {
            // A role that waits for a database of this run is made after it.
            before.steps.iter().for_each(|step| step_on(&mut world, &spec, step));
            before = plan(&spec, &world);
        }
        for step in &before.steps {
            step_on(&mut world, &spec, step);
        }
        let rest = plan(&spec, &world);
        prop_assert!(rest.steps.is_empty(), "first\n{before}then\n{rest}");
        prop_assert_eq!(rest.refusals, before.refusals);
    }

    #[test]
    fn applying_each_step_twice_is_applying_it_once((spec, mut world) in cases()) {
        let mut twice = world.clone();
        for step in &plan(&spec, &world).steps {
            step_on(&mut world, &spec, step);
            step_on(&mut twice, &spec, step);
            step_on(&mut twice, &spec, step);
        }
        prop_assert_eq!(world, twice);
    }

    #[test]
    fn the_order_of_what_is_declared_and_seen_does_not_matter((spec, world) in cases()) {
        let (mut other, mut seen) = (spec.clone(), world.clone());
        other.databases.reverse();
        seen.shared.roles.reverse();
        seen.shared.databases.reverse();
        seen.shared.settings.reverse();
        seen.records.reverse();
        let sorted = |plan: Plan<Step>| {
            let mut lines: Vec<String> = plan.to_string().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        prop_assert_eq!(sorted(plan(&other, &seen)), sorted(plan(&spec, &world)));
    }

    #[test]
    fn what_is_refused_or_undecided_is_left_whole((spec, world) in cases()) {
        let plan = plan(&spec, &world);
        let held: BTreeSet<_> = plan.refusals.iter().chain(&plan.pending).map(|note| &note.component).collect();
        for step in &plan.steps {
            prop_assert!(!held.contains(&step.component), "{plan}");
        }
    }

    #[test]
    fn only_what_is_known_to_carry_no_mark_is_left((spec, world) in cases()) {
        let plan = plan(&spec, &world);
        for database in &spec.databases {
            let known = world.marks_were_read() && world.database_record(&database.name).is_none()
                && world.role_record(&database.app.role).is_none();
            let left = leaves(&spec, database, &world);
            prop_assert!(!left || (known && spec.unmarked == Unmarked::Reported), "{plan}");
            prop_assert!(!left || plan.refusals.iter().any(|note| note.component == database.component), "{plan}");
        }
        prop_assert!(!leaves_all(&spec, &world) || spec.databases.iter().all(|one| leaves(&spec, one, &world)));
    }

    #[test]
    fn what_is_not_ours_is_never_touched((spec, world) in cases()) {
        let mut after = world.clone();
        for step in &plan(&spec, &world).steps {
            step_on(&mut after, &spec, step);
        }
        for role in world.shared.roles.iter().filter(|r| foreign(&world, world.role_record(&r.name), r.oid)) {
            prop_assert_eq!(after.role(&role.name), Some(role));
        }
        for record in world.records.iter().filter(|record| record.environment_uid == OTHER) {
            prop_assert!(after.records.contains(record));
        }
        for database in world.shared.databases.iter().filter(|d| d.name != postgres::REGISTRY) {
            // A database of a marked owner is ours before it is recorded.
            let half_made = world.database_record(&database.name).is_none()
                && world.role_record(&database.owner).is_some_and(|record| record.environment_uid != OTHER);
            if foreign(&world, world.database_record(&database.name), database.oid) && !half_made {
                prop_assert_eq!(after.database(&database.name), Some(database));
            }
        }
    }

    #[test]
    fn a_crash_after_any_step_is_finished_by_the_next_run(spec in specs(), k in 0usize..48) {
        let mut world = super::model::world();
        world.passwords.insert("rollcall_observer_dev".to_owned(), Password::Given);
        for step in plan(&spec, &world).steps.iter().take(k) {
            step_on(&mut world, &spec, step);
        }
        let rest = plan(&spec, &world);
        prop_assert!(rest.refusals.is_empty() && (rest.pending.is_empty() || awaits_database(&rest)), "{rest}");
        for step in &rest.steps {
            step_on(&mut world, &spec, step);
        }
        for step in &plan(&spec, &world).steps {
            prop_assert!(spec.role(&step.component).is_some(), "{step}");
            step_on(&mut world, &spec, step);
        }
        prop_assert!(plan(&spec, &world).is_settled(), "{}", plan(&spec, &world));
    }
}

#[test]
fn the_model_knows_what_finished_is() {
    let mut spec = spec(Ddl::None, &["pg_trgm"]);
    spec.observer = Some(login("rollcall_observer_dev"));
    assert!(plan(&spec, &finished(&spec)).is_settled());
}
