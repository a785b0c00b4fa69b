//! `PostgreSQL`: whether a server takes connections, whether a role logs in and could write, and what the hub's observer
//! sees of a database.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;

use ::postgres::ErrorKind;
use chassis::SecretValue;
use chassis::secret::SecretStore;
use lifecycle::document::TlsMode;
use lifecycle::{Component, Evidence, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::secret::{SecretKey, unreadable};
use super::{NotYet, State, net};

/// How a connection is protected: the modes of documents, and `prefer`, which only ad-hoc targets know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// Encrypted where the server offers it. What libpq does when nothing is said.
    Prefer,
    /// Not at all.
    Disable,
    /// Encrypted; whom one speaks to is not verified.
    Require,
    /// Encrypted, the server's certificate is verified.
    VerifyCa,
    /// Encrypted, the server's certificate and name are verified.
    VerifyFull,
}

impl From<TlsMode> for Encryption {
    fn from(mode: TlsMode) -> Self {
        match mode {
            TlsMode::Disable => Encryption::Disable,
            TlsMode::Require => Encryption::Require,
            TlsMode::VerifyCa => Encryption::VerifyCa,
            TlsMode::VerifyFull => Encryption::VerifyFull,
        }
    }
}

/// Where certificate authorities are read, anew for each look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// From a Secret.
    Secret(SecretKey),
    /// From a file.
    File(PathBuf),
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
        greet(&mut stream).await
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The server as the library wants it.
    async fn resolve(&self, component: Component, secrets: &SecretStore) -> Result<::postgres::Server, NotYet> {
        let tls = match self.encryption {
            Encryption::Disable => TlsMode::Disable,
            Encryption::Require => TlsMode::Require,
            Encryption::VerifyCa => TlsMode::VerifyCa,
            Encryption::VerifyFull => TlsMode::VerifyFull,
            Encryption::Prefer if self.offers_tls().await? => TlsMode::Require,
            Encryption::Prefer => TlsMode::Disable,
        };
        let ca = match &self.authority {
            None => None,
            Some(Authority::Secret(key)) => Some(key.read(secrets)?.expose().to_vec()),
            Some(Authority::File(path)) => Some(std::fs::read(path).map_err(|error| {
                NotYet::new(State::Unknown, format!("{} cannot be read: {error}", path.display())).never()
            })?),
        };
        Ok(::postgres::Server { component, host: self.host.clone(), port: self.port, tls, ca })
    }

    /// Asks whether the server speaks TLS (an `SSLRequest`, answered with one letter).
    async fn offers_tls(&self) -> Result<bool, NotYet> {
        let mut stream = net::connect(&self.address()).await?;
        let mut answer = [0];
        exchange(&mut stream, &SSL_REQUEST, &mut answer).await?;
        match answer[0] {
            b'S' => Ok(true),
            b'N' => Ok(false),
            _ => Err(stranger()),
        }
    }
}

impl Login {
    pub(super) async fn look(&self, secrets: &SecretStore) -> Result<Evidence, NotYet> {
        let password = self.password.read(secrets)?;
        let server = self.server.resolve(Component::new(Kind::Postgres, &self.server.host), secrets).await?;
        ::postgres::probe::login(&server, &self.role, &password, &self.database).await.map_err(|error| judge(&error))
    }
}

impl Observed {
    pub(super) async fn look(&self, secrets: &SecretStore) -> Result<Evidence, NotYet> {
        let password = self.password.read(secrets)?;
        let server = self.server.resolve(Component::new(Kind::Postgres, &self.server.host), secrets).await?;
        ::postgres::probe::observed(&server, &self.environment, &password, &self.component)
            .await
            .map_err(|error| judge(&error))
    }
}

impl Password {
    fn read(&self, secrets: &SecretStore) -> Result<SecretValue, NotYet> {
        match self {
            Password::None => Ok(SecretValue::new("")),
            Password::Given(value) => Ok(value.clone()),
            Password::Secret(key) => {
                secrets.password(&key.secret, &key.key).map_err(|error| unreadable(&error))
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
    let (state, never) = match error.kind {
        ErrorKind::Unresolved => (State::Unresolved, false),
        ErrorKind::Refused => (State::Refused, false),
        ErrorKind::Timeout => (State::TimedOut, false),
        // A role that is not made yet fails like a wrong password, so only the hub can tell when this is final.
        ErrorKind::Login | ErrorKind::NoConnect | ErrorKind::Denied => (State::Denied, false),
        ErrorKind::NoDatabase | ErrorKind::NotProvisioned => (State::Absent, false),
        _ => (State::Rejecting, false),
    };
    NotYet { state, error: error.said.clone(), code: error.code().to_owned(), never }
}

/// `SSLRequest`: length 8, code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// No error message of a server is longer; what is beyond is not read.
const ERROR_MAX: usize = 8 * 1024;

/// Opens the protocol (version 3.0) and reads how the server begins. A server checks whether it takes connections
/// before it looks who asks, so no credentials are needed, and no password is ever sent here.
async fn greet(stream: &mut TcpStream) -> Result<Evidence, NotYet> {
    let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
    startup.extend_from_slice(b"user\0rollcall\0database\0rollcall\0application_name\0rollcall probe\0\0");
    let length = u32::try_from(startup.len()).unwrap_or_default().to_be_bytes();
    startup[..4].copy_from_slice(&length);

    let mut head = [0; 5];
    exchange(stream, &startup, &mut head).await?;
    let length = usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]])).unwrap_or(usize::MAX);
    match head[0] {
        // It asks us to authenticate: it takes connections. An authentication request is short.
        b'R' if (8..=ERROR_MAX).contains(&length) => Ok(Evidence::level("accepting")),
        b'E' if (5..=ERROR_MAX).contains(&length) => {
            let mut body = vec![0; length - 4];
            stream.read_exact(&mut body).await.map_err(|error| broken(&error))?;
            refusal(&body)
        }
        _ => Err(stranger()),
    }
}

/// What an `ErrorResponse` says about the server: is it the server that is not there yet, or is it only us it does not
/// want? 57P03 is "starting up" and "in recovery, not accepting"; 53300 is full, and so ready.
fn refusal(body: &[u8]) -> Result<Evidence, NotYet> {
    let field = |letter: u8| {
        body.split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&letter))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    };
    match field(b'C') {
        Some(code) if code.starts_with("57P") => {
            Err(NotYet::new(State::Rejecting, field(b'M').unwrap_or_default()).code(code))
        }
        Some(code) => Ok(Evidence::level("accepting").with("refused_us_with", code)),
        None => Err(stranger()),
    }
}

async fn exchange(stream: &mut TcpStream, request: &[u8], answer: &mut [u8]) -> Result<(), NotYet> {
    stream.write_all(request).await.map_err(|error| broken(&error))?;
    stream.read_exact(answer).await.map(drop).map_err(|error| broken(&error))
}

fn broken(error: &std::io::Error) -> NotYet {
    NotYet::new(State::Rejecting, format!("the connection broke: {error}"))
}

fn stranger() -> NotYet {
    NotYet::new(State::Rejecting, "does not speak PostgreSQL's protocol")
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

    async fn against(bytes: &[u8]) -> Result<Evidence, NotYet> {
        let peer = faults::serve(Fault::Bytes(bytes.to_vec())).await;
        look(&peer.address).await
    }

    fn error(code: &str, message: &str) -> Vec<u8> {
        let body = format!("SFATAL\0C{code}\0M{message}\0\0");
        let mut bytes = vec![b'E'];
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }

    #[tokio::test]
    async fn a_server_that_asks_who_we_are_takes_connections() {
        let scram = [b"R\0\0\0\x17\0\0\0\x0a".as_slice(), b"SCRAM-SHA-256\0\0"].concat();
        assert_eq!(against(&scram).await.unwrap().level, "accepting");
        assert_eq!(against(&error("28000", "no pg_hba.conf entry")).await.unwrap().level, "accepting");
        assert_eq!(against(&error("53300", "too many clients")).await.unwrap().level, "accepting");
    }

    #[tokio::test]
    async fn a_server_that_starts_is_not_ready_although_its_port_is_open() {
        let starting = against(&error("57P03", "the database system is starting up")).await.unwrap_err();
        assert_eq!((starting.state, starting.code.as_str()), (State::Rejecting, "57P03"));
        assert_eq!(starting.error, "the database system is starting up");
    }

    #[tokio::test]
    async fn another_protocol_a_broken_one_and_a_closed_connection_do_not_pass() {
        for bytes in [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), b"R\xff\xff\xff\xff", b"E\0\0\0\x05\0", b"R\0", b""] {
            assert_eq!(against(bytes).await.unwrap_err().state, State::Rejecting, "{bytes:?}");
        }
        assert_eq!(look(&faults::closed_port().await).await.unwrap_err().state, State::Refused);
        assert_eq!(look("no-such-host.invalid:5432").await.unwrap_err().state, State::Unresolved);
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
        let value = Password::File(file.path().to_owned()).read(&SecretStore::None).unwrap();
        assert_eq!(value.expose_text(), Some("hunter2"));
        let missing = Password::File("/none/such".into()).read(&SecretStore::None).unwrap_err();
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
