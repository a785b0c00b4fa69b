//! What a teardown decides about: each component that the documents declare, and what they declare no more. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use lifecycle::Component;
use lifecycle::document::OnDelete;

use super::Wanted;
use super::facts::Facts;
use crate::adopt::word;
use crate::plan::undeclared::declares;
use crate::spec::DatabaseSpec;
use crate::world::facts::{Kind, Record};

/// A component with its things.
pub(super) struct Subject<'a> {
    pub(super) component: Component,
    /// The fragment that declares it; none where nobody does.
    pub(super) fragment: Option<&'a str>,
    pub(super) database: Option<&'a str>,
    /// Its roles, the owner last.
    pub(super) roles: Vec<&'a str>,
    /// Its roles are another subject's to drop: what nobody declares has no other tie to its database than its component.
    pub(super) roles_apart: bool,
    pub(super) wish: Wish,
    pub(super) orphaned: bool,
}

/// What is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Delete,
    /// It stays; says why.
    Retain(&'static str),
    /// Nobody declares it, so it stays; says what would delete it.
    Orphan(&'static str),
    /// The command wants it to go, and the documents do not; says why.
    Refused(&'static str),
}

const RETAINED: &str = "stays with its mark, for its document does not say `on_delete: delete`; `release-ownership` takes the mark away";
const REPORTED: &str = "stays, for its fragment is in mode report";

fn wish(report_only: bool, on_delete: OnDelete) -> Wish {
    match (report_only, on_delete) {
        (true, _) => Wish::Retain(REPORTED),
        (false, OnDelete::Retain) => Wish::Retain(RETAINED),
        (false, OnDelete::Delete) => Wish::Delete,
    }
}

/// Declared components first, in their order; then what nobody declares.
pub(super) fn all<'a>(wanted: Wanted<'a>, facts: &'a Facts) -> Vec<Subject<'a>> {
    let spec = wanted.spec;
    let databases = spec.databases.iter().map(|database| Subject {
        component: database.component.clone(),
        fragment: Some(&database.fragment),
        database: Some(&database.name),
        roles: roles(database),
        roles_apart: false,
        wish: wish(database.report_only, database.on_delete),
        orphaned: false,
    });
    let readers = spec.roles.iter().map(|role| Subject {
        component: role.component.clone(),
        fragment: Some(&role.fragment),
        database: None,
        roles: vec![&role.login.role],
        roles_apart: false,
        wish: wish(role.report_only, role.on_delete),
        orphaned: false,
    });
    let mut subjects: Vec<Subject<'a>> = databases.chain(readers).collect();
    subjects.sort_by(|one, other| one.component.cmp(&other.component));
    subjects.extend(orphans(wanted, facts));
    subjects
}

fn roles(database: &DatabaseSpec) -> Vec<&str> {
    let mut roles = database.roles();
    roles.retain(|role| *role != database.owner);
    roles.push(&database.owner);
    roles
}

/// The databases of a component, and its roles, those that were made last first.
type Lost<'a> = (BTreeSet<&'a str>, BTreeSet<(Reverse<i64>, &'a str)>);

/// What is recorded as this environment's under a name that no document here declares: each database, and the roles of each
/// component.
fn orphans<'a>(wanted: Wanted<'a>, facts: &'a Facts) -> Vec<Subject<'a>> {
    let spec = wanted.spec;
    let uid = spec.environment.uid.to_string();
    let mut lost: BTreeMap<&str, Lost<'_>> = BTreeMap::new();
    for record in
        facts.records.iter().filter(|record| record.environment_uid == uid && !declares(spec, record))
    {
        let (databases, roles) = lost.entry(&record.component).or_default();
        match record.kind {
            Kind::Database => databases.insert(&record.name),
            Kind::Role => roles.insert((Reverse(record.oid), &record.name)),
            Kind::Observer => false,
        };
    }
    let mut subjects = Vec::new();
    for (component, (databases, roles)) in lost {
        // What was made last goes first: the owner was made before the others.
        let roles: Vec<&str> = roles.into_iter().map(|(_, name)| name).collect();
        let component: Component = component.parse().unwrap_or_else(|_| spec.component.clone());
        let subject = |database: Option<&'a str>| Subject {
            component: component.clone(),
            fragment: None,
            database,
            roles: roles.clone(),
            roles_apart: database.is_some(),
            wish: orphaned(wanted, &component),
            orphaned: true,
        };
        subjects.extend(databases.iter().map(|name| subject(Some(name))));
        subjects.extend((!roles.is_empty()).then(|| subject(None)));
    }
    subjects
}

fn orphaned(wanted: Wanted<'_>, component: &Component) -> Wish {
    match (wanted.orphans.contains(component), wanted.spec.report_only, wanted.spec.on_delete) {
        (false, true, _) => Wish::Orphan(
            "no document here declares it; it stays, for the server's fragment is in mode report",
        ),
        (false, false, _) => Wish::Orphan(
            "no document here declares it; where no other does, `--orphan` with the name at the beginning of this line deletes it, if the \
             fragment that declares its server says `policy: {on_delete: delete}`",
        ),
        (true, true, _) => Wish::Refused(
            "no document here declares it; it does not go, for the server's fragment is in mode report",
        ),
        (true, false, OnDelete::Retain) => Wish::Refused(
            "no document here declares it; it does not go before the fragment that declares its server says \
             `policy: {on_delete: delete}`",
        ),
        (true, false, OnDelete::Delete) => Wish::Delete,
    }
}

impl Subject<'_> {
    fn has(&self, record: &Record) -> bool {
        match record.kind {
            Kind::Database => self.database == Some(record.name.as_str()),
            Kind::Role => !self.roles_apart && self.roles.contains(&record.name.as_str()),
            Kind::Observer => false,
        }
    }

    /// This environment's records of its things.
    pub(super) fn own<'f>(&self, wanted: Wanted<'_>, facts: &'f Facts) -> Vec<&'f Record> {
        let uid = wanted.spec.environment.uid.to_string();
        let own = |record: &&Record| record.environment_uid == uid && self.has(record);
        let mut records: Vec<&Record> = facts.records.iter().filter(own).collect();
        records.sort_by_key(|record| (record.kind, &record.name));
        records
    }

    /// What is there under its names and is not this environment's: it is only told.
    pub(super) fn foreign(&self, wanted: Wanted<'_>, facts: &Facts) -> Vec<String> {
        let uid = wanted.spec.environment.uid.to_string();
        let of_others =
            facts.records.iter().filter(|record| self.has(record) && record.environment_uid != uid);
        let mut told: Vec<String> = of_others
            .map(|record| {
                format!(
                    "{} `{}` belongs to environment `{}` ({}) and is not touched",
                    word(record.kind),
                    record.name,
                    record.environment_name,
                    record.environment_uid
                )
            })
            .collect();
        told.sort();
        let unmarked = self.database.filter(|name| {
            facts.database(name).is_some()
                && !facts.records.iter().any(|record| record.kind == Kind::Database && record.name == **name)
        });
        told.extend(
            unmarked.map(|name| {
                format!("database `{name}` carries no mark of this environment and is not touched")
            }),
        );
        told
    }
}
