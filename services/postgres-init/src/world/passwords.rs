//! How passwords stand: compared with the stored verifier where it may be read, else tried by one login.

use std::collections::BTreeMap;

use chassis::SecretValue;
use chassis::converge::Fault;
use futures_util::stream::{self, StreamExt};
use postgres::{ErrorKind, Server, Session};

use super::facts::{Password, World};
use super::look::AT_ONCE;
use super::{CONNECT, Error, PostgresTarget};
use crate::spec::ServerSpec;
use crate::{plan, scram};

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
                    compare.push(Asked { role: login.role.clone(), database: database.to_owned(), value });
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
        let server = self.server(spec).await?;
        let tried = stream::iter(rest).map(|asked| {
            let server = server.clone();
            async move { (asked.role.clone(), log_in(&server, &asked).await) }
        });
        found.extend(tried.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
        Ok(found)
    }
}

/// A role that is asked whether it has this password.
struct Asked {
    role: String,
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

/// One login, where verifiers may not be read. The server judges the password before the database.
async fn log_in(server: &Server, asked: &Asked) -> Password {
    let Asked { role, database, value } = asked;
    match Session::open(server, role, Some(value), database, "rollcall postgres-init", CONNECT).await {
        Ok(session) => {
            session.close().await;
            Password::Fits
        }
        Err(error) => match error.kind {
            ErrorKind::NoDatabase | ErrorKind::NoConnect | ErrorKind::Closed => Password::Fits,
            ErrorKind::Login if error.code == "28P01" => Password::Differs,
            _ => Password::Unseen(error.to_string()),
        },
    }
}
