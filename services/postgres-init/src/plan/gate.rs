//! The ownership gate: what is not known to be this environment's own is not touched.

use crate::spec::{DatabaseSpec, ServerSpec};
use crate::world::facts::{Kind, Record, Registry, World};

/// Whether database `rollcall` and the observer may be touched; why not.
pub(super) fn server(spec: &ServerSpec, world: &World) -> Result<(), String> {
    registry(spec, world)?;
    match &spec.observer {
        Some(observer) => role(spec, &spec.fragment, &observer.role, world),
        None => Ok(()),
    }
}

/// Whether a database and its roles may be touched; why not.
pub(super) fn database(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> Result<(), String> {
    registry(spec, world)?;
    role(spec, &database.fragment, &database.owner, world)?;
    role(spec, &database.fragment, &database.app.role, world)?;
    let thing = format!("database `{}`", database.name);
    let exists = world.database(&database.name);
    let Some(record) = world.database_record(&database.name) else {
        // Made by us and not yet recorded: its owner carries our mark, and nobody can log in as an owner.
        return match exists {
            Some(facts) if facts.owner != database.owner || world.role_record(&database.owner).is_none() => {
                Err(unmarked(spec, &thing))
            }
            _ => Ok(()),
        };
    };
    ours(spec, &database.fragment, record, &thing)?;
    match exists {
        None if record.finished => Err(format!(
            "{thing} was finished and has vanished: somebody dropped it, and its data with it. Restore it; or, to have an empty one \
             made, run in database `{}`: {}",
            postgres::REGISTRY,
            forget(record),
        )),
        Some(facts) if facts.oid != record.oid => Err(another(record, &thing, facts.oid)),
        Some(facts) if facts.owner != database.owner => Err(format!(
            "{thing} belongs to role `{}` instead of `{}`; give it back with ALTER DATABASE … OWNER TO, or correct the document",
            facts.owner, database.owner
        )),
        _ => Ok(()),
    }
}

fn registry(spec: &ServerSpec, world: &World) -> Result<(), String> {
    match &world.registry {
        Registry::Foreign(why) => Err(format!(
            "database `{}` on {} is not Rollcall's own ({why}), so ownership cannot be recorded; rename or remove it",
            postgres::REGISTRY,
            spec.component
        )),
        _ => Ok(()),
    }
}

fn role(spec: &ServerSpec, fragment: &str, name: &str, world: &World) -> Result<(), String> {
    let thing = format!("role `{name}`");
    match (world.role(name), world.role_record(name)) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(unmarked(spec, &thing)),
        (facts, Some(record)) => {
            ours(spec, fragment, record, &thing)?;
            match facts {
                Some(facts) if facts.oid != record.oid => Err(another(record, &thing, facts.oid)),
                // A role that was dropped owned nothing, so making it again loses nothing.
                _ => Ok(()),
            }
        }
    }
}

fn ours(spec: &ServerSpec, fragment: &str, record: &Record, thing: &str) -> Result<(), String> {
    let environment = &spec.environment;
    if record.environment_uid != environment.uid.to_string() {
        return Err(format!(
            "{thing} belongs to environment `{}` ({}), not to `{}` ({}); {}",
            record.environment_name, record.environment_uid, environment.name, environment.uid, OWN_NAMES,
        ));
    }
    if record.fragment != fragment {
        return Err(format!(
            "{thing} belongs to fragment `{}` of this environment, not to `{fragment}`; if it moved, run in database `{}`: UPDATE \
             rollcall.owned SET fragment = '{fragment}' WHERE kind = '{}' AND name = '{}'",
            record.fragment,
            postgres::REGISTRY,
            kind(record),
            record.name,
        ));
    }
    Ok(())
}

fn unmarked(spec: &ServerSpec, thing: &str) -> String {
    format!(
        "{thing} exists and carries no mark of environment `{}`; it is left to whoever made it: {OWN_NAMES}",
        spec.environment.name,
    )
}

fn another(record: &Record, thing: &str, oid: i64) -> String {
    format!(
        "{thing} is not the one that was recorded (oid {oid} instead of {}): it was restored, cloned or made anew by somebody else. \
         If it is to be this environment's, run in database `{}`: UPDATE rollcall.owned SET oid = {oid} WHERE kind = '{}' AND name \
         = '{}'",
        record.oid,
        postgres::REGISTRY,
        kind(record),
        record.name,
    )
}

fn forget(record: &Record) -> String {
    format!("DELETE FROM rollcall.owned WHERE kind = '{}' AND name = '{}'", kind(record), record.name)
}

/// The way out of a name that is taken: databases and roles at once, for who clashes in one mostly clashes in the other.
const OWN_NAMES: &str = "give this environment names of its own, for example with `naming: {database: \"{environment}_{name}\", \
     role: \"{environment}_{name}\"}`";

fn kind(record: &Record) -> &'static str {
    match record.kind {
        Kind::Database => "database",
        Kind::Role => "role",
        Kind::Observer => "observer",
    }
}
