//! What a document can say beyond names: bounds, settings, schemas, readers, powers.

use lifecycle::sha256_hex;

use super::model::{available, full, reader};
use super::*;
use crate::spec::RoleSpec;
use crate::world::facts::{Available, HbaRule, Installed, Reach, Reached, SettingFacts};

fn whole() -> ServerSpec {
    ServerSpec { databases: vec![full("registry")], ..spec(Ddl::None, &[]) }
}

fn told(spec: &ServerSpec, world: &World) -> String {
    plan(spec, world).to_string()
}

#[test]
fn everything_is_made_in_order_and_the_modules_own_login_comes_last() {
    let spec = whole();
    assert_eq!(
        steps(&spec, &world()),
        [
            "make role `registry_owner`, which owns and cannot log in",
            "make role `registry_readers`, whose members read and which cannot log in",
            "make role `registry_migrator`, which logs in",
            "set REPLICATION CREATEDB BYPASSRLS on role `registry_migrator`",
            "let role `registry_migrator` have 7 sessions at once",
            "make role `registry_user_b`, which logs in",
            "set REPLICATION CREATEDB BYPASSRLS on role `registry_user_b`",
            "let role `registry_user_b` have 7 sessions at once",
            "make role `registry_user`, which logs in",
            "set REPLICATION CREATEDB BYPASSRLS on role `registry_user`",
            "let role `registry_user` have 7 sessions at once",
            "make database `registry`",
            "close database `registry` to everybody, and record it",
            "let database `registry` take 50 sessions at once",
            "set search_path for database `registry`",
            "make schema `own` of role `registry_owner`",
            "create extension `pg_trgm`",
            "let role `registry_user_b` use what `registry_owner`, `registry_migrator` make",
            "let role `registry_user` use what `registry_owner`, `registry_migrator` make",
            "let role `registry_readers` read what `registry_owner`, `registry_migrator` make",
            "let role `registry_readers` connect to database `registry`",
            "set work_mem for role `registry_migrator` in database `registry`",
            "let role `registry_migrator` act as `registry_owner`",
            "let role `registry_migrator` connect to database `registry`",
            "set work_mem for role `registry_user_b` in database `registry`",
            "let role `registry_user_b` connect to database `registry`",
            "set work_mem for role `registry_user` in database `registry`",
            "let role `registry_user` connect to database `registry`",
            "record that database `registry` is finished",
        ]
    );
    assert!(told(&spec, &world()).contains("role `dba`, which is to connect"), "it is not there");
    assert!(plan(&spec, &finished(&spec)).is_settled(), "{}", told(&spec, &finished(&spec)));
}

#[test]
fn what_an_older_version_recorded_stays_finished() {
    let old = database("registry", Ddl::AsOwner, &["pg_trgm", "unaccent"]);
    let hash =
        ["database v1", "registry", "registry_owner", "registry_user", "as-owner", "pg_trgm", "unaccent"];
    assert_eq!(old.hash(), sha256_hex(&hash));
    let all = full("registry");
    let each = [
        DatabaseSpec { readers: None, ..all.clone() },
        DatabaseSpec { connection_limit: None, ..all.clone() },
        DatabaseSpec { others: Vec::new(), ..all.clone() },
        DatabaseSpec { bounds: Bounds::default(), ..all.clone() },
        DatabaseSpec { encoding: "LATIN1".to_owned(), ..all.clone() },
        DatabaseSpec { schemas: [].into(), ..all.clone() },
        DatabaseSpec { connect_also: [].into(), ..all.clone() },
        DatabaseSpec { settings: [].into(), ..all.clone() },
    ];
    let hashes: BTreeSet<String> = each.iter().chain([&all]).map(DatabaseSpec::hash).collect();
    assert_eq!(hashes.len(), each.len() + 1, "each counts");

    let said = |bounds: Bounds| RoleSpec { bounds, ..reader(&[&all]) }.hash();
    let recorded = r#"{"connection_limit":3,"replication":false,"settings":{}}"#;
    let recorded = sha256_hex(&["role v1", "bi", recorded, "registry_readers"]);
    let three = Bounds { connection_limit: Some(3), ..Bounds::default() };
    assert_eq!(said(three.clone()), recorded);
    let more = [
        Bounds { create_db: true, ..three.clone() },
        Bounds { bypass_rls: true, ..three.clone() },
        Bounds { replication: true, ..three },
    ];
    let hashes: BTreeSet<String> = more.into_iter().map(said).chain([recorded]).collect();
    assert_eq!(hashes.len(), 4);
}

#[test]
fn a_setting_is_compared_as_the_server_takes_it_and_others_are_left() {
    let spec = whole();
    let mut found = finished(&spec);
    found.shared.databases[0].settings = ["search_path=\"own\", public", "jit=off"].map(str::to_owned).into();
    assert!(plan(&spec, &found).is_settled(), "{}", told(&spec, &found));
    found.shared.databases[0].settings = ["search_path=\"own, public\"".to_owned()].into();
    assert_eq!(steps(&spec, &found), ["set search_path for database `registry`"]);
}

#[test]
fn settings_that_cannot_be_made_are_refused() {
    let spec = whole();
    let mut found = world();
    let mut with = |context: Option<&str>, may| {
        let context = context.map(str::to_owned);
        found.shared.settings[0] = SettingFacts { name: "work_mem".to_owned(), context, may };
        plan(&spec, &found)
    };
    assert!(with(None, true).refusals[0].text.contains("the server knows no such setting"));
    assert!(with(Some("sighup"), true).refusals[0].text.contains("its context is sighup"));
    assert!(with(Some("superuser"), false).refusals[0].text.contains("GRANT SET ON PARAMETER work_mem"));
    assert!(with(Some("superuser"), true).refusals.is_empty());
}

#[test]
fn an_extension_that_requires_what_only_a_superuser_makes_is_refused_to_others() {
    let spec = spec(Ddl::AsOwner, &["pg_trgm"]);
    let mut found = world();
    found.shared.superuser = false;
    found.shared.available[0].requires = ["plpython3u".to_owned()].into();
    found.shared.available.push(Available { superuser: true, ..available("plpython3u") });
    let text = refusal(&spec, &found);
    assert!(
        text.contains("extension `plpython3u`, which `pg_trgm` requires, can be made or brought to another version by a superuser only"),
        "{text}"
    );
    let mut there = finished(&spec);
    there.shared.superuser = false;
    there.shared.available.clone_from(&found.shared.available);
    assert!(plan(&spec, &there).is_settled(), "what is there needs nobody");
    // Under the lock the inside is not looked at again, and nothing is refused for it.
    there.inside.clear();
    assert!(plan(&spec, &there).refusals.is_empty());
}

#[test]
fn an_extension_is_brought_to_a_later_version_and_never_back() {
    let mut spec = spec(Ddl::AsOwner, &[]);
    let at = |version: &str| Extension { version: Some(version.to_owned()), ..Extension::new("pg_trgm") };
    let installed = |version: &str| {
        let mut found = finished(&ServerSpec {
            databases: vec![database("registry", Ddl::AsOwner, &["pg_trgm"])],
            ..spec.clone()
        });
        let one = Installed { version: version.to_owned(), schema: "public".to_owned() };
        found.inside.insert(
            "registry".to_owned(),
            Ok(Inside { extensions: [("pg_trgm".to_owned(), one)].into(), ..Inside::default() }),
        );
        found
    };
    let (older, newer) = (installed("1.5"), installed("1.10"));
    spec.databases[0].extensions = vec![at("1.6")];
    assert!(steps(&spec, &older).contains(&"bring extension `pg_trgm` to version 1.6".to_owned()));
    let plan = plan(&spec, &newer);
    assert!(plan.drift.iter().any(|note| note.text.contains("version 1.10, newer than 1.6")), "{plan}");
}

#[test]
fn a_role_that_replicates_beside_others_is_refused_with_each_reason() {
    let spec = whole();
    let mut found = world();
    let rule = |method: &str, user: &str| HbaRule {
        line: 4,
        kind: "host".to_owned(),
        users: vec![user.to_owned()],
        address: Some("all".to_owned()),
        method: method.to_owned(),
    };
    let foreign = |open| vec![Reached { name: "theirs".to_owned(), oid: 5, open, ..Reached::default() }];
    let mut with = |reach: Reach| {
        found.shared.reach = Some(reach);
        plan(&spec, &found).refusals.iter().map(|note| note.text.clone()).collect::<Vec<_>>().join("\n")
    };
    let closed = Reach { databases: foreign(false), hba: Some(Vec::new()), slots_bounded: true };
    assert_eq!(with(closed.clone()), "");
    for (reach, says) in [
        (Reach { databases: foreign(true), ..closed.clone() }, "every role may connect to `theirs`"),
        (Reach { hba: None, ..closed.clone() }, "cannot be seen by role `postgres`"),
        (Reach { hba: Some(vec![rule("scram-sha-256", "all")]), ..closed.clone() }, "line 4 of pg_hba.conf"),
        (Reach { slots_bounded: false, ..closed.clone() }, "set max_slot_wal_keep_size"),
    ] {
        let text = with(reach);
        assert!(text.contains(says) && text.contains("`registry_user` with REPLICATION"), "{says}: {text}");
    }
    let rejected = vec![rule("reject", "all"), rule("trust", "all")];
    assert_eq!(with(Reach { hba: Some(rejected), ..closed }), "");

    // Who has it already is told, and keeps it.
    let mut there = finished(&spec);
    there.shared.reach = Some(Reach { databases: foreign(true), ..Reach::default() });
    let plan = plan(&spec, &there);
    assert!(plan.is_settled(), "{plan}");
    for power in ["REPLICATION", "BYPASSRLS"] {
        let told = plan.drift.iter().filter(|note| note.text.contains(&format!("with {power} would reach")));
        assert_eq!(told.count(), 3, "{power}: {plan}");
    }
}

#[test]
fn a_role_reads_what_it_is_told_to_and_is_finished_last() {
    let mut spec = whole();
    spec.roles = vec![reader(&[&spec.databases[0]])];
    let mut found = finished(&ServerSpec { roles: Vec::new(), ..spec.clone() });
    let told: Vec<String> = plan(&spec, &found).steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "make role `bi`, which logs in",
            "let role `bi` have 3 sessions at once",
            "make role `bi` a member of `registry_readers`",
            "record that role `bi` is finished",
        ]
    );
    for step in plan(&spec, &found).steps {
        model::step_on(&mut found, &spec, &step);
    }
    assert!(plan(&spec, &found).is_settled());
    let bi = found.shared.roles.iter_mut().find(|role| role.name == "bi").unwrap();
    bi.member_of.extend(["registry_owner", "pg_read_all_data"].map(str::to_owned));
    let plan = plan(&spec, &found);
    assert_eq!(plan.steps[0].to_string(), "end that role `bi` is a member of `registry_owner`");
    assert!(plan.drift[1].text.contains("member of `pg_read_all_data`"), "{plan}");

    spec.roles[0].unknown.push("database/elsewhere".parse().unwrap());
    assert!(
        refusal(&ServerSpec { databases: Vec::new(), ..spec }, &found)
            .contains("is to read database/elsewhere")
    );
}
