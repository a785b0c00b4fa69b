//! Runs the statements of a script one by one, and writes each down so that it is known of every one whether it ran,
//! wherever the run ends: a transaction's number is written down before it is committed, and the server knows what became
//! of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::is_done_already;
use super::journal::Journal;
use super::lock::Lock;
use super::session::{At, Session};
use super::{Connect, Limits, answered};
use crate::Error;
use crate::guard::Before;
use crate::journal::{Begun, Entry, State, Unit, prefix};
use crate::psql::{Placed, Step, exported};
use crate::source::Sources;
use crate::statement::{Class, Control, begins, classify};

/// What files that `\copy … to` writes may hold together; they live in memory.
const EXPORTED: usize = 256 * 1024 * 1024;

/// A run of a script.
pub(super) struct Runner<'a, C> {
    pub(super) to: &'a C,
    pub(super) limits: Limits,
    pub(super) journal: &'a Journal,
    pub(super) lock: &'a mut Lock,
    pub(super) sources: &'a Sources,
    pub(super) session: Session,
    /// What `\copy … to` wrote.
    pub(super) exported: BTreeMap<String, Arc<[u8]>>,
    /// What was there, which what queries answer with may not destroy.
    pub(super) before: Before,
    /// Some of what was begun has run.
    pub(super) sticks: bool,
}

impl<C: Connect> Runner<'_, C> {
    /// Runs what an earlier run has left of a script.
    pub(super) async fn run(
        &mut self,
        entry: &mut Entry,
        steps: &[Placed],
        units: &[Unit],
    ) -> Result<(), Error> {
        self.again(steps, entry.done).await?;
        // A statement between BEGIN and COMMIT of the script itself is done when that is.
        let mut open = false;
        for (n, (placed, unit)) in steps.iter().zip(units).enumerate().skip(entry.done) {
            self.lock.check().await?;
            let number = n + 1;
            let control = unit.class.as_ref().and_then(|class| class.controls);
            let ran = match control {
                _ if open && control != Some(Control::Ends) => self.step(placed, number).await,
                Some(Control::Begins) => {
                    open = true;
                    self.step(placed, number).await
                }
                Some(Control::Ends) => {
                    open = false;
                    self.ends(entry, placed, number).await
                }
                None if in_transaction(placed, unit.class.as_ref()) => {
                    self.whole(entry, placed, number).await
                }
                None if matches!(placed.step, Step::Generate { .. }) => {
                    self.generated(entry, placed, number).await
                }
                None => self.alone(entry, placed, number).await,
            };
            if let Err(error) = ran {
                self.stopped(entry, &error).await;
                return Err(error);
            }
            if !open {
                (entry.done, entry.prefix, entry.begun) = (number, prefix(&units[..number]), None);
                self.write(entry, None).await?;
            }
        }
        entry.state = State::Done;
        self.write(entry, None).await
    }

    /// Brings the connection to where it was: databases, settings, and files that were written and are still to be read.
    async fn again(&mut self, steps: &[Placed], done: usize) -> Result<(), Error> {
        let files = exported::again(steps, done).map_err(Error::Refused)?;
        for (n, placed) in steps[..done].iter().enumerate() {
            // As dumps begin: `SELECT pg_catalog.set_config(…)`.
            let sets = |sql| exported::sets(sql) || (begins(sql, &["SELECT"]) && sql.contains("set_config("));
            match &placed.step {
                Step::Connect { .. } => self.step(placed, n + 1).await?,
                Step::CopyTo { .. } if files.contains(&n) => self.step(placed, n + 1).await?,
                Step::Execute { sql, .. } if sets(sql) => self.step(placed, n + 1).await?,
                _ => {}
            }
        }
        Ok(())
    }

    /// In a transaction of ours, or without one if the server says that this cannot be: a procedure may commit, and a newer
    /// server may know statements that we do not.
    async fn whole(&mut self, entry: &mut Entry, placed: &Placed, number: usize) -> Result<(), Error> {
        self.session.own("BEGIN", "beginning a transaction").await?;
        match self.step(placed, number).await {
            // invalid_transaction_termination, active_sql_transaction.
            Err(error) if matches!(error.code(), "2D000" | "25001") => {
                self.session.own("ROLLBACK", "rolling back").await?;
                // If it fails now, it may have committed a part of what it does.
                self.sticks = error.code() == "2D000";
                self.alone(entry, placed, number).await?;
                self.sticks = false;
                return Ok(());
            }
            ran => ran?,
        }
        self.commit(entry, placed, number).await
    }

    /// `\gexec`: what the query answers with is run in the query's own transaction, so that all of it runs or nothing; what
    /// cannot is run one by one, and where a run ends in between nobody but a person can say what has run.
    async fn generated(&mut self, entry: &mut Entry, placed: &Placed, number: usize) -> Result<(), Error> {
        let Step::Generate { sql } = &placed.step else { return self.step(placed, number).await };
        let at = at(placed, number);
        self.session.own("BEGIN", "beginning a transaction").await?;
        let texts = self.answers(at, sql).await?;
        if texts.iter().all(|text| classify(text).alone.is_none()) {
            for text in &texts {
                self.session.run(at, text, None).await?;
            }
            return self.commit(entry, placed, number).await;
        }
        self.session.own("COMMIT", "committing the query before \\gexec").await?;
        entry.begun = Some(Begun { unit: number, transaction: None });
        self.write(entry, None).await?;
        for (n, text) in texts.iter().enumerate() {
            if let Err(error) = self.session.run(at, text, None).await {
                self.sticks = n > 0;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The statements that a query answers with, all of which may be run.
    async fn answers(&mut self, at: At<'_>, sql: &str) -> Result<Vec<String>, Error> {
        let texts = self.session.texts(at, sql).await?;
        let database = &self.session.database;
        let refused: Vec<_> = texts
            .iter()
            .flat_map(|text| self.before.refuses_generated(database, &classify(text), at.file, at.line))
            .collect();
        if refused.is_empty() { Ok(texts) } else { Err(Error::Generated(refused)) }
    }

    async fn commit(&mut self, entry: &mut Entry, placed: &Placed, number: usize) -> Result<(), Error> {
        self.promise(entry, number).await?;
        self.session
            .own("COMMIT", &format!("committing statement {number} of {}:{}", placed.file, placed.line))
            .await
    }

    /// The end of a transaction of the script's own.
    async fn ends(&mut self, entry: &mut Entry, placed: &Placed, number: usize) -> Result<(), Error> {
        self.promise(entry, number).await?;
        self.step(placed, number).await
    }

    /// Writes down which transaction is about to be committed.
    async fn promise(&mut self, entry: &mut Entry, unit: usize) -> Result<(), Error> {
        let asked = sqlx::query_scalar("SELECT pg_catalog.pg_current_xact_id()::text").persistent(false);
        let transaction: String = answered(asked.fetch_one(self.session.connection()))
            .await
            .map_err(Error::server("asking for the transaction's number"))?;
        entry.begun = Some(Begun { unit, transaction: Some(transaction) });
        self.write(entry, None).await
    }

    /// Without a transaction.
    async fn alone(&mut self, entry: &mut Entry, placed: &Placed, number: usize) -> Result<(), Error> {
        if let Step::Execute { sql, .. } = &placed.step {
            let again = entry.begun.as_ref().is_some_and(|begun| begun.unit == number);
            entry.begun = Some(Begun { unit: number, transaction: None });
            self.write(entry, None).await?;
            if is_done_already(&mut self.session, sql, again).await? {
                return Ok(());
            }
        }
        self.step(placed, number).await
    }

    async fn stopped(&mut self, entry: &mut Entry, error: &Error) {
        // On a connection that is lost the server rolls back by itself.
        let _ = self.session.own("ROLLBACK", "rolling back").await;
        // A session that was cut does not say whether it had committed: then what was begun stays written down.
        let code = error.code();
        if !self.sticks && !code.is_empty() && !code.starts_with("08") && !code.starts_with("57P") {
            entry.begun = None;
            entry.state = State::Failed;
            if let Err(unwritten) = self.write(entry, Some(code)).await {
                tracing::warn!("{unwritten}");
            }
        }
    }

    async fn write(&mut self, entry: &Entry, code: Option<&str>) -> Result<(), Error> {
        self.journal.update(self.lock.connection(), entry, code).await
    }

    async fn step(&mut self, placed: &Placed, number: usize) -> Result<(), Error> {
        let at = at(placed, number);
        match &placed.step {
            Step::Connect { database, user } => {
                let database = database.clone().unwrap_or_else(|| self.session.database.clone());
                let user = user.clone().or_else(|| self.session.named.clone());
                self.session =
                    Session::open(self.to, &database, user.as_deref(), self.limits.statement).await?;
                Ok(())
            }
            Step::Execute { sql, rows } => {
                if placed.secret {
                    self.session.hush().await?;
                }
                self.session.run(at, sql, rows.as_deref().map(str::as_bytes)).await
            }
            // Inside of a transaction of the script's own.
            Step::Generate { sql } => {
                for text in self.answers(at, sql).await? {
                    self.session.run(at, &text, None).await?;
                }
                Ok(())
            }
            Step::CopyFrom { sql, path } => {
                let written = self.exported.get(path).cloned();
                let rows = written.as_deref().or_else(|| self.sources.get(path)).unwrap_or_default();
                self.session.run(at, sql, Some(rows)).await
            }
            Step::CopyTo { sql, path } => {
                let left =
                    EXPORTED - self.exported.values().map(|bytes| bytes.len()).sum::<usize>().min(EXPORTED);
                let bytes = self.session.copy_out(at, sql, left).await?;
                self.exported.insert(path.clone(), bytes.into());
                Ok(())
            }
            Step::Echo(text) => {
                tracing::info!("{}:{}: {text}", placed.file, placed.line);
                Ok(())
            }
        }
    }
}

fn at(placed: &Placed, number: usize) -> At<'_> {
    At { file: &placed.file, line: placed.line, number, secret: placed.secret }
}

fn in_transaction(placed: &Placed, class: Option<&Class>) -> bool {
    matches!(placed.step, Step::Execute { .. } | Step::CopyFrom { .. })
        && class.is_some_and(|class| class.alone.is_none())
}
