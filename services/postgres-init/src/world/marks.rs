//! Writes our marks: adopts, records anew, gives back. Each under the lock of what it is about, after deciding again.

use postgres::{ErrorKind, REGISTRY, Session};
use sqlx::AssertSqlSafe;
use tracing::warn;

use super::change::optional;
use super::facts::{Kind, Record, Registry, World};
use super::look::{Depth, parse};
use super::{Error, PostgresTarget, delegated, registry};
use crate::adopt::{Decide, Mark, MarkStep, stored};
use crate::audit::facts::Recorded;
use crate::audit::marks::MARK;
use crate::audit::questions;
use crate::ident::{Ident, Literal};
use crate::spec::ServerSpec;

impl PostgresTarget {
    /// All ownership records of the server, whosever they are; none where database `rollcall` is not there.
    ///
    /// # Errors
    /// The server cannot be asked, or database `rollcall` is somebody else's.
    pub async fn records(&self, spec: &ServerSpec) -> Result<Vec<Recorded>, Error> {
        let mut session = match self.session(spec).await {
            Err(Error::Postgres(error)) if error.kind == ErrorKind::NoDatabase => return Ok(Vec::new()),
            other => other?,
        };
        if let Registry::Foreign(why) = registry::state(&mut session).await? {
            return Err(Error::Refused(format!("database `{REGISTRY}` is not Rollcall's own: {why}")));
        }
        let there = registry::has_records(&mut session).await?;
        let records = if there { all(&mut session).await? } else { Vec::new() };
        self.keep(session);
        Ok(records)
    }

    /// Changes one mark, where deciding again comes to the same.
    ///
    /// # Errors
    /// The server, or what was decided does not hold any more.
    pub async fn mark(&self, spec: &ServerSpec, step: &MarkStep, decide: Decide<'_>) -> Result<(), Error> {
        if step.mark == Mark::DropRegistry {
            return self.drop_registry(spec, step, decide).await;
        }
        let mut session = self.registry(spec).await?;
        let key = registry::Key::of(spec, &step.component);
        registry::lock(&mut session, key).await?;
        let world = self.look(spec, &mut session, Depth::Shared).await?;
        let records = all(&mut session).await?;
        let plan = decide(spec, &world, &records);
        if let Some(note) = plan.refusals.iter().find(|note| note.component == step.component) {
            return Err(Error::Refused(note.text.clone()));
        }
        if plan.steps.contains(step) {
            self.write(spec, &world, &mut session, step).await?;
        } else if !has(&world, &step.mark) {
            return Err(Error::Pending(format!(
                "somebody changed that meanwhile, so it was not done: {step}"
            )));
        }
        registry::unlock(&mut session, key).await?;
        self.keep(session);
        Ok(())
    }

    async fn write(
        &self,
        spec: &ServerSpec,
        world: &World,
        session: &mut Session,
        step: &MarkStep,
    ) -> Result<(), Error> {
        let uid = Literal::new(&spec.environment.uid.to_string())?.to_string();
        let cluster = optional(world.shared.system_identifier.as_deref())?;
        // What somebody renamed is recorded under the name it had.
        let one = |kind: Kind, name: &str| -> Result<String, Error> {
            let its = |record: &&Record| record.kind == kind && record.name == name;
            let before = world.records.iter().find(its).and_then(|record| record.renamed_from.as_deref());
            let (kind, name) = (Literal::new(stored(kind))?, Literal::new(before.unwrap_or(name))?);
            Ok(format!("kind = {kind} AND name = {name} AND environment_uid = {uid}"))
        };
        let sql = match &step.mark {
            Mark::Adopt { kind, name, fragment, oid } => format!(
                "INSERT INTO rollcall.owned (kind, name, environment_uid, environment_name, fragment, component, oid, \
                 system_identifier, login, adopted_at, finished_at) VALUES ({}, {}, {uid}, {}, {}, {}, {oid}, {cluster}, {}, now(), now()) \
                 ON CONFLICT (kind, name) DO NOTHING",
                Literal::new(stored(*kind))?,
                Literal::new(name)?,
                Literal::new(&spec.environment.name)?,
                Literal::new(fragment)?,
                Literal::new(&step.component.to_string())?,
                optional(
                    spec.database(&step.component)
                        .filter(|_| *kind == Kind::Database)
                        .map(|database| database.app.role.as_str())
                )?,
            ),
            // What it holds is another thing's; the next run looks. A table that an older version made gets its column when it is needed.
            Mark::Rebind { kind, name, fragment, oid } => format!(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'rollcall.owned'::regclass AND attname = 'found_at') \
                 THEN ALTER TABLE rollcall.owned ADD COLUMN IF NOT EXISTS found_at timestamptz; END IF; END $$; \
                 UPDATE rollcall.owned SET name = {}, oid = {oid}, system_identifier = {cluster}, fragment = {}, component = {}, \
                 spec_hash = NULL, leaving_since = NULL, found_at = CASE WHEN oid = {oid} AND coalesce(system_identifier = {cluster}, true) \
                 THEN found_at ELSE now() END WHERE {}",
                Literal::new(name)?,
                Literal::new(fragment)?,
                Literal::new(&step.component.to_string())?,
                one(*kind, name)?
            ),
            // Nothing is left of it that somebody uses as it was found.
            // Nobody uses what is gone, so its roles are as those of any database that is made anew.
            Mark::Forget { name } => format!(
                "DELETE FROM rollcall.owned WHERE {}; UPDATE rollcall.owned SET adopted_at = NULL, converged = '{{}}' \
                 WHERE environment_uid = {uid} AND component = {} AND adopted_at IS NOT NULL",
                one(Kind::Database, name)?,
                Literal::new(&step.component.to_string())?,
            ),
            Mark::Release { kind, name } => {
                let forget = format!(
                    "DELETE FROM rollcall.owned WHERE {}; {}",
                    one(*kind, name)?,
                    delegated::withdraw(&uid)
                );
                return uncomment(session, *kind, name, called(world, *kind, name), forget).await;
            }
            Mark::DropObserver { role, .. } => {
                let name = Ident::new(role)?;
                format!(
                    "REVOKE ALL ON DATABASE {REGISTRY} FROM {name}; DROP ROLE {name}; DELETE FROM rollcall.owned WHERE {}",
                    one(Kind::Observer, role)?
                )
            }
            Mark::DropRegistry => return Ok(()),
        };
        Ok(session.execute(sql).await?)
    }

    async fn drop_registry(
        &self,
        spec: &ServerSpec,
        step: &MarkStep,
        decide: Decide<'_>,
    ) -> Result<(), Error> {
        let mut session = self.session(spec).await?;
        registry::lock(&mut session, registry::Key::Server).await?;
        let (world, records) =
            (self.look(spec, &mut session, Depth::Shared).await?, all(&mut session).await?);
        let still = decide(spec, &world, &records).steps.contains(step) && records.is_empty();
        let runs: i64 = {
            let (connection, within) = session.parts();
            let asked = sqlx::query_scalar("SELECT count(*) FROM rollcall.ledger");
            within.judge(asked.fetch_one(connection)).await?
        };
        registry::unlock(&mut session, registry::Key::Server).await?;
        session.close().await;
        while let Some(idle) = self.idle() {
            idle.close().await;
        }
        if runs > 0 {
            return Err(Error::Refused(format!(
                "database `{REGISTRY}` stays: its ledger says what steps and migrations have done ({runs} runs), and without it they would run \
                 again; once no environment on this server needs that any more, drop it by hand"
            )));
        }
        if !still {
            return Err(Error::Refused(format!(
                "database `{REGISTRY}` stays: somebody recorded something there meanwhile"
            )));
        }
        let mut session = self.open(spec, "postgres").await?;
        session.execute(format!("DROP DATABASE {REGISTRY}")).await?;
        session.close().await;
        Ok(())
    }
}

/// Whether what was to be recorded as adopted is, which another run may have done.
fn has(world: &World, mark: &Mark) -> bool {
    let record = match mark {
        Mark::Adopt { kind: Kind::Database, name, .. } => world.database_record(name),
        Mark::Adopt { name, .. } => world.role_record(name),
        _ => return true,
    };
    record.is_some()
}

/// What is called by now what is recorded under a name.
fn called<'a>(world: &'a World, kind: Kind, name: &'a str) -> &'a str {
    let identifier = world.shared.system_identifier.as_ref();
    let recorded = |record: &&Record| {
        record.kind == kind && record.renamed_from.as_deref().unwrap_or(&record.name) == name
    };
    let record = world.records.iter().find(recorded);
    record.map_or(name, |record| record.renamed_to(identifier).unwrap_or(&record.name))
}

/// Takes away the record that has this name, and our comment on what is called `now`, where it still is ours to take.
async fn uncomment(
    session: &mut Session,
    kind: Kind,
    name: &str,
    now: &str,
    forget: String,
) -> Result<(), Error> {
    let (catalog, column, class) = match kind {
        Kind::Database => ("pg_database", "datname", "DATABASE"),
        Kind::Role | Kind::Observer => ("pg_authid", "rolname", "ROLE"),
    };
    let table = if class == "ROLE" { "pg_roles" } else { catalog };
    let commented: bool = {
        let (connection, within) = session.parts();
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {table} t JOIN rollcall.owned o ON o.oid = t.oid \
             WHERE t.{column} = $1 AND o.name = $2 AND o.kind = $3 AND starts_with(shobj_description(t.oid, '{catalog}'), $4))"
        );
        let asked = sqlx::query_scalar(AssertSqlSafe(sql)).bind(now).bind(name).bind(stored(kind)).bind(MARK);
        within.judge(asked.fetch_one(connection)).await?
    };
    if commented {
        let comment = format!("COMMENT ON {class} {} IS NULL; {forget}", Ident::new(now)?);
        match session.execute(comment).await {
            Ok(()) => return Ok(()),
            // A comment is only a hint.
            Err(error) if error.kind == ErrorKind::Denied => warn!("our comment on `{now}` stays: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(session.execute(forget).await?)
}

async fn all(session: &mut Session) -> Result<Vec<Recorded>, Error> {
    let (connection, within) = session.parts();
    let asked = sqlx::query_scalar::<_, String>(questions::RECORDS);
    parse("ownership", &within.judge(asked.fetch_one(connection)).await?)
}
