//! Probes: whether a login role can work in its database, and what an environment's observer sees.

use std::time::Duration;

use chassis::SecretValue;
use lifecycle::document::observer_role;
use lifecycle::{Component, Evidence, Kind};
use sqlx::Row;
use tokio::time::Instant;

use crate::{Error, ErrorKind, REGISTRY, Server, Session};

/// How long a probe may take to log in, and each of its statements.
pub(crate) const WITHIN: Duration = Duration::from_secs(5);

/// Logs in as a module would and looks whether it could write: not in recovery, transactions not read-only.
/// The evidence's level is `writable`.
pub async fn login(
    server: &Server,
    user: &str,
    password: &SecretValue,
    database: &str,
) -> Result<Evidence, Error> {
    let begun = Instant::now();
    let mut session = Session::open(server, user, Some(password), database, "rollcall probe", WITHIN).await?;
    let result = writable(&mut session).await;
    session.close().await;
    result.map(|evidence| Evidence { latency: begun.elapsed(), ..evidence })
}

/// Looks at a server or a database through the environment's observer role, in database `rollcall`.
///
/// A `postgres/` component is seen at level `accepting`. A `database/` component is seen at level `provisioned`: its
/// ownership record is finished and leads to the very database and login role that are there; a `role/` component likewise, by
/// the role alone. Anything less is an error of kind [`ErrorKind::NotProvisioned`].
pub async fn observed(
    server: &Server,
    environment: &str,
    password: &SecretValue,
    component: &Component,
) -> Result<Evidence, Error> {
    let begun = Instant::now();
    let role = observer_role(environment);
    let mut session =
        Session::open(server, &role, Some(password), REGISTRY, "rollcall observer", WITHIN).await?;
    let result = match component.kind() {
        Kind::Database => provisioned(&mut session, component).await,
        Kind::Role => made(&mut session, component).await,
        _ => accepting(&mut session).await.map(|seen| seen.evidence),
    };
    session.close().await;
    result.map(|evidence| Evidence { latency: begun.elapsed(), ..evidence })
}

struct Seen {
    evidence: Evidence,
    recovering: bool,
    read_only: bool,
}

/// What every session may see of the server. Names are qualified: a database may have its own search path.
async fn accepting(session: &mut Session) -> Result<Seen, Error> {
    let (connection, within) = session.parts();
    let facts = within
        .judge(
            sqlx::query(
                "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only') = 'on', \
                 pg_catalog.pg_postmaster_start_time()::pg_catalog.text, \
                 pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')",
            )
            .persistent(false)
            .fetch_one(connection),
        )
        .await?;
    let get = |error: sqlx::Error| Error::judge(&error, session.place(), crate::error::During::Statement);
    let recovering = facts.try_get(0).map_err(get)?;
    let read_only = facts.try_get(1).map_err(get)?;
    let started: String = facts.try_get(2).map_err(get)?;
    let may_identify: bool = facts.try_get(3).map_err(get)?;
    let mut evidence = Evidence::level("accepting").with("started", started);
    if may_identify {
        let (connection, within) = session.parts();
        let identifier: String = within
            .judge(
                sqlx::query_scalar(
                    "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()",
                )
                .persistent(false)
                .fetch_one(connection),
            )
            .await?;
        evidence = evidence.with("system_identifier", identifier);
    }
    Ok(Seen { evidence, recovering, read_only })
}

async fn writable(session: &mut Session) -> Result<Evidence, Error> {
    let seen = accepting(session).await?;
    if seen.recovering {
        return Err(Error::new(ErrorKind::Recovering, session.place(), "the server is in recovery"));
    }
    if seen.read_only {
        return Err(Error::new(ErrorKind::ReadOnly, session.place(), "transactions are read-only"));
    }
    Ok(Evidence { level: "writable".to_owned(), ..seen.evidence })
}

/// The view `rollcall.mine` shows each observer its own environment's records; postgres-init makes it.
const PROVISIONED: &str = "SELECT m.name::text, m.finished_at IS NOT NULL, d.oid::int8, d.oid = m.oid, \
     coalesce((SELECT r.rolcanlogin FROM pg_catalog.pg_roles r WHERE r.rolname = m.login), false), \
     coalesce(m.login, '')::text \
     FROM rollcall.mine m LEFT JOIN pg_catalog.pg_database d ON d.datname = m.name \
     WHERE m.kind = 'database' AND m.component = $1";

async fn provisioned(session: &mut Session, component: &Component) -> Result<Evidence, Error> {
    let seen = accepting(session).await?;
    let (connection, within) = session.parts();
    let query = sqlx::query(PROVISIONED).bind(component.to_string()).persistent(false);
    let record = within.judge(query.fetch_optional(connection)).await?;
    let place = session.place();
    let not_yet = |said: String| Error::new(ErrorKind::NotProvisioned, place, said);
    let record = record.ok_or_else(|| not_yet(format!("{component} has no ownership record yet")))?;
    let get = |error: sqlx::Error| Error::judge(&error, place, crate::error::During::Statement);
    let name: String = record.try_get(0).map_err(get)?;
    let finished: bool = record.try_get(1).map_err(get)?;
    let oid: Option<i64> = record.try_get(2).map_err(get)?;
    let same: Option<bool> = record.try_get(3).map_err(get)?;
    let can_login: bool = record.try_get(4).map_err(get)?;
    let login: String = record.try_get(5).map_err(get)?;
    match (oid, same) {
        (Some(oid), Some(true)) if finished && can_login => {
            Ok(Evidence { level: "provisioned".to_owned(), ..seen.evidence }.with("oid", oid.to_string()))
        }
        (None, _) => Err(not_yet(format!("{component} is recorded, but there is no database `{name}`"))),
        (_, Some(true)) if !finished => {
            Err(not_yet(format!("{component} is being made: database `{name}` is not finished")))
        }
        (_, Some(true)) => {
            Err(not_yet(format!("{component}: role `{login}` is not there or may not log in")))
        }
        _ => Err(not_yet(format!(
            "{component}: database `{name}` is not the one that was made (restored or made anew)"
        ))),
    }
}

/// As [`PROVISIONED`], for a role that reads several databases.
const MADE: &str = "SELECT m.name::text, m.finished_at IS NOT NULL, r.oid = m.oid, coalesce(r.rolcanlogin, false) \
     FROM rollcall.mine m LEFT JOIN pg_catalog.pg_roles r ON r.rolname = m.name \
     WHERE m.kind = 'role' AND m.component = $1";

async fn made(session: &mut Session, component: &Component) -> Result<Evidence, Error> {
    let seen = accepting(session).await?;
    let (connection, within) = session.parts();
    let query = sqlx::query(MADE).bind(component.to_string()).persistent(false);
    let record = within.judge(query.fetch_optional(connection)).await?;
    let place = session.place();
    let not_yet = |said: String| Error::new(ErrorKind::NotProvisioned, place, said);
    let record = record.ok_or_else(|| not_yet(format!("{component} has no ownership record yet")))?;
    let get = |error: sqlx::Error| Error::judge(&error, place, crate::error::During::Statement);
    let name: String = record.try_get(0).map_err(get)?;
    let finished: bool = record.try_get(1).map_err(get)?;
    let same: Option<bool> = record.try_get(2).map_err(get)?;
    let can_login: bool = record.try_get(3).map_err(get)?;
    match same {
        Some(true) if finished && can_login => {
            Ok(Evidence { level: "provisioned".to_owned(), ..seen.evidence })
        }
        None => Err(not_yet(format!("{component} is recorded, but there is no role `{name}`"))),
        Some(true) if !finished => {
            Err(not_yet(format!("{component} is being made: role `{name}` is not finished")))
        }
        Some(true) => Err(not_yet(format!("{component}: role `{name}` may not log in"))),
        Some(false) => {
            Err(not_yet(format!("{component}: role `{name}` is not the one that was made (made anew)")))
        }
    }
}
