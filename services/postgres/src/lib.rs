//! Connecting to PostgreSQL: credentials, TLS, deadlines, errors judged by SQLSTATE, and the probes that say whether a
//! server, a database and a login role are ready. One connection at a time, never a pool: locks live in sessions.

pub mod address;
pub mod done;
mod error;
mod pooler;
pub mod probe;
mod session;

use std::time::Duration;

use chassis::SecretValue;
use chassis::secret::{SecretError, SecretStore};
use lifecycle::Component;
use lifecycle::document::{self, SecretKey, TlsMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, PgConnection};

use error::During;
pub use error::{Error, ErrorKind, Place, UNTOLD};
pub use session::{Session, Within};

/// The database that holds locks, ledger and ownership records on each server. It belongs to no environment.
pub const REGISTRY: &str = "rollcall";

/// How a connection is protected: the modes of documents, and `prefer`, which no document knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// Encrypted where the server offers it; whoever stands between can say that it does not. What libpq does when nothing is said.
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

/// How to reach a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Which component it is.
    pub component: Component,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Encryption,
    /// Certificates in PEM that the `verify-` modes trust, beside the well-known public authorities.
    pub ca: Option<Vec<u8>>,
}

impl Server {
    /// Where a fragment in `namespace` finds the CA of a server; none where the system's are trusted.
    pub fn authority(spec: &document::Postgres, namespace: &str) -> Option<SecretKey> {
        spec.tls.ca.as_ref().map(|ca| SecretKey::of(ca, namespace))
    }

    /// How a fragment in `namespace` reaches a server. Reads the CA, so that a renewed one is used.
    pub async fn resolve(
        component: &Component,
        spec: &document::Postgres,
        namespace: &str,
        secrets: &SecretStore,
    ) -> Result<Server, SecretError> {
        let ca = match Self::authority(spec, namespace) {
            Some(ca) => Some(secrets.read(&ca.secret, &ca.key).await?.expose().to_vec()),
            None => None,
        };
        Ok(Server {
            component: component.clone(),
            host: spec.host.clone(),
            port: spec.port,
            tls: spec.tls.mode.into(),
            ca,
        })
    }

    /// This server seen as `role` in `database`, for errors.
    pub fn place(&self, role: &str, database: &str) -> Place {
        Place {
            server: format!("{} ({}:{})", self.component, self.host, self.port),
            role: role.to_owned(),
            database: database.to_owned(),
        }
    }
}

/// How a connection is made that logs no statement, for whoever connects by itself. `Err` when the password is no text.
///
/// Without a password the server must trust the role. In mode `verify-ca` sqlx trusts the public authorities of
/// webpki-roots too, whatever `ca` says, so prefer `verify-full`, which also compares the server's name.
pub fn options(
    server: &Server,
    user: &str,
    password: Option<&SecretValue>,
    database: &str,
    application_name: &str,
) -> Result<PgConnectOptions, Error> {
    let text = match password.map(SecretValue::expose_text) {
        None => "",
        Some(Some(text)) => text,
        Some(None) => {
            let place = server.place(user, database);
            return Err(Error::new(ErrorKind::Login, &place, "the password is not UTF-8 text"));
        }
    };
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port)
        .username(user)
        .password(text)
        .database(database)
        .application_name(application_name)
        // Poolers refuse startup parameters they do not know.
        .extra_float_digits(None)
        .ssl_mode(match server.tls {
            Encryption::Prefer => PgSslMode::Prefer,
            Encryption::Disable => PgSslMode::Disable,
            Encryption::Require => PgSslMode::Require,
            Encryption::VerifyCa => PgSslMode::VerifyCa,
            Encryption::VerifyFull => PgSslMode::VerifyFull,
        })
        .disable_statement_logging();
    if let Some(ca) = &server.ca {
        options = options.ssl_root_cert_from_pem(ca.clone());
    }
    Ok(options)
}

/// Logs in with these [`options`]. Gives up after `within`.
pub async fn connect(
    server: &Server,
    user: &str,
    password: Option<&SecretValue>,
    database: &str,
    application_name: &str,
    within: Duration,
) -> Result<PgConnection, Error> {
    let place = server.place(user, database);
    let options = options(server, user, password, database, application_name)?;
    match tokio::time::timeout(within, options.connect()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            let mut error = Error::judge(&error, &place, During::Connecting);
            // The resolver's failure has no kind of its own; asking it again does.
            if error.kind == ErrorKind::Unreachable
                && error.code.is_empty()
                && matches!(
                    tokio::time::timeout(
                        within,
                        tokio::net::lookup_host((server.host.as_str(), server.port))
                    )
                    .await,
                    Ok(Err(_))
                )
            {
                error.kind = ErrorKind::Unresolved;
            }
            Err(error)
        }
        Err(_) => {
            Err(Error::new(ErrorKind::Timeout, &place, format!("no login within {} ms", within.as_millis())))
        }
    }
}
