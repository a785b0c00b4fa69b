//! What is no attack by itself and is one step from one, or from an outage: powers, passwords, open doors, holes in grants. Pure.

use std::collections::BTreeSet;

use super::facts::{Database, Facts, Hole, Inside, Role, Verifier};
use super::{Class, Finding, Severity, only};

/// All that is to be put in order.
pub(super) fn of(facts: &Facts, suspects: &[&Role], administrators: &BTreeSet<String>) -> Vec<Finding> {
    let mut found: Vec<Finding> = suspects.iter().filter_map(|role| powers(role)).collect();
    for role in suspects {
        found.extend(password(facts, role));
    }
    for database in facts.shared.databases.iter().filter(|database| !database.is_maintenance()) {
        found.extend(open(database));
        if let Some(Ok(inside)) = facts.inside.get(&database.name) {
            found.extend(owners(database, inside, administrators));
            found.extend(inside.sequences.iter().map(|hole| sequence(database, hole)));
            found.extend(inside.defaults.iter().map(|hole| defaults(database, hole)));
        }
    }
    found
}

fn powers(role: &Role) -> Option<Finding> {
    if role.superuser {
        return None;
    }
    let powers: Vec<&str> = [
        (role.createdb, "CREATEDB"),
        (role.createrole, "CREATEROLE"),
        (role.replication, "REPLICATION"),
        (role.bypassrls, "BYPASSRLS"),
    ]
    .into_iter()
    .filter_map(|(has, name)| has.then_some(name))
    .collect();
    (!powers.is_empty()).then(|| Finding {
        severity: Severity::Warning,
        class: Class::Power,
        who: only(&role.name),
        what: format!("has {}", powers.join(", ")),
        why: "a module that logs in to its own database needs none of it".to_owned(),
        advice: format!(
            "ALTER ROLE \"{}\" NO{}; or `converge --class attributes`",
            role.name,
            powers.join(" NO")
        ),
    })
}

fn password(facts: &Facts, role: &Role) -> Option<Finding> {
    let (class, severity, what, why, advice) = match facts.verifiers.as_ref()?.get(&role.name)? {
        Verifier::Md5 => (
            Class::WeakPassword,
            Severity::Warning,
            "has its password stored as an md5 hash",
            "whoever reads the hash can log in with it, and version 18 warns that md5 will go",
            "set password_encryption to scram-sha-256, then the same password once more",
        ),
        Verifier::None => (
            Class::NoPassword,
            Severity::Notice,
            "may log in and has no password",
            "only what pg_hba.conf lets in by other means can be it: trust, peer, a certificate",
            "NOLOGIN where nobody is it, or a password",
        ),
        Verifier::Scram | Verifier::Other => return None,
    };
    Some(Finding {
        severity,
        class,
        who: only(&role.name),
        what: what.to_owned(),
        why: why.to_owned(),
        advice: advice.to_owned(),
    })
}

fn open(database: &Database) -> Option<Finding> {
    database.is_public().then(|| Finding {
        severity: Severity::Warning,
        class: Class::OpenDatabase,
        who: BTreeSet::new(),
        what: format!("every role, also those yet to be made, may connect to database `{}`", database.name),
        why: "PUBLIC has CONNECT on it, as every new database begins".to_owned(),
        advice: format!(
            "REVOKE CONNECT ON DATABASE \"{}\" FROM PUBLIC, after GRANT CONNECT to who needs it",
            database.name
        ),
    })
}

fn owners(database: &Database, inside: &Inside, administrators: &BTreeSet<String>) -> Option<Finding> {
    let others: Vec<String> = inside
        .owners
        .iter()
        .filter(|(owner, _)| **owner != database.owner)
        .map(|(owner, count)| format!("{count} of `{owner}`"))
        .collect();
    if others.is_empty() {
        return None;
    }
    let whose = if administrators.contains(&database.owner) { "an administrator" } else { "another role" };
    Some(Finding {
        severity: Severity::Notice,
        class: Class::Owner,
        who: inside.owners.keys().filter(|owner| **owner != database.owner).cloned().collect(),
        what: format!(
            "database `{}` belongs to `{}`, {whose}, and holds tables, views or sequences of others: {}",
            database.name,
            database.owner,
            others.join(", ")
        ),
        why: "what is restored, dropped or granted as one owner leaves out what another made".to_owned(),
        advice: "give the database and what is in it one owner that nobody logs in as; or `converge --class ownership`".to_owned(),
    })
}

fn sequence(database: &Database, hole: &Hole) -> Finding {
    Finding {
        severity: Severity::Warning,
        class: Class::Grants,
        who: only(&hole.role),
        what: format!(
            "may insert into tables of database `{}` and not use {} of their sequences, {} for example",
            database.name, hole.count, hole.example
        ),
        why: format!(
            "`{}` granted the tables and not the sequences, so an INSERT that draws a number fails",
            hole.of
        ),
        advice: "GRANT USAGE ON ALL SEQUENCES IN SCHEMA … to it, and ALTER DEFAULT PRIVILEGES likewise"
            .to_owned(),
    }
}

fn defaults(database: &Database, hole: &Hole) -> Finding {
    Finding {
        severity: Severity::Warning,
        class: Class::Grants,
        who: only(&hole.role),
        what: format!(
            "cannot read {} tables of database `{}` that others than `{}` made, {} for example",
            hole.count, database.name, hole.of, hole.example
        ),
        why: format!(
            "default privileges were altered for `{}` alone, which does not make these tables",
            hole.of
        ),
        advice:
            "ALTER DEFAULT PRIVILEGES FOR ROLE of each role that makes tables, and GRANT on those that exist"
                .to_owned(),
    }
}
