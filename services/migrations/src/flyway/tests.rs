//! Histories and files, and what follows from them.

use proptest::prelude::*;

use super::history::Row;
use super::plan::OtherHistory;
use super::*;
use crate::guard::Present;
use crate::statement::Name;

fn files(files: &[(&str, &str)]) -> Sources {
    Sources::of(files.iter().map(|(path, text)| (*path, *text)))
}

fn migrations(sources: &Sources, settings: &Settings) -> Vec<Migration> {
    resolve(sources, settings, &Place { schema: "public".to_owned(), ..Place::default() }).unwrap()
}

fn decide(sources: &Sources, world: &World, settings: &Settings) -> (Vec<String>, Vec<String>) {
    let plan = plan("public", world, &migrations(sources, settings), settings);
    let problems = plan.problems.iter().filter(|p| p.refuses()).map(ToString::to_string).collect();
    (plan.steps.iter().map(ToString::to_string).collect(), problems)
}

fn row(rank: i32, migration: &Migration) -> Row {
    Row {
        installed_rank: rank,
        version: migration.version().map(ToString::to_string),
        description: migration.description.clone(),
        kind: "SQL".to_owned(),
        script: migration.script.clone(),
        checksum: Some(migration.checksum),
        success: true,
        cut: false,
    }
}

fn empty() -> World {
    World { exists: true, ..World::default() }
}

/// The world after these migrations have run.
fn after(migrations: &[Migration]) -> World {
    let rows = (1..).zip(migrations).map(|(rank, migration)| row(rank, migration)).collect();
    World { exists: true, holds_something: true, history: Some(rows), ..World::default() }
}

#[test]
fn versions_run_in_their_order_and_repeatable_ones_last() {
    let sources = files(&[
        ("R__b.sql", "b"),
        ("V10__c.sql", "c"),
        ("V9__d.sql", "d"),
        ("R__a.sql", "a"),
        ("U9__d.sql", "x"),
    ]);
    let (steps, problems) = decide(&sources, &empty(), &Settings::default());
    assert_eq!(
        steps,
        ["create the history table", "run V9__d.sql", "run V10__c.sql", "run R__a.sql", "run R__b.sql"]
    );
    assert!(problems.is_empty());
}

#[test]
fn a_repeatable_one_runs_again_when_it_has_changed() {
    let (old, new) = (files(&[("R__a.sql", "a")]), files(&[("R__a.sql", "b")]));
    let world = after(&migrations(&old, &Settings::default()));
    assert!(decide(&old, &world, &Settings::default()).0.is_empty());
    assert_eq!(decide(&new, &world, &Settings::default()).0, ["run R__a.sql"]);
}

#[test]
fn what_has_run_must_not_change_or_vanish() {
    let settings = Settings::default();
    let world =
        after(&migrations(&files(&[("V1__a.sql", "a"), ("V2__b.sql", "b"), ("V3__c.sql", "c")]), &settings));
    let said = |sources: &[(&str, &str)], settings: &Settings| {
        decide(&files(sources), &world, settings).1.join("\n")
    };
    assert!(
        said(&[("V1__a.sql", "x"), ("V2__b.sql", "b"), ("V3__c.sql", "c")], &settings)
            .contains("V1__a.sql: has changed")
    );
    assert!(
        said(&[("V1__z.sql", "a"), ("V2__b.sql", "b"), ("V3__c.sql", "c")], &settings)
            .contains("calls it `a`")
    );
    let gone = [("V1__a.sql", "a"), ("V3__c.sql", "c")];
    assert!(said(&gone, &settings).contains("version 2 has run, but has no file"));
    assert_eq!(said(&gone, &Settings { ignore_missing: true, ..settings.clone() }), "");
    // A rollback to older files is no error.
    assert_eq!(said(&[("V1__a.sql", "a"), ("V2__b.sql", "b")], &settings), "");
    let late = [("V1__a.sql", "a"), ("V1.5__n.sql", "n"), ("V2__b.sql", "b"), ("V3__c.sql", "c")];
    assert!(said(&late, &settings).contains("V1.5__n.sql: version 1.5 has not run, but later ones have"));
    let out_of_order = Settings { out_of_order: true, ..settings };
    assert_eq!(decide(&files(&late), &world, &out_of_order).0, ["run V1.5__n.sql"]);
}

#[test]
fn a_failed_one_stops_all() {
    let sources = files(&[("V1__a.sql", "a"), ("V2__b.sql", "b")]);
    let mut world = after(&migrations(&sources, &Settings::default())[..1]);
    world.history.as_mut().unwrap()[0].success = false;
    assert!(
        decide(&sources, &world, &Settings::default()).1[0]
            .contains("V1__a.sql: the history says that it failed (rank 1)")
    );
}

#[test]
fn deleted_and_undone_versions_run_again() {
    let sources = files(&[("V1__a.sql", "a"), ("V2__b.sql", "b")]);
    let all = migrations(&sources, &Settings::default());
    for kind in ["DELETE", "UNDO_SQL"] {
        let mut world = after(&all);
        let undone = Row { kind: kind.to_owned(), ..row(3, &all[1]) };
        world.history.as_mut().unwrap().push(undone);
        assert_eq!(decide(&sources, &world, &Settings::default()).0, ["run V2__b.sql"], "{kind}");
    }
}

#[test]
fn a_schema_that_holds_something_is_baselined_only_when_asked_and_never_over_our_own_tables() {
    let sources = files(&[("V1__a.sql", "CREATE TABLE a (x int)"), ("V2__b.sql", "CREATE TABLE b (x int)")]);
    let settings = Settings::default();
    let mut world = World { holds_something: true, ..empty() };
    assert!(
        decide(&sources, &world, &settings).1[0]
            .contains("holds something and has no history `flyway_schema_history`")
    );
    let settings = Settings { baseline_on_migrate: true, ..settings };
    let (steps, problems) = decide(&sources, &world, &settings);
    assert_eq!(steps, ["create the history table", "baseline at version 1", "run V2__b.sql"]);
    assert!(problems.is_empty());

    world.present = Present { tables: [Name::qualified("public", "b")].into(), ..Present::default() };
    assert!(
        decide(&sources, &world, &settings).1[0]
            .starts_with("V2__b.sql:1: makes table `b`, which is there already")
    );
    world.present = Present::default();
    let other = OtherHistory {
        table: "egov_user_schema_version".to_owned(),
        scripts: ["V1__a.sql".to_owned()].into(),
    };
    world.others = vec![other];
    assert!(
        decide(&sources, &world, &settings).1[0].contains("but `egov_user_schema_version` records V1__a.sql")
    );
}

#[test]
fn dropping_what_was_there_has_to_be_allowed() {
    let sources =
        files(&[("V2__enc.sql", "CREATE TABLE mine (x int);\nDROP TABLE IF EXISTS keys;\nDROP TABLE mine")]);
    let mut world = after(&[]);
    let settings = Settings::default();
    assert!(decide(&sources, &world, &settings).1.is_empty(), "on an empty database it drops nothing");
    world.present = Present { tables: [Name::qualified("public", "keys")].into(), ..Present::default() };
    assert_eq!(decide(&sources, &world, &settings).1.len(), 1);
    assert!(decide(&sources, &world, &settings).1[0].starts_with("V2__enc.sql:2: DROP TABLE of `keys`"));
    let allowed = Settings { allow: Allow::Files(["V2__enc.sql".to_owned()].into()), ..settings };
    assert!(decide(&sources, &world, &allowed).1.is_empty());
}

#[test]
fn a_baseline_file_stands_for_what_came_before_where_nothing_has_run() {
    let sources = files(&[("B2__all.sql", "b"), ("V1__a.sql", "a"), ("V2__b.sql", "b"), ("V3__c.sql", "c")]);
    let settings = Settings::default();
    assert_eq!(
        decide(&sources, &empty(), &settings).0,
        ["create the history table", "run B2__all.sql", "run V3__c.sql"]
    );
    let world = after(&migrations(&files(&[("V1__a.sql", "a")]), &settings));
    assert_eq!(decide(&sources, &world, &settings).0, ["run V2__b.sql", "run V3__c.sql"]);
}

#[test]
fn schemas_are_made_or_asked_for_and_a_target_is_kept() {
    let sources = files(&[("V1__a.sql", "a"), ("V2__b.sql", "b")]);
    let settings = Settings { target: Some("1".to_owned()), ..Settings::default() };
    let (steps, _) = decide(&sources, &World::default(), &settings);
    assert_eq!(steps, ["create the schema", "create the history table", "run V1__a.sql"]);
    let settings = Settings { create_schemas: false, ..settings };
    assert!(decide(&sources, &World::default(), &settings).1[0].contains("there is no schema `public`"));
}

#[test]
fn everything_that_is_wrong_offline_is_said_at_once() {
    let sources = Sources::of([
        ("main/V1__a.sql", b"SELECT 1;\nSELECT 'open".to_vec()),
        ("main/V2_b.sql", b"SELECT 1".to_vec()),
        ("main/V3__c.sql", b"SELECT '${gone}'".to_vec()),
        ("main/V4__d.sql", b"a\n\xff".to_vec()),
        ("seed/V5__e.sql", b"SELECT 1".to_vec()),
        ("dev/V5__e.sql", b"SELECT 1".to_vec()),
        ("dev/V6__e.sql", b"SELECT 1".to_vec()),
        ("dev/V6__e.sql.conf", b"shouldExecute=false".to_vec()),
        ("qa/V5__e.sql", b"SELECT 1".to_vec()),
    ]);
    let locations = ["/main", "seed", "dev", "none"].map(str::to_owned).to_vec();
    let settings = Settings { locations, target: Some("x".to_owned()), ..Settings::default() };
    let said: Vec<String> = check(&sources, &settings).iter().map(ToString::to_string).collect();
    for expected in [
        "`x` is no version",
        "main/V1__a.sql:2: a string that is never closed",
        "main/V2_b.sql: `V2_b` is no name of a migration",
        "main/V3__c.sql:1: no value for the placeholder `${gone}`",
        "main/V4__d.sql:2: not UTF-8",
        "seed/V5__e.sql: version 5 is in dev/V5__e.sql too",
        "dev/V6__e.sql.conf: `false` is",
        "none: no file is there",
    ] {
        let there = said.iter().any(|said| said.starts_with(expected));
        assert!(there || expected.contains("conf"), "{expected} in {said:#?}");
    }
    assert!(said.iter().any(|said| said.starts_with("dev/V6__e.sql.conf: `shouldExecute`")), "{said:#?}");
    assert_eq!(said.len(), 8, "{said:#?}");
}

#[test]
fn timestamps_out_of_the_calendar_are_worth_knowing() {
    let sources = files(&[
        ("V20180607185601__a.sql", "a"),
        ("V201810171130331__b.sql", "b"),
        ("V202205020500__c.sql", "c"),
        ("V20202412090311.1__d.sql", "d"),
    ]);
    let problems = check(&sources, &Settings::default());
    assert!(problems.iter().all(|p| !p.refuses()));
    let files: Vec<&str> = problems.iter().map(|p| p.file.as_str()).collect();
    assert_eq!(files, ["V202205020500__c.sql", "V20202412090311.1__d.sql", "V201810171130331__b.sql"]);
}

#[test]
fn a_mixed_file_is_refused_where_it_has_not_run() {
    let sources = files(&[("V1__a.sql", "SELECT 1;\nVACUUM;"), ("V2__b.sql", "VACUUM;\nDISCARD ALL;")]);
    let said = check(&sources, &Settings::default());
    assert!(said.len() == 1 && !said[0].refuses() && said[0].to_string().starts_with("V1__a.sql:2: has"));
    let all = migrations(&sources, &Settings::default());
    assert_eq!(decide(&sources, &empty(), &Settings::default()).1, [said[0].to_string()]);
    assert_eq!(decide(&sources, &after(&all[..1]), &Settings::default()).1, Vec::<String>::new());
}

#[test]
fn what_was_cut_runs_again_only_where_it_may() {
    let sources = files(&[("V1__a.sql", "VACUUM;"), ("V2__b.sql", "CREATE DATABASE a;")]);
    let all = migrations(&sources, &Settings::default());
    let of = |n: usize, cut, checksum| {
        let mut world = after(&all[..=n]);
        let row = world.history.as_mut().unwrap().last_mut().unwrap();
        (row.success, row.cut) = (false, cut);
        row.checksum = checksum;
        decide(&sources, &world, &Settings::default())
    };
    assert_eq!(of(0, true, Some(all[0].checksum)).0, ["run V1__a.sql", "run V2__b.sql"]);
    assert!(of(0, false, Some(all[0].checksum)).1[0].contains("the history says that it failed (rank 1)"));
    assert!(of(0, true, Some(7)).1[0].contains("has not ended (rank 1)"));
    assert!(
        of(1, true, Some(all[1].checksum)).1[0].starts_with("V2__b.sql: the history says that it was begun")
    );
}

#[test]
fn tables_of_other_services_are_told() {
    let sources = files(&[
        ("V1__own.sql", "CREATE TABLE own (x int);\nCREATE VIEW seen AS SELECT x FROM own;"),
        ("V2__theirs.sql", "INSERT INTO own SELECT 1 FROM seen;\nUPDATE eg_userrole_v1 SET code = 'x';"),
    ]);
    let said: Vec<String> = check(&sources, &Settings::default()).iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("V2__theirs.sql:2: uses table `eg_userrole_v1`, which none of these files makes")
    );
}

#[test]
fn the_lock_is_flyways() {
    assert_eq!(lock_number("", ""), 77_431_708_279_161 + i64::from(java_hash("\"\".\"\"")));
    assert_ne!(lock_number("public", "a"), lock_number("public", "b"));
}

/// `s[0]*31^(n-1) + … + s[n-1]`, as Java's documentation has it, in a wider type.
fn java_hash(text: &str) -> i32 {
    let sum = text.bytes().fold(0i128, |sum, byte| (sum * 31 + i128::from(byte)) % (1 << 32));
    u32::try_from(sum).unwrap().cast_signed()
}

proptest! {
    #[test]
    fn once_all_have_run_nothing_is_left(versions in proptest::collection::btree_set(1u32..40, 0..6), repeatable in proptest::collection::btree_set("[a-c]", 0..3)) {
        let names = versions.iter().map(|v| format!("V{v}__x.sql")).chain(repeatable.iter().map(|r| format!("R__{r}.sql")));
        let sources = Sources::of(names.map(|name| (name.clone(), name)));
        let settings = Settings { locations: vec![String::new()], ..Settings::default() };
        if !sources.is_empty() {
            let (steps, problems) = decide(&sources, &empty(), &settings);
            prop_assert_eq!(steps.len(), 1 + versions.len() + repeatable.len());
            prop_assert!(problems.is_empty());
            let (steps, problems) = decide(&sources, &after(&migrations(&sources, &settings)), &settings);
            prop_assert!(steps.is_empty() && problems.is_empty(), "{steps:?} {problems:?}");
        }
    }

    #[test]
    fn whatever_has_run_the_rest_runs_out_of_order(ran in proptest::collection::vec(any::<bool>(), 6)) {
        let sources = Sources::of((1..=6).map(|v| (format!("V{v}__x.sql"), format!("{v}"))));
        let settings = Settings { out_of_order: true, ..Settings::default() };
        let all = migrations(&sources, &settings);
        let (done, left): (Vec<_>, Vec<_>) = all.iter().cloned().zip(ran).partition(|(_, ran)| *ran);
        let done: Vec<Migration> = done.into_iter().map(|(m, _)| m).collect();
        let (steps, problems) = decide(&sources, &after(&done), &settings);
        prop_assert_eq!(steps, left.iter().map(|(m, _)| format!("run {}", m.file)).collect::<Vec<_>>());
        prop_assert!(problems.is_empty());
    }
}
