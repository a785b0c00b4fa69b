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
    let follow = |record: Record| {
        let now = record.now.as_ref().map(|now| now.name.clone());
        let here = record.system_identifier.is_some() && record.system_identifier.as_ref() == identifier;
        match now {
            Some(now)
                if here
                    && now != record.name
                    && record.kind != Kind::Observer
                    && !undeclared::names(spec, &record)
                    && !taken.contains(&(record.kind, now.clone())) =>
            {
                Record { renamed_from: Some(record.name), name: now, ..record }
            }
            _ => record,
        }
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

/// Why a database may not be made under a new name, nor its roles: what it was is still there.
pub(super) fn database(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> Result<(), Obstacle> {
    let component = database.component.to_string();
    if world.database_record(&database.name).is_none()
        && let Some(before) = left(spec, &component, world).find(|left| left.kind == Kind::Database)
    {
        return Err(Obstacle::Known(moved(spec, database, before, world)));
    }
    login(spec, &component, &database.app.role, world)
}

/// As [`database`], of a role that reads several databases.
pub(super) fn reader(spec: &ServerSpec, role: &RoleSpec, world: &World) -> Result<(), Obstacle> {
    login(spec, &role.component.to_string(), &role.login.role, world)
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

/// A module's login that is made anew beside one that is recorded, still logs in and is named no more would leave that one its access.
/// (Others that come and go with changes of passwords are told of, and hold up nothing.)
fn login(spec: &ServerSpec, component: &str, new: &str, world: &World) -> Result<(), Obstacle> {
    if world.role(new).is_some() || world.role_record(new).is_some() {
        return Ok(());
    }
    let still =
        |record: &&Record| record.kind == Kind::Role && record.now.as_ref().is_some_and(|now| now.login);
    match left(spec, component, world).find(still) {
        None => Ok(()),
        Some(before) => Err(Obstacle::Known(format!(
            "{component} has role `{0}` recorded (oid {1}), which still logs in; the document names it no more, and names `{new}`, which is \
             not there. Nothing is renamed by itself: to rename it, run ALTER ROLE \"{0}\" RENAME TO \"{new}\", and the next run goes on \
             with it under its new name; to have a new one made, end the old one's access first: ALTER ROLE \"{0}\" NOLOGIN",
            before.name, before.oid
        ))),
    }
}
