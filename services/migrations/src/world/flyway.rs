//! Flyway's history table, read and written as Flyway does it, under Flyway's lock.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::Instant;

use super::lock::Lock;
use super::look::present;
use super::session::{At, Session};
use super::{Connect, Limits, Report, answered};
use crate::flyway::plan::{OtherHistory, Row, baseline_row};
use crate::flyway::{Kind, Migration, Place, Plan, Settings, Step, World, check, lock_number, plan, resolve};
use crate::quote::identifier;
use crate::script::{Manner, known};
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

async fn rows(session: &mut Session, schema: &str, table: &str) -> Result<Vec<Row>, Error> {
    let failed = || Error::server(format!("reading the history `{schema}.{table}`"));
    let sql = format!(
        "SELECT installed_rank::int4, version::text, description::text, type::text, script::text, checksum::int4, success \
         FROM {}.{} ORDER BY installed_rank",
        identifier(schema),
        identifier(table)
    );
    let rows =
        answered(sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(session.connection())).await;
    let row = |row: sqlx::postgres::PgRow| -> Result<Row, sqlx::Error> {
        Ok(Row {
            installed_rank: row.try_get(0)?,
            version: row.try_get(1)?,
            description: row.try_get(2)?,
            kind: row.try_get(3)?,
            script: row.try_get(4)?,
            checksum: row.try_get(5)?,
            success: row.try_get(6)?,
        })
    };
    rows.map_err(failed())?.into_iter().map(|found| row(found).map_err(failed())).collect()
}

/// A history table that is written.
struct History<'a> {
    session: Session,
    schema: &'a str,
    table: &'a str,
    /// Names are looked up in the schema alone.
    alone: bool,
}

impl History<'_> {
    fn name(&self) -> String {
        format!("{}.{}", identifier(self.schema), identifier(self.table))
    }

    /// Makes the table with its first rows in one transaction: a table without them would say that nothing is there.
    async fn create(&mut self, baseline: Option<Row>, schema_was_made: bool) -> Result<(), Error> {
        let (name, table) = (self.name(), self.table);
        self.session.enter(self.schema, self.alone).await?;
        let sql = format!(
            "BEGIN; CREATE TABLE {name} (
                 \"installed_rank\" INT NOT NULL,
                 \"version\" VARCHAR(50),
                 \"description\" VARCHAR(200) NOT NULL,
                 \"type\" VARCHAR(20) NOT NULL,
                 \"script\" VARCHAR(1000) NOT NULL,
                 \"checksum\" INTEGER,
                 \"installed_by\" VARCHAR(100) NOT NULL,
                 \"installed_on\" TIMESTAMP NOT NULL DEFAULT now(),
                 \"execution_time\" INTEGER NOT NULL,
                 \"success\" BOOLEAN NOT NULL
             );
             ALTER TABLE {name} ADD CONSTRAINT {} PRIMARY KEY (\"installed_rank\");
             CREATE INDEX {} ON {name} (\"success\")",
            identifier(&format!("{table}_pk")),
            identifier(&format!("{table}_s_idx")),
        );
        let doing = format!("making the history {name}");
        let made = self.session.own(sql, &doing).await;
        let made = match made {
            Ok(()) => self.first_rows(baseline, schema_was_made).await,
            Err(error) => Err(error),
        };
        self.session.own(if made.is_ok() { "COMMIT" } else { "ROLLBACK" }, &doing).await?;
        made
    }

    async fn first_rows(&mut self, baseline: Option<Row>, schema_was_made: bool) -> Result<(), Error> {
        if schema_was_made {
            let marker = Row {
                installed_rank: 0,
                version: None,
                description: "<< Flyway Schema Creation >>".to_owned(),
                kind: "SCHEMA".to_owned(),
                script: identifier(self.schema),
                checksum: None,
                success: true,
            };
            self.insert(&marker, Some(0), Duration::ZERO).await?;
        }
        match baseline {
            Some(row) => self.insert(&row, None, Duration::ZERO).await,
            None => Ok(()),
        }
    }

    async fn apply(&mut self, migration: &Migration) -> Result<(), Error> {
        let statements = known(&migration.file, &migration.text).map_err(Error::Refused)?;
        let together = migration.manner == Manner::Together;
        let begun = Instant::now();
        if together {
            self.session.own("BEGIN", "beginning a transaction").await?;
        }
        let mut ran = Ok(());
        for (number, known) in (1..).zip(&statements) {
            let statement = known.statement;
            let at = At { file: &migration.file, line: statement.line, number, secret: false };
            ran = self.session.run(at, statement.sql, statement.data.map(str::as_bytes)).await;
            if ran.is_err() {
                break;
            }
        }
        if ran.is_ok() && together {
            ran = self.record(migration, true, begun.elapsed()).await;
            if ran.is_ok() {
                return self.session.own("COMMIT", &format!("committing {}", migration.file)).await;
            }
        }
        match ran {
            Ok(()) => self.record(migration, true, begun.elapsed()).await,
            Err(error) => {
                // On a connection that is lost the server has rolled back by itself.
                let _ = self.session.own("ROLLBACK", "rolling back").await;
                if !together {
                    self.record(migration, false, begun.elapsed()).await?;
                }
                Err(error)
            }
        }
    }

    async fn record(&mut self, migration: &Migration, success: bool, took: Duration) -> Result<(), Error> {
        self.session.restore().await?;
        let row = Row {
            installed_rank: 0,
            version: migration.version().map(ToString::to_string),
            description: shorten(&migration.description, 200, false),
            kind: if matches!(migration.kind, Kind::Baseline(_)) { "SQL_BASELINE" } else { "SQL" }.to_owned(),
            script: shorten(&migration.script, 1000, true),
            checksum: Some(migration.checksum),
            success,
        };
        self.insert(&row, None, took).await
    }

    /// Inserts a row; without a rank after all others.
    async fn insert(&mut self, row: &Row, rank: Option<i32>, took: Duration) -> Result<(), Error> {
        let name = self.name();
        let sql = format!(
            "INSERT INTO {name} (installed_rank, version, description, type, script, checksum, installed_by, execution_time, success) \
             VALUES (coalesce($1, (SELECT coalesce(max(installed_rank), 0) + 1 FROM {name})), $2, $3, $4, $5, $6, $7, $8, $9)"
        );
        let user = self.session.user.clone();
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(rank)
            .bind(&row.version)
            .bind(&row.description)
            .bind(&row.kind)
            .bind(&row.script)
            .bind(row.checksum)
            .bind(user)
            .bind(i32::try_from(took.as_millis()).unwrap_or(i32::MAX))
            .bind(row.success)
            .persistent(false);
        answered(query.execute(self.session.connection()))
            .await
            .map(drop)
            .map_err(Error::server(format!("writing to the history {name}")))
    }
}

/// Flyway keeps the beginning of a long description and the end of a long path, and marks the cut with three dots.
fn shorten(text: &str, most: usize, keep_end: bool) -> String {
    let length = text.chars().count();
    if length <= most {
        text.to_owned()
    } else if keep_end {
        format!("...{}", text.chars().skip(length - (most - 3)).collect::<String>())
    } else {
        format!("{}...", text.chars().take(most - 3).collect::<String>())
    }
}
