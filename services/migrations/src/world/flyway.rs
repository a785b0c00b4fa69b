//! The dialect of Flyway on a server: one schema after the other, each under Flyway's lock.

use sqlx::{AssertSqlSafe, Row as _};

use super::history::{History, rows};
use super::lock::Lock;
use super::look::present;
use super::session::Session;
use super::{Connect, Limits, Report, answered};
use crate::flyway::history::baseline_row;
use crate::flyway::plan::OtherHistory;
use crate::flyway::{Migration, Place, Plan, Settings, Step, World, check, lock_number, plan, resolve};
use crate::quote::identifier;
use crate::source::Sources;
use crate::statement::Name;
use crate::{Error, Problem};

/// Brings every schema of the settings to where the files say, one after the other, each under the lock of its history.
pub async fn migrate(
    to: &impl Connect,
    database: &str,
    sources: &Sources,
    settings: &Settings,
    limits: Limits,
) -> Result<Report, Error> {
    let wrong = check(sources, settings);
    if wrong.iter().any(Problem::refuses) {
        return Err(Error::Refused(wrong));
    }
    let warnings = wrong.iter().map(ToString::to_string).collect();
    let mut report = Report { done: Vec::new(), warnings };
    for schema in &settings.schemas {
        let what = format!("the lock of `{schema}.{}`", settings.table);
        let mut lock =
            Lock::take(to, database, lock_number(schema, &settings.table), what, limits.lock).await?;
        let done = one(to, database, sources, settings, limits, schema, &mut lock, &mut report).await;
        lock.release().await;
        done?;
    }
    Ok(report)
}

#[expect(clippy::too_many_arguments, reason = "the arguments of `migrate`, for one schema")]
async fn one(
    to: &impl Connect,
    database: &str,
    sources: &Sources,
    settings: &Settings,
    limits: Limits,
    schema: &str,
    lock: &mut Lock,
    report: &mut Report,
) -> Result<(), Error> {
    let mut session = Session::open(to, database, None, limits.statement).await?;
    let place =
        Place { schema: schema.to_owned(), database: session.database.clone(), user: session.user.clone() };
    let migrations = resolve(sources, settings, &place).map_err(Error::Refused)?;
    let plan = decide(&mut session, schema, &migrations, settings).await?;
    if plan.is_refused() {
        return Err(Error::Refused(plan.problems));
    }
    report.warnings.extend(plan.problems.iter().map(ToString::to_string));
    let mut history = History { session, schema, table: &settings.table, alone: settings.current_schema };
    let creates_schema = plan.steps.contains(&Step::CreateSchema);
    for step in &plan.steps {
        lock.check().await?;
        match step {
            Step::CreateSchema => {
                history
                    .session
                    .own(format!("CREATE SCHEMA {}", identifier(schema)), "making the schema")
                    .await?;
            }
            Step::CreateHistory => {
                let baseline = plan
                    .steps
                    .iter()
                    .find_map(|s| if let Step::Baseline(v) = s { Some(baseline_row(v)) } else { None });
                history.create(baseline, creates_schema).await?;
            }
            // Written with the table.
            Step::Baseline(_) => {}
            Step::Apply(migration) => history.apply(migration).await?,
        }
        tracing::info!("{schema}: {step}");
        report.done.push(format!("{schema}: {step}"));
    }
    let mut session = history.session;
    if !plan.steps.is_empty() {
        let rest = decide(&mut session, schema, &migrations, settings).await?;
        if !rest.steps.is_empty() {
            let steps: Vec<String> = rest.steps.iter().map(ToString::to_string).collect();
            return Err(Error::Unsettled(steps.join(", ")));
        }
    }
    session.close().await;
    Ok(())
}

/// What would be done in one schema.
pub(super) async fn seen(
    to: &impl Connect,
    database: &str,
    sources: &Sources,
    settings: &Settings,
    limits: Limits,
    schema: &str,
) -> Result<Plan, Error> {
    let mut session = Session::open(to, database, None, limits.statement).await?;
    let place =
        Place { schema: schema.to_owned(), database: session.database.clone(), user: session.user.clone() };
    let migrations = resolve(sources, settings, &place).map_err(Error::Refused)?;
    let plan = decide(&mut session, schema, &migrations, settings).await?;
    session.close().await;
    Ok(plan)
}

async fn decide(
    session: &mut Session,
    schema: &str,
    migrations: &[Migration],
    settings: &Settings,
) -> Result<Plan, Error> {
    let world = observe(session, schema, settings).await?;
    Ok(plan(schema, &world, migrations, settings))
}

/// $1 the schema, $2 the history table. What Flyway takes for a schema that is not empty: tables, views, sequences, types
/// and routines that no extension brought.
const LOOK: &str = "
SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1),
  EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    UNION ALL
    SELECT FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname = $1 AND t.typcategory NOT IN ('A', 'C', 'P')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
    UNION ALL
    SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = $1
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')),
  EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')),
  coalesce((
    SELECT array_agg(c.relname::text)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname <> $2 AND c.relkind IN ('r', 'p') AND has_table_privilege(c.oid, 'SELECT')
      AND 5 = (SELECT count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
               AND a.attname IN ('installed_rank', 'version', 'script', 'checksum', 'success'))), '{}')::text[]";

async fn observe(session: &mut Session, schema: &str, settings: &Settings) -> Result<World, Error> {
    let failed = || Error::server(format!("looking at schema `{schema}`"));
    let facts = sqlx::query(LOOK).bind(schema).bind(&settings.table).persistent(false);
    let facts = answered(facts.fetch_one(session.connection())).await.map_err(failed())?;
    let exists = facts.try_get(0).map_err(failed())?;
    let holds_something = facts.try_get(1).map_err(failed())?;
    let has_history: bool = facts.try_get(2).map_err(failed())?;
    let others: Vec<String> = facts.try_get(3).map_err(failed())?;
    if exists {
        session.enter(schema, settings.current_schema).await?;
    }
    let history = if has_history { Some(rows(session, schema, &settings.table).await?) } else { None };
    let mut found = Vec::new();
    for table in if has_history { Vec::new() } else { others } {
        let sql = format!("SELECT script::text FROM {}.{}", identifier(schema), identifier(&table));
        let scripts = answered(
            sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_all(session.connection()),
        )
        .await;
        let scripts: Vec<String> = scripts.map_err(failed())?;
        found.push(OtherHistory { table, scripts: scripts.into_iter().collect() });
    }
    let mut present = present(session).await?;
    present.tables.remove(&Name::qualified(schema, &settings.table));
    Ok(World { exists, holds_something, history, others: found, present })
}
