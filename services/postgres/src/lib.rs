//! Connecting to PostgreSQL: credentials, TLS, deadlines, errors judged by SQLSTATE, and the probes that say whether a
//! server, a database and a login role are ready. One connection at a time, never a pool: locks live in sessions.

mod error;
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
pub use error::{Error, ErrorKind, Place};
pub use session::{Session, Within};

/// The database that holds locks, ledger and ownership records on each server. It belongs to no environment.
pub const REGISTRY: &str = "rollcall";

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
    pub tls: TlsMode,
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
            tls: spec.tls.mode,
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

/// Logs in: one connection that logs no statement. Gives up after `within`.
///
/// Without a password the server must trust the role. In mode `verify-ca` sqlx trusts the public authorities of
/// webpki-roots too, whatever `ca` says, so prefer `verify-full`, which also compares the server's name.
pub async fn connect(
    server: &Server,
    user: &str,
    password: Option<&SecretValue>,
    database: &str,
    application_name: &str,
    within: Duration,
) -> Result<PgConnection, Error> {
    let place = server.place(user, database);
    let text = match password.map(SecretValue::expose_text) {
        None => "",
        Some(Some(text)) => text,
        Some(None) => return Err(Error::new(ErrorKind::Login, &place, "the password is not UTF-8 text")),
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
            TlsMode::Disable => PgSslMode::Disable,
            TlsMode::Require => PgSslMode::Require,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
        })
        .disable_statement_logging();
    if let Some(ca) = &server.ca {
        options = options.ssl_root_cert_from_pem(ca.clone());
    }
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
