//! What became of names: a thing that somebody renamed keeps its record, and a name that a document changes makes nothing anew beside
//! what is there.

use lifecycle::Component;

use super::ownership::Obstacle;
use super::{Change, undeclared};
use crate::spec::{DatabaseSpec, RoleSpec, ServerSpec};
use crate::world::facts::{Kind, Record, World};

/// The records, each under the name that its thing has now. An oid tells which thing it is only on the cluster where it was recorded.
/// What a document still calls as it was recorded keeps its name: what has it no more was taken away from under it, and that is told.
pub(crate) fn follow(spec: &ServerSpec, records: Vec<Record>, identifier: Option<&String>) -> Vec<Record> {
    let taken: Vec<(Kind, String)> =
        records.iter().map(|record| (record.kind, record.name.clone())).collect();
    let follow = |record: Record| match record.renamed_to(identifier).map(str::to_owned) {
        Some(now)
            if record.kind != Kind::Observer
                && !undeclared::names(spec, &record)
                && !taken.contains(&(record.kind, now.clone())) =>
        {
            Record { renamed_from: Some(record.name), name: now, ..record }
        }
        _ => record,
    };
    records.into_iter().map(follow).collect()
}

/// The changes that write down under which names, and for which component, a component's things are recorded from now on.
pub(super) fn steps<'a>(
    spec: &ServerSpec,
    component: &Component,
    names: impl Iterator<Item = (Kind, &'a str)>,
    world: &World,
) -> Vec<Change> {
    let record = |(kind, name): (Kind, &str)| match kind {
        Kind::Database => world.database_record(name),
        Kind::Role | Kind::Observer => world.role_record(name),
    };
    let changes = names.filter_map(record).filter_map(|record| match &record.renamed_from {
        Some(from) => {
            let (kind, from, to) = (record.kind, from.clone(), record.name.clone());
            Some(Change::Renamed { kind, from, to, oid: record.oid })
        }
        None if record.component != component.to_string() && !undeclared::keeps(spec, record) => {
            let (kind, name, from) = (record.kind, record.name.clone(), record.component.clone());
            Some(Change::Reassign { kind, name, from })
        }
        None => None,
    });
    changes.collect()
}

/// Why a database may not be made under a new name, nor taken from another component, nor its roles: what it was is still there.
pub(super) fn database(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> Result<(), Obstacle> {
    let component = database.component.to_string();
    let theirs = world.database_record(&database.name);
    if theirs.is_none_or(|record| record.component != component)
        && let Some(own) = retained(spec, database, world)
    {
        let text = match theirs {
            None if !undeclared::names(spec, own) => moved(spec, database, own, world),
            _ => taken(database, own, theirs),
        };
        return Err(Obstacle::Known(text));
    }
    login(spec, database, world)
}

/// As [`database`], of a role that reads several databases.
pub(super) fn reader(spec: &ServerSpec, role: &RoleSpec, world: &World) -> Result<(), Obstacle> {
    anew(spec, &role.component.to_string(), &role.login.role, None, world)
}

/// What is recorded for a component, is there, and no document names any more.
fn left<'a>(spec: &'a ServerSpec, component: &'a str, world: &'a World) -> impl Iterator<Item = &'a Record> {
    let uid = spec.environment.uid.to_string();
    world.records.iter().filter(move |record| {
        record.environment_uid == uid
            && record.component == component
            && record.now.is_some()
            && !undeclared::names(spec, record)
    })
}

fn moved(spec: &ServerSpec, database: &DatabaseSpec, before: &Record, world: &World) -> String {
    let (component, was, to) = (&database.component, &before.name, &database.name);
    let mut statements = vec![format!("ALTER DATABASE \"{was}\" RENAME TO \"{to}\"")];
    // Who owns it and who reads it are called after it, unless the document says otherwise.
    let groups = left(spec, &before.component, world)
        .filter(|record| record.kind == Kind::Role && record.now.as_ref().is_some_and(|now| !now.login));
    for group in groups {
        let reads = group.name.ends_with("_readers");
        let new = if reads { database.readers.as_ref() } else { Some(&database.owner) };
        if let Some(new) = new.filter(|new| world.role(new).is_none()) {
            statements.push(format!("ALTER ROLE \"{}\" RENAME TO \"{new}\"", group.name));
        }
    }
    format!(
        "{component} is recorded as database `{was}` (oid {}), which is there; the document now names `{to}`. Nothing is renamed or moved \
         by itself: to rename it, run as one who may, while nobody is connected to it, {}, and the next run goes on with it under its new \
         name; to begin a new one beside it, give that another component name and leave this one its `name: {was}`",
        before.oid,
        statements.join("; ")
    )
}

/// The database that a component has and goes on having, whatever it is to have: nobody takes it, or who is to take it may not or keeps
/// one as well, as where databases go round between components. Only where somebody has none yet each is merely called otherwise.
fn retained<'a>(spec: &ServerSpec, database: &DatabaseSpec, world: &'a World) -> Option<&'a Record> {
    let uid = spec.environment.uid.to_string();
    let own = |asking: &DatabaseSpec| {
        world.records.iter().find(|record| {
            record.kind == Kind::Database
                && record.environment_uid == uid
                && record.component == asking.component.to_string()
                && record.name != asking.name
                && record.now.is_some()
        })
    };
    let first = own(database)?;
    let mut next = first;
    for _ in &spec.databases {
        match spec.databases.iter().find(|one| one.name == next.name) {
            Some(taker) if taker.fragment == next.fragment && login(spec, taker, world).is_ok() => {
                next = own(taker)?;
            }
            Some(_) => return Some(first),
            // Where only a part is looked at, what the whole decided of the others holds.
            None => return (!undeclared::names(spec, next)).then_some(first),
        }
    }
    Some(first)
}

fn taken(database: &DatabaseSpec, own: &Record, theirs: Option<&Record>) -> String {
    let (component, to) = (&database.component, &database.name);
    let theirs = theirs.map_or_else(
        || format!("and names `{}` for a component that does not take it", own.name),
        |theirs| format!("which is recorded for {}", theirs.component),
    );
    format!(
        "{component} is recorded as database `{0}` (oid {1}), which is there; the document now names `{to}`, {theirs}. Nothing is taken \
         over from another component by itself: leave {component} its `name: {0}`; or, where it is to go on with `{to}`, declare `{0}` \
         under another component name first, in a run of its own",
        own.name, own.oid
    )
}

/// A login of a module, or one that acts as the owner, that is made anew beside one that is recorded, still logs in and is named no
/// more would leave that one its access. (Others that come and go with changes of passwords are told of, and hold up nothing.)
fn login(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> Result<(), Obstacle> {
    let component = database.component.to_string();
    anew(spec, &component, &database.app.role, None, world)?;
    match &database.migrator {
        Some(migrator) => anew(spec, &component, migrator, Some(&database.owner), world),
        None => Ok(()),
    }
}

/// Why login `new` may be neither made nor taken from another component: one that is left, of those that act as `owner`.
fn anew(
    spec: &ServerSpec,
    component: &str,
    new: &str,
    owner: Option<&String>,
    world: &World,
) -> Result<(), Obstacle> {
    let theirs = world.role_record(new);
    let is_own = |record: &Record| record.component == component || undeclared::keeps(spec, record);
    if theirs.map_or_else(|| world.role(new).is_some(), is_own) {
        return Ok(());
    }
    let still = |record: &&Record| {
        record.kind == Kind::Role
            && record
                .now
                .as_ref()
                .is_some_and(|now| now.login && owner.is_none_or(|owner| now.member_of.contains(owner)))
    };
    let Some(before) = left(spec, component, world).find(still) else { return Ok(()) };
    let end = format!("end the old one's access first: ALTER ROLE \"{}\" NOLOGIN", before.name);
    let how = match theirs {
        Some(theirs) => {
            format!("is recorded for {}. To go on with that one, {end}", theirs.component)
        }
        None => format!(
            "is not there. Nothing is renamed by itself: to rename it, run ALTER ROLE \"{}\" RENAME TO \"{new}\", and the next run goes \
             on with it under its new name; to have a new one made, {end}",
            before.name
        ),
    };
    Err(Obstacle::Known(format!(
        "{component} has role `{}` recorded (oid {}), which still logs in; the document names it no more, and names `{new}`, which {how}",
        before.name, before.oid
    )))
}
