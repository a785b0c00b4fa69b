//! Decides about what is an environment's and no component's: its observer, and the records of databases that are gone. Pure.

use std::collections::BTreeSet;

use lifecycle::document::OnDelete;

use super::facts::Facts;
use super::{Change, Part, Phase, Wanted, checks, roles};
use crate::world::facts::{Kind, Record};

/// What becomes of them once `dropped` is gone too. History stays; database `rollcall` belongs to no environment.
pub(super) fn decide(wanted: Wanted<'_>, facts: &Facts, dropped: &BTreeSet<(Kind, String)>) -> Part {
    let spec = wanted.spec;
    let mut part = Part {
        phase: Phase::Last,
        component: spec.component.clone(),
        database: None,
        orphaned: false,
        steps: Vec::new(),
        retained: Vec::new(),
        refused: Vec::new(),
        orphans: Vec::new(),
        told: Vec::new(),
    };
    let uid = spec.environment.uid.to_string();
    let own = facts.records.iter().filter(|record| record.environment_uid == uid);
    let dropped_before = own.clone().filter(|record| {
        record.kind == Kind::Database && record.leaving && facts.database(&record.name).is_none()
    });
    let mut forget: Vec<String> = dropped_before.map(|record| record.name.clone()).collect();
    let going = own.clone().filter(|record| {
        record.kind == Kind::Database
            && facts.database(&record.name).is_some()
            && dropped.contains(&(Kind::Database, record.name.clone()))
    });
    forget.extend(going.map(|record| record.name.clone()));
    forget.sort();
    if !spec.report_only {
        part.steps.extend(forget.iter().map(|name| Change::ForgetDatabase { name: name.clone() }));
    }
    if wanted.cancel {
        return part;
    }
    let gone = |record: &Record| record.kind == Kind::Database && forget.contains(&record.name);
    let own = own.filter(|record| !gone(record));
    let (observers, others): (Vec<&Record>, Vec<&Record>) =
        own.partition(|record| record.kind == Kind::Observer);
    let left = others.iter().filter(|record| !dropped.contains(&(record.kind, record.name.clone()))).count();
    for record in observers {
        let name = &record.name;
        match facts.role(name) {
            _ if left > 0 => {
                part.retained
                    .push(format!("role `{name}` stays: it observes {left} more things of this environment"));
            }
            _ if spec.report_only => {
                part.retained.push(format!("role `{name}` stays, for its fragment is in mode report"));
            }
            _ if spec.on_delete == OnDelete::Retain => {
                part.retained.push(format!(
                    "role `{name}` stays, for the fragment that declares the server does not say `on_delete: delete`"
                ));
            }
            None => part.steps.push(Change::ForgetRole { name: name.clone() }),
            Some(role) if role.oid != record.oid || checks::elsewhere(facts, record).is_some() => {
                part.refused.push(format!(
                    "role `{name}` is not the one that was recorded: `postgres-init rebind DOCUMENTS --component {}` tells more",
                    spec.component
                ));
            }
            Some(role) if !role.governed => part.refused.push(format!(
                "role `{}` may not drop role `{name}`; let a superuser run DROP ROLE \"{name}\", then this",
                facts.admin
            )),
            Some(role) => {
                // Its way into database `rollcall` is taken with it; whoever observes there is told so by the server.
                let stays = roles::stays(facts, name, &[postgres::REGISTRY.to_owned()].into());
                if stays.is_empty() {
                    part.steps.push(Change::DropObserver { name: name.clone(), oid: role.oid });
                } else {
                    part.retained.push(format!("role `{name}` stays: {}", stays.join(", ")));
                }
            }
        }
    }
    if facts.runs > 0 {
        part.retained.push(format!(
            "the ledger keeps what steps and migrations did ({} runs): what was done in a database that is gone counts no more, and any \
             other step runs again only with --again",
            facts.runs
        ));
    }
    part
}
