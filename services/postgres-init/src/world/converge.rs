//! Converges one class of an adopted database: looks, says what it would do and whom it would cut off, does it without ever
//! standing in front of live traffic.

use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::converge::Reconcile;
use postgres::Session;
use tokio::time::Instant;

use super::crossing::{CLIENTS, CROSSING, HELD};
use super::facts::World;
use super::look::parse;
use super::{Error, PostgresTarget, registry};
use crate::adopt::moves::{Held, Move, moves};
use crate::adopt::{Class, Crossing, Cut, Leave, cut, is_held, records};
use crate::ident::{Ident, Literal};
use crate::plan::{Step, plan};
use crate::spec::{DatabaseSpec, ServerSpec};

/// How long a statement waits for a lock. While it waits, whoever comes after it waits too.
const LOCK: &str = "200ms";
/// How long all statements of a run are tried again in all, when others hold what they need.
const BUDGET: Duration = Duration::from_mins(5);
/// What the server says of a thing that is not there: undefined table, function, object, schema.
const GONE: [&str; 4] = ["42P01", "42883", "42704", "3F000"];
/// How often a class is looked at again: live sessions may make new things meanwhile.
const ROUNDS: usize = 5;

/// What converging a class of a database comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Converging {
    /// Statements that come before the steps.
    pub first: Vec<Move>,
    /// Steps as `apply` makes them.
    pub steps: Vec<Step>,
    /// Statements that come after the steps.
    pub then: Vec<Move>,
    /// Whom it cuts off, and what it leaves.
    pub said: Vec<String>,
    /// Why it is not done.
    pub refused: Vec<String>,
    /// Why it cannot be decided.
    pub pending: Vec<String>,
    /// The class is converged and recorded as such, or the database was never adopted: nothing is left to do.
    pub settled: bool,
}

impl Converging {
    /// Whether it may be done: nothing is refused, and nothing undecided.
    pub fn is_decided(&self) -> bool {
        self.refused.is_empty() && self.pending.is_empty()
    }

    /// Whether nothing but the record is left to write.
    fn is_done(&self) -> bool {
        self.first.is_empty() && self.steps.is_empty() && self.then.is_empty()
    }
}

/// A role of a server, as a client of some of its databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name.
    pub role: String,
    /// It is connected to one of them.
    pub connected: bool,
    /// It could be, and is no superuser.
    pub may: bool,
}

impl PostgresTarget {
    /// Every role of the server, as a client of these databases; who is connected comes first.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn clients(&self, spec: &ServerSpec, databases: Vec<String>) -> Result<Vec<Client>, Error> {
        let mut session = self.open(spec, "postgres").await?;
        let rows: Vec<(String, bool, bool)> = {
            let (connection, within) = session.parts();
            within.judge(sqlx::query_as(CLIENTS).bind(databases).fetch_all(connection)).await?
        };
        session.close().await;
        Ok(rows.into_iter().map(|(role, connected, may)| Client { role, connected, may }).collect())
    }

    /// What converging a class of a database would do; only looks.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub async fn converging(
        &self,
        spec: &ServerSpec,
        database: &DatabaseSpec,
        class: Class,
        leave: &Leave,
    ) -> Result<Converging, Error> {
        let spec = ServerSpec { converging: Some(class), ..spec.only(&database.component) };
        let world = self.observe(&spec).await?;
        let plan = plan(&spec, &world);
        let own = |notes: Vec<chassis::converge::Note>| -> Vec<String> {
            let own = notes.into_iter().filter(|note| note.component == database.component);
            own.map(|note| note.text).collect()
        };
        let mut found = Converging {
            steps: plan.steps.into_iter().filter(|step| step.component == database.component).collect(),
            refused: own(plan.refusals),
            pending: own(plan.pending),
            ..Converging::default()
        };
        if !found.is_decided() {
            return Ok(found);
        }
        let adopted = records(database, &world).any(|record| record.adopted.is_some());
        let holds = |class| records(database, &world).any(|record| record.holds(class));
        if class == Class::Ownership && adopted && !holds(class) {
            // Sessions from before may have made things since.
            let mut again = Converging::default();
            self.ownership(&spec, database, &world, &mut again).await?;
            if !again.then.is_empty() {
                return Ok(again);
            }
        }
        if !holds(class) || !is_held(database, &world) {
            let why = if adopted {
                format!("{class} is converged")
            } else if world.database_record(&database.name).is_some() {
                "Rollcall made it, so `apply` keeps it as it should be".to_owned()
            } else {
                "it is not adopted: `record` comes first, or `apply` makes it".to_owned()
            };
            return Ok(Converging { said: vec![why], settled: true, ..Converging::default() });
        }
        if class == Class::Grants && holds(Class::Ownership) {
            found.refused.push(
                "sessions to come would act as an owner that does not own everything yet: converge ownership first"
                    .to_owned(),
            );
            return Ok(found);
        }
        if class == Class::PublicConnect
            && let Some(owner) = world.database(&database.name).map(|facts| &facts.owner)
            && *owner != database.owner
            && (database.roles().contains(&owner.as_str()) || database.connect_also.contains(owner))
        {
            found.refused.push(format!(
                "it belongs to role `{owner}`, which connects because it owns it and cannot be let in by name before that changes: \
                 converge ownership first"
            ));
            return Ok(found);
        }
        let crossing = self.crossing(&spec, database).await?;
        let Cut { said, refused } = cut(class, database, &world, &found.steps, &crossing, leave);
        found.said.extend(said);
        found.refused.extend(refused);
        match class {
            Class::Ownership => self.ownership(&spec, database, &world, &mut found).await?,
            Class::PublicConnect => {
                for role in crossing.strangers.intersection(&leave.connect_also) {
                    found.first.push(Move {
                        what: format!("let role `{role}` connect to database `{}`", database.name),
                        sql: format!(
                            "GRANT CONNECT ON DATABASE {} TO {}",
                            Ident::new(&database.name)?,
                            Ident::new(role)?
                        ),
                        always: false,
                    });
                }
            }
            Class::Attributes | Class::Grants => {}
        }
        Ok(found)
    }

    async fn ownership(
        &self,
        spec: &ServerSpec,
        database: &DatabaseSpec,
        world: &World,
        found: &mut Converging,
    ) -> Result<(), Error> {
        let mut inside = self.open(spec, &database.name).await?;
        let asked = sqlx::query_scalar::<_, String>(HELD)
            .bind(&database.owner)
            .bind(&database.app.role)
            .bind(logins(database));
        let held: Held = {
            let (connection, within) = inside.parts();
            parse("who owns what", &within.judge(asked.fetch_one(connection)).await?)?
        };
        inside.close().await;
        let belongs_to = world.database(&database.name).map_or("", |facts| facts.owner.as_str());
        let is_member =
            |role: &String| world.role(role).is_some_and(|role| role.member_of.contains(&database.owner));
        let members = logins(database).into_iter().filter(is_member).collect();
        let mut all = moves(database, belongs_to, &members, world.shared.version, &held)?;
        // A superuser gives the database away last, for whoever comes back still sees who had it; whoever is none needs what
        // comes with it for the rest.
        if world.shared.superuser {
            all.sort_by_key(|one| one.sql.starts_with("ALTER DATABASE"));
        }
        found.then = all;
        found.said.extend(held.others.iter().map(|other| format!("left to its owner: {other}")));
        Ok(())
    }

    async fn crossing(&self, spec: &ServerSpec, database: &DatabaseSpec) -> Result<Crossing, Error> {
        let mut session = self.open(spec, "postgres").await?;
        let asked = sqlx::query_scalar::<_, String>(CROSSING)
            .bind(&database.name)
            .bind(&database.app.role)
            .bind(&database.owner)
            .bind(database.roles().into_iter().map(str::to_owned).collect::<Vec<_>>());
        let crossing = {
            let (connection, within) = session.parts();
            parse("who is connected", &within.judge(asked.fetch_one(connection)).await?)?
        };
        session.close().await;
        Ok(crossing)
    }

    /// Converges a class of a database, and records that. What a stop or an error leaves is found and done by the next run.
    ///
    /// # Errors
    /// It is refused; or others held what it needed for all of its budget, which is worth trying again.
    pub async fn converge_class(
        &self,
        spec: &ServerSpec,
        database: &DatabaseSpec,
        class: Class,
        leave: &Leave,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + BUDGET;
        let making = ServerSpec { converging: Some(class), ..spec.only(&database.component) };
        for _ in 0..ROUNDS {
            let found = self.converging(spec, database, class, leave).await?;
            if let Some(text) = found.refused.first() {
                return Err(Error::Refused(text.clone()));
            }
            if let Some(text) = found.pending.first() {
                return Err(Error::Pending(text.clone()));
            }
            if found.settled {
                return Ok(());
            }
            if found.is_done() {
                return self.converged(spec, database, class).await;
            }
            self.carry_out(spec, database, class, leave, |found| found.first, deadline).await?;
            for step in &found.steps {
                self.apply(&making, step).await?;
            }
            self.carry_out(spec, database, class, leave, |found| found.then, deadline).await?;
        }
        Err(Error::Pending(format!(
            "what belongs to {} changed all the while {class} was converged; run it again",
            database.component
        )))
    }

    /// Runs statements inside a database, each by itself: those that are decided on once its lock is held.
    async fn carry_out(
        &self,
        spec: &ServerSpec,
        database: &DatabaseSpec,
        class: Class,
        leave: &Leave,
        which: fn(Converging) -> Vec<Move>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let key = registry::Key::Database(&database.name);
        let mut locked = self.registry(spec).await?;
        registry::lock(&mut locked, key).await?;
        let found = self.converging(spec, database, class, leave).await?;
        let moves = if found.is_decided() { which(found) } else { Vec::new() };
        if !moves.is_empty() {
            let mut inside = self.open(spec, &database.name).await?;
            // Who is served in the same place must not wait because a setting went to another session.
            Box::pin(self.prove(spec, &mut inside)).await?;
            inside.execute(format!("SET lock_timeout = '{LOCK}'")).await?;
            let carried = each(&mut inside, &moves, deadline).await;
            inside.close().await;
            carried?;
        }
        registry::unlock(&mut locked, key).await?;
        self.keep(locked);
        Ok(())
    }

    async fn converged(&self, spec: &ServerSpec, database: &DatabaseSpec, class: Class) -> Result<(), Error> {
        let mut session = self.registry(spec).await?;
        let class = Literal::new(class.name())?;
        session
            .execute(format!(
                "UPDATE rollcall.owned SET converged = array_append(converged, {class}) WHERE environment_uid = {} AND component = {} \
                 AND fragment = {} AND adopted_at IS NOT NULL AND {class} <> ALL (converged)",
                Literal::new(&spec.environment.uid.to_string())?,
                Literal::new(&database.component.to_string())?,
                Literal::new(&database.fragment)?,
            ))
            .await?;
        self.keep(session);
        Ok(())
    }
}

/// Every role that logs in to make or use what is in a database.
fn logins(database: &DatabaseSpec) -> Vec<String> {
    database.accounts().into_iter().map(|account| account.login.role).collect()
}

/// Carries out moves in order. Where one fails, what undoes an earlier one is still done.
async fn each(inside: &mut Session, moves: &[Move], deadline: Instant) -> Result<(), Error> {
    for (place, one) in moves.iter().enumerate() {
        if let Err(error) = patiently(inside, one, deadline).await {
            for last in moves[place + 1..].iter().filter(|one| one.always) {
                // What went wrong first is what is told; what stays is seen by an audit.
                let _ = patiently(inside, last, deadline).await;
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Tries a statement until nobody is in its way, with a pause in which all who queued behind it go first.
async fn patiently(session: &mut Session, one: &Move, deadline: Instant) -> Result<(), Error> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    loop {
        match session.execute(one.sql.clone()).await {
            Err(error) if error.kind == postgres::ErrorKind::Concurrent && Instant::now() < deadline => {
                tracing::info!("{}: others use it, tried again in a moment", one.what);
                tokio::time::sleep(backoff.next_delay()).await;
            }
            // Dropped since it was seen; the next round looks again.
            Err(error) if GONE.contains(&error.code()) => return Ok(()),
            Err(error) if error.kind == postgres::ErrorKind::Concurrent => {
                return Err(Error::Busy { what: one.what.clone(), said: error.said });
            }
            other => return Ok(other?),
        }
    }
}
