//! What a role could reach with a power that a document gives it. A replication connection reads the whole server and a logical slot
//! every row of a database, whatever is granted; who makes databases may copy each that is marked as a template; for whom policies
//! of rows do not count they count nowhere.

use std::collections::BTreeSet;

use crate::spec::ServerSpec;
use crate::world::facts::{HbaRule, Kind, Reach, Reached, World};

/// How many foreign databases are named.
const NAMED: usize = 5;

/// Why a role with this power would open what is not this environment's; nothing where all that can be seen says that it would
/// not.
pub(super) fn dangers(spec: &ServerSpec, world: &World, role: &str, power: &str) -> Option<String> {
    let Some(reach) = &world.shared.reach else {
        return Some(format!("role `{role}` would get {power}, and what it could reach was not looked at"));
    };
    let foreign: Vec<&Reached> = reach
        .databases
        .iter()
        .filter(|database| !is_ours(spec, world, &database.name, database.oid))
        .collect();
    let (templates, others): (Vec<&Reached>, Vec<&Reached>) =
        foreign.iter().copied().partition(|database| database.template);
    let (named, why) = match power {
        "CREATEDB" => (names(&templates), copies(&templates)),
        "BYPASSRLS" => {
            (names(&foreign), enters(&foreign, role, power, "reads there what policies of rows keep from it"))
        }
        _ => (names(&others), replicates(spec, reach, &others, role)),
    };
    (!named.is_empty() && !why.is_empty()).then(|| {
        format!(
            "role `{role}` with {power} would reach what is not of environment `{}` on this server ({}): {}; or give this environment \
             a server of its own",
            spec.environment.name,
            listed(&named),
            why.join("; "),
        )
    })
}

/// What opens a foreign template.
fn copies(templates: &[&Reached]) -> Vec<String> {
    let why = format!(
        "whoever may make databases copies {}, marked as a template, with all rows: ALTER DATABASE … IS_TEMPLATE false",
        listed(&names(templates))
    );
    if templates.is_empty() { Vec::new() } else { vec![why] }
}

/// What opens a foreign database that a role may connect to.
fn enters(foreign: &[&Reached], role: &str, power: &str, what: &str) -> Vec<String> {
    let open: Vec<&str> = names_of(foreign, |database| database.open);
    let by_name = names_of(foreign, |database| !database.open && database.lets_in.contains(role));
    let mut why = Vec::new();
    if !open.is_empty() {
        why.push(format!(
            "every role may connect to {}, and one with {power} {what}: REVOKE CONNECT ON DATABASE … FROM PUBLIC",
            listed(&open)
        ));
    }
    if !by_name.is_empty() {
        why.push(format!(
            "it is let into {}, and {what}: REVOKE CONNECT ON DATABASE … from it and from what it is a member of, or take it out of \
             `connect_also`",
            listed(&by_name)
        ));
    }
    why
}

/// What opens anything foreign to a role that replicates.
fn replicates(spec: &ServerSpec, reach: &Reach, foreign: &[&Reached], role: &str) -> Vec<String> {
    let mut why = enters(foreign, role, "REPLICATION", "reads all rows there through a logical slot");
    match &reach.hba {
        None => why.push(format!(
            "whether pg_hba.conf lets it make a replication connection, which reads the whole server, cannot be seen by role `{}`: \
             GRANT SELECT ON pg_hba_file_rules and EXECUTE ON FUNCTION pg_hba_file_rules() to it",
            spec.admin.role
        )),
        Some(rules) => why.extend(admitted(rules, role).map(|rule| {
            format!(
                "line {} of pg_hba.conf lets it make a replication connection, which reads the whole server: put `{} replication \
                 \"{role}\"{} reject` before it",
                rule.line,
                rule.kind,
                if rule.address.is_some() { " all" } else { "" }
            )
        })),
    }
    if !reach.slots_bounded {
        why.push(
            "a slot that nobody reads would fill the disk of all: set max_slot_wal_keep_size".to_owned(),
        );
    }
    why
}

fn names<'a>(databases: &[&'a Reached]) -> Vec<&'a str> {
    names_of(databases, |_| true)
}

fn names_of<'a>(databases: &[&'a Reached], which: impl Fn(&Reached) -> bool) -> Vec<&'a str> {
    let which = databases.iter().filter(|database| which(database));
    let names: BTreeSet<&str> = which.map(|database| database.name.as_str()).collect();
    names.into_iter().collect()
}

fn is_ours(spec: &ServerSpec, world: &World, name: &str, oid: i64) -> bool {
    let uid = spec.environment.uid.to_string();
    world.records.iter().any(|record| {
        record.kind == Kind::Database
            && record.name == name
            && record.oid == oid
            && record.environment_uid == uid
    })
}

fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    if more == 0 { first.join(", ") } else { format!("{} and {more} more", first.join(", ")) }
}

/// The first line that lets a role make a replication connection. A group or a pattern may be about it; a line that rejects
/// counts only where it surely is about it, from wherever it comes.
fn admitted<'a>(rules: &'a [HbaRule], role: &str) -> Option<&'a HbaRule> {
    let mut rejected: Vec<&str> = Vec::new();
    for rule in rules {
        let is_named = rule.users.iter().any(|user| user == "all" || user == role);
        if rule.method == "reject" {
            let everywhere = rule.address.as_deref().is_none_or(|address| address == "all");
            if is_named && everywhere {
                rejected.push(&rule.kind);
            }
            continue;
        }
        let is_rejected = rejected
            .iter()
            .any(|kind| *kind == rule.kind || (*kind == "host" && rule.kind.starts_with("host")));
        if (is_named || rule.users.iter().any(|user| user.starts_with(['+', '/']))) && !is_rejected {
            return Some(rule);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: &str, user: &str, address: Option<&str>, method: &str) -> HbaRule {
        HbaRule {
            line: 7,
            kind: kind.to_owned(),
            users: vec![user.to_owned()],
            address: address.map(str::to_owned),
            method: method.to_owned(),
        }
    }

    #[test]
    fn a_line_counts_as_letting_in_unless_an_earlier_one_surely_rejects() {
        let lets = |rules: &[HbaRule]| admitted(rules, "cdc").is_some();
        let trust = rule("host", "all", Some("127.0.0.1"), "trust");
        assert!(lets(std::slice::from_ref(&trust)));
        assert!(!lets(&[]) && !lets(&[rule("host", "other", Some("all"), "trust")]));
        assert!(
            lets(&[rule("host", "+group", Some("all"), "md5")])
                && lets(&[rule("host", "/^c", Some("all"), "md5")])
        );
        for (reject, still) in [
            (rule("host", "all", Some("all"), "reject"), false),
            (rule("host", "cdc", Some("all"), "reject"), false),
            (rule("host", "cdc", Some("10.0.0.0"), "reject"), true),
            (rule("hostssl", "cdc", Some("all"), "reject"), true),
            (rule("host", "+group", Some("all"), "reject"), true),
            (rule("local", "all", None, "reject"), true),
        ] {
            assert_eq!(lets(&[reject.clone(), trust.clone()]), still, "{reject:?}");
        }
        assert!(lets(&[trust, rule("host", "all", Some("all"), "reject")]), "the first that fits counts");
    }
}
