//! Journals and files, and what follows from them.

use super::*;
use crate::journal::{Entry, State, prefix};

fn sources(files: &[(&str, &str)]) -> Sources {
    Sources::of(files.iter().map(|(path, text)| (*path, *text)))
}

fn decide(files: &[(&str, &str)], world: &World, settings: &Settings) -> (Vec<String>, Vec<String>) {
    let plan = plan(world, &resolve(&sources(files), settings).unwrap(), settings);
    let refused = plan.problems.iter().filter(|p| p.refuses()).map(ToString::to_string).collect();
    (plan.steps.iter().map(ToString::to_string).collect(), refused)
}

/// The world after these have run.
fn after(files: &[(&str, &str)]) -> World {
    let migrations = resolve(&sources(files), &Settings::default()).unwrap();
    let entry = |(id, migration): (i64, &Migration)| Entry {
        id,
        script: migration.script.clone(),
        version: migration.version().map(ToString::to_string),
        checksum: checksum(migration),
        state: State::Done,
        done: units(migration).unwrap().len(),
        prefix: prefix(&units(migration).unwrap()),
        begun: None,
    };
    World { journal: Some((1..).zip(&migrations).map(entry).collect()), ..World::default() }
}

const FILES: [(&str, &str); 3] =
    [("V1__a.sql", "SELECT 1;"), ("V2__b.sql", "SELECT 2;\nVACUUM;\nSELECT 3;"), ("R__c.sql", "SELECT 4")];

#[test]
fn what_has_run_runs_no_more() {
    let settings = Settings::default();
    let all = ["create the journal", "run V1__a.sql", "run V2__b.sql", "run R__c.sql"];
    assert_eq!(decide(&FILES, &World::default(), &settings).0, all);
    assert_eq!(decide(&FILES, &after(&FILES), &settings), (vec![], vec![]));
    let changed = [FILES[0], ("V2__b.sql", "SELECT 0"), ("R__c.sql", "SELECT 5")];
    let (steps, refused) = decide(&changed, &after(&FILES), &settings);
    assert_eq!(steps, ["run R__c.sql"]);
    assert!(refused[0].starts_with("V2__b.sql: has changed since it ran"), "{refused:?}");
}

#[test]
fn what_was_left_in_the_middle_goes_on_there() {
    let settings = Settings::default();
    let mut world = after(&FILES);
    let open = &mut world.journal.as_mut().unwrap()[1];
    let left = units(&resolve(&sources(&FILES), &settings).unwrap()[1]).unwrap();
    (open.state, open.done, open.prefix) = (State::Failed, 1, prefix(&left[..1]));
    assert_eq!(decide(&FILES, &world, &settings).0, ["go on with V2__b.sql after statement 1"]);
    let corrected = [FILES[0], ("V2__b.sql", "SELECT 2;\nSELECT 'corrected'"), FILES[2]];
    assert_eq!(decide(&corrected, &world, &settings).0, ["go on with V2__b.sql after statement 1"]);
    let other = [FILES[0], ("V2__b.sql", "SELECT 22;\nVACUUM"), FILES[2]];
    assert!(
        decide(&other, &world, &settings).1[0]
            .contains("its first 1 statements have run and are not what they were")
    );
}

#[test]
fn order_baseline_and_rollback() {
    let settings = Settings::default();
    let late = [FILES[0], ("V1.5__n.sql", "SELECT 1"), FILES[1], FILES[2]];
    assert!(decide(&late, &after(&FILES), &settings).1[0].contains("has not run, but later versions have"));
    let out_of_order = Settings { out_of_order: true, ..settings.clone() };
    assert_eq!(decide(&late, &after(&FILES), &out_of_order).0, ["run V1.5__n.sql"]);
    let baseline = Settings { baseline: Some("1".to_owned()), ..settings.clone() };
    let steps = ["create the journal", "baseline at version 1", "run V2__b.sql", "run R__c.sql"];
    assert_eq!(decide(&FILES, &World::default(), &baseline).0, steps);
    // Files that are older than the database are no error, a hole is.
    assert_eq!(decide(&[FILES[0], FILES[2]], &after(&FILES), &settings), (vec![], vec![]));
    assert!(decide(&[FILES[1], FILES[2]], &after(&FILES), &settings).1[0].contains("is not there any more"));
}
