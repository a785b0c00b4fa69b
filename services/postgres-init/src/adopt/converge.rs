//! Whom converging a class would cut off: who is connected now, and who could. Pure.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::Ddl;
use serde::Deserialize;

use super::Class;
use crate::plan::{Change, Step};
use crate::spec::DatabaseSpec;
use crate::world::facts::World;

/// Who uses a database and how, as seen now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crossing {
    /// Sessions in the database, by role.
    pub sessions: BTreeMap<String, u64>,
    /// Who may connect only because everybody may: they would not any more.
    pub strangers: BTreeSet<String>,
    /// Sessions of the database's own roles wherever on the server, by role.
    pub everywhere: BTreeMap<String, u64>,
    /// The superusers.
    pub supers: BTreeSet<String>,
    /// Who may connect by name, and makes temporary tables only because everybody may: it could not any more.
    pub temporary: BTreeSet<String>,
    /// Replication connections of the database's own roles, by role.
    pub walsenders: BTreeMap<String, u64>,
    /// Roles that may act as the login role.
    pub members: BTreeSet<String>,
}

/// Sessions of a role, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions(pub u64);

impl std::fmt::Display for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => write!(f, "not connected now"),
            1 => write!(f, "1 session now"),
            many => write!(f, "{many} sessions now"),
        }
    }
}

/// What whoever converges has said about others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leave {
    /// Who is let in by name before everybody else is not.
    pub connect_also: BTreeSet<String>,
    /// Who may be cut off although connected.
    pub cut_off: BTreeSet<String>,
}

impl Leave {
    /// Every role that is named, each with the option that names it.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let also = self.connect_also.iter().map(|role| ("--connect-also", role));
        also.chain(self.cut_off.iter().map(|role| ("--cut-off", role)))
    }
}

/// What is said of whom a class cuts off, and what is refused because somebody who is connected would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// Each in words.
    pub said: Vec<String>,
    /// Each in words, with what to do.
    pub refused: Vec<String>,
}

/// Whom a class cuts off, with the steps that it takes.
pub fn cut(
    class: Class,
    database: &DatabaseSpec,
    world: &World,
    steps: &[Step],
    crossing: &Crossing,
    leave: &Leave,
) -> Cut {
    let mut found = Cut::default();
    let sessions = |role: &str| Sessions(crossing.sessions.get(role).copied().unwrap_or_default());
    let (name, app) = (&database.name, &database.app.role);
    match class {
        Class::Attributes => {
            for step in steps {
                found.attribute(&step.change, database, crossing, leave);
            }
            for member in &crossing.members {
                found
                    .said
                    .push(format!("`{member}` may act as `{app}`, and could not use its powers any more"));
            }
        }
        Class::Ownership => {
            let before = world.database(name).map(|facts| facts.owner.as_str()).unwrap_or_default();
            if !before.is_empty() && before != database.owner && before != app {
                let now = sessions(before);
                found.said.push(format!(
                    "`{before}` owns the database no more: a superuser keeps all it can do, anybody else loses it ({now})"
                ));
                if now.0 > 0 && !crossing.supers.contains(before) && !leave.cut_off.contains(before) {
                    found.refused.push(format!(
                        "role `{before}` owns database `{name}` and is connected to it ({now}): end that, or say --cut-off {before}"
                    ));
                }
            }
        }
        Class::Grants => {
            let now = sessions(app);
            if database.ddl == Ddl::AsOwner && now.0 > 0 {
                found.said.push(format!(
                    "`{app}` has {now}; who logged in before goes on as `{app}`: restart the module before it makes tables, or run `converge --class \
                     ownership` once more afterwards"
                ));
            }
            if steps.iter().any(|step| matches!(step.change, Change::ClosePublic { .. })) {
                let own = database.roles();
                let others = crossing
                    .sessions
                    .iter()
                    .filter(|(role, _)| !own.contains(&role.as_str()) && !crossing.supers.contains(*role));
                found.said.extend(others.map(|(role, now)| {
                    format!(
                        "`{role}` could make nothing in schema `public` of database `{name}` any more ({})",
                        Sessions(*now)
                    )
                }));
            }
        }
        Class::PublicConnect => found.public(database, crossing, leave),
    }
    found
}

impl Cut {
    /// A step of class `attributes`.
    fn attribute(&mut self, change: &Change, database: &DatabaseSpec, crossing: &Crossing, leave: &Leave) {
        let everywhere = |role: &str| Sessions(crossing.everywhere.get(role).copied().unwrap_or_default());
        match change {
            Change::Attributes { role, set } => {
                let now = everywhere(role);
                self.said.push(format!("`{role}` gets {} ({now} on the whole server)", set.join(" ")));
                let walsenders = crossing.walsenders.get(role).copied().unwrap_or_default();
                let has = |attribute: &str| set.iter().any(|one| one == attribute);
                if has("NOREPLICATION") && walsenders > 0 {
                    self.said.push(format!(
                        "`{role}` has {walsenders} replication connections, which could not be opened again"
                    ));
                    if !leave.cut_off.contains(role) {
                        self.refused.push(format!(
                            "role `{role}` replicates now ({walsenders} connections): end that, or say --cut-off {role}"
                        ));
                    }
                }
                if has("NOLOGIN") {
                    self.said.push(format!("`{role}` could not log in any more: {now}"));
                    if now.0 > 0 && !leave.cut_off.contains(role) {
                        self.refused.push(format!(
                            "role `{role}` is to own and not to log in, and has {now}: end them, or say --cut-off {role}"
                        ));
                    }
                }
            }
            Change::RoleLimit { role, limit } if everywhere(role).0 > u64::from(*limit) => {
                let now = everywhere(role);
                self.said
                    .push(format!("`{role}` has {now}, and may have {limit}: none could be opened again"));
                if !leave.cut_off.contains(role) {
                    self.refused.push(format!(
                        "role `{role}` has {now} and is to have {limit} at most: raise `connection_limit`, or say --cut-off {role}"
                    ));
                }
            }
            Change::DatabaseLimit { name, limit } => {
                let all: u64 = crossing
                    .sessions
                    .iter()
                    .filter(|(role, _)| !crossing.supers.contains(*role))
                    .map(|(_, now)| now)
                    .sum();
                if all > u64::from(*limit) {
                    self.refused.push(format!(
                        "database `{name}` has {}, and is to take {limit} at most: raise `connection_limit` of {}",
                        Sessions(all),
                        database.component
                    ));
                }
            }
            _ => {}
        }
    }

    /// Class `public-connect`.
    fn public(&mut self, database: &DatabaseSpec, crossing: &Crossing, leave: &Leave) {
        let name = &database.name;
        let sessions = |role: &str| Sessions(crossing.sessions.get(role).copied().unwrap_or_default());
        for role in crossing.strangers.iter().filter(|role| **role != database.app.role) {
            let now = sessions(role);
            if leave.connect_also.contains(role) || database.connect_also.contains(role) {
                self.said.push(format!(
                    "`{role}` is let in by name ({now}), and could make no temporary tables any more"
                ));
                continue;
            }
            self.said.push(format!("`{role}` could not connect to database `{name}` any more ({now})"));
            if now.0 > 0 && !leave.cut_off.contains(role) {
                self.refused.push(format!(
                    "role `{role}` is connected to database `{name}` ({now}) and could not come back: let it in with --connect-also \
                     {role}, or say --cut-off {role}"
                ));
            }
        }
        for role in &crossing.temporary {
            self.said.push(format!(
                "`{role}` could make no temporary tables in database `{name}` any more ({})",
                sessions(role)
            ));
        }
    }
}
