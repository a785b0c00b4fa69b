//! Flyway's history table, read and written as Flyway does it, and the migrations that it records.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::Instant;

use super::answered;
use super::index::is_done_already;
use super::session::{At, Session};
use crate::Error;
use crate::flyway::history::Row;
use crate::flyway::{Kind, Migration};
use crate::quote::identifier;
use crate::script::{Known, Manner, known, within};

/// Its rows, in the order of their ranks.
pub(super) async fn rows(session: &mut Session, schema: &str, table: &str) -> Result<Vec<Row>, Error> {
    let failed = || Error::server(format!("reading the history `{schema}.{table}`"));
    let sql = format!(
        "SELECT installed_rank::int4, version::text, description::text, type::text, script::text, checksum::int4, success, execution_time::int4 < 0 \
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
            cut: !row.try_get::<bool, _>(6)? && row.try_get(7)?,
        })
    };
    rows.map_err(failed())?.into_iter().map(|found| row(found).map_err(failed())).collect()
}

/// The time that a migration has taken which has not ended. Flyway has no column to say so.
const UNENDED: i32 = -1;

/// A history table that is written.
pub(super) struct History<'a> {
    pub(super) session: Session,
    pub(super) schema: &'a str,
    pub(super) table: &'a str,
    /// Names are looked up in the schema alone.
    pub(super) alone: bool,
}

impl History<'_> {
    fn name(&self) -> String {
        format!("{}.{}", identifier(self.schema), identifier(self.table))
    }

    /// Makes the table with its first rows in one transaction: a table without them would say that nothing is there.
    pub(super) async fn create(&mut self, baseline: Option<Row>, schema_was_made: bool) -> Result<(), Error> {
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
                cut: false,
            };
            self.insert(&marker, Some(0), Duration::ZERO).await?;
        }
        match baseline {
            Some(row) => self.insert(&row, None, Duration::ZERO).await.map(drop),
            None => Ok(()),
        }
    }

    pub(super) async fn apply(&mut self, migration: &Migration) -> Result<(), Error> {
        let statements = known(&migration.file, &migration.text).map_err(Error::Refused)?;
        match migration.manner {
            // One transaction of its own is ours, so that the row is in it.
            Manner::Together => self.together(migration, within(&statements)).await,
            Manner::Each => self.each(migration, &statements).await,
        }
    }

    /// One transaction, the row in it.
    async fn together(&mut self, migration: &Migration, statements: &[Known<'_>]) -> Result<(), Error> {
        let begun = Instant::now();
        self.session.own("BEGIN", "beginning a transaction").await?;
        let ran = async {
            for (number, known) in (1..).zip(statements) {
                self.run(migration, number, known).await?;
            }
            self.session.restore().await?;
            self.insert(&row(migration, true), None, begun.elapsed()).await
        };
        match ran.await {
            Ok(_) => self.session.own("COMMIT", &format!("committing {}", migration.file)).await,
            Err(error) => {
                // On a connection that is lost the server rolls back by itself.
                let _ = self.session.own("ROLLBACK", "rolling back").await;
                Err(error)
            }
        }
    }

    /// Statement by statement. The row that Flyway writes at the end is there from the beginning, as one that has not succeeded:
    /// so Flyway too sees that a run was cut.
    async fn each(&mut self, migration: &Migration, statements: &[Known<'_>]) -> Result<(), Error> {
        let (rank, again) = self.begin(migration).await?;
        let begun = Instant::now();
        let ran = async {
            for (number, known) in (1..).zip(statements) {
                if !is_done_already(&mut self.session, known.statement.sql, again).await? {
                    self.run(migration, number, known).await?;
                }
            }
            self.end(rank, true, begun.elapsed()).await
        };
        let Err(error) = ran.await else { return Ok(()) };
        // Of a transaction of the file's own.
        let _ = self.session.own("ROLLBACK", "rolling back").await;
        // What may go well the next time was cut; what may not has failed, as Flyway has it.
        if !error.is_transient()
            && let Err(unwritten) = self.end(rank, false, begun.elapsed()).await
        {
            tracing::warn!("{unwritten}");
        }
        Err(error)
    }

    async fn run(&mut self, migration: &Migration, number: usize, known: &Known<'_>) -> Result<(), Error> {
        let statement = known.statement;
        let at = At { file: &migration.file, line: statement.line, number, secret: false };
        self.session.run(at, statement.sql, statement.data.map(str::as_bytes)).await
    }

    /// Writes the row of what has not ended, instead of that of an earlier run that was cut. Its rank, and whether there was one.
    async fn begin(&mut self, migration: &Migration) -> Result<(i32, bool), Error> {
        let name = self.name();
        let row = row(migration, false);
        let doing = format!("writing to the history {name}");
        self.session.own("BEGIN", &doing).await?;
        let begun = async {
            let sql = format!(
                "DELETE FROM {name} WHERE NOT success AND execution_time = {UNENDED} AND script = $1"
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind(&row.script).persistent(false);
            let cut = answered(query.execute(self.session.connection())).await;
            let cut = cut.map_err(Error::server(&doing))?.rows_affected() > 0;
            Ok((self.insert(&row, None, Duration::ZERO).await?, cut))
        };
        let begun = begun.await;
        self.session.own(if begun.is_ok() { "COMMIT" } else { "ROLLBACK" }, &doing).await?;
        begun
    }

    /// Writes how it has ended. What the file has done to its session is undone first.
    async fn end(&mut self, rank: i32, success: bool, took: Duration) -> Result<(), Error> {
        self.session.restore().await?;
        let name = self.name();
        let sql = format!(
            "UPDATE {name} SET success = $2, execution_time = $3, installed_on = DEFAULT WHERE installed_rank = $1"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(rank).bind(success).bind(millis(took));
        let written = answered(query.persistent(false).execute(self.session.connection())).await;
        written.map(drop).map_err(Error::server(format!("writing to the history {name}")))
    }

    /// Inserts a row; without a rank after all others. Its rank.
    async fn insert(&mut self, row: &Row, rank: Option<i32>, took: Duration) -> Result<i32, Error> {
        let name = self.name();
        let sql = format!(
            "INSERT INTO {name} (installed_rank, version, description, type, script, checksum, installed_by, execution_time, success) \
             VALUES (coalesce($1, (SELECT coalesce(max(installed_rank), 0) + 1 FROM {name})), $2, $3, $4, $5, $6, $7, $8, $9) \
             RETURNING installed_rank"
        );
        let user = self.session.user.clone();
        let query = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(rank)
            .bind(&row.version)
            .bind(&row.description)
            .bind(&row.kind)
            .bind(&row.script)
            .bind(row.checksum)
            .bind(user)
            .bind(if row.cut { UNENDED } else { millis(took) })
            .bind(row.success)
            .persistent(false);
        answered(query.fetch_one(self.session.connection()))
            .await
            .map_err(Error::server(format!("writing to the history {name}")))
    }
}

/// The row of a migration that ran to its end, or that begins.
fn row(migration: &Migration, success: bool) -> Row {
    Row {
        installed_rank: 0,
        version: migration.version().map(ToString::to_string),
        description: shorten(&migration.description, 200, false),
        kind: if matches!(migration.kind, Kind::Baseline(_)) { "SQL_BASELINE" } else { "SQL" }.to_owned(),
        script: shorten(&migration.script, 1000, true),
        checksum: Some(migration.checksum),
        success,
        cut: !success,
    }
}

fn millis(took: Duration) -> i32 {
    i32::try_from(took.as_millis()).unwrap_or(i32::MAX)
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
