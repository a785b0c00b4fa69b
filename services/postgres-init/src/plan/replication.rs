//! What a role that replicates could reach: a replication connection reads the whole server, a logical slot every row of a
//! database, whatever is granted.

use crate::spec::ServerSpec;
use crate::world::facts::{HbaRule, Kind, World};

/// The attribute.
pub(super) const POWER: &str = "REPLICATION";

/// How many foreign databases are named.
const NAMED: usize = 5;

/// Why a role that replicates would open what is not this environment's; nothing where all that can be seen says that it would
/// not.
pub(super) fn dangers(spec: &ServerSpec, world: &World, role: &str) -> Option<String> {
    let Some(reach) = &world.shared.reach else {
        return Some(format!("role `{role}` would get {POWER}, and what it could reach was not looked at"));
    };
    let foreign: Vec<_> = reach
        .databases
        .iter()
        .filter(|database| !is_ours(spec, world, &database.name, database.oid))
        .collect();
    if foreign.is_empty() {
        return None;
    }
    let mut why = Vec::new();
    let open: Vec<&str> =
        foreign.iter().filter(|database| database.open).map(|one| one.name.as_str()).collect();
    if !open.is_empty() {
        why.push(format!(
            "every role may connect to {}, and one that replicates reads all rows there through a logical slot: REVOKE CONNECT ON \
             DATABASE … FROM PUBLIC",
            listed(&open)
        ));
    }
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
    let names: Vec<&str> = foreign.iter().map(|database| database.name.as_str()).collect();
    (!why.is_empty()).then(|| {
        format!(
            "role `{role}` with {POWER} would reach what is not of environment `{}` on this server ({}): {}; or give this environment \
             a server of its own",
            spec.environment.name,
            listed(&names),
            why.join("; "),
        )
    })
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
