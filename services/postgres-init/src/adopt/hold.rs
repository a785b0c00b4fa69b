//! What is not done by itself to what was adopted: everything that changes what somebody else made and uses. Pure.

use super::Class;
use crate::plan::{Change, Step};
use crate::spec::{DatabaseSpec, ServerSpec};
use crate::world::facts::{Record, World};

/// The class that a change is converged with, where what it changes was adopted; `Free` for what only adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It makes what is missing, and changes nothing that is there.
    Free,
    /// It is made with this class.
    Of(Class),
    /// It is made once all classes are.
    Last,
}

/// What becomes of a change to an adopted component.
pub fn class_of(change: &Change) -> Held {
    match change {
        Change::Registry
        | Change::Observer { .. }
        | Change::OpenRegistry { .. }
        | Change::Login { .. }
        | Change::Group { .. }
        | Change::Database { .. }
        | Change::Renamed { .. }
        | Change::Reassign { .. }
        | Change::Connect { .. } => Held::Free,
        Change::Extension(extension) if extension.schema.is_none() => Held::Free,
        Change::Attributes { .. }
        | Change::RoleLimit { .. }
        | Change::RoleSettings { .. }
        | Change::DatabaseLimit { .. }
        | Change::DatabaseSettings { .. } => Held::Of(Class::Attributes),
        // A schema is made for the owner, and an extension into one.
        Change::Owner { .. } | Change::Schema { .. } | Change::Extension(_) => Held::Of(Class::Ownership),
        Change::ActAsOwner { .. }
        | Change::NotAsOwner { .. }
        | Change::ClosePublic { .. }
        | Change::Privileges { .. }
        | Change::Join { .. }
        | Change::Leave { .. }
        | Change::Admit { .. } => Held::Of(Class::Grants),
        Change::Seal { .. } => Held::Of(Class::PublicConnect),
        Change::Update { .. }
        | Change::Password { .. }
        | Change::Finish { .. }
        | Change::FinishRole { .. } => Held::Last,
    }
}

/// The records of a database and of every role of it.
pub fn records<'a>(database: &'a DatabaseSpec, world: &'a World) -> impl Iterator<Item = &'a Record> {
    let roles = database.roles().into_iter().filter_map(|role| world.role_record(role));
    let own = roles.filter(|record| record.component == database.component.to_string());
    world.database_record(&database.name).into_iter().chain(own)
}

/// Whether a database, or a role of it, was adopted and is not yet converged in every class.
pub fn is_held(database: &DatabaseSpec, world: &World) -> bool {
    records(database, world).any(Record::is_held)
}

/// A password that was in use before a role was adopted is not rewritten, whatever is converged: somebody logs in with it.
fn spare(steps: &mut Vec<Change>, world: &World, drift: &mut Vec<String>) {
    steps.retain(|change| match change {
        Change::Password { role } if world.role_record(role).is_some_and(|record| record.adopted.is_some()) => {
            drift.push(format!(
                "role `{role}` was adopted and has another password than its Secret holds; whoever uses that one cannot log in. Write the \
                 right one there, or set it with ALTER ROLE once nobody uses the old one"
            ));
            false
        }
        _ => true,
    });
}

/// Holds back what is not to be done by itself to an adopted database, and tells it as drift.
pub fn hold(
    spec: &ServerSpec,
    database: &DatabaseSpec,
    world: &World,
    steps: &mut Vec<Change>,
    drift: &mut Vec<String>,
) {
    spare(steps, world, drift);
    if !is_held(database, world) {
        return;
    }
    if let Some(facts) = world.database(&database.name).filter(|facts| facts.owner != database.owner) {
        drift.push(format!(
            "database `{}` belongs to role `{}` instead of `{}`; `converge --class ownership` changes that",
            database.name, facts.owner, database.owner
        ));
    }
    let mut kept = Vec::new();
    for change in std::mem::take(steps) {
        let converging =
            match class_of(&change) {
                Held::Free => true,
                Held::Of(class) => spec.converging == Some(class),
                // Its login role must be let in by name before everybody else is not.
                Held::Last => false,
            } || matches!((&change, spec.converging), (Change::Admit { .. }, Some(Class::PublicConnect)));
        if converging {
            kept.push(change);
            continue;
        }
        let how = match class_of(&change) {
            Held::Of(class) => format!("`converge --class {class}` does it"),
            Held::Free | Held::Last if matches!(change, Change::Finish { .. }) => continue,
            Held::Free | Held::Last => "`apply` does it once all classes are converged".to_owned(),
        };
        let step = Step { component: database.component.clone(), change };
        drift.push(format!("adopted as it was found; would {step}, {how}"));
    }
    // Stable: who is let in, then who is shut out.
    kept.sort_by_key(|change| matches!(change, Change::Seal { .. }));
    *steps = kept;
}
