//! Powers that a document gives to a role: who may give them, and where they would open what is another's.

use super::*;
use crate::plan::powers::dangers;
use crate::spec::Bounds;
use crate::world::facts::{Reach, Reached};

#[test]
fn a_power_is_refused_where_it_opens_what_is_not_this_environments_and_told_to_who_has_it() {
    let reached = |open, lets_in: &[&str]| Reach {
        databases: vec![Reached {
            name: "theirs".to_owned(),
            oid: 5,
            open,
            template: false,
            lets_in: lets_in.iter().map(|role| (*role).to_owned()).collect(),
        }],
        hba: Some(Vec::new()),
        slots_bounded: true,
    };
    let (create, bypass) = (("CREATEDB", true, false), ("BYPASSRLS", false, true));
    let template = |open| {
        let mut reach = reached(open, &[]);
        reach.databases[0].template = true;
        reach
    };
    for (power, reach, says) in [
        (create, reached(true, &["registry_user"]), None),
        (create, template(false), Some("copies `theirs`, marked as a template")),
        (bypass, template(false), None),
        (bypass, template(true), Some("every role may connect to `theirs`")),
        (bypass, reached(false, &["registry_owner"]), None),
        (bypass, reached(true, &[]), Some("every role may connect to `theirs`")),
        (bypass, reached(false, &["registry_user"]), Some("it is let into `theirs`")),
    ] {
        let (power, create_db, bypass_rls) = power;
        let mut spec = spec(Ddl::None, &[]);
        spec.databases[0].bounds = Bounds { create_db, bypass_rls, ..Bounds::default() };
        let mut fresh = world();
        fresh.shared.reach = Some(reach.clone());
        let judged = plan(&spec, &fresh);
        let mut there = finished(&spec);
        assert!(plan(&spec, &there).is_settled(), "{}", plan(&spec, &there));
        there.shared.reach = Some(reach);
        let told = plan(&spec, &there);
        assert!(told.is_settled(), "who has it keeps it: {told}");
        match says {
            None => {
                assert!(judged.refusals.is_empty() && told.drift.is_empty(), "{judged}{told}");
                assert!(
                    judged.to_string().contains(&format!("set {power} on role `registry_user`")),
                    "{judged}"
                );
            }
            Some(says) => {
                assert!(judged.refusals[0].text.contains(says), "{judged}");
                assert!(told.drift[0].text.contains(says), "{told}");
            }
        }
        // One of our own is no other's, and what was not looked at is not guessed.
        let record = there.records.iter_mut().find(|record| record.name == "registry").unwrap();
        (record.name, record.oid) = ("theirs".to_owned(), 5);
        assert_eq!(dangers(&spec, &there, "registry_user", power), None);
        there.shared.reach = None;
        assert!(dangers(&spec, &there, "registry_user", power).is_some());

        // What was taken by hand comes back, and what no document says any more is taken.
        let mut taken = finished(&spec);
        taken.shared.roles.iter_mut().for_each(|role| role.powers.clear());
        assert_eq!(steps(&spec, &taken), [format!("set {power} on role `registry_user`")]);
        let had = finished(&spec);
        spec.databases[0].bounds = Bounds::default();
        assert_eq!(
            steps(&spec, &had),
            [
                format!("set NO{power} on role `registry_user`"),
                "record that database `registry` is finished".to_owned()
            ]
        );
    }
}

#[test]
fn a_power_is_given_by_who_may_give_it_and_refused_to_others_before_anything_is_made() {
    let mut spec = spec(Ddl::None, &[]);
    let mut said = |version, bounds: Bounds, has: &[&str]| {
        spec.databases[0].bounds = bounds;
        let mut found = world();
        found.shared.version = version;
        found.shared.superuser = has.contains(&"SUPERUSER");
        found.shared.powers = has.iter().map(|power| (*power).to_owned()).collect();
        let plan = plan(&spec, &found);
        plan.refusals.iter().map(|note| note.text.clone()).collect::<Vec<_>>().join("\n")
    };
    let create = Bounds { create_db: true, ..Bounds::default() };
    let bypass = Bounds { bypass_rls: true, ..Bounds::default() };
    for version in [140_000, 150_000, 160_000, 180_000] {
        let before = version < 160_000;
        for (bounds, power) in [(&create, "CREATEDB"), (&bypass, "BYPASSRLS")] {
            let said = &mut said;
            assert_eq!(said(version, bounds.clone(), &["SUPERUSER"]), "", "{version} {power}");
            let has = said(version, bounds.clone(), &["CREATEROLE", "CREATEDB", power]);
            let lacks: Vec<&str> =
                ["CREATEROLE", "CREATEDB", "BYPASSRLS"].into_iter().filter(|other| *other != power).collect();
            let lacks = said(version, bounds.clone(), &lacks);
            let refused = format!("{power} of role `registry_user` can be changed only by a superuser");
            match (power, before) {
                ("BYPASSRLS", true) => {
                    assert!(
                        has.contains(&format!("{refused}, and role")) && lacks.contains(&refused),
                        "{has}"
                    );
                }
                ("CREATEDB", true) => {
                    assert!(!has.contains(&refused) && !lacks.contains(&refused), "{lacks}");
                }
                _ => {
                    let or = format!("{refused} or a role that has {power} itself");
                    assert!(!has.contains(&refused) && lacks.contains(&or), "{version}: {has}\n{lacks}");
                }
            }
        }
    }
}
