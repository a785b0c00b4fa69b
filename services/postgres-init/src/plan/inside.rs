//! A database from inside: its schemas and extensions, and who has which rights with what others make there.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use lifecycle::document::{Ddl, Extension};

use super::{Change, Decision, is_finished, leaves, ownership};
use crate::spec::{DatabaseSpec, Rights, ServerSpec};
use crate::world::facts::{Available, Inside, Installed, World};

/// How many strange things are named.
const NAMED: usize = 10;

/// Whether a database must be looked into before it can be decided: what it should hold is nowhere else to be seen.
pub fn needs_look(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> bool {
    let asks = !database.extensions.is_empty();
    let holds = asks || !database.schemas.is_empty() || !database.grants().is_empty();
    world.database(&database.name).is_some_and(|facts| facts.open)
        && match ownership::database(spec, database, world) {
            Ok(()) => holds || (opens_public(world) && !is_finished(database, world)),
            Err(_) => asks && leaves(spec, database, world),
        }
}

/// The roles that can make things in a database under their own name: the owner, who acts as one, who owns a schema, and before
/// version 15, where only a superuser can close schema `public`, everybody else too.
pub fn makers(database: &DatabaseSpec, world: &World) -> Vec<String> {
    let public = world.shared.version < 150_000 && !world.shared.superuser;
    let accounts = database.accounts().into_iter().filter(|account| public || account.ddl == Ddl::AsOwner);
    let mut makers = vec![database.owner.clone()];
    for role in accounts.map(|account| account.login.role).chain(database.schemas.values().cloned()) {
        if !makers.contains(&role) {
            makers.push(role);
        }
    }
    makers
}

/// Rights one by one: who, kind of thing, privilege.
pub fn each_right<'a>(grants: &'a [(String, &'static Rights)]) -> Vec<(&'a str, &'static str, &'static str)> {
    let mut each = Vec::new();
    for (grantee, rights) in grants {
        for (kind, _, privileges) in *rights {
            each.extend(privileges.split(", ").map(|privilege| (grantee.as_str(), *kind, privilege)));
        }
    }
    each
}

/// The rights that a role is to have with what these make, as in [`Inside::defaults`].
pub(super) fn defaults(grantee: &str, rights: &'static Rights, makers: &[String]) -> BTreeSet<String> {
    let grants = [(grantee.to_owned(), rights)];
    let makers = makers.iter().filter(|maker| *maker != grantee);
    let each = makers.flat_map(|maker| each_right(&grants).into_iter().map(move |right| (maker, right)));
    each.map(|(maker, (grantee, kind, privilege))| format!("{maker}>{grantee}:{kind}:{privilege}")).collect()
}

/// What is inside the database. One that was not looked into is as its finished record says, or empty.
pub(super) fn decide(decision: &mut Decision, spec: &ServerSpec, database: &DatabaseSpec, world: &World) {
    let nothing =
        Inside { public_open: opens_public(world) && !is_finished(database, world), ..Inside::default() };
    let (seen, looked) = match world.inside.get(&database.name) {
        Some(Ok(seen)) => (seen, true),
        Some(Err(blind)) if blind.transient => return decision.pending.push(blind.why.clone()),
        Some(Err(blind)) => return decision.refusals.push(blind.why.clone()),
        None => (&nothing, world.database(&database.name).is_none()),
    };
    if seen.public_open && opens_public(world) {
        decision.steps.push(Change::ClosePublic { owner: database.owner.clone() });
    }
    for (name, owner) in &database.schemas {
        match seen.schemas.get(name) {
            None => decision.steps.push(Change::Schema { name: name.clone(), owner: owner.clone() }),
            Some(is) if is != owner => decision.drift.push(format!(
                "schema `{name}` of database `{}` belongs to role `{is}` instead of `{owner}`; left alone: ALTER SCHEMA … OWNER TO",
                database.name
            )),
            Some(_) => {}
        }
    }
    for extension in &database.extensions {
        available(decision, spec, extension, seen, looked, world);
        match seen.extensions.get(&extension.name) {
            None => decision.steps.push(Change::Extension(extension.clone())),
            Some(is) => installed(decision, database, extension, &is.version, &is.schema),
        }
    }
    let makers = makers(database, world);
    for (grantee, rights) in database.grants() {
        let own = format!("{grantee}:");
        let lacks = seen.lacking.iter().any(|right| right.starts_with(&own));
        if lacks || !seen.defaults.is_superset(&defaults(&grantee, rights, &makers)) {
            decision.steps.push(Change::Privileges { role: grantee, makers: makers.clone(), rights });
        }
    }
    if !seen.strange.is_empty() {
        let named = &seen.strange[..seen.strange.len().min(NAMED)];
        let more = if named.len() < seen.strange.len() { " and more" } else { "" };
        decision.drift.push(format!(
            "database `{}` holds what belongs to none of its roles, so nobody gets rights with it: {}{more}; left alone: ALTER TABLE … \
             OWNER TO \"{}\"",
            database.name,
            named.join(", "),
            database.owner
        ));
    }
}

/// That the server has an extension, and that the administrator can make it where it is not there.
fn available(
    decision: &mut Decision,
    spec: &ServerSpec,
    extension: &Extension,
    seen: &Inside,
    looked: bool,
    world: &World,
) {
    let name = &extension.name;
    let versions: Vec<&Available> = world.shared.available.iter().filter(|one| one.name == *name).collect();
    if versions.is_empty() {
        return decision.refusals.push(format!(
            "the server has no extension `{name}`; install its package on the server, or take it out of the document"
        ));
    }
    let is_there = seen.extensions.contains_key(name);
    let chosen = versions.iter().find(|one| match &extension.version {
        Some(version) => one.version == *version,
        None => one.default,
    });
    let Some(chosen) = chosen else {
        // A newer one that is there is told of as such, and one that nobody asks a version of is as it is.
        let wanted = |is: &Installed| {
            extension.version.as_ref().is_some_and(|asked| is.version != *asked && !newer(&is.version, asked))
        };
        if looked && seen.extensions.get(name).is_none_or(wanted) {
            let has: Vec<&str> = versions.iter().map(|one| one.version.as_str()).collect();
            decision.refusals.push(format!(
                "the server has extension `{name}` in version {} and not in {}; install its package on the server, or name another \
                 version",
                has.join(", "),
                extension.version.as_deref().unwrap_or("any that is made by default"),
            ));
        }
        return;
    };
    if let (Some(only), Some(asked)) = (&chosen.schema, &extension.schema)
        && only != asked
        && !is_there
    {
        decision.refusals.push(format!(
            "extension `{name}` can be in schema `{only}` only, and the document says `{asked}`; take that out"
        ));
    }
    let changes = match (seen.extensions.get(name), &extension.version) {
        (None, _) => true,
        (Some(is), Some(asked)) => is.version != *asked && !newer(&is.version, asked),
        (Some(_), None) => false,
    };
    if looked && changes && !world.shared.superuser {
        let mut needed = vec![*chosen];
        let mut i = 0;
        while i < needed.len() {
            let more = world.shared.available.iter().filter(|one| {
                one.default
                    && needed[i].requires.contains(&one.name)
                    && !seen.extensions.contains_key(&one.name)
                    && !needed.iter().any(|known| known.name == one.name)
            });
            let more: Vec<&Available> = more.collect();
            needed.extend(more);
            i += 1;
        }
        for one in needed.iter().filter(|one| one.superuser) {
            let required =
                if one.name == *name { String::new() } else { format!(", which `{name}` requires,") };
            decision.refusals.push(format!(
                "extension `{}`{required} can be made or brought to another version by a superuser only, for it is not trusted, and \
                 role `{}`, which provisions, is none; have one do it: CREATE EXTENSION \"{}\" in the database, or ALTER EXTENSION … \
                 UPDATE",
                one.name, spec.admin.role, one.name
            ));
        }
    }
}

/// An extension that is there, in some version and schema.
fn installed(
    decision: &mut Decision,
    database: &DatabaseSpec,
    extension: &Extension,
    version: &str,
    schema: &str,
) {
    let (name, of) = (&extension.name, format!("of database `{}`", database.name));
    match extension.version.as_deref() {
        Some(asked) if asked != version && newer(version, asked) => decision.drift.push(format!(
            "extension `{name}` {of} has version {version}, newer than {asked}, which the document says; left alone"
        )),
        Some(asked) if asked != version => {
            decision.steps.push(Change::Update { name: name.clone(), version: asked.to_owned() });
        }
        _ => {}
    }
    if let Some(asked) = extension.schema.as_deref().filter(|asked| *asked != schema) {
        decision.drift.push(format!(
            "extension `{name}` {of} is in schema `{schema}` instead of `{asked}`; left alone: ALTER EXTENSION … SET SCHEMA"
        ));
    }
}

/// Whether a version comes after another: numbers as numbers, the rest as text. Versions of extensions have no order of their
/// own, but all that number themselves do so.
fn newer(a: &str, b: &str) -> bool {
    let parts = |version: &str| -> Vec<String> { version.split(['.', '-']).map(str::to_owned).collect() };
    let by_part = |(a, b): (&String, &String)| match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(b),
    };
    let (a, b) = (parts(a), parts(b));
    let first = a.iter().zip(&b).map(by_part).find(|order| *order != Ordering::Equal);
    first.unwrap_or_else(|| a.len().cmp(&b.len())) == Ordering::Greater
}

/// Before version 15 everybody may create in schema `public`, and only a superuser can end that.
fn opens_public(world: &World) -> bool {
    world.shared.version < 150_000 && world.shared.superuser
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        assert!(
            newer("1.10", "1.9") && newer("3.5.1", "3.5") && newer("2.0", "1.9.9") && newer("1.0b", "1.0a")
        );
        assert!(!newer("1.6", "1.6") && !newer("1.5", "1.6") && !newer("1", "1.0"));
    }
}
