//! Looks at a whole server for an audit, and only looks.

use std::collections::{BTreeMap, BTreeSet};

use chassis::SecretValue;
use futures_util::stream::{self, StreamExt};
use postgres::{ErrorKind, REGISTRY, Server, Session};

use super::facts::Registry;
use super::login::{ANSWER, not_admitted};
use super::look::{parse, system_identifier};
use super::{CONNECT, Error, PostgresTarget, registry};
use crate::audit::facts::{Facts, Inside, Recorded};
use crate::audit::questions;
use crate::spec::ServerSpec;

/// How many databases are looked into at once.
const AT_ONCE: usize = 4;
/// A read-only session whose names cannot be shadowed and whose statements end.
const BEGIN: &str = "SET default_transaction_read_only = on; SET lock_timeout = '5s'; SET statement_timeout = '60s'; \
     SET search_path = pg_catalog; SET standard_conforming_strings = on";

/// Who looks, and where.
#[derive(Debug, Clone)]
pub struct Access {
    /// The server.
    pub server: Server,
    /// The role.
    pub user: String,
    /// Its password; none where the server asks for none.
    pub password: Option<SecretValue>,
    /// The database that is entered first.
    pub database: String,
}

impl Access {
    async fn open(&self, database: &str) -> Result<Session, Error> {
        let password = self.password.as_ref();
        let name = "rollcall postgres-init/audit";
        let session = Session::open(&self.server, &self.user, password, database, name, CONNECT).await?;
        let mut session = session.within(ANSWER);
        session.execute(BEGIN).await?;
        Ok(session)
    }

    /// Looks at the server, and into each database that lets `user` in; `administrators` are known to be meant to administer it.
    ///
    /// # Errors
    /// The server cannot be reached or asked. What of it cannot be seen is no error, but part of what was seen.
    pub async fn look(&self, administrators: BTreeSet<String>) -> Result<Facts, Error> {
        let mut session = self.open(&self.database).await?;
        let system_identifier = system_identifier(&mut session).await?;
        let shared: crate::audit::facts::Shared =
            parse("itself", &ask(&mut session, questions::SHARED).await?.unwrap_or_default())?;
        let (verifiers, rules): (bool, bool) = {
            let (connection, within) = session.parts();
            within.judge(sqlx::query_as(questions::MAY_READ).fetch_one(connection)).await?
        };
        let verifiers = if verifiers { ask(&mut session, questions::VERIFIERS).await? } else { None };
        let rules = if rules { ask(&mut session, questions::RULES).await? } else { None };
        session.close().await;
        let mut facts = Facts {
            verifiers: verifiers.map(|text| parse("its passwords", &text)).transpose()?,
            rules: rules.map(|text| parse("pg_hba.conf", &text)).transpose()?,
            system_identifier,
            administrators,
            shared,
            ..Facts::default()
        };
        if let Some(registry) = facts.shared.database(REGISTRY) {
            let trusted = crate::audit::administrators(&facts).contains(&registry.owner);
            (facts.registry, facts.records) = self.registry(trusted).await?;
        }
        facts.inside = self.insides(&facts).await;
        Ok(facts)
    }

    /// The records; those of a database `rollcall` that somebody made who is not known to administer the server are not believed.
    async fn registry(&self, trusted: bool) -> Result<(Registry, Option<Vec<Recorded>>), Error> {
        let mut session = match self.open(REGISTRY).await {
            Ok(session) => session,
            Err(Error::Postgres(error))
                if matches!(error.kind, ErrorKind::Closed | ErrorKind::NoConnect | ErrorKind::NoDatabase) =>
            {
                return Ok((Registry::Missing, None));
            }
            Err(error) => return Err(error),
        };
        let state = registry::state(&mut session).await?;
        let believed = trusted || !matches!(state, Registry::Foreign(_));
        let readable = believed && registry::has_records(&mut session).await?;
        let records = if readable { ask(&mut session, questions::RECORDS).await } else { Ok(None) };
        let records = match records {
            Ok(text) => text.map(|text| parse("ownership", &text)).transpose()?,
            // Who is not its owner sees that it is there, and may not read it.
            Err(Error::Postgres(error)) if error.kind == ErrorKind::Denied => None,
            Err(error) => return Err(error),
        };
        session.close().await;
        Ok((state, records))
    }

    async fn insides(&self, facts: &Facts) -> BTreeMap<String, Result<Inside, String>> {
        let names: Vec<String> = facts
            .shared
            .databases
            .iter()
            .filter(|database| database.open && !database.is_maintenance() && database.name != REGISTRY)
            .map(|database| database.name.clone())
            .collect();
        let looks = stream::iter(names).map(|name| async move {
            let seen = self.inside(&name).await.map_err(|error| chassis::exit::chain(&error));
            (name, seen)
        });
        looks.buffer_unordered(AT_ONCE).collect().await
    }

    async fn inside(&self, database: &str) -> Result<Inside, Error> {
        let mut session = self.open(database).await?;
        let seen = ask(&mut session, questions::INSIDE).await?;
        session.close().await;
        parse("the inside of a database", &seen.unwrap_or_default())
    }
}

async fn ask(session: &mut Session, question: &'static str) -> Result<Option<String>, Error> {
    let (connection, within) = session.parts();
    Ok(within.judge(sqlx::query_scalar(question).fetch_one(connection)).await?)
}

impl PostgresTarget {
    /// How the server of these documents is looked at for an audit: as the administrator they name.
    ///
    /// # Errors
    /// A Secret cannot be read, or the administrator cannot log in.
    pub async fn access(&self, spec: &ServerSpec) -> Result<Access, Error> {
        let access = Access {
            server: self.server(spec).await?,
            user: spec.admin.role.clone(),
            password: Some(self.password(&spec.admin.password).await?),
            database: "postgres".to_owned(),
        };
        match access.open(&access.database).await {
            Ok(session) => session.close().await,
            Err(Error::Postgres(error)) => return Err(not_admitted(error, &spec.admin.password)),
            Err(error) => return Err(error),
        }
        Ok(access)
    }
}
