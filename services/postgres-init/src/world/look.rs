//! Looks, and only looks.

use chassis::converge::Fault;
use futures_util::stream::{self, StreamExt};
use postgres::{ErrorKind, REGISTRY, Session};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::facts::{Blind, Inside, Record, Registry, Shared, World};
use super::questions::{INSIDE, RECORDS, SHARED};
use super::{Error, PostgresTarget, TRIES, registry};
use crate::plan;
use crate::spec::{DatabaseSpec, ServerSpec};

/// How many databases are looked into at once.
pub(super) const AT_ONCE: usize = 8;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// At what all databases share.
    Shared,
    /// Into the databases too, where what they should hold can be seen nowhere else.
    Inside,
}

impl PostgresTarget {
    pub(super) async fn observe_all(&self, spec: &ServerSpec) -> Result<World, Error> {
        let begun = Instant::now();
        while let Some(mut session) = self.idle() {
            match self.look(spec, &mut session, Depth::Inside).await {
                // The server was started anew since; a new session will tell.
                Err(Error::Postgres(error)) if error.is_transient() => {}
                Err(error) => return Err(error),
                Ok(world) => {
                    self.keep(session);
                    return Ok(World { latency: begun.elapsed(), ..world });
                }
            }
        }
        let mut tries = 0..TRIES;
        loop {
            let mut session = match self.open(spec, REGISTRY).await {
                Err(Error::Postgres(error))
                    if matches!(error.kind, ErrorKind::NoDatabase | ErrorKind::Closed) =>
                {
                    self.open(spec, "postgres").await?
                }
                other => other?,
            };
            let world = self.look(spec, &mut session, Depth::Inside).await?;
            if session.place().database == REGISTRY {
                self.keep(session);
            } else {
                session.close().await;
                // Made meanwhile: what was seen may be recorded there as ours.
                if world.database(REGISTRY).is_some_and(|registry| registry.open) && tries.next().is_some() {
                    continue;
                }
            }
            return Ok(World { latency: begun.elapsed(), ..world });
        }
    }

    pub(super) async fn look(
        &self,
        spec: &ServerSpec,
        session: &mut Session,
        depth: Depth,
    ) -> Result<World, Error> {
        let system_identifier = system_identifier(session).await?;
        // One snapshot: a thing and its record, made in one transaction, are seen together or not at all.
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let mut world = World::default();
        if session.place().database == REGISTRY {
            world.registry = registry::state(session).await?;
        }
        world.shared = Shared { system_identifier, ..shared(spec, session).await? };
        if matches!(world.registry, Registry::Ready | Registry::Open) {
            world.records = records(spec, session).await?;
        }
        session.execute("COMMIT").await?;
        if world.shared.recovering {
            let place = session.place();
            return Err(
                postgres::Error::new(ErrorKind::Recovering, place, "the server is in recovery").into()
            );
        }
        world.passwords = self.passwords(spec, &world, session).await?;
        if depth == Depth::Inside {
            let wanted: Vec<DatabaseSpec> = spec
                .databases
                .iter()
                .filter(|database| plan::needs_look(spec, database, &world))
                .cloned()
                .collect();
            let looks = stream::iter(wanted).map(|database| async move {
                let seen = self.look_into(spec, &database).await;
                let blind = |error: Error| Blind {
                    why: chassis::exit::chain(&error),
                    transient: error.is_transient(),
                };
                (database.name, seen.map_err(blind))
            });
            world.inside = looks.buffer_unordered(AT_ONCE).collect().await;
        }
        Ok(world)
    }

    async fn look_into(&self, spec: &ServerSpec, database: &DatabaseSpec) -> Result<Inside, Error> {
        let mut session = self.open(spec, &database.name).await?;
        let (connection, within) = session.parts();
        let query = sqlx::query_scalar::<_, String>(INSIDE)
            .bind(&database.extensions)
            .bind(&database.owner)
            .bind(&database.app.role);
        let inside = within.judge(query.fetch_one(connection)).await?;
        session.close().await;
        parse("the inside of a database", &inside)
    }
}

async fn shared(spec: &ServerSpec, session: &mut Session) -> Result<Shared, Error> {
    let mut databases = vec![REGISTRY.to_owned()];
    let mut roles: Vec<String> = spec.observer.iter().map(|observer| observer.role.clone()).collect();
    let mut extensions = Vec::new();
    for database in &spec.databases {
        databases.push(database.name.clone());
        roles.extend([database.owner.clone(), database.app.role.clone()]);
        extensions.extend(database.extensions.iter().cloned());
    }
    let (connection, within) = session.parts();
    let query = sqlx::query_scalar::<_, String>(SHARED).bind(databases).bind(roles).bind(extensions);
    parse("itself", &within.judge(query.fetch_one(connection)).await?)
}

/// What identifies the cluster; managed services may keep it to themselves.
async fn system_identifier(session: &mut Session) -> Result<Option<String>, Error> {
    let (connection, within) = session.parts();
    let query = sqlx::query_scalar("SELECT system_identifier::text FROM pg_control_system()");
    match within.judge(query.fetch_one(connection)).await {
        Ok(identifier) => Ok(Some(identifier)),
        Err(error) if error.kind == ErrorKind::Denied => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn records(spec: &ServerSpec, session: &mut Session) -> Result<Vec<Record>, Error> {
    let databases: Vec<String> = spec.databases.iter().map(|database| database.name.clone()).collect();
    let mut roles: Vec<String> = spec.observer.iter().map(|observer| observer.role.clone()).collect();
    roles.extend(
        spec.databases.iter().flat_map(|database| [database.owner.clone(), database.app.role.clone()]),
    );
    let (connection, within) = session.parts();
    let query = sqlx::query_scalar::<_, String>(RECORDS).bind(databases).bind(roles);
    parse("ownership", &within.judge(query.fetch_one(connection)).await?)
}

fn parse<T: DeserializeOwned>(what: &'static str, json: &str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|error| Error::Facts { what, said: error.to_string() })
}
