//! Which roles of a server can do what, and to whom: what was seen in, findings out. No I/O.

mod attacks;
pub mod facts;
mod hygiene;
pub(crate) mod marks;
pub(crate) mod questions;
mod reach;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;

use facts::{Facts, Role};
pub use report::{Report, report};

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Commands of the operating system, or files of the server, as the user the server runs as.
    OsCommand,
    /// Setting another role's password.
    ForeignPassword,
    /// A replication connection: a copy of the whole server, all databases and verifiers.
    Replication,
    /// Connecting to a database that is another's.
    ForeignDatabase,
    /// A physical replication slot, which keeps WAL until the disk is full.
    PhysicalSlot,
    /// Rows of another's tables, read through a logical replication slot.
    LogicalSlot,
    /// Rows of every table, without any grant.
    ForeignRows,
    /// Logging in from elsewhere without a password.
    Trust,
    /// A power that a module needs not have.
    Power,
    /// A password that is stored as an md5 hash.
    WeakPassword,
    /// A role that logs in and has no password.
    NoPassword,
    /// A database that every role to come may connect to.
    OpenDatabase,
    /// Tables and sequences that somebody was meant to use and cannot.
    Grants,
    /// Things that belong to another role than their database.
    Owner,
    /// An ownership record whose thing is gone, or is not the one that was recorded.
    Record,
    /// An adopted thing that is not converged.
    Adoption,
    /// What was left behind: a mark without a record, a record without its database.
    Orphan,
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Somebody can do something to somebody else, now.
    Attack,
    /// It is one step from an attack, or from an outage.
    Warning,
    /// Worth knowing.
    Notice,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How grave it is.
    pub severity: Severity,
    /// What it is about.
    pub class: Class,
    /// Which roles, sorted; empty where it is nobody in particular.
    pub who: BTreeSet<String>,
    /// What they can do, and to whom or what.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do about it.
    pub advice: String,
}

/// The roles that providers of managed servers run them with, and the groups their customers' administrators are in.
/// Sources: the documentation of Amazon RDS, Google Cloud SQL and AlloyDB, and Azure Database.
const PROVIDERS: [&str; 14] = [
    "rdsadmin",
    "rds_superuser",
    "rdsrepladmin",
    "rdstopmgr",
    "cloudsqladmin",
    "cloudsqlagent",
    "cloudsqlsuperuser",
    "cloudsqlreplica",
    "alloydbadmin",
    "alloydbsuperuser",
    "azuresu",
    "azure_superuser",
    "azure_pg_admin",
    "replication_azure",
];
/// The oid of the role that `initdb` made (BOOTSTRAP_SUPERUSERID in pg_authid.dat).
const BOOTSTRAP: i64 = 10;

/// Who is meant to administer the server: the role that `initdb` made, whoever asks, whoever made database `rollcall`, the
/// roles that providers use, and who is named.
pub fn administrators(facts: &Facts) -> BTreeSet<String> {
    let shared = &facts.shared;
    let made_registry = shared.database(postgres::REGISTRY).map(|registry| registry.owner.as_str());
    shared
        .roles
        .iter()
        .filter(|role| {
            role.oid == BOOTSTRAP
                || role.name == shared.asker
                || Some(role.name.as_str()) == made_registry.filter(|_| facts.records.is_some())
                || PROVIDERS.contains(&role.name.as_str())
                || facts.administrators.contains(&role.name)
        })
        .map(|role| role.name.clone())
        .collect()
}

/// What is wrong with a server, gravest first; the same for the same facts in whatever order.
pub fn audit(facts: &Facts) -> Vec<Finding> {
    let administrators = administrators(facts);
    let suspects: Vec<&Role> =
        facts.shared.roles.iter().filter(|role| role.login && !administrators.contains(&role.name)).collect();
    let mut findings = attacks::of(facts, &suspects, &administrators);
    findings.extend(hygiene::of(facts, &suspects, &administrators));
    findings.extend(marks::of(facts));
    findings.sort();
    findings.dedup();
    findings
}

/// A set of one name.
fn only(name: &str) -> BTreeSet<String> {
    BTreeSet::from([name.to_owned()])
}

/// Names as they are said, the first few of many.
fn some<'a>(names: impl IntoIterator<Item = &'a str>, kind: &str) -> String {
    const SHOWN: usize = 6;
    let names: Vec<&str> = names.into_iter().collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{kind}{plural} {}{rest}", shown.join(", "))
}
