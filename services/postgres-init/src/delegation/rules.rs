//! What the environment allows a fragment that asks for databases. Pure: what no rule allows is refused.

use std::collections::BTreeSet;

use chassis::grpc::Identity;
use lifecycle::document::{Delegate, Document, Environment};
use lifecycle::{Component, Kind};

use super::rights::about;
use crate::world::delegated::Kept;

/// Why a fragment may not have what it asks for; nothing when it may. `mounted` are the documents of whoever looks after the servers,
/// `accepted` the fragments that were accepted already and `readable` those whose databases its roles may read where they are of its
/// namespace, both with its own earlier version or without. Of a `caller` only the rules count that let it ask; without one, all about
/// the fragment do.
pub(crate) fn refusals(
    mounted: &Environment,
    accepted: &[&Document],
    readable: &[&Document],
    asked: &Document,
    caller: Option<&Identity>,
) -> Vec<String> {
    let mut refused = Vec::new();
    for server in servers(asked) {
        let rules = about(mounted, &server, asked, caller);
        match rules {
            Err(why) => refused.push(why),
            Ok(rules) => {
                let others = accepted.iter().copied().filter(|other| {
                    other.fragment.name != asked.fragment.name
                        && other.fragment.namespace == asked.fragment.namespace
                });
                bounds(&server, &rules, others, asked, &mut refused);
            }
        }
    }
    for (name, role) in &asked.roles {
        for read in &role.reads {
            let own = asked.databases.contains_key(read)
                || readable.iter().any(|other| {
                    other.fragment.name != asked.fragment.name
                        && other.fragment.namespace == asked.fragment.namespace
                        && other.databases.contains_key(read)
                });
            if !own {
                refused.push(format!(
                    "role/{name} is to read database/{read}, which is not asked for by namespace {}; have that role declared where \
                     the server is",
                    asked.fragment.namespace
                ));
            }
        }
    }
    for (name, step) in &asked.steps {
        if let Some(database) =
            step.database.as_ref().filter(|database| !asked.databases.contains_key(*database))
        {
            refused.push(format!(
                "step/{name} works on database/{database}, which this fragment does not ask for; declare the step in the one that does"
            ));
        }
    }
    refused
}

/// Whether a rule that lets the caller ask names the fragment itself, for every server that it asks something of.
pub(crate) fn is_named(mounted: &Environment, asked: &Document, caller: Option<&Identity>) -> bool {
    servers(asked).iter().all(|server| {
        about(mounted, server, asked, caller)
            .is_ok_and(|rules| rules.iter().any(|rule| rule.fragments.contains(&asked.fragment.name)))
    })
}

/// The servers that something is asked of.
pub(crate) fn servers(asked: &Document) -> BTreeSet<String> {
    let databases = asked.databases.values().map(|database| &database.server);
    let roles = asked.roles.values().map(|role| &role.server);
    let steps = asked.steps.values().filter_map(|step| step.server.as_ref());
    databases.chain(roles).chain(steps).cloned().collect()
}

fn bounds<'a>(
    server: &str,
    rules: &[&Delegate],
    others: impl Iterator<Item = &'a Document>,
    asked: &Document,
    refused: &mut Vec<String>,
) {
    let others: Vec<&Document> = others.collect();
    let had = others.iter().flat_map(|other| components(server, other)).collect();
    counts(server, rules, &had, asked, refused);
    fragments(server, rules, others.iter().filter(|other| servers(other).contains(server)).count(), refused);
    let extensions: BTreeSet<&String> = rules.iter().flat_map(|rule| &rule.extensions).collect();
    let replicates = rules.iter().any(|rule| rule.replication);
    for (name, database) in asked.databases.iter().filter(|(_, database)| database.server == server) {
        for extension in database.extensions.iter().filter(|one| !extensions.contains(&one.name)) {
            refused.push(format!(
                "database/{name}: extension `{}` is not among the `extensions` that postgres/{server} delegates; add it there, or take it out",
                extension.name
            ));
        }
        if database.roles.app.replication && !replicates {
            refused.push(format!("database/{name}: {}", replication(&database.roles.app.name, server)));
        }
        let app = &database.roles.app;
        refused.extend(powers(&format!("database/{name}"), &app.name, app.create_db, app.bypass_rls));
        if !database.connect_also.is_empty() {
            refused.push(format!(
                "database/{name}: `connect_also` lets others in, which is not for a module to ask for; have the database declared where \
                 the server is"
            ));
        }
    }
    for (name, role) in asked.roles.iter().filter(|(_, role)| role.server == server) {
        let base = role.physical_base(name);
        if role.replication && !replicates {
            refused.push(format!("role/{name}: {}", replication(base, server)));
        }
        refused.extend(powers(&format!("role/{name}"), base, role.create_db, role.bypass_rls));
    }
}

/// Why a fragment may not have what it asks for on this server beside what its namespace has there: `kept` are the namespace's fragments
/// that stand there, joined or not, its own earlier version among them; `recorded` was made for them, declared now or not. What is
/// not more than there was is not refused.
pub(crate) fn refusals_here(
    mounted: &Environment,
    server: &str,
    kept: &[&Kept],
    recorded: BTreeSet<Component>,
    asked: &Document,
    caller: Option<&Identity>,
) -> Vec<String> {
    let rules = match about(mounted, server, asked, caller) {
        Ok(rules) => rules,
        Err(why) => return vec![why],
    };
    let mut refused = Vec::new();
    let declared = kept.iter().filter_map(|kept| kept.document.as_ref());
    let had: BTreeSet<Component> =
        declared.flat_map(|document| components(server, document)).chain(recorded).collect();
    if !components(server, asked).is_subset(&had) {
        counts(server, &rules, &had, asked, &mut refused);
    }
    let own = |kept: &&&Kept| kept.fragment == asked.fragment.name;
    if !kept.iter().any(|kept| own(&kept)) {
        fragments(server, &rules, kept.len(), &mut refused);
    }
    refused
}

/// Why a step that is not in the ledger of a server yet may not be written down there, where its fragment has so many others in it;
/// nothing when it may.
pub(crate) fn refused_step(
    mounted: &Environment,
    server: &str,
    recorded: usize,
    asked: &Document,
    caller: Option<&Identity>,
) -> Option<String> {
    let rules = match about(mounted, server, asked, caller) {
        Ok(rules) => rules,
        Err(why) => return Some(why),
    };
    let allowed = rules.iter().map(|rule| rule.steps()).max().unwrap_or_default();
    (recorded >= allowed).then(|| {
        format!(
            "fragment `{}` has {recorded} steps in the ledger of postgres/{server}, where it may have {allowed}, also of those that it \
             declares no more; have who looks after the server raise `steps` of its rule to {}",
            asked.fragment.name,
            recorded + 1
        )
    })
}

/// The databases and roles of a fragment on a server.
fn components(server: &str, document: &Document) -> BTreeSet<Component> {
    let databases = document.databases.iter().filter(|(_, database)| database.server == server);
    let databases = databases.map(|(name, _)| Component::new(Kind::Database, name));
    let roles = document.roles.iter().filter(|(_, role)| role.server == server);
    databases.chain(roles.map(|(name, _)| Component::new(Kind::Role, name))).collect()
}

fn counts(
    server: &str,
    rules: &[&Delegate],
    had: &BTreeSet<Component>,
    asked: &Document,
    refused: &mut Vec<String>,
) {
    let wanted = components(server, asked);
    let most =
        |of: fn(&Delegate) -> u16| rules.iter().map(|rule| usize::from(of(rule))).max().unwrap_or_default();
    for (kind, field, allowed) in [
        (Kind::Database, "databases", most(|rule| rule.databases)),
        (Kind::Role, "roles", most(|rule| rule.roles)),
    ] {
        let count = |of: &BTreeSet<Component>| of.iter().filter(|component| component.kind() == kind).count();
        let new =
            wanted.iter().filter(|component| component.kind() == kind && !had.contains(component)).count();
        if new > 0 && count(had) + new > allowed {
            refused.push(format!(
                "fragment `{0}` asks for {1} {field} on postgres/{server}, {new} of them new, where namespace {2} has {3} and may have \
                 {allowed}, also of those that nobody declares any more and that are still there; raise `{field}` of its rule, or ask \
                 for fewer",
                asked.fragment.name,
                count(&wanted),
                asked.fragment.namespace,
                count(had)
            ));
        }
    }
}

fn fragments(server: &str, rules: &[&Delegate], others: usize, refused: &mut Vec<String>) {
    let allowed = rules.iter().map(|rule| usize::from(rule.fragment_count)).max().unwrap_or_default();
    if others >= allowed {
        refused.push(format!(
            "its namespace has {others} other fragments on postgres/{server} and may have {allowed} in all; raise `fragment_count` of \
             its rule"
        ));
    }
}

fn replication(role: &str, server: &str) -> String {
    format!("role `{role}` is to replicate, which postgres/{server} does not delegate (`replication`)")
}

/// Powers over the server, which no rule gives.
fn powers(component: &str, role: &str, create_db: bool, bypass_rls: bool) -> Vec<String> {
    let asked =
        [(create_db, "create_db"), (bypass_rls, "bypass_rls")].into_iter().filter(|(asked, _)| *asked);
    asked
        .map(|(_, key)| {
            format!(
                "{component}: `{key}` of role `{role}` is a power over the server, which is not for a module to ask for; have that role \
                 declared where the server is"
            )
        })
        .collect()
}
