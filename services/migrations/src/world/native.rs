//! The dialect `native` on a server: what fits into one transaction is one with its entry in the journal; what does not is
//! written down statement by statement.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::journal::{Journal, NewEntry};
use super::lock::Lock;
use super::look::present;
use super::session::{At, Session};
use super::units::Runner;
use super::{Connect, Limits, Report};
use crate::flyway::{Migration, Version};
use crate::guard::Before;
use crate::journal::{Entry, State, prefix};
use crate::native::{Plan, Settings, Step, World, check, checksum, plan, resolve, units};
use crate::psql;
use crate::script::{Manner, known};
use crate::source::Sources;
use crate::{Error, Problem};

/// Brings a database to where the files say, under the lock of its journal. `migration` is whose entries of the journal they
/// are.
pub async fn migrate(
    to: &impl Connect,
    database: &str,
    migration: &str,
    sources: &Sources,
    settings: &Settings,
    limits: Limits,
) -> Result<Report, Error> {
    let wrong = check(sources, settings);
    if wrong.iter().any(Problem::refuses) {
        return Err(Error::Refused(wrong));
    }
    let journal = Journal {
        schema: settings.schema.clone(),
        table: settings.table.clone(),
        migration: migration.to_owned(),
    };
    let what = format!("the lock of `{migration}` in `{}.{}`", settings.schema, settings.table);
    let mut lock = Lock::take(to, database, journal.lock_number(), what, limits.lock).await?;
    let done = under(to, database, sources, settings, limits, &journal, &mut lock).await;
    lock.release().await;
    let warnings = wrong.iter().map(ToString::to_string);
    done.map(|report| Report { warnings: warnings.chain(report.warnings).collect(), ..report })
}

async fn under(
    to: &impl Connect,
    database: &str,
    sources: &Sources,
    settings: &Settings,
    limits: Limits,
    journal: &Journal,
    lock: &mut Lock,
) -> Result<Report, Error> {
    let migrations = resolve(sources, settings).map_err(Error::Refused)?;
    let mut session = Session::open(to, database, None, limits.statement).await?;
    let first = decide(&mut session, journal, lock.connection(), &migrations, settings).await?;
    if first.is_refused() {
        return Err(Error::Refused(first.problems));
    }
    let warnings = first.problems.iter().map(ToString::to_string).collect();
    let mut report = Report { done: Vec::new(), warnings };
    let mut runner = Runner {
        to,
        limits,
        journal,
        lock,
        sources,
        session,
        exported: BTreeMap::new(),
        before: Before::default(),
        sticks: false,
    };
    for step in &first.steps {
        runner.lock.check().await?;
        match step {
            Step::CreateJournal => journal.create(runner.lock.connection()).await?,
            Step::Baseline(version) => baseline(&mut runner, version).await?,
            Step::Apply { migration, done, entry } => {
                runner.session.enter(&settings.schema, false).await?;
                match entry {
                    None if migration.manner == Manner::Together => together(&mut runner, migration).await?,
                    entry => each(&mut runner, migration, *done, *entry).await?,
                }
                runner.session.restore().await?;
            }
        }
        tracing::info!("{step}");
        report.done.push(step.to_string());
    }
    if !first.steps.is_empty() {
        let rest =
            decide(&mut runner.session, journal, runner.lock.connection(), &migrations, settings).await?;
        if !rest.steps.is_empty() {
            let steps: Vec<String> = rest.steps.iter().map(ToString::to_string).collect();
            return Err(Error::Unsettled(steps.join(", ")));
        }
    }
    runner.session.close().await;
    Ok(report)
}

/// Decides; the journal is read over `records`.
pub(super) async fn decide(
    session: &mut Session,
    journal: &Journal,
    records: &mut PgConnection,
    migrations: &[Migration],
    settings: &Settings,
) -> Result<Plan, Error> {
    let entries = journal.read(&mut *records).await?;
    let fate = Journal::fate(records, entries.as_deref().unwrap_or_default()).await?;
    let world = World { journal: entries, fate, present: present(session).await? };
    Ok(plan(&world, migrations, settings))
}

async fn baseline<C: Connect>(runner: &mut Runner<'_, C>, version: &Version) -> Result<(), Error> {
    let version = version.to_string();
    let entry = NewEntry {
        script: "baseline",
        version: Some(&version),
        checksum: "",
        state: State::Baseline,
        done: 0,
        prefix: "",
    };
    runner.journal.add(runner.lock.connection(), &entry).await.map(drop)
}

/// One transaction, the entry in the journal in it.
async fn together<C: Connect>(runner: &mut Runner<'_, C>, migration: &Migration) -> Result<(), Error> {
    let statements = known(&migration.file, &migration.text).map_err(Error::Refused)?;
    let units = units(migration).map_err(Error::Refused)?;
    runner.session.own("BEGIN", "beginning a transaction").await?;
    let ran = async {
        for (number, known) in (1..).zip(&statements) {
            let statement = known.statement;
            let at = At { file: &migration.file, line: statement.line, number, secret: false };
            runner.session.run(at, statement.sql, statement.data.map(str::as_bytes)).await?;
        }
        runner.session.restore().await?;
        let version = migration.version().map(ToString::to_string);
        let (checksum, prefix) = (checksum(migration), prefix(&units));
        let entry = NewEntry {
            script: &migration.script,
            version: version.as_deref(),
            checksum: &checksum,
            state: State::Done,
            done: units.len(),
            prefix: &prefix,
        };
        runner.journal.add(runner.session.connection(), &entry).await
    };
    match ran.await {
        Ok(_) => runner.session.own("COMMIT", &format!("committing {}", migration.file)).await,
        Err(error) => {
            // On a connection that is lost the server rolls back by itself.
            let _ = runner.session.own("ROLLBACK", "rolling back").await;
            Err(error)
        }
    }
}

/// Statement by statement, from where an earlier run ended.
async fn each<C: Connect>(
    runner: &mut Runner<'_, C>,
    migration: &Migration,
    done: usize,
    entry: Option<i64>,
) -> Result<(), Error> {
    let statements = known(&migration.file, &migration.text).map_err(Error::Refused)?;
    let units = units(migration).map_err(Error::Refused)?;
    let steps: Vec<psql::Placed> = statements
        .iter()
        .map(|known| psql::Placed {
            step: psql::Step::Execute {
                sql: known.statement.sql.to_owned(),
                rows: known.statement.data.map(str::to_owned),
            },
            file: migration.file.clone(),
            line: known.statement.line,
            secret: false,
        })
        .collect();
    let version = migration.version().map(ToString::to_string);
    let mut entry = begin(runner, entry, &migration.script, version, checksum(migration)).await?;
    (entry.done, entry.prefix) = (done, prefix(&units[..done]));
    runner.run(&mut entry, &steps, &units).await
}

/// The entry of a run, which is written before anything runs; or that of the run that is gone on with.
pub(super) async fn begin<C: Connect>(
    runner: &mut Runner<'_, C>,
    entry: Option<i64>,
    script: &str,
    version: Option<String>,
    checksum: String,
) -> Result<Entry, Error> {
    let new = NewEntry {
        script,
        version: version.as_deref(),
        checksum: &checksum,
        state: State::Running,
        done: 0,
        prefix: &prefix(&[]),
    };
    let (id, begun) = match entry {
        Some(id) => {
            let entries = runner.journal.read(runner.lock.connection()).await?.unwrap_or_default();
            let entry = entries.into_iter().find(|entry| entry.id == id);
            // A transaction's fate has been decided on; what has none is looked at when it runs again.
            (id, entry.and_then(|entry| entry.begun).filter(|begun| begun.transaction.is_none()))
        }
        None => (runner.journal.add(runner.lock.connection(), &new).await?, None),
    };
    let prefix = new.prefix.to_owned();
    Ok(Entry {
        id,
        script: script.to_owned(),
        version,
        checksum,
        state: State::Running,
        done: 0,
        prefix,
        begun,
    })
}
