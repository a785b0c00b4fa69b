//! What is recorded and no document declares any more: it stays, and whoever logs in with it still gets in, so that is told.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::Component;
use lifecycle::document::OnDelete;

use crate::adopt::word;
use crate::spec::ServerSpec;
use crate::world::facts::{Kind, Record, World};

/// Whether a document gives this name to something of this kind on this server.
pub(super) fn names(spec: &ServerSpec, record: &Record) -> bool {
    let name = record.name.as_str();
    match record.kind {
        Kind::Database => {
            spec.given.databases.contains_key(name) || spec.databases.iter().any(|one| one.name == name)
        }
        Kind::Role | Kind::Observer => {
            spec.given.roles.contains_key(name)
                || spec.databases.iter().any(|one| one.roles().contains(&name))
                || spec.roles.iter().any(|one| one.login.role == name)
        }
    }
}

/// Whether the component that it is recorded for has a claim to it still, or that cannot be told: one that is declared on this
/// server has none to what it does not name.
pub(super) fn keeps(spec: &ServerSpec, record: &Record) -> bool {
    let given = &spec.given;
    let claims = |component: Component| {
        let named = match record.kind {
            Kind::Database => given.databases.get(&record.name),
            Kind::Role | Kind::Observer => given.roles.get(&record.name),
        };
        let is_here = given.databases.values().chain(given.roles.values()).any(|by| by.contains(&component));
        named.is_some_and(|by| by.contains(&component)) || !is_here && given.components.contains(&component)
    };
    !given.fragments.contains(&record.fragment) || record.component.parse().is_ok_and(claims)
}

/// Whether a document declares it, here or under another name of the same server.
pub(super) fn declares(spec: &ServerSpec, record: &Record) -> bool {
    let elsewhere = record.component.parse().is_ok_and(|component: Component| {
        spec.given.components.contains(&component)
            && spec.database(&component).is_none()
            && spec.role(&component).is_none()
    });
    elsewhere || names(spec, record)
}

/// What is there of fragments that were given and declare it no more, with the component it is told of.
pub(super) fn notes(spec: &ServerSpec, world: &World) -> Vec<(Component, String)> {
    let uid = spec.environment.uid.to_string();
    let left = world.records.iter().filter(|record| {
        record.environment_uid == uid
            && record.kind != Kind::Observer
            && spec.given.fragments.contains(&record.fragment)
            && !record.leaving
            && record.now.is_some()
            && !declares(spec, record)
    });
    let mut of: BTreeMap<(&str, &str), BTreeSet<(Kind, &str)>> = BTreeMap::new();
    let mut by_name: BTreeMap<(Kind, &str), &Record> = BTreeMap::new();
    for record in left {
        let thing = (record.kind, record.name.as_str());
        of.entry((&record.component, &record.fragment)).or_default().insert(thing);
        by_name.insert(thing, record);
    }
    let notes = of.into_iter().map(|((component, fragment), things)| {
        let records: Vec<&Record> = things.iter().filter_map(|thing| by_name.get(thing).copied()).collect();
        let own = component
            .parse()
            .ok()
            .filter(|component| spec.database(component).is_some() || spec.role(component).is_some());
        (own.unwrap_or_else(|| spec.component.clone()), told(spec, component, fragment, &records))
    });
    notes.collect()
}

fn told(spec: &ServerSpec, component: &str, fragment: &str, records: &[&Record]) -> String {
    let things: Vec<String> =
        records.iter().map(|record| format!("{} `{}`", word(record.kind), record.name)).collect();
    let (is, them) = if records.len() == 1 { ("is", "it") } else { ("are", "them") };
    let logs_in = records.iter().filter(|record| record.now.as_ref().is_some_and(|now| now.login));
    let (mut still, mut ends) = (Vec::new(), Vec::new());
    for record in logs_in {
        let groups: Vec<&str> =
            record.now.iter().flat_map(|now| &now.member_of).map(String::as_str).collect();
        let member = if groups.is_empty() {
            String::new()
        } else {
            format!(", a member of `{}`", groups.join("`, `"))
        };
        still.push(format!("`{}` still logs in{member}", record.name));
        ends.push(format!("ALTER ROLE \"{}\" NOLOGIN", record.name));
    }
    let still = if still.is_empty() { "nothing of it goes by itself".to_owned() } else { still.join("; ") };
    let ends = if ends.is_empty() { String::new() } else { format!("; {} ends its access", ends.join("; ")) };
    let once = match spec.on_delete {
        OnDelete::Delete => String::new(),
        OnDelete::Retain => format!(
            ", once fragment `{}`, which declares {}, says `policy: {{on_delete: delete}}`",
            spec.fragment, spec.component
        ),
    };
    format!(
        "{} {is} recorded for {component} of fragment `{fragment}`, which declares {them} no more (where a document that was not \
         given does, give that one too): {still}{ends}; `postgres-init teardown \
         DOCUMENTS --orphan {component}` says what would go and what keeps it, and with --yes drops what nothing keeps{once}",
        things.join(", ")
    )
}
