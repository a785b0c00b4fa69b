//! `PostgreSQL`: whether a server takes connections, whether a role logs in and could write, and what the hub's observer
//! sees of a database.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

pub use ::postgres::Encryption;
use ::postgres::ErrorKind;
use ::postgres::done::Asked;
use chassis::SecretValue;
use chassis::secret::SecretStore;
use lifecycle::document::SecretKey;
use lifecycle::{Component, Evidence, Kind};

use super::secret::{self, unreadable};
use super::{NotYet, State, greeting, net};

/// Where certificate authorities are read, anew for each look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// From a Secret.
    Secret(SecretKey),
    /// From a file.
    File(PathBuf),
}

impl Authority {
    /// The Secret that is read for it.
    pub(super) fn secret(&self) -> Option<&Component> {
        match self {
            Authority::Secret(key) => Some(&key.secret),
            Authority::File(_) => None,
        }
    }
}

/// A server's address, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub encryption: Encryption,
    /// The certificate authorities; the well-known public ones when absent.
    pub authority: Option<Authority>,
}

/// Where a password comes from; it is read anew for each look, so that a corrected one is used.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// None: the server must trust the role.
    None,
    /// From a Secret.
    Secret(SecretKey),
    /// From a file, without the line break at its end.
    File(PathBuf),
    /// Given to this process.
    Given(SecretValue),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Password::None => f.write_str("None"),
            Password::Secret(key) => write!(f, "Secret({key})"),
            Password::File(path) => write!(f, "File({})", path.display()),
            Password::Given(_) => f.write_str("Given(…)"),
        }
    }
}

// A given password takes no part: equal definitions still hash alike.
impl Hash for Password {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Password::None | Password::Given(_) => {}
            Password::Secret(key) => key.hash(state),
            Password::File(path) => path.hash(state),
        }
    }
}

/// Ready when the role logs in and could write: the login is the proof that the module will be able to work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Login {
    /// The server.
    pub server: Server,
    /// The database's physical name.
    pub database: String,
    /// The role's physical name.
    pub role: String,
    /// Its password.
    pub password: Password,
}

/// Ready when the observer role of an environment sees that the database and its login role are there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Observed {
    /// The server.
    pub server: Server,
    /// The environment's name, which gives the observer role its own.
    pub environment: String,
    /// The database, as a component.
    pub component: Component,
    /// The observer's password.
    pub password: Password,
    /// What a document asks for, where the ledger tells whether it is done: of a migration or a step.
    pub asked: Option<Asked>,
}

/// Ready when a module's own login sees that a migration of its database is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Migrated {
    /// How the module logs in.
    pub login: Login,
    /// The migration, as a component.
    pub migration: Component,
    /// What its document asks for, as a hash.
    pub hash: String,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // IPv6 addresses need brackets before a port.
        if self.host.contains(':') {
            write!(f, "postgresql://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "postgresql://{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server.to_string();
        let place = server.trim_start_matches("postgresql://");
        write!(f, "postgresql://{}@{place}/{}", self.role, self.database)
    }
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.migration, self.login)
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as the observer of {} at {}", self.component, self.environment, self.server)
    }
}

impl Server {
    /// Looks whether the server takes connections: it asks who we are, or refuses us for a reason of its own. "Starting
    /// up" and "too many connections" are told apart by SQLSTATE; the first is not ready, the second is.
    pub(super) async fn look(&self) -> Result<Evidence, NotYet> {
        let mut stream = net::connect(&self.address()).await?;
        greeting::greet(&mut stream).await
    }

    /// The Secret that is read to log in there, beside the password.
    pub(super) fn reads(&self) -> impl Iterator<Item = &Component> {
        self.authority.iter().filter_map(Authority::secret)
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The server as the library wants it.
    async fn resolve(
        &self,
        component: Component,
        secrets: &SecretStore,
    ) -> Result<::postgres::Server, NotYet> {
        let ca = match &self.authority {
            None => None,
            Some(Authority::Secret(key)) => Some(secret::authority(key, secrets).await?),
            Some(Authority::File(path)) => Some(std::fs::read(path).map_err(|error| {
                NotYet::new(State::Unknown, format!("{} cannot be read: {error}", path.display())).never()
            })?),
        };
        let (host, port) = (self.host.clone(), self.port);
        Ok(::postgres::Server { component, host, port, tls: self.encryption, ca })
    }
}

impl Login {
    pub(super) async fn look(&self, secrets: &SecretStore) -> Result<Evidence, NotYet> {
        let password = self.password.read(secrets).await?;
        let server = self.server.resolve(Component::new(Kind::Postgres, &self.server.host), secrets).await?;
        ::postgres::probe::login(&server, &self.role, &password, &self.database)
            .await
            .map_err(|error| judge(&error))
    }
}

impl Migrated {
    pub(super) async fn look(&self, secrets: &SecretStore) -> Result<Evidence, NotYet> {
        let login = &self.login;
        let password = login.password.read(secrets).await?;
        let server =
            login.server.resolve(Component::new(Kind::Postgres, &login.server.host), secrets).await?;
        let (role, database) = (&login.role, &login.database);
        ::postgres::done::migrated(&server, role, &password, database, &self.migration, &self.hash)
            .await
            .map_err(|error| judge(&error))
    }
}

impl Observed {
    pub(super) async fn look(&self, secrets: &SecretStore) -> Result<Evidence, NotYet> {
        let password = self.password.read(secrets).await.map_err(NotYet::blind)?;
        let server = self.server.resolve(Component::new(Kind::Postgres, &self.server.host), secrets).await?;
        let (environment, component) = (&self.environment, &self.component);
        let seen = match &self.asked {
            Some(asked) => {
                ::postgres::done::recorded(&server, environment, &password, component, asked).await
            }
            None => ::postgres::probe::observed(&server, environment, &password, component).await,
        };
        seen.map_err(|error| {
            // An observer that is not made yet, or not let in, has seen nothing of the database.
            let let_near = !matches!(
                error.kind,
                ErrorKind::Login | ErrorKind::NoDatabase | ErrorKind::NoConnect | ErrorKind::Denied
            );
            NotYet { blind: !let_near, ..judge(&error) }
        })
    }
}

impl Password {
    /// The Secret that is read for it.
    pub(super) fn reads(&self) -> Option<&Component> {
        match self {
            Password::Secret(key) => Some(&key.secret),
            Password::None | Password::File(_) | Password::Given(_) => None,
        }
    }

    async fn read(&self, secrets: &SecretStore) -> Result<SecretValue, NotYet> {
        match self {
            Password::None => Ok(SecretValue::new("")),
            Password::Given(value) => Ok(value.clone()),
            Password::Secret(key) => {
                secrets.password(&key.secret, &key.key).await.map_err(|error| unreadable(&error))
            }
            Password::File(path) => match std::fs::read(path) {
                Ok(mut bytes) => {
                    // `echo secret > file` is how such files are written.
                    if bytes.last() == Some(&b'\n') {
                        bytes.pop();
                    }
                    if bytes.last() == Some(&b'\r') {
                        bytes.pop();
                    }
                    Ok(SecretValue::new(bytes))
                }
                Err(error) => {
                    Err(NotYet::new(State::Unknown, format!("{} cannot be read: {error}", path.display())))
                }
            },
        }
    }
}

fn judge(error: &::postgres::Error) -> NotYet {
    let state = match error.kind {
        ErrorKind::Unresolved => State::Unresolved,
        ErrorKind::Refused => State::Refused,
        ErrorKind::Timeout => State::TimedOut,
        // A role that is not made yet fails like a wrong password, so only the hub can tell when this is final.
        ErrorKind::Login | ErrorKind::NoConnect | ErrorKind::Denied => State::Denied,
        ErrorKind::NoDatabase | ErrorKind::NotProvisioned => State::Absent,
        _ => State::Rejecting,
    };
    let said = match error.kind {
        ErrorKind::Tls => format!("{} (check the TLS mode, the CA and the server's certificate)", error.said),
        ErrorKind::Recovering | ErrorKind::ReadOnly => format!("{}, so nothing could be written", error.said),
        _ => error.said.clone(),
    };
    NotYet::new(state, said).code(error.code())
}

#[cfg(test)]
mod tests {
    use super::super::Probe;
    use super::super::faults::{self, Fault};
    use super::*;

    async fn look(address: &str) -> Result<Evidence, NotYet> {
        let (host, port) = address.rsplit_once(':').unwrap();
        let server = Server {
            host: host.to_owned(),
            port: port.parse().unwrap(),
            encryption: Encryption::Disable,
            authority: None,
        };
        faults::look(Probe::Server(server)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_nobody_serves_times_out() {
        let silent = faults::serve(Fault::NeverAccept).await;
        assert_eq!(look(&silent.address).await.unwrap_err().state, State::TimedOut);
    }

    #[tokio::test]
    async fn a_password_file_is_read_without_its_line_break_and_a_missing_one_is_not_yet() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\r\n").unwrap();
        let value = Password::File(file.path().to_owned()).read(&SecretStore::None).await.unwrap();
        assert_eq!(value.expose_text(), Some("hunter2"));
        let missing = Password::File("/none/such".into()).read(&SecretStore::None).await.unwrap_err();
        assert_eq!((missing.state, missing.never), (State::Unknown, false));
    }

    #[test]
    fn nothing_shows_a_password() {
        let login = Login {
            server: Server { host: "db".into(), port: 5432, encryption: Encryption::Prefer, authority: None },
            database: "registry".into(),
            role: "app".into(),
            password: Password::Given(SecretValue::new("hunter2")),
        };
        assert_eq!(login.to_string(), "postgresql://app@db:5432/registry");
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
