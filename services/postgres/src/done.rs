//! Probes of what is done once: a migration or a step, as the environment's observer reads it in the ledger, and a migration as
//! it is marked in its own database for whoever logs in there.

use std::collections::BTreeSet;

use chassis::SecretValue;
use lifecycle::document::observer_role;
use lifecycle::{Component, Evidence};
use tokio::time::Instant;

use crate::probe::WITHIN;
use crate::{Error, ErrorKind, REGISTRY, Server, Session};

/// The last run of a component, in the view that shows each observer its own environment's; postgres-init makes it.
const LAST: &str = "SELECT state, hash, database IS NULL OR database IN (SELECT oid FROM pg_catalog.pg_database), \
     coalesce(finished_at, started_at)::pg_catalog.text, output, fragment FROM rollcall.done WHERE component = $1";

/// What a document asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    /// As a hash.
    pub hash: String,
    /// The fragment that declares it; whichever did it counts where none is named.
    pub fragment: Option<String>,
    /// The fragments that are declared: what another one of them did is another thing of this name.
    pub declared: BTreeSet<String>,
}

/// Looks in the ledger whether a migration or a step is done, as a document asks for it. The evidence's level is `done`; anything
/// less is an error of kind [`ErrorKind::NotProvisioned`].
pub async fn recorded(
    server: &Server,
    environment: &str,
    password: &SecretValue,
    component: &Component,
    asked: &Asked,
) -> Result<Evidence, Error> {
    let begun = Instant::now();
    let role = observer_role(environment);
    let mut session =
        Session::open(server, &role, Some(password), REGISTRY, "rollcall observer", WITHIN).await?;
    let last = match exists(&mut session, "rollcall.done").await {
        Ok(true) => {
            let (connection, within) = session.parts();
            let asked = sqlx::query_as(LAST).bind(component.to_string()).persistent(false);
            within.judge(asked.fetch_optional(connection)).await
        }
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    let place = session.place().clone();
    session.close().await;
    let not_yet = |said: String| Err(Error::new(ErrorKind::NotProvisioned, &place, said));
    let last: Option<(String, String, bool, String, String, String)> = last?;
    let Some((state, recorded, same_database, at, output, fragment)) = last else {
        return not_yet(format!("{component} is not in the ledger yet"));
    };
    let others = asked.fragment.as_ref().filter(|own| **own != fragment);
    if let Some(own) = others.filter(|_| asked.declared.contains(&fragment)) {
        return not_yet(format!(
            "{component} was run by fragment `{fragment}`, which is declared, and not by `{own}`; give it a name of its own or, if it moved, \
             have whoever looks after the server say that it is done: `postgres-init step {} --baseline`",
            component.name()
        ));
    }
    match state.as_str() {
        "done" | "baseline" if recorded != asked.hash => not_yet(format!(
            "{component} was done as another document asked for it, and not as this one does"
        )),
        "done" | "baseline" if !same_database => {
            not_yet(format!("{component} was done to a database that is not there any more"))
        }
        "done" | "baseline" => {
            let evidence = Evidence { latency: begun.elapsed(), ..Evidence::level("done") };
            let evidence = evidence.with("at", at).with("state", state);
            // It moved from there.
            Ok(if others.is_some() { evidence.with("fragment", fragment) } else { evidence })
        }
        "failed" => not_yet(format!("{component} failed at {at}: {}", last_line(&output))),
        _ => not_yet(format!("{component} was begun at {at} and is not done yet")),
    }
}

/// Logs in as a module would and looks whether a migration of its database is done, as this document asks for it. The
/// evidence's level is `migrated`; anything less is an error of kind [`ErrorKind::NotProvisioned`].
pub async fn migrated(
    server: &Server,
    user: &str,
    password: &SecretValue,
    database: &str,
    migration: &Component,
    hash: &str,
) -> Result<Evidence, Error> {
    let begun = Instant::now();
    let mut session = Session::open(server, user, Some(password), database, "rollcall probe", WITHIN).await?;
    let mark = match exists(&mut session, "rollcall.migrated").await {
        Ok(true) => {
            let (connection, within) = session.parts();
            let asked = sqlx::query_as("SELECT done, hash FROM rollcall.migrated WHERE migration = $1")
                .bind(migration.to_string())
                .persistent(false);
            within.judge(asked.fetch_optional(connection)).await
        }
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    let place = session.place().clone();
    session.close().await;
    let not_yet = |said: String| Err(Error::new(ErrorKind::NotProvisioned, &place, said));
    let mark: Option<(bool, String)> = mark?;
    match mark {
        Some((true, marked)) if marked == hash => {
            Ok(Evidence { latency: begun.elapsed(), ..Evidence::level("migrated") })
        }
        Some((true, _)) => not_yet(format!(
            "{migration} was done as another document asked for it, and not as this one does"
        )),
        Some((false, _)) => not_yet(format!("{migration} was begun and is not done yet")),
        None => not_yet(format!("{migration} has not run yet")),
    }
}

async fn exists(session: &mut Session, relation: &str) -> Result<bool, Error> {
    let (connection, within) = session.parts();
    let asked = sqlx::query_scalar("SELECT pg_catalog.to_regclass($1) IS NOT NULL").bind(relation);
    within.judge(asked.persistent(false).fetch_one(connection)).await
}

/// The last line of what was printed: that is where it says why.
fn last_line(output: &str) -> &str {
    output.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it printed nothing")
}
