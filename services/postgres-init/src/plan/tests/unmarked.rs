//! What carries nobody's mark, where it is only reported on.

use super::*;
use crate::spec::Unmarked;

const OTHER: &str = "00000000-0000-0000-0000-00000000000b";

/// A server on which the old script was: the database belongs to the superuser, and nothing is recorded.
fn old(spec: &ServerSpec) -> World {
    let mut found = finished(spec);
    (found.registry, found.records) = (Registry::Missing, Vec::new());
    found.shared.databases.retain(|database| database.name != postgres::REGISTRY);
    found.shared.roles.retain(|role| role.name != "registry_owner");
    found.shared.databases[0].owner = "postgres".to_owned();
    found.shared.databases[0].grants.insert("=CONNECT".to_owned());
    found.shared.roles[0].powers = ["CREATEDB", "CREATEROLE"].map(str::to_owned).into();
    found.passwords.insert("registry_user".to_owned(), Password::Differs);
    found.inside.clear();
    found
}

fn reported(extensions: &[&str]) -> ServerSpec {
    ServerSpec { unmarked: Unmarked::Reported, ..spec(Ddl::AsOwner, extensions) }
}

#[test]
fn it_is_left_and_what_differs_is_said() {
    let spec = reported(&["pg_trgm"]);
    let mut found = old(&spec);
    assert!(needs_look(&spec, &spec.databases[0], &found));
    found.inside.insert("registry".to_owned(), Ok(Inside::default()));
    let plan = plan(&spec, &found);
    assert!(plan.steps.iter().all(|step| step.component == spec.component), "{plan}");
    assert!(leaves_all(&spec, &found), "so that the server is left as well");
    assert!(plan.refusals[0].text.contains("carry nobody's mark"), "{plan}");
    let text = plan.to_string();
    for words in [
        "has another password than secret/dev/registry-db key `password` holds",
        "has CREATEDB, CREATEROLE",
        "belongs to role `postgres`",
        "every role of the server may connect",
        "no extension `pg_trgm`",
    ] {
        assert!(text.contains(words), "`{words}`: {text}");
    }
    let strict = ServerSpec { unmarked: Unmarked::Refused, ..spec.clone() };
    assert!(
        !leaves(&strict, &strict.databases[0], &found) && !needs_look(&strict, &strict.databases[0], &found)
    );
}

#[test]
fn where_marks_cannot_be_read_nobody_is_said_to_have_none() {
    for unmarked in [Unmarked::Reported, Unmarked::Refused] {
        let spec = ServerSpec { unmarked, ..spec(Ddl::AsOwner, &["pg_trgm"]) };
        let mut found = finished(&spec);
        // Takes no connections.
        (found.registry, found.records) = (Registry::Missing, Vec::new());
        let database = &spec.databases[0];
        assert!(!leaves(&spec, database, &found) && !leaves_all(&spec, &found));
        assert!(!needs_look(&spec, database, &found));
        let this = plan(&spec, &found);
        assert!(this.refusals.is_empty() && this.pending.len() == 1, "{this}");
        assert!(this.pending[0].text.contains("whose it is cannot be told"), "{this}");
        assert!(this.steps.iter().all(|step| step.component == spec.component), "{this}");
        // Nothing of this run will make them readable.
        let mut report = ServerSpec { report_only: true, ..spec.clone() };
        report.databases[0].report_only = true;
        let this = plan(&report, &found);
        assert!(this.refusals.len() == 1 && this.pending.is_empty(), "{this}");
    }
}

#[test]
fn what_is_left_is_reported_in_its_own_words() {
    let spec = reported(&[]);
    let found = old(&spec);
    let text = chassis::converge::decide::<crate::PostgresTarget>(&spec, &found).to_string();
    assert!(text.contains("left as it is: database `registry` and role `registry_user` exist"), "{text}");
    assert!(text.contains("left as it is, for nothing is to be recorded; would otherwise"), "{text}");
    assert!(!text.contains("mode is report") && !text.contains("refused"), "{text}");
    let mut mode = ServerSpec { report_only: true, unmarked: Unmarked::Refused, ..spec };
    mode.databases[0].report_only = true;
    let text = chassis::converge::decide::<crate::PostgresTarget>(&mode, &found).to_string();
    assert!(text.contains("mode is report; would be refused: "), "{text}");
}

#[test]
fn what_is_known_to_be_anothers_and_what_is_half_there_is_refused() {
    let spec = reported(&[]);
    let leaves = |found: &World| leaves(&spec, &spec.databases[0], found);
    assert!(leaves(&old(&spec)));
    let without_role = |found: &mut World| found.shared.roles.clear();
    let without_database = |found: &mut World| found.shared.databases.clear();
    let cases: [&dyn Fn(&mut World); 2] = [&without_role, &without_database];
    for change in cases {
        let mut found = old(&spec);
        change(&mut found);
        assert!(!leaves(&found) && !plan(&spec, &found).refusals.is_empty(), "{}", plan(&spec, &found));
    }
    // Each of what is ours, as another's.
    for i in 0..3 {
        let mut found = finished(&spec);
        found.records[i].environment_uid = OTHER.to_owned();
        assert!(!leaves(&found) && !leaves_all(&spec, &found));
        // Marked by another, and beside it what nobody marked.
        let kept = found.records.remove(i);
        found.records = vec![kept];
        let plan = plan(&spec, &found);
        assert!(!leaves(&found) && plan.refusals[0].text.contains(OTHER), "{plan}");
    }
    assert!(!leaves(&finished(&spec)) && plan(&spec, &finished(&spec)).is_settled());
    assert!(!leaves(&world()) && plan(&spec, &world()).refusals.is_empty(), "what is new is made");
}
