//! What keeps a component from being torn down: each thing that must be the one that was recorded, and nothing that would be
//! lost with it or hold it. Pure.

use std::fmt::Write;

use super::Wanted;
use super::facts::{Facts, Session};
use super::subject::Subject;
use crate::adopt::word;
use crate::world::facts::{Kind, Record};

/// Databases that every server needs, and ours.
const NEVER: [&str; 4] = [postgres::REGISTRY, "postgres", "template0", "template1"];

/// Every reason, with what to do about it.
pub(super) fn all(
    wanted: Wanted<'_>,
    facts: &Facts,
    subject: &Subject<'_>,
    records: &[&Record],
) -> Vec<String> {
    let mut refused: Vec<String> =
        records.iter().filter_map(|record| identity(facts, subject, record)).collect();
    refused.sort();
    let recorded = records.iter().any(|record| record.kind == Kind::Database);
    let Some(found) = subject.database.and_then(|name| facts.database(name)) else { return refused };
    let name = &found.name;
    if !recorded {
        // Its owner is ours: it was begun and not recorded. Anything else of that name is only told.
        if records.iter().any(|record| record.name == found.owner) {
            refused.push(format!(
                "database `{name}` was begun and never recorded, so nothing says what it is; run `postgres-init apply`, which finishes \
                 it, and then this"
            ));
        }
        return refused;
    }
    if NEVER.contains(&name.as_str()) || found.template {
        refused
            .push(format!("database `{name}` is the server's own, or a template; nothing of ours drops it"));
    }
    if !found.governed {
        refused.push(format!(
            "role `{}` may not drop database `{name}`, which belongs to `{}`; let a superuser run GRANT \"{}\" TO \"{}\"",
            facts.admin, found.owner, found.owner, facts.admin
        ));
    }
    refused.extend(held(facts, name));
    refused.extend(subject.roles.iter().flat_map(|role| physical(facts, subject, role)));
    let uid = wanted.spec.environment.uid.to_string();
    let neighbours = facts.guests.iter().filter(|guest| guest.database == *name && guest.owns);
    refused.extend(neighbours.filter_map(|guest| {
        let environment = guest.environment.as_ref()?;
        Some(format!(
            "role `{}` of environment `{environment}` owns things in database `{name}`: REASSIGN OWNED BY \"{0}\" there, or let that \
             environment take them away",
            guest.role
        ))
    }));
    let inside = facts.sessions.iter().filter(|session| session.database.as_deref() == Some(name));
    let stubborn = inside.filter(|session| !session.ends && !may_borrow(facts, subject, session, &uid));
    refused.extend(stubborn.map(|session| {
        format!(
            "role `{}` may not end the session of role `{}`{} in database `{name}`; end it, or let a superuser run GRANT \
             pg_signal_backend TO \"{}\" (a superuser's session only a superuser ends)",
            facts.admin,
            session.role,
            seen(session),
            facts.admin
        )
    }));
    refused
}

/// The administrator may make itself a member of this environment's own roles for as long as it ends their sessions.
fn may_borrow(facts: &Facts, subject: &Subject<'_>, session: &Session, uid: &str) -> bool {
    subject.roles.contains(&session.role.as_str())
        && facts.role(&session.role).is_some_and(|role| role.governed)
        && facts.records.iter().any(|record| {
            record.kind == Kind::Role && record.name == session.role && record.environment_uid == uid
        })
}

/// Whether a thing is the one that was recorded, and recorded for this.
fn identity(facts: &Facts, subject: &Subject<'_>, record: &Record) -> Option<String> {
    let thing = format!("{} `{}`", word(record.kind), record.name);
    if subject.fragment.is_some_and(|fragment| fragment != record.fragment) {
        return Some(format!(
            "{thing} belongs to fragment `{}` of this environment and not to the one that declares it here; if it moved, look at what \
             `postgres-init rebind DOCUMENTS --component {}` says",
            record.fragment, subject.component
        ));
    }
    if record.is_held() {
        return Some(format!(
            "{thing} was adopted and is not converged in every class, so it is still as somebody else made and uses it; converge it, or \
             give it back with `release-ownership` and drop it by hand"
        ));
    }
    if let Some(to) = record.renamed_to(facts.system_identifier.as_ref()) {
        return Some(format!(
            "{thing} is called `{to}` by now (oid {}): somebody renamed it, and nothing drops or forgets it unseen. Give it its name back \
             with ALTER {} \"{to}\" RENAME TO \"{}\"; or name it so in the document and run `postgres-init apply`, which records that",
            record.oid,
            if record.kind == Kind::Database { "DATABASE" } else { "ROLE" },
            record.name
        ));
    }
    let oid = match record.kind {
        Kind::Database => facts.database(&record.name).map(|database| database.oid),
        Kind::Role | Kind::Observer => facts.role(&record.name).map(|role| role.oid),
    }?;
    let differs = if oid != record.oid {
        format!("its oid is {oid} instead of {}", record.oid)
    } else if let Some(differs) = elsewhere(facts, record) {
        differs.to_owned()
    } else {
        return None;
    };
    let declare = if subject.orphaned { "declare it again, and " } else { "" };
    Some(format!(
        "{thing} is not the one that was recorded ({differs}): it was restored, cloned or made anew by somebody else. Where it is this \
         environment's all the same, {declare}`postgres-init rebind DOCUMENTS --component {} --yes` records it; otherwise \
         `release-ownership` gives it up",
        subject.component
    ))
}

/// Why a record may be of another cluster. What is dropped must be known to be on this one.
pub(super) fn elsewhere(facts: &Facts, record: &Record) -> Option<&'static str> {
    match (&record.system_identifier, &facts.system_identifier) {
        (Some(recorded), Some(found)) if recorded == found => None,
        // Who provisions may not read it here, and could not when it was recorded.
        (None, None) => None,
        (Some(_), Some(_)) => Some("it was recorded on another cluster"),
        (Some(_), None) => Some(
            "the cluster's identifier cannot be read; GRANT EXECUTE ON FUNCTION pg_control_system() to who provisions",
        ),
        (None, Some(_)) => Some("it was recorded without the cluster's identifier"),
    }
}

/// What others have in it, and lose.
pub(super) fn guests(facts: &Facts, subject: &Subject<'_>) -> Vec<String> {
    let inside = facts.guests.iter().filter(|guest| subject.database == Some(guest.database.as_str()));
    inside
        .map(|guest| {
            format!(
                "role `{}` owns or may use {} things in database `{}`, and loses them",
                guest.role, guest.things, guest.database
            )
        })
        .collect()
}

/// What would be lost with a database, or goes on beyond it.
fn held(facts: &Facts, name: &str) -> Vec<String> {
    let slots = facts.slots.iter().filter(|slot| slot.database.as_deref() == Some(name)).map(|slot| {
        format!(
            "replication slot `{}` decodes database `{name}`{}: end who reads it, then SELECT pg_drop_replication_slot('{}')",
            slot.name,
            slot.role.as_ref().map(|role| format!(" for role `{role}` at this moment")).unwrap_or_default(),
            slot.name.replace('\'', "''")
        )
    });
    let prepared = facts.prepared.iter().filter(|prepared| prepared.database == name).map(|prepared| {
        format!(
            "transaction '{}' of role `{}` is prepared in database `{name}`: COMMIT PREPARED or ROLLBACK PREPARED it there",
            prepared.gid, prepared.owner
        )
    });
    let subscriptions =
        facts.subscriptions.iter().filter(|subscription| subscription.database == name).map(|subscription| {
            format!(
                "subscription `{}` of database `{name}` may have a slot on its publisher: DROP SUBSCRIPTION \"{}\" there",
                subscription.name, subscription.name
            )
        });
    let mut all: Vec<String> = slots.chain(prepared).chain(subscriptions).collect();
    all.sort();
    all
}

/// The physical slots that a role may have made. They belong to no database: each can be of whoever has REPLICATION, unless it is
/// seen in use by somebody else.
pub(super) fn physical(facts: &Facts, subject: &Subject<'_>, role: &str) -> Vec<String> {
    if !facts.role(role).is_some_and(|role| role.replicates) {
        return Vec::new();
    }
    let slots = facts.slots.iter().filter(|slot| {
        slot.database.is_none() && slot.role.as_deref().is_none_or(|user| subject.roles.contains(&user))
    });
    slots
        .map(|slot| {
            format!(
                "physical replication slot `{}` may be of role `{role}`, which has REPLICATION: drop the slot, or, where it is another's, run \
                 ALTER ROLE \"{role}\" NOREPLICATION first",
                slot.name
            )
        })
        .collect()
}

/// What is seen of a session, for people.
pub(super) fn seen(session: &Session) -> String {
    let mut text = String::new();
    if !session.application.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, " (application `{}`)", session.application);
    }
    match &session.address {
        Some(address) => text.push_str(&[" from ", address].concat()),
        None => text.push_str(" from an address that the administrator may not see"),
    }
    if let Some(since) = &session.since {
        text.push_str(&[" since ", since].concat());
    }
    text
}
