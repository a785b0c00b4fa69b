//! What carries nobody's mark and is left as it is, where a report of it is asked for: the old script of OpenG2P marked nothing.

use super::Decision;
use super::ownership::{self, Obstacle};
use crate::spec::{DatabaseSpec, ServerSpec, Unmarked};
use crate::world::facts::{Password, World};

/// Whether a database is only reported on by what stands: it and its login role are both there, and nobody marked either.
/// Where only one of them is there, what is missing cannot be made without touching what may be another's, so that is refused.
pub fn leaves(spec: &ServerSpec, database: &DatabaseSpec, world: &World) -> bool {
    let app = &database.app.role;
    spec.unmarked == Unmarked::Reported
        && world.database(&database.name).is_some()
        && world.role(app).is_some()
        && world.database_record(&database.name).is_none()
        && world.role_record(app).is_none()
        && matches!(ownership::database(spec, database, world), Err(Obstacle::Unmarked(_)))
}

/// Whether nothing but such databases is asked for, so that nothing has to be recorded either.
pub fn leaves_all(spec: &ServerSpec, world: &World) -> bool {
    !spec.databases.is_empty() && spec.databases.iter().all(|database| leaves(spec, database, world))
}

/// What is said of such a database: that it is left, and each thing that Rollcall would have made otherwise.
pub(super) fn alone(database: &DatabaseSpec, world: &World) -> Decision {
    let (name, app) = (&database.name, &database.app.role);
    let mut decision = Decision::refuse(format!(
        "database `{name}` and role `{app}` exist and carry nobody's mark; nothing is adopted by itself, both stay as they are"
    ));
    decision.drift = differences(database, world);
    decision
}

fn differences(database: &DatabaseSpec, world: &World) -> Vec<String> {
    let (name, app) = (&database.name, &database.app.role);
    let mut found = Vec::new();
    let mut say = |text: String| found.push(format!("{text}; left alone"));
    match world.passwords.get(app) {
        Some(Password::Differs) => say(format!(
            "role `{app}` has another password than {} key `{}` holds, so whoever uses that one cannot log in: set it with ALTER \
             ROLE, or write the right one there",
            database.app.password.secret, database.app.password.key
        )),
        Some(Password::Unseen(why)) => {
            say(format!("whether role `{app}` has the password its Secret holds cannot be seen: {why}"));
        }
        Some(Password::Unfit(why) | Password::Pending(why)) => say(why.clone()),
        Some(Password::Given | Password::Fits | Password::Delegated) | None => {}
    }
    if let Some(role) = world.role(app) {
        if !role.powers.is_empty() {
            let powers: Vec<&str> = role.powers.iter().map(String::as_str).collect();
            say(format!("role `{app}` has {}, which a module needs not have", powers.join(", ")));
        }
        if !role.login {
            say(format!("role `{app}` may not log in"));
        }
    }
    if let Some(facts) = world.database(name) {
        if facts.owner != database.owner {
            say(format!(
                "database `{name}` belongs to role `{}` and not to one that nobody logs in as",
                facts.owner
            ));
        }
        if facts.grants.iter().any(|grant| grant.starts_with('=')) {
            say(format!("every role of the server may connect to database `{name}`"));
        }
    }
    match world.inside.get(name) {
        Some(Ok(seen)) => {
            for extension in
                database.extensions.iter().map(|e| &e.name).filter(|e| !seen.extensions.contains_key(*e))
            {
                say(format!("database `{name}` has no extension `{extension}`: create it there"));
            }
        }
        Some(Err(blind)) => say(format!("database `{name}` could not be looked into: {}", blind.why)),
        None => {}
    }
    found
}
