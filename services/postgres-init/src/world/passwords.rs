//! How passwords stand: compared with the stored verifier where it may be read, else tried by one login.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chassis::SecretValue;
use chassis::backoff::Backoff;
use chassis::converge::Fault;
use futures_util::stream::{self, StreamExt};
use postgres::{ErrorKind, Server, Session};
use tokio::time::Instant;

use super::facts::{Password, World};
use super::look::AT_ONCE;
use super::{CONNECT, Error, PostgresTarget, TRIES};
use crate::spec::ServerSpec;
use crate::{plan, scram};

/// How long a login that succeeded is not tried again: through a pass and what follows it at once. Less than lies between two
/// looks of somebody who serves, unless told otherwise: whoever changed a password is found out by the next one.
const PROVEN: Duration = Duration::from_secs(20);

/// The logins that succeeded lately. Where verifiers may not be read each costs the server a process and the hashing of a password,
/// and one pass looks at a component up to three times.
#[derive(Default)]
pub(super) struct Proven {
    /// By role: which one, by its oid, with which password, and when.
    logins: Mutex<BTreeMap<String, (i64, u64, Instant)>>,
    /// Keyed anew in each process, so that what is kept of a password says nothing.
    keyed: RandomState,
}

impl Proven {
    fn holds(&self, asked: &Asked) -> bool {
        let logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.get(&asked.role).is_some_and(|(oid, password, at)| {
            (*oid, *password) == (asked.oid, self.keyed.hash_one(asked.value.expose()))
                && at.elapsed() < PROVEN
        })
    }

    fn note(&self, asked: &Asked) {
        let known = (asked.oid, self.keyed.hash_one(asked.value.expose()), Instant::now());
        self.logins.lock().unwrap_or_else(PoisonError::into_inner).insert(asked.role.clone(), known);
    }
}

/// The verifiers of roles, where they may be read; of a role that has no password there is none.
pub(super) type Verifiers = BTreeMap<String, Option<String>>;

impl PostgresTarget {
    /// How the passwords of all roles that log in stand. They are read anew each time and not kept.
    pub(super) async fn passwords(
        &self,
        spec: &ServerSpec,
        world: &World,
        mut verifiers: Verifiers,
    ) -> Result<BTreeMap<String, Password>, Error> {
        let left = |role: &str| {
            spec.databases
                .iter()
                .any(|database| database.app.role == role && plan::leaves(spec, database, world))
        };
        let mut found: BTreeMap<String, Password> =
            spec.delegated_logins().into_iter().map(|(role, _)| (role, Password::Delegated)).collect();
        let mut compare: Vec<Asked> = Vec::new();
        for (login, database) in spec.logins() {
            let password = match self.password(&login.password).await {
                Err(error) if error.is_transient() => Err(Password::Pending(error.to_string())),
                Err(error) => Err(Password::Unfit(error.to_string())),
                Ok(value) => match scram::check(value.expose_text().unwrap_or_default()) {
                    Err(why) => Err(Password::Unfit(format!(
                        "{} key `{}` {why}",
                        login.password.secret, login.password.key
                    ))),
                    // Only what carries our own mark, or what a report is asked of, is compared: of others nothing is tried.
                    Ok(()) if left(&login.role) || is_ours(spec, world, &login.role) => Ok(value),
                    Ok(()) => Err(Password::Given),
                },
            };
            match password {
                Ok(value) => {
                    let oid = world.role(&login.role).map_or(0, |role| role.oid);
                    compare.push(Asked {
                        role: login.role.clone(),
                        oid,
                        database: database.to_owned(),
                        value,
                    });
                }
                Err(stands) => drop(found.insert(login.role.clone(), stands)),
            }
        }

        let mut rest = Vec::new();
        if world.shared.reads_verifiers && !compare.is_empty() {
            for asked in compare {
                let stored = verifiers.remove(&asked.role).flatten();
                let text = asked.value.expose_text().unwrap_or_default();
                let stands = match stored.map(|stored| scram::matches(&stored, text)) {
                    Some(Some(true)) => Password::Fits,
                    None | Some(Some(false)) => Password::Differs,
                    // An md5 hash, for example.
                    Some(None) => {
                        rest.push(asked);
                        continue;
                    }
                };
                found.insert(asked.role, stands);
            }
        } else {
            rest = compare;
        }
        let (proven, rest): (Vec<Asked>, Vec<Asked>) =
            rest.into_iter().partition(|asked| self.proven.holds(asked));
        found.extend(proven.into_iter().map(|asked| (asked.role, Password::Fits)));
        let server = self.server(spec).await?;
        let tried = stream::iter(rest).map(|asked| {
            let server = server.clone();
            async move {
                let stands = self.try_login(&server, &asked).await;
                if stands == Password::Fits {
                    self.proven.note(&asked);
                }
                (asked.role, stands)
            }
        });
        found.extend(tried.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
        Ok(found)
    }

    /// One login, where verifiers may not be read, tried for a while when the server has no place for it: what is seen here is not
    /// asked again before the next look.
    async fn try_login(&self, server: &Server, asked: &Asked) -> Password {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut tries = 1..TRIES;
        loop {
            let seen = {
                let _turn = self.turns.acquire().await;
                log_in(server, asked).await
            };
            match seen {
                Err(error) if error.kind == ErrorKind::Saturated && tries.next().is_some() => {
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                Ok(stands) => return stands,
                Err(error) => return Password::Unseen(error.to_string()),
            }
        }
    }
}

/// A role that is asked whether it has this password.
struct Asked {
    role: String,
    oid: i64,
    database: String,
    value: SecretValue,
}

fn is_ours(spec: &ServerSpec, world: &World, role: &str) -> bool {
    world.role(role).is_some_and(|facts| {
        world.role_record(role).is_some_and(|record| {
            record.environment_uid == spec.environment.uid.to_string() && record.oid == facts.oid
        })
    })
}

/// The server judges the password before the database.
async fn log_in(server: &Server, asked: &Asked) -> Result<Password, postgres::Error> {
    let Asked { role, database, value, .. } = asked;
    match Session::open(server, role, Some(value), database, "rollcall postgres-init", CONNECT).await {
        Ok(session) => {
            session.close().await;
            Ok(Password::Fits)
        }
        Err(error) => match error.kind {
            ErrorKind::NoDatabase | ErrorKind::NoConnect | ErrorKind::Closed => Ok(Password::Fits),
            ErrorKind::Login if error.code == "28P01" => Ok(Password::Differs),
            _ => Err(error),
        },
    }
}
