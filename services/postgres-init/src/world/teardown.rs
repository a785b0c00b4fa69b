//! Takes down: looks at what is this environment's on a server, and makes the steps of a teardown, each under the lock of what it
//! is about, after looking and deciding again.

mod change;
mod question;

use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::clock;
use chassis::converge::Fault;
use chassis::exit::chain;
use chassis::provision::Change as Made;
use postgres::{ErrorKind, REGISTRY, Session};
use tracing::{info, warn};

use super::facts::Registry;
use super::look::{parse, system_identifier};
use super::{Error, PostgresTarget, TRIES, history, registry};
use crate::plan::teardown::facts::Facts;
use crate::plan::teardown::{Change, Expect, Part, Wanted, plan};
use crate::spec::{DatabaseSpec, ServerSpec};

/// What became of one part.
#[derive(Debug)]
pub struct Ended {
    /// What was done.
    pub done: Vec<Change>,
    /// What was decided under the lock; none where that did not come about.
    pub part: Option<Part>,
    /// What went wrong.
    pub error: Option<Error>,
}

impl Ended {
    fn failed(error: Error) -> Self {
        Ended { done: Vec::new(), part: None, error: Some(error) }
    }
}

impl PostgresTarget {
    /// What is this environment's on the server, and what holds it; none where database `rollcall` is not there, so that nothing
    /// on the server can be this environment's.
    ///
    /// # Errors
    /// The server cannot be asked, or database `rollcall` is somebody else's.
    pub async fn belongings(&self, spec: &ServerSpec) -> Result<Option<Facts>, Error> {
        let mut session = match self.session(spec).await {
            Err(Error::Postgres(error)) if error.kind == ErrorKind::NoDatabase => return Ok(None),
            other => other?,
        };
        let state = registry::state(&mut session).await?;
        if let Registry::Foreign(why) = state {
            return Err(Error::Refused(format!("database `{REGISTRY}` is not Rollcall's own: {why}")));
        }
        if !registry::has_records(&mut session).await? {
            return Ok(None);
        }
        // It may hold records of which this release asks more than they say.
        if state == Registry::Unfinished {
            return Err(Error::Refused(format!(
                "database `{REGISTRY}` was not finished, or is an older release's: run `postgres-init apply` once, then this"
            )));
        }
        let facts = self.look_at(spec, &mut session).await?;
        self.keep(session);
        Ok(Some(facts))
    }

    async fn look_at(&self, spec: &ServerSpec, session: &mut Session) -> Result<Facts, Error> {
        let system_identifier = system_identifier(session).await?;
        let databases: Vec<String> = spec.databases.iter().map(|database| database.name.clone()).collect();
        let readers = spec.roles.iter().map(|role| role.login.role.clone());
        let roles: Vec<String> =
            spec.databases.iter().flat_map(DatabaseSpec::roles).map(str::to_owned).chain(readers).collect();
        let (connection, within) = session.parts();
        let asked = sqlx::query_scalar::<_, String>(question::QUESTION)
            .bind(spec.environment.uid.to_string())
            .bind(databases)
            .bind(roles)
            .bind(super::application(spec));
        let facts: Facts =
            parse("what is to be torn down", &within.judge(asked.fetch_one(connection)).await?)?;
        let runs = runs(session, spec).await?;
        if within_recovery(session).await? {
            let place = session.place();
            return Err(
                postgres::Error::new(ErrorKind::Recovering, place, "the server is in recovery").into()
            );
        }
        Ok(Facts { system_identifier, runs, ..facts })
    }

    /// Makes what is decided about this part under its lock. Where a database cannot go although it was closed for that, it is
    /// opened again.
    pub async fn take_down(&self, wanted: Wanted<'_>, part: &Part) -> Ended {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let mut done = Vec::new();
        for _ in 1..TRIES {
            let ended = self.try_down(wanted, part).await;
            done.extend(ended.done);
            match ended.error {
                Some(error) if error.is_race() => tokio::time::sleep(backoff.next_delay()).await,
                error => return Ended { done, part: ended.part, error },
            }
        }
        let ended = self.try_down(wanted, part).await;
        done.extend(ended.done);
        Ended { done, ..ended }
    }

    async fn try_down(&self, wanted: Wanted<'_>, part: &Part) -> Ended {
        let mut session = match self.registry(wanted.spec).await {
            Ok(session) => session,
            Err(error) => return Ended::failed(error),
        };
        let key = match &part.database {
            Some(name) => registry::Key::Database(name),
            None => registry::Key::of(wanted.spec, &part.component),
        };
        if let Err(error) = registry::lock(&mut session, key).await {
            return Ended::failed(error);
        }
        let mut ended = self.down_held(wanted, part, &mut session).await;
        let answered = ended.error.as_ref().is_none_or(Error::is_an_answer);
        if answered {
            match registry::unlock(&mut session, key).await {
                Ok(()) => self.keep(session),
                // What went wrong first is what is told.
                Err(error) if ended.error.is_none() => ended.error = Some(error),
                Err(_) => {}
            }
        }
        ended
    }

    async fn down_held(&self, wanted: Wanted<'_>, part: &Part, session: &mut Session) -> Ended {
        let mut done = Vec::new();
        let mut decided = None;
        let result: Result<(), Error> = async {
            // Each step is decided by a look of its own: a slot may have come since the last.
            while let Some((now, step)) = self.next(wanted, part, session, &mut decided).await? {
                let made = self.change_down(wanted.spec, session, &step).await;
                let change = Made {
                    time: clock::now(),
                    component: now.component.clone(),
                    step: step.to_string(),
                    error: made.as_ref().err().map(|error| chain(error)),
                    code: made.as_ref().err().map(Fault::code).unwrap_or_default(),
                    source: self.source.clone(),
                };
                self.tell(session, wanted.spec, change).await;
                made?;
                info!(component = %now.component, "done: {step}");
                done.push(step);
                if done.len() > STEPS {
                    return Err(Error::Busy {
                        what: format!("{}: somebody undoes what is done", now.component),
                        said: "it was looked at again and again".to_owned(),
                    });
                }
            }
            Ok(())
        }
        .await;
        let closed = done.iter().find_map(|step| match step {
            Change::Close { name, oid } => Some((name.clone(), *oid)),
            _ => None,
        });
        let refused = decided.as_ref().is_some_and(|part: &Part| !part.refused.is_empty());
        let in_vain = refused || result.as_ref().is_err_and(|error| !error.is_transient());
        // Whoever used it goes on.
        if let Some((name, oid)) = closed.filter(|_| in_vain) {
            let again = Change::Reopen { name, oid };
            if self.change_down(wanted.spec, session, &again).await.is_ok() {
                let change = Made {
                    time: clock::now(),
                    component: part.component.clone(),
                    step: again.to_string(),
                    error: None,
                    code: String::new(),
                    source: self.source.clone(),
                };
                self.tell(session, wanted.spec, change).await;
                done.push(again);
            }
        }
        Ended { done, part: decided, error: result.err() }
    }

    /// Writes a change down at once: who drops a database may be gone before the next.
    async fn tell(&self, session: &mut Session, spec: &ServerSpec, change: Made) {
        let component = change.component.clone();
        if let Err(error) = history::write(session, spec, &self.source, &[change]).await {
            warn!("what was done is not in the history of {component}: {}", chain(&error));
        }
    }

    /// What comes next of this part, as it is decided now; none where nothing is left to do or it is refused.
    async fn next(
        &self,
        wanted: Wanted<'_>,
        part: &Part,
        session: &mut Session,
        decided: &mut Option<Part>,
    ) -> Result<Option<(Part, Change)>, Error> {
        let facts = self.look_at(wanted.spec, session).await?;
        let now = plan(wanted, &facts, Expect::Nothing).into_iter().find(|now| now.is(part));
        // When nothing is left of a part, what was last said of it stays said.
        if let Some(now) = &now
            && (decided.is_none() || !now.refused.is_empty() || !now.retained.is_empty())
        {
            *decided = Some(now.clone());
        }
        Ok(now.and_then(|now| {
            let step = now.steps.first().cloned()?;
            Some((now, step))
        }))
    }
}

/// How many runs of this environment the ledger holds; a server on which nothing was applied since there is one has none.
async fn runs(session: &mut Session, spec: &ServerSpec) -> Result<i64, Error> {
    let there: bool = {
        let (connection, within) = session.parts();
        let asked = sqlx::query_scalar("SELECT to_regclass('rollcall.ledger') IS NOT NULL");
        within.judge(asked.fetch_one(connection)).await?
    };
    if !there {
        return Ok(0);
    }
    let (connection, within) = session.parts();
    let asked =
        sqlx::query_scalar("SELECT count(*) FROM rollcall.ledger WHERE environment_uid = $1::text::uuid")
            .bind(spec.environment.uid.to_string());
    Ok(within.judge(asked.fetch_one(connection)).await?)
}

/// A component has fewer roles than this.
const STEPS: usize = 1_000;

async fn within_recovery(session: &mut Session) -> Result<bool, Error> {
    let (connection, within) = session.parts();
    Ok(within.judge(sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(connection)).await?)
}
