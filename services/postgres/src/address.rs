//! `PostgreSQL` addresses as people copy them from applications: `postgresql://user@host:port/database?sslmode=require`.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use chassis::SecretValue;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::Encryption;

/// An address as it was written. It may hold a password, so it has no `Display` and its `Debug` shows nothing.
#[derive(Clone)]
pub struct Address(String);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(…)")
    }
}

// It is read later: an error of the command-line parser would repeat the text, password and all.
impl FromStr for Address {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Address(text.to_owned()))
    }
}

/// What an address says.
#[derive(Debug, Default)]
pub struct Said {
    /// Host name or address; empty when it is not said.
    pub host: String,
    /// TCP port.
    pub port: Option<u16>,
    /// The role; empty when it is not said.
    pub user: String,
    /// Its password.
    pub password: Option<SecretValue>,
    /// The database; empty when it is not said.
    pub database: String,
    /// How the connection is protected.
    pub tls: Option<Encryption>,
    /// The file with the certificates that are trusted.
    pub ca: Option<PathBuf>,
    /// Parameters that say nothing about reaching the server.
    pub ignored: Vec<String>,
}

impl Address {
    /// Reads the address, also one for JDBC.
    ///
    /// # Errors
    /// What is wrong with it, in words that never repeat it.
    pub fn read(&self) -> Result<Said, String> {
        let text = self.0.strip_prefix("jdbc:").unwrap_or(&self.0);
        let url: Url = text.parse().map_err(|error| format!("is not an address: {error}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err("is not a PostgreSQL address".to_owned());
        }
        let host = decoded(url.host_str().unwrap_or_default(), "host")?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host).to_owned();
        if host.starts_with('/') {
            return Err("names no host (a socket says nothing about whether others reach it)".to_owned());
        }
        if host.contains(',') {
            return Err("names several hosts; give one --postgres for each".to_owned());
        }
        let password = url.password().map(|password| decoded(password, "password")).transpose()?;
        let mut said = Said {
            host,
            port: url.port(),
            user: decoded(url.username(), "user")?,
            password: password.map(SecretValue::new),
            database: decoded(url.path().trim_start_matches('/'), "database")?,
            ..Said::default()
        };
        for (key, value) in url.query_pairs() {
            said.parameter(&key, &value)?;
        }
        Ok(said)
    }
}

impl Said {
    fn parameter(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "user" => value.clone_into(&mut self.user),
            "password" => self.password = Some(SecretValue::new(value)),
            "sslmode" => self.tls = Some(encryption(value)?),
            "sslrootcert" => self.ca = authority(value),
            "host" | "port" | "dbname" => {
                return Err(format!("says {key} as a parameter; write it into the address"));
            }
            "sslcert" | "sslkey" => return Err(format!("{key}: client certificates are not supported")),
            other => self.ignored.push(other.to_owned()),
        }
        Ok(())
    }
}

/// How libpq's `sslmode` protects a connection.
///
/// # Errors
/// It is none of libpq's.
pub fn encryption(mode: &str) -> Result<Encryption, String> {
    match mode {
        "disable" => Ok(Encryption::Disable),
        "allow" | "prefer" => Ok(Encryption::Prefer),
        "require" => Ok(Encryption::Require),
        "verify-ca" => Ok(Encryption::VerifyCa),
        "verify-full" => Ok(Encryption::VerifyFull),
        other => Err(format!(
            "sslmode `{other}` is none of disable, allow, prefer, require, verify-ca, verify-full"
        )),
    }
}

/// The file that libpq's `sslrootcert` names; none where the system's certificates are meant.
pub fn authority(text: &str) -> Option<PathBuf> {
    (text != "system").then(|| text.into())
}

fn decoded(text: &str, what: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| format!("its {what} is not UTF-8 text"))?;
    if text.contains('\0') { Err(format!("its {what} holds a zero byte")) } else { Ok(text.into_owned()) }
}
