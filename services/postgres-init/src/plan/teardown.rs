//! Decides what a teardown takes away of a server: what carries this environment's record, is the very thing that was recorded,
//! and is to go by its document and by the command. No I/O.

mod checks;
pub mod facts;
mod last;
mod roles;
mod step;
mod subject;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use lifecycle::Component;

use crate::spec::ServerSpec;
use crate::world::facts::{Kind, Record};
use facts::Facts;
pub use step::Change;
use subject::{Subject, Wish};

/// What is wanted of a server.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What the documents declare on it.
    pub spec: &'a ServerSpec,
    /// What none of them declares and is to go too, by name.
    pub orphans: &'a [Component],
    /// Nothing goes; what a teardown has closed is opened again.
    pub cancel: bool,
}

/// In which order: all databases before any role, for a role may be used in several; records and the observer last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Databases.
    Databases,
    /// Roles.
    Roles,
    /// What is the environment's and no component's.
    Last,
}

/// What is decided about a part of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// When.
    pub phase: Phase,
    /// The component.
    pub component: Component,
    /// The database whose lock is held meanwhile; the component's own lock where there is none.
    pub database: Option<String>,
    /// No document declares it.
    pub orphaned: bool,
    /// What is changed, in this order.
    pub steps: Vec<Change>,
    /// What stays, and why.
    pub retained: Vec<String>,
    /// What will not be done, why, and what to do. Then there are no steps.
    pub refused: Vec<String>,
    /// What no document declares, and stays.
    pub orphans: Vec<String>,
    /// What else is to be known.
    pub told: Vec<String>,
}

impl Part {
    fn new(phase: Phase, subject: &Subject<'_>) -> Self {
        Part {
            phase,
            component: subject.component.clone(),
            database: subject.database.map(str::to_owned),
            orphaned: subject.orphaned,
            steps: Vec::new(),
            retained: Vec::new(),
            refused: Vec::new(),
            orphans: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Whether it is the same part of the same component as another, whatever is decided about it.
    pub fn is(&self, other: &Part) -> bool {
        (self.phase, &self.component, &self.database, self.orphaned)
            == (other.phase, &other.component, &other.database, other.orphaned)
    }

    /// What is refused is left alone, whole; only a door that a teardown has closed is opened again.
    fn closed(mut self) -> Self {
        if !self.refused.is_empty() {
            self.steps.retain(|step| matches!(step, Change::Reopen { .. }));
        }
        self
    }
}

/// What is expected of what goes: a plan that is shown takes it for gone where roles are decided about; one that is made
/// under the lock believes only what it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// That it is gone by then.
    Done,
    /// Nothing.
    Nothing,
}

/// What is taken away of a server, in the order in which it is done.
pub fn plan(wanted: Wanted<'_>, facts: &Facts, expect: Expect) -> Vec<Part> {
    let subjects = subject::all(wanted, facts);
    let mut parts: Vec<Part> =
        subjects.iter().map(|subject| database(wanted, facts, subject).closed()).collect();
    let drops = |part: &Part| {
        part.steps
            .iter()
            .any(|step| matches!(step, Change::DropDatabase { .. } | Change::ForgetDatabase { .. }))
    };
    let going: BTreeSet<String> = match expect {
        Expect::Done => {
            parts.iter().filter(|part| drops(part)).filter_map(|part| part.database.clone()).collect()
        }
        Expect::Nothing => BTreeSet::new(),
    };
    let of_roles: Vec<Part> = subjects
        .iter()
        .zip(&parts)
        .filter_map(|(subject, part)| roles::decide(wanted, facts, subject, part, &going))
        .map(Part::closed)
        .collect();
    let dropped: BTreeSet<(Kind, String)> = match expect {
        Expect::Nothing => BTreeSet::new(),
        Expect::Done => parts
            .iter()
            .chain(&of_roles)
            .flat_map(|part| &part.steps)
            .filter_map(|step| match step {
                Change::DropDatabase { name, .. } | Change::ForgetDatabase { name } => {
                    Some((Kind::Database, name.clone()))
                }
                Change::DropRole { name, .. } | Change::ForgetRole { name } => {
                    Some((Kind::Role, name.clone()))
                }
                _ => None,
            })
            .collect(),
    };
    parts.extend(of_roles);
    parts.push(last::decide(wanted, facts, &dropped).closed());
    parts
}

/// What is recorded as this environment's and declared by no document, as `--orphan` takes it.
pub fn orphans(wanted: Wanted<'_>, facts: &Facts) -> BTreeSet<Component> {
    let subjects = subject::all(wanted, facts);
    subjects.into_iter().filter(|subject| subject.orphaned).map(|subject| subject.component).collect()
}

/// What becomes of a component's database. Without one it says what becomes of the component as a whole.
fn database(wanted: Wanted<'_>, facts: &Facts, subject: &Subject<'_>) -> Part {
    let mut part = Part::new(Phase::Databases, subject);
    let records = subject.own(wanted, facts);
    part.told.extend(subject.foreign(wanted, facts));
    if records.is_empty() {
        return part;
    }
    let (mut reopen, mut undone) = (Vec::new(), Vec::new());
    for record in records.iter().filter(|record| record.leaving && record.kind == Kind::Database) {
        match facts.database(&record.name) {
            Some(found) if found.oid != record.oid => {}
            Some(found) if found.invalid => undone.push(format!(
                "a drop of database `{}` was cut off, and nothing but another drop can be done to it",
                record.name
            )),
            Some(_) => reopen.push(Change::Reopen { name: record.name.clone(), oid: record.oid }),
            None => part.told.push(format!(
                "database `{}` is gone: a teardown dropped it, and takes its record away at its end",
                record.name
            )),
        }
    }
    let names = things(&records);
    if wanted.cancel {
        part.steps = reopen;
        part.refused = undone;
        return part;
    }
    match subject.wish {
        Wish::Delete => {}
        Wish::Retain(why) => {
            part.steps = reopen;
            part.refused = undone;
            part.retained.push(format!("{names}: {why}"));
            return part;
        }
        Wish::Refused(why) => {
            part.steps = reopen;
            part.refused.push(format!("{names}, of fragment `{}`: {why}", records[0].fragment));
            return part;
        }
        Wish::Orphan(why) => {
            part.orphans.push(format!("{names}, of fragment `{}`: {why}", records[0].fragment));
            return part;
        }
    }
    let sessions =
        subject.database.into_iter().flat_map(|name| inside(facts, name).map(move |one| (name, one)));
    part.told.extend(sessions.map(|(name, session)| {
        format!("in database `{name}` is a session of role `{}`{}", session.role, checks::seen(session))
    }));
    part.refused.extend(checks::all(wanted, facts, subject, &records));
    if !part.refused.is_empty() {
        // What is in the way can only be taken away by who gets in.
        part.steps = reopen;
        return part;
    }
    part.told.extend(checks::guests(facts, subject));
    let record = records.iter().find(|record| record.kind == Kind::Database);
    if let Some(record) = record {
        drop_it(facts, subject, record, &mut part);
    }
    part
}

/// The sessions in a database.
fn inside<'f>(facts: &'f Facts, name: &'f str) -> impl Iterator<Item = &'f facts::Session> {
    facts.sessions.iter().filter(move |session| session.database.as_deref() == Some(name))
}

fn drop_it(facts: &Facts, subject: &Subject<'_>, record: &Record, part: &mut Part) {
    let name = record.name.clone();
    let Some(found) = facts.database(&name) else {
        // What a teardown dropped keeps its record to its end, so that nobody makes it again meanwhile.
        if !record.leaving {
            part.steps.push(Change::ForgetDatabase { name });
        }
        return;
    };
    let oid = found.oid;
    let inside: Vec<&facts::Session> = inside(facts, &name).collect();
    // A drop that was cut off leaves nothing that could be closed.
    if !found.invalid && (found.open || !record.leaving) {
        part.steps.push(Change::Close { name: name.clone(), oid });
    }
    if !inside.is_empty() {
        let borrow = inside.iter().filter(|session| !session.ends).map(|session| session.role.clone());
        let borrow: BTreeSet<String> = borrow.filter(|role| subject.roles.contains(&role.as_str())).collect();
        part.steps.push(Change::End { name: name.clone(), oid, borrow: borrow.into_iter().collect() });
    }
    part.steps.push(Change::DropDatabase { name, oid });
}

/// The things of these records, for people.
fn things(records: &[&Record]) -> String {
    let thing = |record: &&Record| {
        let kind = if record.kind == Kind::Database { "database" } else { "role" };
        format!("{kind} `{}`", record.name)
    };
    records.iter().map(thing).collect::<Vec<_>>().join(", ")
}
