//! Looks, and only looks.

use chassis::converge::{Fault, Reconcile};
use futures_util::stream::{self, StreamExt};
use postgres::{ErrorKind, REGISTRY, Session};
use serde::de::DeserializeOwned;
use sqlx::AssertSqlSafe;
use std::collections::BTreeMap;
use tokio::time::Instant;

use super::facts::{Blind, HbaRule, Inside, Record, Registry, Shared, World};
use super::passwords::Verifiers;
use super::questions::{self, HBA, INSIDE, READS_HBA, RECORDS, VERIFIERS};
use super::{Error, PostgresTarget, TRIES, delegated, registry};
use crate::plan;
use crate::spec::{DatabaseSpec, Rights, ServerSpec};

/// How many sessions that are only for one question each are there at once: to look into a database, to try a login.
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
        // One snapshot: a thing and its record, made in one transaction, are seen together or not at all.
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let mut world = World::default();
        let (shared, state, identifies) = shared(spec, session).await?;
        world.shared = shared;
        if session.place().database == REGISTRY {
            world.registry = state;
        }
        let recorded = match world.registry {
            Registry::Ready | Registry::Open => true,
            // Its table may be there without the rest.
            Registry::Unfinished => registry::has_records(session).await?,
            Registry::Missing | Registry::Foreign(_) => false,
        };
        let whole = matches!(world.registry, Registry::Ready | Registry::Open);
        let rest = Rest { recorded, delegated: whole, identifies, verifiers: world.shared.reads_verifiers };
        let (records, delegated, system_identifier, verifiers) = rest.ask(spec, session).await?;
        (world.records, world.delegated, world.shared.system_identifier) =
            (plan::follow(spec, records, system_identifier.as_ref()), delegated, system_identifier);
        if recorded && !whole {
            world.delegated = delegated::namespaces(spec, session).await?;
        }
        session.execute("COMMIT").await?;
        if world.shared.recovering {
            let place = session.place();
            return Err(
                postgres::Error::new(ErrorKind::Recovering, place, "the server is in recovery").into()
            );
        }
        world.passwords = self.passwords(spec, &world, verifiers).await?;
        if depth == Depth::Inside {
            let wanted: Vec<DatabaseSpec> = spec
                .databases
                .iter()
                .filter(|database| plan::needs_look(spec, database, &world))
                .cloned()
                .collect();
            let shared = &world;
            let looks = stream::iter(wanted).map(|database| async move {
                let seen = self.look_into(spec, &database, shared).await;
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

    async fn look_into(
        &self,
        spec: &ServerSpec,
        database: &DatabaseSpec,
        world: &World,
    ) -> Result<Inside, Error> {
        let _turn = self.turns.acquire().await;
        let mut session = self.open(spec, &database.name).await?;
        let (connection, within) = session.parts();
        let (makers, grants) = (plan::makers(database, world), database.grants());
        let grantees: Vec<&str> = grants.iter().map(|(grantee, _)| grantee.as_str()).collect();
        let query = sqlx::query_scalar::<_, String>(INSIDE)
            .bind(database.schemas.keys().collect::<Vec<_>>())
            .bind(makers)
            .bind(wanted_rights(&grants))
            .bind(&database.owner)
            .bind(grantees);
        let inside = within.judge(query.fetch_one(connection)).await?;
        session.close().await;
        parse("the inside of a database", &inside)
    }
}

/// What all databases share, how database `rollcall` stands as seen from inside it, and whether the cluster's identifier may be read.
async fn shared(spec: &ServerSpec, session: &mut Session) -> Result<(Shared, Registry, bool), Error> {
    let mut databases = vec![REGISTRY.to_owned()];
    databases.extend(spec.databases.iter().map(|database| database.name.clone()));
    let mut roles = names(spec);
    roles.extend(spec.databases.iter().flat_map(|database| database.connect_also.iter().cloned()));
    roles.extend(spec.roles.iter().flat_map(|role| role.reads.iter().map(|read| read.group.clone())));
    let extensions = spec.databases.iter().flat_map(|database| &database.extensions);
    let extensions: Vec<String> = extensions.map(|extension| extension.name.clone()).collect();
    let settings: Vec<String> = spec.settings().into_iter().collect();
    let reaches = spec.reaches();
    let (connection, within) = session.parts();
    let question = questions::shared(connection.server_version_num().unwrap_or_default());
    // Nothing of database `rollcall` is read before it is known to be ours: what is somebody else's may be made to be read.
    let question = format!(
        "SELECT ({question}), s.*, has_function_privilege('pg_control_system()', 'EXECUTE') FROM ({}) AS s(why, complete, closed)",
        registry::STATE
    );
    let query = sqlx::query_as::<_, (String, Option<String>, bool, bool, bool)>(AssertSqlSafe(question))
        .bind(databases)
        .bind(roles)
        .bind(extensions)
        .bind(settings)
        .bind(reaches);
    let (seen, why, complete, closed, identifies) = within.judge(query.fetch_one(connection)).await?;
    let mut shared: Shared = parse("itself", &seen)?;
    if let Some(reach) = &mut shared.reach {
        reach.hba = hba(session).await?;
    }
    Ok((shared, registry::stands(why, complete, closed), identifies))
}

/// The lines of `pg_hba.conf` about replication, where they may be read: mostly only superusers may.
async fn hba(session: &mut Session) -> Result<Option<Vec<HbaRule>>, Error> {
    let (connection, within) = session.parts();
    if !within.judge(sqlx::query_scalar::<_, bool>(READS_HBA).fetch_one(connection)).await? {
        return Ok(None);
    }
    let (connection, within) = session.parts();
    let rules = within.judge(sqlx::query_scalar::<_, String>(HBA).fetch_one(connection)).await?;
    parse("pg_hba.conf", &rules).map(Some)
}

/// The roles that are to be made.
fn names(spec: &ServerSpec) -> Vec<String> {
    let observer = spec.observer.iter().map(|observer| observer.role.as_str());
    let of_databases = spec.databases.iter().flat_map(DatabaseSpec::roles);
    let readers = spec.roles.iter().map(|role| role.login.role.as_str());
    observer.chain(of_databases).chain(readers).map(str::to_owned).collect()
}

/// Wanted rights as the questions take them.
pub(super) fn wanted_rights(grants: &[(String, &'static Rights)]) -> String {
    let rights = plan::each_right(grants).into_iter().map(|(grantee, kind, privilege)| {
        serde_json::json!({"grantee": grantee, "kind": kind, "privilege": privilege})
    });
    serde_json::Value::Array(rights.collect()).to_string()
}

/// What identifies the cluster; managed services may keep it to themselves.
pub(super) async fn system_identifier(session: &mut Session) -> Result<Option<String>, Error> {
    let (connection, within) = session.parts();
    let query = sqlx::query_scalar("SELECT system_identifier::text FROM pg_control_system()");
    match within.judge(query.fetch_one(connection)).await {
        Ok(identifier) => Ok(Some(identifier)),
        Err(error) if error.kind == ErrorKind::Denied => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is asked once it is known that it may be.
#[allow(clippy::struct_excessive_bools, reason = "each is a question that is asked or not")]
struct Rest {
    /// The records.
    recorded: bool,
    /// The fragments that asked for what they declare.
    delegated: bool,
    /// The cluster's identifier.
    identifies: bool,
    /// The verifiers of the roles that log in.
    verifiers: bool,
}

impl Rest {
    async fn ask(
        self,
        spec: &ServerSpec,
        session: &mut Session,
    ) -> Result<(Vec<Record>, BTreeMap<String, String>, Option<String>, Verifiers), Error> {
        let (databases, mut roles, mut logins) = (spec.databases.iter(), names(spec), Vec::new());
        roles.extend(spec.roles.iter().flat_map(|role| role.reads.iter().map(|read| read.group.clone())));
        logins.extend(spec.logins().into_iter().map(|(login, _)| login.role));
        let components: Vec<String> =
            PostgresTarget::components(spec).iter().map(ToString::to_string).collect();
        let asked = |whether: bool, question: &'static str| if whether { question } else { "NULL" };
        let question = format!(
            "WITH asked AS (SELECT $1::text[], $2::text[], $3::bool, $4::text[], $5::text, $6::text[], $7::text[], $8::text[], $9::text[]) SELECT ({}), ({}), ({}), ({})",
            asked(self.recorded, RECORDS),
            asked(self.delegated, delegated::AGREED),
            asked(self.identifies, "SELECT system_identifier::text FROM pg_control_system()"),
            asked(self.verifiers, VERIFIERS),
        );
        let (connection, within) = session.parts();
        let query = sqlx::query_as::<_, (Option<String>, Option<String>, Option<String>, Option<String>)>(
            AssertSqlSafe(question),
        )
        .bind(databases.map(|database| database.name.clone()).collect::<Vec<_>>())
        .bind(roles)
        .bind(spec.reaches())
        .bind(logins)
        .bind(spec.environment.uid.to_string())
        .bind(spec.given.fragments.iter().collect::<Vec<_>>())
        .bind(components)
        .bind(spec.given.databases.keys().collect::<Vec<_>>())
        .bind(spec.given.roles.keys().collect::<Vec<_>>());
        let (records, delegated, identifier, verifiers) = within.judge(query.fetch_one(connection)).await?;
        let records = records.map(|text| parse("ownership", &text)).transpose()?;
        let verifiers = verifiers.map(|text| parse("passwords", &text)).transpose()?;
        let delegated = delegated.map(|text| parse("delegation", &text)).transpose()?;
        Ok((
            records.unwrap_or_default(),
            delegated.unwrap_or_default(),
            identifier,
            verifiers.unwrap_or_default(),
        ))
    }
}

pub(super) fn parse<T: DeserializeOwned>(what: &'static str, json: &str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|error| Error::Facts { what, said: error.to_string() })
}
