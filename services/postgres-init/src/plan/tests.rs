//! Each decision as a table, and the laws that hold for all worlds.

mod adopted;
mod declared;
mod laws;
pub(in crate::plan) mod model;
mod names;
mod powers;
mod renamed;
mod undeclared;
mod unmarked;

use lifecycle::document::{Ddl, Extension};

use super::*;
use crate::world::facts::{Blind, Inside, Kind, Password};
use model::{app, database, finished, spec, world};

fn only(spec: &ServerSpec, world: &World) -> Plan<Step> {
    let plan = plan(spec, world);
    let of_server = plan.steps.iter().filter(|step| step.component == spec.component).count();
    assert_eq!(of_server, usize::from(world.registry != Registry::Ready));
    plan
}

fn refusal(spec: &ServerSpec, world: &World) -> String {
    let plan = only(spec, world);
    assert!(plan.steps.iter().all(|step| step.component == spec.component), "{plan}");
    assert_eq!(plan.refusals.len(), 1, "{plan}");
    plan.refusals[0].text.clone()
}

fn steps(spec: &ServerSpec, world: &World) -> Vec<String> {
    let plan = only(spec, world);
    assert!(plan.refusals.is_empty() && plan.pending.is_empty(), "{plan}");
    plan.steps.iter().filter(|step| step.component != spec.component).map(ToString::to_string).collect()
}

#[test]
fn nothing_there_is_made_in_order_and_marked_last() {
    let (spec, world) = (spec(Ddl::AsOwner, &["pg_trgm"]), world());
    let plan = plan(&spec, &world);
    let text = plan.to_string();
    assert_eq!(
        text,
        "+ postgres/main: make database `rollcall` for locks and ownership records\n\
         + database/registry: make role `registry_owner`, which owns and cannot log in\n\
         + database/registry: make role `registry_user`, which logs in\n\
         + database/registry: make database `registry`\n\
         + database/registry: close database `registry` to everybody, and record it\n\
         + database/registry: create extension `pg_trgm`\n\
         + database/registry: let role `registry_user` act as `registry_owner`\n\
         + database/registry: let role `registry_user` connect to database `registry`\n\
         + database/registry: record that database `registry` is finished\n"
    );
}

#[test]
fn what_is_finished_is_settled() {
    for ddl in [Ddl::AsOwner, Ddl::None] {
        let spec = spec(ddl, &["pg_trgm"]);
        let world = finished(&spec);
        assert!(plan(&spec, &world).is_settled(), "{}", plan(&spec, &world));
    }
}

#[test]
fn what_carries_no_mark_is_refused_with_the_way_out() {
    let spec = spec(Ddl::AsOwner, &[]);
    let mut found = finished(&spec);
    found.records.retain(|record| record.kind == Kind::Role);
    found.shared.databases[0].owner = "postgres".to_owned();
    let text = refusal(&spec, &found);
    assert!(text.contains("database `registry` exists and carries no mark of environment `dev`"), "{text}");
    assert!(text.contains("naming: {database: \"{environment}_{name}\""), "{text}");
    assert!(text.contains("record DOCUMENTS --component database/registry"), "{text}");

    found.records.clear();
    let text = refusal(&spec, &found);
    assert!(text.contains("role `registry_owner` exists and carries no mark"), "{text}");
}

#[test]
fn what_another_environment_owns_is_refused_naming_it() {
    let spec = spec(Ddl::AsOwner, &[]);
    for i in 0..3 {
        let mut found = finished(&spec);
        found.records[i].environment_uid = "00000000-0000-0000-0000-00000000000b".to_owned();
        found.records[i].environment_name = "other".to_owned();
        let text = refusal(&spec, &found);
        assert!(
            text.contains("belongs to environment `other`") && text.contains("names of its own"),
            "{text}"
        );
    }
}

#[test]
fn what_another_fragment_owns_is_refused_with_the_way_to_move_it() {
    let spec = spec(Ddl::AsOwner, &[]);
    let mut found = finished(&spec);
    found.records[0].fragment = "before".to_owned();
    let text = refusal(&spec, &found);
    assert!(
        text.contains("belongs to fragment `before`")
            && text.contains("`postgres-init rebind DOCUMENTS --component database/registry`"),
        "{text}"
    );
}

#[test]
fn what_was_restored_cloned_or_made_anew_is_refused() {
    let spec = spec(Ddl::AsOwner, &[]);
    for i in 0..3 {
        let mut found = finished(&spec);
        found.records[i].oid += 1000;
        assert!(refusal(&spec, &found).contains("not the one that was recorded"));

        // A server made anew may give out the same oids.
        let mut found = finished(&spec);
        found.shared.system_identifier = Some("7".to_owned());
        found.records[i].system_identifier = Some("6".to_owned());
        assert!(refusal(&spec, &found).contains("recorded on the cluster 6, and this one is 7"));
        found.records[i].system_identifier = None;
        assert!(plan(&spec, &found).is_settled(), "what an older version recorded counts");
    }
}

#[test]
fn a_finished_database_that_vanished_is_not_made_empty_again() {
    let spec = spec(Ddl::AsOwner, &[]);
    let mut found = finished(&spec);
    found.shared.databases.clear();
    let text = refusal(&spec, &found);
    assert!(
        text.contains("has vanished") && text.contains("rebind DOCUMENTS --component database/registry"),
        "{text}"
    );

    for record in &mut found.records {
        (record.finished, record.spec_hash) = (false, None);
    }
    assert!(steps(&spec, &found).contains(&"make database `registry`".to_owned()));
}

#[test]
fn a_database_given_to_another_role_is_refused() {
    let spec = spec(Ddl::AsOwner, &[]);
    let mut found = finished(&spec);
    found.shared.databases[0].owner = "postgres".to_owned();
    assert!(refusal(&spec, &found).contains("belongs to role `postgres` instead of `registry_owner`"));
}

#[test]
fn a_half_made_database_is_finished() {
    let spec = spec(Ddl::AsOwner, &[]);
    let mut found = finished(&spec);
    found.records.retain(|record| record.kind == Kind::Role);
    found.shared.databases[0].open = false;
    found.shared.databases[0].grants = ["=CONNECT".to_owned(), "=TEMPORARY".to_owned()].into();
    assert_eq!(
        steps(&spec, &found),
        [
            "close database `registry` to everybody, and record it",
            "let role `registry_user` connect to database `registry`",
            "record that database `registry` is finished"
        ]
    );
}

#[test]
fn an_extension_the_server_does_not_have_is_refused_by_name() {
    let spec = spec(Ddl::AsOwner, &["postgis"]);
    assert!(refusal(&spec, &world()).contains("no extension `postgis`"));
}

#[test]
fn passwords_are_waited_for_refused_or_set_and_one_that_fits_is_left() {
    let spec = spec(Ddl::AsOwner, &[]);
    let mut found = finished(&spec);
    let mut with = |password| {
        found.passwords.insert(app().role, password);
        found.clone()
    };
    let waits = with(Password::Pending("secret/dev/registry-db does not exist".to_owned()));
    assert_eq!(plan(&spec, &waits).pending[0].text, "secret/dev/registry-db does not exist");
    assert!(refusal(&spec, &with(Password::Unfit("is empty".to_owned()))).contains("is empty"));
    assert_eq!(
        steps(&spec, &with(Password::Differs)),
        ["set the password of role `registry_user` to what its Secret holds"]
    );
    assert!(steps(&spec, &with(Password::Fits)).is_empty());
    let unseen = with(Password::Unseen("no pg_hba entry".to_owned()));
    assert!(
        steps(&spec, &unseen).is_empty() && plan(&spec, &unseen).drift[0].text.contains("no pg_hba entry")
    );
}

#[test]
fn drift_is_repaired_where_it_is_ours_and_told_where_it_is_not() {
    let spec = spec(Ddl::AsOwner, &["pg_trgm"]);
    let mut found = finished(&spec);
    found.shared.roles[1].powers.insert("CREATEDB".to_owned());
    found.shared.roles[1].member_of.insert("pg_monitor".to_owned());
    found.shared.roles[1].admin_of.insert("pg_read_all_data".to_owned());
    found.shared.roles[0].login = true;
    found.shared.databases[0].grants.insert("=CONNECT".to_owned());
    found.shared.databases[0].grants.insert("dba=CONNECT".to_owned());
    found.inside.insert("registry".to_owned(), Ok(Inside::default()));
    assert_eq!(
        steps(&spec, &found),
        [
            "set NOLOGIN on role `registry_owner`",
            "set NOCREATEDB on role `registry_user`",
            "close database `registry` to everybody, and record it",
            "create extension `pg_trgm`",
        ]
    );
    let drift: Vec<String> = plan(&spec, &found).drift.into_iter().map(|note| note.text).collect();
    assert!(
        drift[0].contains("member of `pg_monitor`") && drift[1].contains("`pg_read_all_data`, itself"),
        "{drift:?}"
    );
    assert!(drift[2].contains("dba=CONNECT"), "{drift:?}");
}

#[test]
fn a_changed_document_is_carried_out_and_marked_anew() {
    let before = spec(Ddl::AsOwner, &[]);
    let after = spec(Ddl::None, &[]);
    assert_eq!(
        steps(&after, &finished(&before)),
        [
            "let role `registry_user` use what `registry_owner` makes",
            "end that role `registry_user` acts as `registry_owner`",
            "record that database `registry` is finished",
        ]
    );
}

#[test]
fn before_version_15_schema_public_is_closed() {
    let spec = spec(Ddl::AsOwner, &[]);
    let mut old = world();
    old.shared.version = 140_020;
    let close = "let only `registry_owner` create in schema `public`".to_owned();
    assert!(steps(&spec, &old).contains(&close));
    old.shared.superuser = false;
    assert!(!steps(&spec, &old).contains(&close), "only a superuser can");
}

#[test]
fn a_database_that_cannot_be_looked_into_waits_and_one_that_was_closed_is_not_opened() {
    let spec = spec(Ddl::AsOwner, &["pg_trgm"]);
    let mut found = finished(&spec);
    let blind = |transient| Err(Blind { why: "too many connections".to_owned(), transient });
    found.inside.insert("registry".to_owned(), blind(false));
    assert_eq!(refusal(&spec, &found), "too many connections");
    found.inside.insert("registry".to_owned(), blind(true));
    assert_eq!(plan(&spec, &found).pending[0].text, "too many connections");
    let mut found = finished(&spec);
    found.shared.databases[0].open = false;
    assert!(plan(&spec, &found).pending[0].text.contains("ALLOW_CONNECTIONS true"));
}

#[test]
fn without_a_place_for_records_nothing_is_made() {
    let mut spec = spec(Ddl::AsOwner, &[]);
    let mut found = World { registry: Registry::Foreign("it belongs to role x".to_owned()), ..world() };
    let plan_found = plan(&spec, &found);
    assert!(plan_found.steps.is_empty() && plan_found.refusals.len() == 2, "{plan_found}");

    spec.report_only = true;
    found.registry = Registry::Missing;
    assert!(plan(&spec, &found).pending[0].text.contains("is in mode report"));
}

#[test]
fn only_databases_whose_inside_matters_are_looked_into() {
    let look = |ddl, extensions: &[&str], version| {
        let spec = spec(ddl, extensions);
        let mut found = finished(&spec);
        found.shared.version = version;
        needs_look(&spec, &spec.databases[0], &found)
    };
    assert!(!look(Ddl::AsOwner, &[], 180_000));
    assert!(!look(Ddl::AsOwner, &[], 140_000));
    assert!(look(Ddl::AsOwner, &["pg_trgm"], 180_000));
    assert!(look(Ddl::None, &[], 180_000));
}

#[test]
fn the_observer_is_made_let_in_and_kept_without_powers() {
    let mut spec = spec(Ddl::AsOwner, &[]);
    spec.observer = Some(model::login("rollcall_observer_dev"));
    let mut found = finished(&spec);
    assert!(plan(&spec, &found).is_settled(), "{}", plan(&spec, &found));
    let role = found.shared.roles.iter_mut().find(|role| role.name == "rollcall_observer_dev").unwrap();
    role.powers.insert("BYPASSRLS".to_owned());
    found
        .shared
        .databases
        .iter_mut()
        .for_each(|database| database.grants.retain(|grant| !grant.starts_with("rollcall")));
    let told: Vec<String> = plan(&spec, &found).steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "set NOBYPASSRLS on role `rollcall_observer_dev`",
            "let role `rollcall_observer_dev` connect to database `rollcall`"
        ]
    );
}

#[test]
fn the_hash_is_over_what_is_made_and_not_over_where_secrets_are() {
    let database = database("registry", Ddl::AsOwner, &["pg_trgm"]);
    let mut moved = database.clone();
    moved.app.password.key = "other".to_owned();
    assert_eq!(moved.hash(), database.hash());
    let mut wider = database.clone();
    wider.extensions.push(Extension::new("unaccent"));
    assert_ne!(wider.hash(), database.hash());
}

#[test]
fn what_a_fragment_of_another_namespace_asked_for_is_not_touched() {
    let mut spec = spec(Ddl::AsOwner, &[]);
    spec.roles = vec![model::reader(&[&spec.databases[0]])];
    spec.namespaces.insert("base".to_owned(), "dev".to_owned());
    let mut found = model::world();
    found.delegated.insert("base".to_owned(), "dev".to_owned());
    assert!(plan(&spec, &found).refusals.is_empty());
    found.delegated.insert("base".to_owned(), "theirs".to_owned());
    for found in [found.clone(), World { delegated: found.delegated.clone(), ..finished(&spec) }] {
        let plan = plan(&spec, &found);
        let touched: Vec<_> = plan.steps.iter().filter(|step| step.component != spec.component).collect();
        assert!(touched.is_empty(), "{plan}");
        assert_eq!(plan.refusals.len(), 2, "{plan}");
        assert!(plan.refusals.iter().all(|note| note.text.contains("is of namespace theirs")), "{plan}");
    }
}
