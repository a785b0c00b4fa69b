//! The ownership gate: what is not known to be this environment's own is not touched.

use lifecycle::Component;

use super::renamed;
use crate::adopt::Class;
use crate::spec::{DatabaseSpec, RoleSpec, ServerSpec};
use crate::world::facts::{Record, Registry, World};

/// Why something may not be touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// It exists, and nobody's mark is on it.
    Unmarked(String),
    /// It exists, and marks cannot be read.
    Unread(String),
    /// It is known to be another's, or not to be what it was.
    Known(String),
}

impl Obstacle {
    pub(crate) fn into_text(self) -> String {
        match self {
            Obstacle::Unmarked(text) | Obstacle::Unread(text) | Obstacle::Known(text) => text,
        }
    }
}

/// Whether database `rollcall` and the observer may be touched; why not.
pub(super) fn server(spec: &ServerSpec, world: &World) -> Result<(), Obstacle> {
    registry(spec, world)?;
    match &spec.observer {
        Some(observer) => role(spec, &spec.fragment, &spec.component, &observer.role, world),
        None => Ok(()),
    }
}

/// Whether a database and its roles may be touched; why not. What is known to be another's outweighs what nobody marked.
pub(crate) fn database(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> Result<(), Obstacle> {
    registry(spec, world)?;
    namespace(spec, &database.fragment, world)?;
    let roles = database
        .roles()
        .into_iter()
        .map(|name| role(spec, &database.fragment, &database.component, name, world));
    let found = roles.chain([stands(spec, database, world), renamed::database(spec, database, world)]);
    let mut obstacles: Vec<Obstacle> = found.filter_map(Result::err).collect();
    let gravest = obstacles.iter().position(|obstacle| matches!(obstacle, Obstacle::Known(_))).unwrap_or(0);
    if obstacles.is_empty() { Ok(()) } else { Err(obstacles.swap_remove(gravest)) }
}

/// Whether a role that reads several databases may be touched; why not.
pub(crate) fn reader(spec: &ServerSpec, reader: &RoleSpec, world: &World) -> Result<(), Obstacle> {
    registry(spec, world)?;
    namespace(spec, &reader.fragment, world)?;
    role(spec, &reader.fragment, &reader.component, &reader.login.role, world)?;
    renamed::reader(spec, reader, world)
}

/// Whether a database by itself may be touched; why not.
fn stands(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> Result<(), Obstacle> {
    let thing = format!("database `{}`", database.name);
    let exists = world.database(&database.name);
    let Some(record) = world.database_record(&database.name) else {
        // Made by us and not yet recorded: it belongs to an owner that we made, as whom nobody can log in. That an owner was
        // adopted says nothing of who made what belongs to it.
        let owner = world.role_record(&database.owner);
        let made = |owner: &Record| owner.adopted.is_none();
        return match exists {
            Some(facts) if facts.owner != database.owner || !owner.is_some_and(made) => {
                Err(unmarked(spec, &thing, Some(&database.component), world))
            }
            _ => Ok(()),
        };
    };
    ours(spec, &database.fragment, &database.component, record, &thing)?;
    same(&database.component, record, &thing)?;
    if record.leaving && exists.is_none() {
        return Err(Obstacle::Known(format!(
            "{thing} was dropped by a teardown that has not come to its end; `postgres-init teardown` with --yes finishes it"
        )));
    }
    if record.leaving {
        return Err(Obstacle::Known(format!(
            "{thing} is being torn down, and is left to that; `postgres-init teardown` with --yes finishes it, with --cancel it is opened \
             again"
        )));
    }
    let identifier = world.shared.system_identifier.as_ref();
    let known = match (exists, record.renamed_to(identifier)) {
        (None, Some(to)) => format!(
            "{thing} is called `{to}` by now (oid {}): somebody renamed it, and nothing empty is made in its place. Give it its name back \
             with ALTER DATABASE \"{to}\" RENAME TO \"{}\"; or, where it is to be called so from now on, name it so in the document, and its \
             owner as that is called (`roles: {{owner: {{name: …}}}}`); or, to leave it aside and have an empty one made, {}",
            record.oid,
            record.name,
            rebind(&database.component),
        ),
        (None, None) if record.finished => format!(
            "{thing} was finished and has vanished: somebody dropped it, and its data with it{}. Restore it; or, to have an empty one \
             made, {}",
            if record.now.is_some() && !record.is_elsewhere(identifier) {
                " (or renamed it: that cannot be told where the cluster's identifier cannot be read)"
            } else {
                ""
            },
            rebind(&database.component),
        ),
        (Some(facts), _) if facts.oid != record.oid || record.is_elsewhere(identifier) => {
            another(&database.component, record, &thing, facts.oid, world)
        }
        (Some(facts), _) if facts.owner != database.owner && !record.holds(Class::Ownership) => format!(
            "{thing} belongs to role `{}` instead of `{}`; give it back with ALTER DATABASE … OWNER TO, or correct the document",
            facts.owner, database.owner
        ),
        _ => return Ok(()),
    };
    Err(Obstacle::Known(known))
}

fn registry(spec: &ServerSpec, world: &World) -> Result<(), Obstacle> {
    match &world.registry {
        Registry::Foreign(why) => Err(Obstacle::Known(format!(
            "database `{}` on {} is not Rollcall's own ({why}), so ownership cannot be recorded; rename or remove it",
            postgres::REGISTRY,
            spec.component
        ))),
        _ => Ok(()),
    }
}

/// A fragment that asked is its namespace's: who declares one of the same name elsewhere, mounted or not, gets nothing of it.
fn namespace(spec: &ServerSpec, fragment: &str, world: &World) -> Result<(), Obstacle> {
    match (world.delegated.get(fragment), spec.namespaces.get(fragment)) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(Obstacle::Known(format!(
            "fragment `{fragment}` on {} is of namespace {theirs}, which asked for it (`delegate`), and this one is of namespace {ours}; \
             give one of them another name, or, where what namespace {theirs} has is to be this one's, end it \
             there first: `teardown` drops what was made for it, and `release-ownership` takes our marks from it",
            spec.component
        ))),
        _ => Ok(()),
    }
}

fn role(
    spec: &ServerSpec,
    fragment: &str,
    component: &Component,
    name: &str,
    world: &World,
) -> Result<(), Obstacle> {
    let thing = format!("role `{name}`");
    // An observer is not adopted.
    let adoptable = (*component != spec.component).then_some(component);
    match (world.role(name), world.role_record(name)) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(unmarked(spec, &thing, adoptable, world)),
        (facts, Some(record)) => {
            ours(spec, fragment, component, record, &thing)?;
            same(component, record, &thing)?;
            let identifier = world.shared.system_identifier.as_ref();
            match (facts, record.renamed_to(identifier)) {
                (Some(facts), _) if facts.oid != record.oid || record.is_elsewhere(identifier) => {
                    Err(Obstacle::Known(another(component, record, &thing, facts.oid, world)))
                }
                (None, Some(to)) if record.now.as_ref().is_some_and(|now| now.login) => {
                    Err(Obstacle::Known(format!(
                        "{thing} is called `{to}` by now (oid {}) and still logs in: somebody renamed it, and none is made in its place. Give \
                         it its name back with ALTER ROLE \"{to}\" RENAME TO \"{name}\"; or, where it is to be called so from now on, name it so \
                         in the document; or, to have a new one made, end the old one's access first: ALTER ROLE \"{to}\" NOLOGIN",
                        record.oid,
                    )))
                }
                // A role that was dropped owned nothing, so making it again loses nothing.
                _ => Ok(()),
            }
        }
    }
}

fn ours(
    spec: &ServerSpec,
    fragment: &str,
    component: &Component,
    record: &Record,
    thing: &str,
) -> Result<(), Obstacle> {
    let environment = &spec.environment;
    if record.environment_uid != environment.uid.to_string() {
        let way_out = if record.environment_name == environment.name {
            format!(
                "if it is the same environment and has lost its uid, say that uid again, in documents as `environment.uid`, without \
                 documents as ROLLCALL_ENVIRONMENT_UID={}; otherwise {OWN_NAMES}",
                record.environment_uid,
            )
        } else {
            OWN_NAMES.to_owned()
        };
        return Err(Obstacle::Known(format!(
            "{thing} belongs to environment `{}` ({}), not to `{}` ({}); {way_out}",
            record.environment_name, record.environment_uid, environment.name, environment.uid,
        )));
    }
    if record.fragment != fragment {
        return Err(Obstacle::Known(format!(
            "{thing} belongs to fragment `{}` of this environment, not to `{fragment}`; if it moved, {}",
            record.fragment,
            rebind(component),
        )));
    }
    Ok(())
}

/// What was renamed is taken under its new name only for the component that it was recorded for.
fn same(component: &Component, record: &Record, thing: &str) -> Result<(), Obstacle> {
    match &record.renamed_from {
        Some(from) if record.component != component.to_string() => Err(Obstacle::Known(format!(
            "{thing} was recorded as `{from}` for {} and renamed since; {component} does not take it: give it its name back, or give \
             {component} another name",
            record.component
        ))),
        _ => Ok(()),
    }
}

fn unmarked(spec: &ServerSpec, thing: &str, component: Option<&Component>, world: &World) -> Obstacle {
    if !world.marks_were_read() {
        return Obstacle::Unread(format!(
            "{thing} exists, and whose it is cannot be told: database `{0}`, where ownership is recorded, was not finished or was \
             closed; what finishes it opens it, as does ALTER DATABASE {0} ALLOW_CONNECTIONS true",
            postgres::REGISTRY
        ));
    }
    let adopt = component.map(|component| {
        format!(
            "if it is to be this environment's from now on, `postgres-init record DOCUMENTS --component {component}` says how it is taken \
             over as it is, and does it with --yes; otherwise "
        )
    });
    Obstacle::Unmarked(format!(
        "{thing} exists and carries no mark of environment `{}`; it is left to whoever made it: {}{OWN_NAMES}",
        spec.environment.name,
        adopt.unwrap_or_default(),
    ))
}

fn another(component: &Component, record: &Record, thing: &str, oid: i64, world: &World) -> String {
    let differs = if oid == record.oid {
        format!(
            "it was recorded on the cluster {}, and this one is {}: database `{}` was restored here, or pg_upgrade was run",
            record.system_identifier.as_deref().unwrap_or_default(),
            world.shared.system_identifier.as_deref().unwrap_or_default(),
            postgres::REGISTRY,
        )
    } else {
        format!("oid {oid} instead of {}: it was restored, cloned or made anew by somebody else", record.oid)
    };
    format!(
        "{thing} is not the one that was recorded ({differs}). If it is to be this environment's, {}",
        rebind(component)
    )
}

/// What to run where a record and its thing do not fit, and a human knows that they should: as the component that asks, for the one
/// it is recorded for may be declared no more.
fn rebind(component: &Component) -> String {
    format!(
        "look at what `postgres-init rebind DOCUMENTS --component {component}` says, and run it with --yes"
    )
}

/// The way out of a name that is taken: databases and roles at once, for who clashes in one mostly clashes in the other.
const OWN_NAMES: &str = "give this environment names of its own, for example with `naming: {database: \"{environment}_{name}\", \
     role: \"{environment}_{name}\"}`";
