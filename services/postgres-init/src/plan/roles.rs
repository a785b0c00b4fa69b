//! The roles of a database, and of the server: made, restricted, bounded, and with their passwords.

use std::collections::BTreeSet;

use super::{Change, Decision, powers, settings};
use crate::spec::{Bounds, DatabaseSpec, ServerSpec};
use crate::world::facts::{Password, RoleFacts, World};

/// The owner, the roles that log in, and the readers.
pub(super) fn of_database(
    decision: &mut Decision,
    spec: &ServerSpec,
    database: &DatabaseSpec,
    world: &World,
) {
    let groups = [
        (Some(&database.owner), Change::Owner { role: database.owner.clone() }),
        (database.readers.as_ref(), Change::Group { role: database.readers.clone().unwrap_or_default() }),
    ];
    for (name, make) in groups {
        let Some(name) = name else { continue };
        match world.role(name) {
            None => decision.steps.push(make),
            Some(role) => {
                attributes(decision, spec, world, role, false, &[]);
                memberships(decision, role, &BTreeSet::new());
            }
        }
    }
    for account in database.accounts() {
        let name = &account.login.role;
        login(decision, spec, world, name, &account.bounds, Change::Login { role: name.clone() });
        if let Some(role) = world.role(name) {
            memberships(decision, role, &BTreeSet::from([database.owner.clone()]));
        }
    }
}

/// A role that logs in: made, restricted, bounded, and with its password.
pub(super) fn login(
    decision: &mut Decision,
    spec: &ServerSpec,
    world: &World,
    name: &str,
    bounds: &Bounds,
    make: Change,
) {
    match world.passwords.get(name) {
        Some(Password::Unfit(text)) => decision.refusals.push(text.clone()),
        Some(Password::Pending(text)) => decision.pending.push(text.clone()),
        None => decision.pending.push(format!("the password of role `{name}` was not looked at yet")),
        Some(Password::Unseen(why)) => {
            decision.drift.push(format!(
                "whether role `{name}` has the password its Secret holds cannot be seen: {why}"
            ));
        }
        Some(Password::Given | Password::Fits | Password::Differs | Password::Delegated) => {}
    }
    let delegated = world.passwords.get(name) == Some(&Password::Delegated);
    settings::judge(decision, world, &format!("role `{name}`"), &bounds.settings, delegated);
    let fresh =
        RoleFacts { name: name.to_owned(), login: true, limit: -1, governed: true, ..RoleFacts::default() };
    let role = world.role(name);
    if role.is_none() {
        decision.steps.push(make);
    }
    attributes(decision, spec, world, role.unwrap_or(&fresh), true, &bounds.powers());
    if role.is_some() && world.passwords.get(name) == Some(&Password::Differs) {
        decision.steps.push(Change::Password { role: name.to_owned() });
    }
    if let Some(limit) = bounds.connection_limit
        && role.unwrap_or(&fresh).limit != i32::from(limit)
    {
        decision.steps.push(Change::RoleLimit { role: name.to_owned(), limit });
    }
}

/// What a role's sessions begin with: in one database, or in all.
pub(super) fn sessions(
    decision: &mut Decision,
    world: &World,
    name: &str,
    bounds: &Bounds,
    database: Option<&str>,
) {
    let within = database.unwrap_or_default();
    let set = world.role(name).into_iter().flat_map(|role| &role.settings);
    let set = set.filter(|(database, _)| database == within).map(|(_, setting)| setting.as_str());
    let differing = settings::differing(&bounds.settings, set);
    if !differing.is_empty() {
        decision.steps.push(Change::RoleSettings {
            role: name.to_owned(),
            database: database.map(str::to_owned),
            settings: differing,
        });
    }
}

/// No power that no document gives, and LOGIN or not.
fn attributes(
    decision: &mut Decision,
    spec: &ServerSpec,
    world: &World,
    role: &RoleFacts,
    login: bool,
    wanted: &[&str],
) {
    let surplus = role.powers.iter().filter(|power| !wanted.contains(&power.as_str()));
    let mut set: Vec<String> = surplus.map(|power| format!("NO{power}")).collect();
    if role.login != login {
        set.push(if login { "LOGIN" } else { "NOLOGIN" }.to_owned());
    }
    for power in wanted {
        let dangers = powers::dangers(spec, world, &role.name, power);
        if role.powers.contains(*power) {
            decision.drift.extend(dangers);
        } else {
            decision.refusals.extend(dangers);
            set.push((*power).to_owned());
        }
    }
    for power in set.iter().map(|power| power.trim_start_matches("NO")) {
        if !may_set(world, power) {
            decision.refusals.push(format!(
                "{power} of role `{}` can be changed only by {}, and role `{}`, which provisions, is not; run ALTER ROLE as one who \
                 may, or provision as one",
                role.name,
                if world.shared.version < 160_000 || power == "SUPERUSER" {
                    "a superuser".to_owned()
                } else {
                    format!("a superuser or a role that has {power} itself")
                },
                spec.admin.role,
            ));
        }
    }
    if !set.is_empty() {
        decision.steps.push(Change::Attributes { role: role.name.clone(), set });
    }
}

/// Whether the administrator may set an attribute of roles (CREATE ROLE, ALTER ROLE in the manual, of each version).
fn may_set(world: &World, power: &str) -> bool {
    let shared = &world.shared;
    shared.superuser
        || match power {
            "LOGIN" => true,
            "SUPERUSER" => false,
            "REPLICATION" | "BYPASSRLS" if shared.version < 160_000 => false,
            _ if shared.version < 160_000 => true,
            power => shared.powers.contains(power),
        }
}

pub(super) fn memberships(decision: &mut Decision, role: &RoleFacts, expected: &BTreeSet<String>) {
    for other in role.member_of.difference(expected) {
        decision.drift.push(format!(
            "role `{}` is a member of `{other}`, which no document says; left alone",
            role.name
        ));
    }
    administers(decision, role);
}

/// What a role could become by granting it to itself.
pub(super) fn administers(decision: &mut Decision, role: &RoleFacts) {
    decision.drift.extend(role.admin_of.iter().map(|other| {
        format!(
            "role `{}` can make anybody a member of `{other}`, itself too (ADMIN OPTION), which no document says; left alone",
            role.name
        )
    }));
}

/// Since version 16 who is no superuser may change only roles it has the ADMIN option on, those it made: what would fail is
/// refused before anything is done.
pub(super) fn governed(decision: &mut Decision, spec: &ServerSpec, world: &World) {
    let touched: BTreeSet<&str> = decision.steps.iter().flat_map(Change::governs).collect();
    let out_of_reach = touched.into_iter().filter(|name| world.role(name).is_some_and(|role| !role.governed));
    let refusals = out_of_reach.map(|name| {
        let admin = &spec.admin.role;
        let way_out = if world.shared.version < 160_000 {
            format!("ALTER ROLE \"{admin}\" CREATEROLE")
        } else {
            format!("GRANT \"{name}\" TO \"{admin}\" WITH ADMIN OPTION")
        };
        format!(
            "role `{name}` has to be changed, and role `{admin}`, which provisions, may not change it; run as a superuser: {way_out}"
        )
    });
    let refusals: Vec<String> = refusals.collect();
    decision.refusals.extend(refusals);
}
