//! Who can attack whom: the six attacks that a tenant of a shared server must fail, and two more of their kind. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Database, Facts, Role, Rule, Shared};
use super::reach::{ADMIN_NEEDED, Depth, Path, reach};
use super::{Class, Finding, Severity, only, some};

/// Being one of these is running commands: by COPY … PROGRAM, or by writing files that the server executes.
const COMMANDS: [&str; 2] = ["pg_execute_server_program", "pg_write_server_files"];
/// Being this is reading every file the server can, its verifiers and tables among them.
const FILES: &str = "pg_read_server_files";
/// Being this is reading every table of every database one may connect to.
const ROWS: &str = "pg_read_all_data";

const NO_CREATEROLE: &str =
    "take CREATEROLE from it: ALTER ROLE … NOCREATEROLE, or `converge --class attributes`";
const NO_REPLICATION: &str =
    "take REPLICATION from it: ALTER ROLE … NOREPLICATION, or `converge --class attributes`";

/// All attacks that somebody of `suspects` can perform.
pub(super) fn of(facts: &Facts, suspects: &[&Role], administrators: &BTreeSet<String>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let mut open: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for &role in suspects {
        if let Some(finding) = superuser(&facts.shared, role) {
            // It can do all the rest too, and saying each would say nothing more.
            found.push(finding);
            continue;
        }
        found.extend(os_command(&facts.shared, role));
        found.extend(password(&facts.shared, role, administrators));
        found.extend(replication(facts, role));
        found.extend(physical_slot(&facts.shared, role));
        let entries = foreign(&facts.shared, role);
        found.extend(rows(&facts.shared, role, &entries));
        found.extend(copy(&facts.shared, role));
        found.extend(logical_slot(&facts.shared, role, &entries));
        found.extend(granted(role, &entries));
        for entry in entries.iter().filter(|entry| entry.path.is_none()) {
            open.entry(&entry.database.name).or_default().insert(role.name.clone());
        }
    }
    found.extend(open.into_iter().map(|(database, who)| Finding {
        severity: Severity::Attack,
        class: Class::ForeignDatabase,
        what: format!("may connect to database `{database}`, which is not theirs"),
        why: "PUBLIC has CONNECT on it, and none of them was given it".to_owned(),
        advice: format!(
            "GRANT CONNECT to who needs it, then REVOKE CONNECT ON DATABASE \"{database}\" FROM PUBLIC; or `converge --class public-connect`"
        ),
        who,
    }));
    found.extend(facts.rules.iter().flatten().filter_map(trusting));
    found
}

fn finding(class: Class, role: &Role, what: String, why: String, advice: &str) -> Finding {
    let who = only(&role.name);
    Finding { severity: Severity::Attack, class, who, what, why, advice: advice.to_owned() }
}

/// Why a role can do what another may: the way there, or that it is that role.
fn because(path: &Path, itself: &str, other: &str) -> String {
    if *path == Path::default() { itself.to_owned() } else { format!("it {}{other}", path.words()) }
}

fn superuser(shared: &Shared, role: &Role) -> Option<Finding> {
    let reached = reach(shared, role, Depth::Becomes);
    let (_, path) = reached.iter().find(|(name, _)| shared.role(name).is_some_and(|role| role.superuser))?;
    Some(finding(
        Class::OsCommand,
        role,
        "can do everything, to everybody, on the machine too".to_owned(),
        because(path, "it is a superuser", ", a superuser"),
        "ALTER ROLE … NOSUPERUSER, or REVOKE the membership; who is meant to administer the server is named with --administrator",
    ))
}

fn os_command(shared: &Shared, role: &Role) -> Option<Finding> {
    let reached = reach(shared, role, Depth::Uses);
    let (what, path) = COMMANDS
        .iter()
        .find_map(|name| Some(("can run commands as the user the server runs as", reached.get(name)?)))
        .or_else(|| {
            Some(("can read every file the server can, other tenants' data among them", reached.get(FILES)?))
        })?;
    let advice = if path.is_given() { "REVOKE the membership" } else { NO_CREATEROLE };
    Some(finding(Class::OsCommand, role, what.to_owned(), because(path, "", ""), advice))
}

/// Whose password a role can set.
fn password(shared: &Shared, role: &Role, administrators: &BTreeSet<String>) -> Option<Finding> {
    let reached = reach(shared, role, Depth::Becomes);
    let (creator, path) = reached
        .iter()
        .filter_map(|(name, path)| Some((shared.role(name)?, path)))
        .find(|(role, _)| role.createrole)?;
    let administered: BTreeSet<&str> = reached
        .keys()
        .flat_map(|name| shared.memberships.iter().filter(move |m| m.admin && m.member == **name))
        // The ADMIN OPTION without the rest is what a role has of the roles it made itself.
        .filter(|m| m.inherit || m.set)
        .map(|m| m.role.as_str())
        .collect();
    let victims: BTreeSet<&str> = shared
        .roles
        .iter()
        .filter(|other| other.login && !other.superuser && other.name != role.name)
        .filter(|other| match shared.version {
            ..ADMIN_NEEDED => !other.replication,
            _ => administered.contains(other.name.as_str()),
        })
        .map(|other| other.name.as_str())
        .collect();
    if victims.is_empty() {
        return None;
    }
    let grave = victims.iter().any(|name| administrators.contains(*name));
    let why = match shared.version {
        ..ADMIN_NEEDED => {
            "before version 16 CREATEROLE is power over every role but superusers and those with REPLICATION"
        }
        _ => "it has CREATEROLE and the ADMIN OPTION of them",
    };
    Some(finding(
        Class::ForeignPassword,
        role,
        format!(
            "can set the password of {}{}",
            some(victims.iter().copied(), "role"),
            if grave { ", an administrator's among them" } else { "" }
        ),
        format!(
            "{}: {why}",
            because(path, "it has CREATEROLE", &format!(", and `{}` has CREATEROLE", creator.name))
        ),
        NO_CREATEROLE,
    ))
}

fn replication(facts: &Facts, role: &Role) -> Option<Finding> {
    let shared = &facts.shared;
    // A replication connection is judged by the role that logs in, so what it may act as does not count.
    if !role.replication || shared.max_wal_senders == 0 || shared.wal_level == "minimal" {
        return None;
    }
    let way = match &facts.rules {
        None => "it has REPLICATION; pg_hba.conf cannot be read, and may forbid it".to_owned(),
        Some(rules) => {
            let line = rules.iter().find(|line| admits_replication(line, shared, role))?;
            format!(
                "it has REPLICATION, and line {} of pg_hba.conf lets it in from {}",
                line.line,
                from(line)
            )
        }
    };
    let what = "can open a replication connection and copy the whole server, every database and verifier";
    Some(finding(Class::Replication, role, what.to_owned(), way, NO_REPLICATION))
}

/// Whether a line lets a role in for replication. `all` does not mean replication. Lines before it that reject the role from some
/// address do not count: it may come from another.
fn admits_replication(line: &Rule, shared: &Shared, role: &Role) -> bool {
    line.method != "reject"
        && line.database.iter().any(|database| database == "replication")
        && line.user.iter().any(|user| match user.as_bytes() {
            [b'+', group @ ..] => std::str::from_utf8(group)
                .is_ok_and(|group| reach(shared, role, Depth::Uses).contains_key(group)),
            // A pattern is not read here, so it is taken to fit.
            b"all" | [b'/', ..] => true,
            _ => *user == role.name,
        })
}

fn from(rule: &Rule) -> String {
    match (&rule.address, &rule.netmask) {
        (None, _) => "the server's own machine".to_owned(),
        (Some(address), Some(mask)) => format!("{address} mask {mask}"),
        (Some(address), None) => address.clone(),
    }
}

fn physical_slot(shared: &Shared, role: &Role) -> Option<Finding> {
    if shared.max_replication_slots == 0 || shared.wal_level == "minimal" {
        return None;
    }
    let why = replicates(shared, role)?;
    let what = "can make a replication slot that keeps WAL until the server's disk is full";
    Some(finding(Class::PhysicalSlot, role, what.to_owned(), why, NO_REPLICATION))
}

/// Why a role can use the functions for replication slots, if it can.
fn replicates(shared: &Shared, role: &Role) -> Option<String> {
    let reached = reach(shared, role, Depth::Becomes);
    let (name, path) =
        reached.iter().find(|(name, _)| shared.role(name).is_some_and(|role| role.replication))?;
    Some(because(path, "it has REPLICATION", &format!(", and `{name}` has REPLICATION")))
}

fn logical_slot(shared: &Shared, role: &Role, entries: &[Entry<'_>]) -> Option<Finding> {
    if shared.wal_level != "logical" || shared.max_replication_slots == 0 || entries.is_empty() {
        return None;
    }
    let why = replicates(shared, role)?;
    let what = format!(
        "can read the rows that are written in {}, whatever is granted there",
        some(entries.iter().map(|entry| entry.database.name.as_str()), "database")
    );
    let why = format!("{why}, wal_level is logical, and it may connect there");
    Some(finding(Class::LogicalSlot, role, what, why, NO_REPLICATION))
}

fn rows(shared: &Shared, role: &Role, entries: &[Entry<'_>]) -> Option<Finding> {
    if entries.is_empty() {
        return None;
    }
    let reached = reach(shared, role, Depth::Uses);
    let path = reached.get(ROWS)?;
    let advice =
        if path.is_given() { "REVOKE pg_read_all_data, and GRANT what it needs" } else { NO_CREATEROLE };
    let what = format!(
        "can read every table of {}",
        some(entries.iter().map(|entry| entry.database.name.as_str()), "database")
    );
    Some(finding(Class::ForeignRows, role, what, because(path, "", ""), advice))
}

/// The databases of others that a role may copy, whether it may connect to them or not.
fn copy(shared: &Shared, role: &Role) -> Option<Finding> {
    let reached = reach(shared, role, Depth::Becomes);
    let (name, path) =
        reached.iter().find(|(name, _)| shared.role(name).is_some_and(|role| role.createdb))?;
    let has = reach(shared, role, Depth::Has);
    let copied: BTreeSet<&str> = shared
        .databases
        .iter()
        .filter(|one| one.template && !one.is_maintenance() && !has.contains_key(one.owner.as_str()))
        .map(|database| database.name.as_str())
        .collect();
    if copied.is_empty() {
        return None;
    }
    let what = format!("can copy {} with all rows: a template", some(copied.into_iter(), "database"));
    let why = because(path, "it has CREATEDB", &format!(", and `{name}` has CREATEDB"));
    let advice = "ALTER DATABASE … IS_TEMPLATE false; or take CREATEDB from it: ALTER ROLE … NOCREATEDB, or `converge --class \
                  attributes`";
    Some(finding(Class::ForeignRows, role, what, why, advice))
}

/// A database that a role may connect to although nobody gave it that.
struct Entry<'a> {
    database: &'a Database,
    /// What it would have to grant itself; none where PUBLIC may connect.
    path: Option<(String, Path)>,
}

/// The databases of others that a role may connect to. One that it owns, or was let into by name, is not another's.
fn foreign<'a>(shared: &'a Shared, role: &'a Role) -> Vec<Entry<'a>> {
    let enters = reach(shared, role, Depth::Enters);
    let has = reach(shared, role, Depth::Has);
    let given = |database: &Database, name: &str| database.owner == name || database.gives(name, "CONNECT");
    let mut entries: Vec<Entry<'a>> = shared
        .databases
        .iter()
        .filter(|database| database.open && !database.is_maintenance())
        .filter_map(|database| {
            let at_home = has.keys().any(|name| given(database, name));
            if at_home {
                return None;
            }
            if database.is_public() {
                return Some(Entry { database, path: None });
            }
            let (name, path) = enters.iter().find(|(name, _)| given(database, name))?;
            Some(Entry { database, path: Some(((*name).to_owned(), path.clone())) })
        })
        .collect();
    entries.sort_by(|a, b| a.database.name.cmp(&b.database.name));
    entries
}

/// Closed databases that a role can let itself into.
fn granted(role: &Role, entries: &[Entry<'_>]) -> Option<Finding> {
    let closed: Vec<(&str, &Path)> = entries
        .iter()
        .filter_map(|entry| Some((entry.database.name.as_str(), &entry.path.as_ref()?.1)))
        .collect();
    let (_, path) = closed.first()?;
    Some(finding(
        Class::ForeignDatabase,
        role,
        format!("can let itself into {}", some(closed.iter().map(|(name, _)| *name), "database")),
        because(path, "", " and the like"),
        NO_CREATEROLE,
    ))
}

/// A line that lets somebody in from elsewhere without any proof.
fn trusting(rule: &Rule) -> Option<Finding> {
    let address = rule.address.as_deref()?;
    let own = ["127.0.0.1", "::1", "localhost"].contains(&address) || address.starts_with("127.");
    if rule.method != "trust" || own {
        return None;
    }
    Some(Finding {
        severity: Severity::Attack,
        class: Class::Trust,
        who: BTreeSet::new(),
        what: format!(
            "whoever comes from {} may log in as {} without a password",
            from(rule),
            rule.user.join(", ")
        ),
        why: format!("line {} of pg_hba.conf says `trust`", rule.line),
        advice: "write scram-sha-256 there, and reload the server's configuration".to_owned(),
    })
}
