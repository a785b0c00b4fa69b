//! The dialect `psql` on a server: scripts that go from database to database, with a journal in a database of its own.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::journal::{Journal, NewEntry};
use super::lock::Lock;
use super::look::present;
use super::native::begin;
use super::session::Session;
use super::units::Runner;
use super::{Connect, Limits, Report, answered};
use crate::journal::{State, prefix, sha256};
use crate::psql::plan::{Action, Run, databases, units};
use crate::psql::{Plan, Settings, World, check, plan};
use crate::source::Sources;
use crate::{Error, Problem};

/// Brings a server to where the scripts say, under the lock of the journal, which is in database `journal_in`.
pub async fn migrate(
    to: &impl Connect,
    journal_in: &str,
    journal: &Journal,
    sources: &Sources,
    settings: &Settings,
    limits: Limits,
) -> Result<Report, Error> {
    let wrong = check(sources, settings);
    if wrong.iter().any(Problem::refuses) {
        return Err(Error::Refused(wrong));
    }
    let what = format!("the lock of `{}` in `{}.{}`", journal.migration, journal.schema, journal.table);
    let mut lock = Lock::take(to, journal_in, journal.lock_number(), what, limits.lock).await?;
    let done = under(to, journal, sources, settings, limits, &mut lock).await;
    lock.release().await;
    done
}

async fn under(
    to: &impl Connect,
    journal: &Journal,
    sources: &Sources,
    settings: &Settings,
    limits: Limits,
    lock: &mut Lock,
) -> Result<Report, Error> {
    let first = decide(to, journal, sources, settings, limits, lock.connection()).await?;
    if first.is_refused() {
        return Err(Error::Refused(first.problems));
    }
    let warnings = first.problems.iter().map(ToString::to_string).collect();
    let mut report = Report { done: Vec::new(), warnings };
    if first.actions.is_empty() {
        return Ok(report);
    }
    journal.create(lock.connection()).await?;
    for action in &first.actions {
        lock.check().await?;
        match action {
            Action::Baseline(version) => {
                let entry = NewEntry {
                    script: "baseline",
                    version: Some(version),
                    checksum: "",
                    state: State::Baseline,
                    done: 0,
                    prefix: "",
                };
                journal.add(lock.connection(), &entry).await?;
            }
            Action::Run(run) => {
                // Every script begins where psql would: in a session of its own.
                let session = Session::open(to, &run.database, None, limits.statement).await?;
                let mut runner = Runner {
                    to,
                    limits,
                    journal,
                    lock,
                    sources,
                    session,
                    exported: BTreeMap::new(),
                    before: run.before.clone(),
                    sticks: false,
                };
                script(&mut runner, run).await?;
                runner.session.close().await;
            }
        }
        tracing::info!("{action}");
        report.done.push(action.to_string());
    }
    let rest = decide(to, journal, sources, settings, limits, lock.connection()).await?;
    if !rest.actions.is_empty() {
        let actions: Vec<String> = rest.actions.iter().map(ToString::to_string).collect();
        return Err(Error::Unsettled(actions.join(", ")));
    }
    Ok(report)
}

async fn script<C: Connect>(runner: &mut Runner<'_, C>, run: &Run) -> Result<(), Error> {
    let sources = runner.sources;
    let checksum = sha256(run.files.iter().filter_map(|file| sources.get(file)));
    let units = units(sources, &run.steps);
    let mut entry = begin(runner, run.entry, &run.script, run.version.clone(), checksum).await?;
    (entry.done, entry.prefix) = (run.done, prefix(&units[..run.done]));
    runner.run(&mut entry, &run.steps, &units).await
}

/// Decides; the journal is read over `records`.
pub(super) async fn decide(
    to: &impl Connect,
    journal: &Journal,
    sources: &Sources,
    settings: &Settings,
    limits: Limits,
    records: &mut PgConnection,
) -> Result<Plan, Error> {
    let entries = journal.read(&mut *records).await?.unwrap_or_default();
    let fate = Journal::fate(&mut *records, &entries).await?;
    let mut world = World { exists: false, journal: entries, fate, present: BTreeMap::new() };
    for database in databases(sources, settings) {
        let there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)";
        let there =
            answered(sqlx::query_scalar(there).bind(&database).persistent(false).fetch_one(&mut *records))
                .await;
        if !there.map_err(Error::server(format!("looking for database `{database}`")))? {
            continue;
        }
        let mut session = Session::open(to, &database, None, limits.statement).await?;
        let found = present(&mut session).await?;
        session.close().await;
        if database == settings.target.0 {
            let schema = &settings.target.1;
            // A schema without a table is one that was made for the scripts to fill.
            world.exists =
                schema.is_empty() || found.tables.iter().any(|table| table.schema.as_ref() == Some(schema));
        }
        world.present.insert(database, found);
    }
    Ok(plan(sources, &world, settings))
}
