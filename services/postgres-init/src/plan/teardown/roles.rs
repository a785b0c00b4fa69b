//! Decides about the roles of what is torn down: only those that have nothing left anywhere go. Pure.

use std::collections::BTreeSet;

use super::facts::Facts;
use super::subject::{Subject, Wish};
use super::{Change, Part, Phase, Wanted, checks};
use crate::world::facts::Kind;

/// What becomes of a component's roles, after its database (`decided`) and the databases of others that are `going`.
pub(super) fn decide(
    wanted: Wanted<'_>,
    facts: &Facts,
    subject: &Subject<'_>,
    decided: &Part,
    going: &BTreeSet<String>,
) -> Option<Part> {
    let mut part = Part::new(Phase::Roles, subject);
    if wanted.cancel || subject.wish != Wish::Delete || !decided.refused.is_empty() {
        return None;
    }
    let records = subject.own(wanted, facts);
    for name in &subject.roles {
        if !records.iter().any(|record| record.kind == Kind::Role && record.name == **name) {
            continue;
        }
        let Some(role) = facts.role(name) else {
            part.steps.push(Change::ForgetRole { name: (*name).to_owned() });
            continue;
        };
        let stays = stays(facts, name, going);
        if !stays.is_empty() {
            part.retained.push(format!("role `{name}` stays: {}", stays.join(", ")));
        } else if let [first, ..] = checks::physical(facts, subject, name).as_slice() {
            part.refused.push(first.clone());
        } else if *name == facts.admin {
            part.refused
                .push(format!("role `{name}` is the administrator that this runs as; nobody drops himself"));
        } else if !role.governed {
            part.refused.push(format!(
                "role `{}` may not drop role `{name}`; let a superuser run DROP ROLE \"{name}\", then this",
                facts.admin
            ));
        } else {
            part.steps.push(Change::DropRole { name: (*name).to_owned(), oid: role.oid });
        }
    }
    let nothing = part.steps.is_empty() && part.retained.is_empty() && part.refused.is_empty();
    (!nothing).then_some(part)
}

/// Why a role cannot go: what it has in databases that stay, and its sessions there.
pub(super) fn stays(facts: &Facts, role: &str, going: &BTreeSet<String>) -> Vec<String> {
    let remains = |database: &Option<String>| database.as_ref().is_none_or(|name| !going.contains(name));
    let uses = facts.uses.iter().filter(|one| one.role == role && remains(&one.database));
    let mut reasons: Vec<String> = uses
        .map(|one| match &one.database {
            Some(database) => {
                format!("it owns or may use {} things in or of database `{database}`", one.things)
            }
            None => format!("it owns or may use {} things that all databases share", one.things),
        })
        .collect();
    let sessions = facts.sessions.iter().filter(|session| session.role == role && remains(&session.database));
    reasons.extend(sessions.map(|session| match &session.database {
        Some(database) => format!("it has a session in database `{database}`"),
        None => "it has a replication connection".to_owned(),
    }));
    reasons.sort();
    reasons.dedup();
    reasons
}
