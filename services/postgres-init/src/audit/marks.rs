//! Ownership records and marks: what vanished, what was cloned or restored, what was adopted and not converged, what was left
//! behind. Pure.

use std::collections::BTreeSet;

use super::facts::{Facts, Recorded};
use super::{Class, Finding, Severity};
use crate::adopt::Class as Converged;

/// How the comment begins that Rollcall leaves on what it makes: a hint, never believed.
pub(crate) const MARK: &str = "Rollcall: ";

/// All that is to be said of marks.
pub(super) fn of(facts: &Facts) -> Vec<Finding> {
    let Some(records) = &facts.records else { return Vec::new() };
    let mut found: Vec<Finding> =
        records.iter().filter_map(|record| stands(facts, record).or_else(|| adopted(record))).collect();
    found.extend(records.iter().filter_map(|record| orphan(records, record)));
    found.extend(unrecorded(facts, records));
    found
}

fn finding(severity: Severity, class: Class, what: String, why: String, advice: String) -> Finding {
    Finding { severity, class, who: BTreeSet::new(), what, why, advice }
}

fn thing(record: &Recorded) -> String {
    let kind = if record.kind == "database" { "database" } else { "role" };
    format!("{kind} `{}` of environment `{}` ({})", record.name, record.environment_name, record.component)
}

/// Whether what was recorded is there, and is what was recorded.
fn stands(facts: &Facts, record: &Recorded) -> Option<Finding> {
    let oid = if record.kind == "database" {
        facts.shared.database(&record.name).map(|database| database.oid)
    } else {
        facts.shared.role(&record.name).map(|role| role.oid)
    };
    let rebind =
        || format!("if it is to be this environment's: `rebind DOCUMENTS --component {}`", record.component);
    match (oid, &record.system_identifier, &facts.system_identifier) {
        (None, ..) => Some(finding(
            Severity::Warning,
            Class::Record,
            format!("{} has vanished", thing(record)),
            "its ownership record is there and it is not: somebody dropped or renamed it".to_owned(),
            "restore it; or, to have an empty one made, `rebind DOCUMENTS --component …`".to_owned(),
        )),
        (Some(oid), ..) if oid != record.oid => Some(finding(
            Severity::Warning,
            Class::Record,
            format!("{} is not the one that was recorded", thing(record)),
            format!(
                "its oid is {oid} instead of {}: it was restored, cloned, or made anew by somebody else",
                record.oid
            ),
            rebind(),
        )),
        (_, Some(then), Some(now)) if then != now => Some(finding(
            Severity::Warning,
            Class::Record,
            format!("{} was recorded on another server", thing(record)),
            format!(
                "this cluster's identifier is {now}, and it was {then}: database `rollcall` was restored here, or pg_upgrade was run"
            ),
            rebind(),
        )),
        _ => None,
    }
}

fn adopted(record: &Recorded) -> Option<Finding> {
    let converged = record.adopted.as_ref()?;
    let left: Vec<&str> =
        Converged::ALL.iter().map(|class| class.name()).filter(|name| !converged.contains(*name)).collect();
    (record.kind == "database" && !left.is_empty()).then(|| {
        finding(
            Severity::Notice,
            Class::Adoption,
            format!("{} is adopted and not converged", thing(record)),
            format!("still as it was found: {}", left.join(", ")),
            format!("`converge DOCUMENTS --class {} --component {}`", left[0], record.component),
        )
    })
}

/// A role recorded for a database that has no record.
fn orphan(records: &[Recorded], record: &Recorded) -> Option<Finding> {
    let own = |other: &Recorded| {
        other.component == record.component && other.environment_uid == record.environment_uid
    };
    // A role that reads several databases belongs to none.
    let of_one = record.kind == "role" && record.component.starts_with("database/");
    let alone = of_one && !records.iter().any(|other| other.kind == "database" && own(other));
    alone.then(|| {
        finding(
            Severity::Notice,
            Class::Orphan,
            format!("{} was made for a database that has no record", thing(record)),
            "the run that made it ended early, or the database was released by itself".to_owned(),
            "run `apply` again with its documents, or `release-ownership`".to_owned(),
        )
    })
}

/// What says by its comment that Rollcall made it, and has no record.
fn unrecorded(facts: &Facts, records: &[Recorded]) -> Vec<Finding> {
    let shared = &facts.shared;
    let databases = shared
        .databases
        .iter()
        .map(|database| ("database", database.name.as_str(), database.comment.as_deref()));
    let roles = shared.roles.iter().map(|role| ("role", role.name.as_str(), role.comment.as_deref()));
    databases
        .chain(roles)
        .filter(|(kind, name, comment)| {
            *name != postgres::REGISTRY
                && comment.is_some_and(|comment| comment.starts_with(MARK))
                && !records
                    .iter()
                    .any(|record| record.name == *name && (record.kind == "database") == (*kind == "database"))
        })
        .map(|(kind, name, comment)| {
            finding(
                Severity::Notice,
                Class::Orphan,
                format!("{kind} `{name}` says that Rollcall made it and has no record"),
                format!("its comment is `{}`: it was restored or renamed here, or a run ended early", comment.unwrap_or_default()),
                "run `apply` with its documents if it was interrupted, `record` to adopt it, or take the comment away".to_owned(),
            )
        })
        .collect()
}
