//! Makes one step of a teardown. The caller holds the lock and has decided.

use std::time::Duration;

use chassis::backoff::Backoff;
use postgres::{REGISTRY, Session};
use tokio::time::Instant;

use crate::ident::{Ident, Literal};
use crate::plan::teardown::Change;
use crate::spec::ServerSpec;
use crate::world::{Error, PostgresTarget, delegated};

/// How long dropping a database may take: its files go, after a checkpoint of the whole server.
const DROP: Duration = Duration::from_mins(10);
/// How long sessions that were told to end may take.
const END: Duration = Duration::from_secs(20);

impl PostgresTarget {
    pub(super) async fn change_down(
        &self,
        spec: &ServerSpec,
        session: &mut Session,
        step: &Change,
    ) -> Result<(), Error> {
        let uid = Literal::new(&spec.environment.uid.to_string())?.to_string();
        // A record that is not this environment's is never touched, whatever was decided.
        let record = |kind: &str, name: &str| -> Result<String, Error> {
            Ok(format!("{kind} AND name = {} AND environment_uid = {uid}", Literal::new(name)?))
        };
        let (database, role) = ("kind = 'database'", "kind <> 'database'");
        let withdraw = delegated::withdraw(&uid);
        let sql = match step {
            Change::Close { name, oid } => format!(
                "UPDATE rollcall.owned SET leaving_since = coalesce(leaving_since, now()) WHERE {} AND oid = {oid}; \
                 ALTER DATABASE {} ALLOW_CONNECTIONS false",
                record(database, name)?,
                Ident::new(name)?
            ),
            Change::End { name, borrow, .. } => return end(spec, session, name, borrow).await,
            Change::DropDatabase { name, oid } => {
                // Where a drop by somebody else was cut off, nothing was closed.
                let mark = format!(
                    "UPDATE rollcall.owned SET leaving_since = coalesce(leaving_since, now()) WHERE {} AND oid = {oid}",
                    record(database, name)?
                );
                session.execute(mark).await?;
                return self.drop_database(spec, name, *oid).await;
            }
            Change::ForgetDatabase { name } => {
                format!("DELETE FROM rollcall.owned WHERE {}; {withdraw}", record(database, name)?)
            }
            Change::Reopen { name, oid } => format!(
                "ALTER DATABASE {} ALLOW_CONNECTIONS true; UPDATE rollcall.owned SET leaving_since = NULL WHERE {} AND oid = {oid}",
                Ident::new(name)?,
                record(database, name)?
            ),
            // One transaction: a role and its record go together.
            Change::DropRole { name, .. } => {
                format!(
                    "DROP ROLE {}; DELETE FROM rollcall.owned WHERE {}; {withdraw}",
                    Ident::new(name)?,
                    record(role, name)?
                )
            }
            Change::ForgetRole { name } => {
                format!("DELETE FROM rollcall.owned WHERE {}; {withdraw}", record(role, name)?)
            }
            Change::DropObserver { name, .. } => format!(
                "REVOKE ALL ON DATABASE {REGISTRY} FROM {0}; DROP ROLE {0}; DELETE FROM rollcall.owned WHERE {1}",
                Ident::new(name)?,
                record(role, name)?
            ),
        };
        Ok(session.execute(sql).await?)
    }

    /// A session of its own, for it may take long; the lock is held by the other one.
    async fn drop_database(&self, spec: &ServerSpec, name: &str, oid: i64) -> Result<(), Error> {
        let mut session = self.open(spec, REGISTRY).await?.within(DROP + Duration::from_secs(5));
        session.execute(format!("SET statement_timeout = '{}s'", DROP.as_secs())).await?;
        let found: Option<i64> = {
            let (connection, within) = session.parts();
            let asked = sqlx::query_scalar("SELECT oid::int8 FROM pg_database WHERE datname = $1").bind(name);
            within.judge(asked.fetch_optional(connection)).await?
        };
        let dropped = match found {
            None => Ok(()),
            // Never WITH (FORCE): it would end sessions that nobody has looked at.
            Some(found) if found == oid => {
                session.execute(format!("DROP DATABASE {}", Ident::new(name)?)).await
            }
            Some(_) => {
                return Err(Error::Refused(format!(
                    "database `{name}` became another one at this very moment and was not dropped; run this again, which looks at it anew"
                )));
            }
        };
        session.close().await;
        Ok(dropped?)
    }
}

/// Ends the sessions in a database that nobody can enter any more, and waits until they are gone. Where that takes being a member of
/// a role of ours, it is one within a transaction that is never committed.
async fn end(spec: &ServerSpec, session: &mut Session, name: &str, borrow: &[String]) -> Result<(), Error> {
    let version: i32 = {
        let (connection, within) = session.parts();
        let asked = sqlx::query_scalar("SELECT current_setting('server_version_num')::int");
        within.judge(asked.fetch_one(connection)).await?
    };
    let options = if version < 160_000 { "" } else { " WITH INHERIT TRUE, SET FALSE" };
    session.execute("BEGIN").await?;
    let ended = async {
        for role in borrow {
            session.execute(format!("GRANT {} TO CURRENT_USER{options}", Ident::new(role)?)).await?;
        }
        ended(spec, session, name).await
    }
    .await;
    let left = session.execute("ROLLBACK").await;
    ended.and_then(|()| Ok(left?))
}

async fn ended(spec: &ServerSpec, session: &mut Session, name: &str) -> Result<(), Error> {
    let begun = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(200));
    loop {
        let left: i64 = {
            let (connection, within) = session.parts();
            let asked = sqlx::query_scalar(
                "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pg_stat_clear_snapshot()) fresh, pg_stat_activity \
                 WHERE datname = $1 AND pid <> pg_backend_pid() AND usesysid IS NOT NULL",
            );
            within.judge(asked.bind(name).fetch_one(connection)).await?
        };
        if left == 0 {
            return Ok(());
        }
        if begun.elapsed() > END {
            return Err(Error::Busy {
                what: format!("{}: ending the sessions in database `{name}`", spec.component),
                said: format!("{left} sessions have not ended"),
            });
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}
