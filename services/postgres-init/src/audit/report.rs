//! An audit as it is told: who is there, what was found, what could not be seen; for people and for programs. Pure.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::facts::{Facts, Role, Verifier};
use super::reach::{Depth, reach};
use super::{Class, Finding, Severity, administrators, audit};
use crate::world::facts::Registry;

/// What an audit came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which server, for people.
    pub server: String,
    /// `server_version_num`.
    pub version: u32,
    /// The cluster's identifier, where it may be read.
    pub system_identifier: Option<String>,
    /// The setting `wal_level`.
    pub wal_level: String,
    /// Who is taken to administer it, and is not suspected.
    pub administrators: BTreeSet<String>,
    /// Every other role that logs in.
    pub roles: Vec<Standing>,
    /// What was found, gravest first.
    pub findings: Vec<Finding>,
    /// What could not be seen, and so is not judged.
    pub unseen: Vec<String>,
}

/// What a role can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The role.
    pub role: String,
    /// Its powers.
    pub powers: Vec<&'static str>,
    /// The roles it is or can come to be.
    pub reaches: BTreeSet<String>,
    /// The databases it may connect to, without those that every server has.
    pub connects: BTreeSet<String>,
    /// What kind of password it has, where that can be seen.
    pub password: Option<&'static str>,
}

/// Judges what was seen of a server.
pub fn report(server: String, facts: &Facts) -> Report {
    let administrators = administrators(facts);
    let suspects =
        facts.shared.roles.iter().filter(|role| role.login && !administrators.contains(&role.name));
    let mut roles: Vec<Standing> = suspects.map(|role| standing(facts, role)).collect();
    roles.sort_by(|a, b| a.role.cmp(&b.role));
    Report {
        server,
        version: facts.shared.version,
        system_identifier: facts.system_identifier.clone(),
        wal_level: facts.shared.wal_level.clone(),
        roles,
        findings: audit(facts),
        unseen: unseen(facts),
        administrators,
    }
}

fn standing(facts: &Facts, role: &Role) -> Standing {
    let shared = &facts.shared;
    let powers = [
        (role.superuser, "SUPERUSER"),
        (role.createdb, "CREATEDB"),
        (role.createrole, "CREATEROLE"),
        (role.replication, "REPLICATION"),
        (role.bypassrls, "BYPASSRLS"),
    ];
    let enters = reach(shared, role, Depth::Enters);
    let connects = shared.databases.iter().filter(|database| {
        database.open
            && !database.is_maintenance()
            && (role.superuser
                || database.is_public()
                || enters.keys().any(|name| database.owner == *name || database.gives(name, "CONNECT")))
    });
    Standing {
        role: role.name.clone(),
        powers: powers.into_iter().filter_map(|(has, name)| has.then_some(name)).collect(),
        reaches: reach(shared, role, Depth::Uses)
            .into_keys()
            .filter(|name| *name != role.name)
            .map(ToOwned::to_owned)
            .collect(),
        connects: connects.map(|database| database.name.clone()).collect(),
        password: facts.verifiers.as_ref().and_then(|all| all.get(&role.name)).map(|kind| match kind {
            Verifier::None => "none",
            Verifier::Scram => "scram-sha-256",
            Verifier::Md5 => "md5",
            Verifier::Other => "other",
        }),
    }
}

fn unseen(facts: &Facts) -> Vec<String> {
    let mut unseen = Vec::new();
    let asker = &facts.shared.asker;
    if facts.rules.is_none() {
        unseen.push(format!(
            "pg_hba.conf: `{asker}` may not read it, so REPLICATION counts as if it were admitted, and `trust` is not looked for"
        ));
    }
    if facts.verifiers.is_none() {
        unseen.push(format!("passwords: `{asker}` may not read pg_authid, so md5 hashes and missing passwords are not looked for"));
    }
    if facts.system_identifier.is_none() {
        unseen.push(format!(
            "the cluster's identifier: `{asker}` may not call pg_control_system(), so a clone of a whole server is noticed by oids alone"
        ));
    }
    if facts.records.is_none() && facts.shared.database(postgres::REGISTRY).is_some() {
        unseen.push(match &facts.registry {
            Registry::Foreign(why) => format!(
                "ownership records: database `rollcall` is not believed, for {why}; where that is an administrator, name it with --administrator"
            ),
            _ => "ownership records: database `rollcall` could not be read".to_owned(),
        });
    }
    for (database, seen) in &facts.inside {
        if let Err(why) = seen {
            unseen.push(format!("the inside of database `{database}`: {why}"));
        }
    }
    unseen
}

impl Report {
    /// The attacks that were found.
    pub fn attacks(&self) -> BTreeSet<Class> {
        self.findings
            .iter()
            .filter(|found| found.severity == Severity::Attack)
            .map(|found| found.class)
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = (self.version / 10_000, self.version % 10_000);
        let names: Vec<&str> = self.administrators.iter().map(String::as_str).collect();
        writeln!(f, "{}: PostgreSQL {major}.{minor}, wal_level {}", self.server, self.wal_level)?;
        writeln!(f, "administrators, not suspected: {}", names.join(", "))?;
        for role in &self.roles {
            let list = |names: &BTreeSet<String>| match names.len() {
                0 => "none".to_owned(),
                1..=8 => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
                many => format!("{many} of them"),
            };
            let powers = if role.powers.is_empty() { "no powers".to_owned() } else { role.powers.join(" ") };
            writeln!(
                f,
                "role {}: {powers}; acts as {}; connects to {}",
                role.role,
                list(&role.reaches),
                list(&role.connects)
            )?;
        }
        for found in &self.findings {
            let mark = match found.severity {
                Severity::Attack => '!',
                Severity::Warning => '~',
                Severity::Notice => '-',
            };
            let who: Vec<String> = found.who.iter().map(|name| format!("`{name}`")).collect();
            let who = if who.is_empty() || found.class == Class::Owner {
                String::new()
            } else {
                format!("{} ", who.join(", "))
            };
            writeln!(f, "{mark} {who}{}\n    because {}\n    {}", found.what, found.why, found.advice)?;
        }
        for text in &self.unseen {
            writeln!(f, "? not seen: {text}")?;
        }
        let count = |severity| self.findings.iter().filter(|found| found.severity == severity).count();
        writeln!(
            f,
            "= {} attacks, {} warnings, {} notices",
            count(Severity::Attack),
            count(Severity::Warning),
            count(Severity::Notice)
        )
    }
}
