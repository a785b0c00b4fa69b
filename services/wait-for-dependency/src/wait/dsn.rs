//! `PostgreSQL` addresses as people copy them from applications: `postgresql://user@host:port/database?sslmode=require`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use chassis::SecretValue;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::probe::{Authority, Encryption, Login, Password, Server};

/// An address as it was written. It may hold a password, so it has no `Display` and its `Debug` shows nothing.
#[derive(Clone)]
pub struct Dsn(String);

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dsn(…)")
    }
}

// It is parsed later: an error of the command-line parser would repeat the text, password and all.
impl FromStr for Dsn {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Dsn(text.to_owned()))
    }
}

/// What an address says.
#[derive(Debug)]
pub(super) struct Parsed {
    /// The login it describes; its password is that of the address, or none.
    pub(super) login: Login,
    /// Parameters that say nothing about reaching the server.
    pub(super) ignored: Vec<String>,
}

impl Dsn {
    /// Reads the address. The error never repeats it.
    pub(super) fn parse(&self) -> Result<Parsed, String> {
        const SHAPE: &str = "write postgresql://user@host:port/database";
        let text = self.0.strip_prefix("jdbc:").unwrap_or(&self.0);
        let url: Url = text.parse().map_err(|error| format!("is not an address: {error}; {SHAPE}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(format!("is not a PostgreSQL address; {SHAPE}"));
        }
        let host = decoded(url.host_str().unwrap_or_default(), "host")?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host).to_owned();
        if host.is_empty() || host.starts_with('/') {
            return Err(format!(
                "names no host (a socket says nothing about whether others reach it); {SHAPE}"
            ));
        }
        if host.contains(',') {
            return Err("names several hosts; give one --postgres for each".to_owned());
        }
        let mut read = Read { user: decoded(url.username(), "user")?, ..Read::default() };
        if let Some(password) = url.password() {
            read.password = Some(SecretValue::new(decoded(password, "password")?));
        }
        for (key, value) in url.query_pairs() {
            read.parameter(&key, &value)?;
        }
        if read.user.is_empty() {
            return Err(format!("names no user; only a login proves that the user can work; {SHAPE}"));
        }
        let database = decoded(url.path().trim_start_matches('/'), "database")?;
        Ok(Parsed {
            login: Login {
                server: Server {
                    host,
                    port: url.port().unwrap_or(5432),
                    encryption: read.encryption,
                    authority: read.authority,
                },
                // As libpq: the database is called like the user when none is named.
                database: if database.is_empty() { read.user.clone() } else { database },
                role: read.user,
                password: read.password.map_or(Password::None, Password::Given),
            },
            ignored: read.ignored,
        })
    }
}

struct Read {
    user: String,
    password: Option<SecretValue>,
    encryption: Encryption,
    authority: Option<Authority>,
    ignored: Vec<String>,
}

impl Default for Read {
    fn default() -> Self {
        Read {
            user: String::new(),
            password: None,
            encryption: Encryption::Prefer,
            authority: None,
            ignored: Vec::new(),
        }
    }
}

impl Read {
    fn parameter(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "user" => value.clone_into(&mut self.user),
            "password" => self.password = Some(SecretValue::new(value)),
            "sslmode" => {
                self.encryption = match value {
                    "disable" => Encryption::Disable,
                    "allow" | "prefer" => Encryption::Prefer,
                    "require" => Encryption::Require,
                    "verify-ca" => Encryption::VerifyCa,
                    "verify-full" => Encryption::VerifyFull,
                    other => return Err(format!("sslmode `{other}` is not known")),
                }
            }
            "sslrootcert" if value != "system" => self.authority = Some(Authority::File(value.into())),
            "sslrootcert" => {}
            "host" | "port" | "dbname" => {
                return Err(format!("says {key} as a parameter; write it into the address"));
            }
            "sslcert" | "sslkey" => return Err(format!("{key}: client certificates are not supported")),
            other => self.ignored.push(other.to_owned()),
        }
        Ok(())
    }
}

fn decoded(text: &str, what: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| format!("its {what} is not UTF-8 text"))?;
    if text.contains('\0') { Err(format!("its {what} holds a zero byte")) } else { Ok(text.into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Parsed, String> {
        text.parse::<Dsn>().unwrap().parse()
    }

    #[test]
    fn addresses_from_applications_are_understood() {
        for (text, shown) in [
            ("postgresql://app@db:6432/registry", "postgresql://app@db:6432/registry"),
            ("postgres://app@db", "postgresql://app@db:5432/app"),
            ("postgresql://app:p%40ss@db/registry?sslmode=verify-full", "postgresql://app@db:5432/registry"),
            ("postgresql://a%40b@[::1]:1/x%2Fy", "postgresql://a@b@[::1]:1/x/y"),
            (
                "jdbc:postgresql://db:5432/registry?user=app&password=hunter2&currentSchema=x",
                "postgresql://app@db:5432/registry",
            ),
        ] {
            assert_eq!(parse(text).unwrap().login.to_string(), shown, "{text}");
        }
        let parsed =
            parse("postgresql://app:p%40ss@db/x?sslmode=verify-full&sslrootcert=/ca.crt&application_name=y")
                .unwrap();
        assert_eq!(parsed.login.password, Password::Given(SecretValue::new("p@ss")));
        assert_eq!(parsed.login.server.encryption, Encryption::VerifyFull);
        assert_eq!(parsed.login.server.authority, Some(Authority::File("/ca.crt".into())));
        assert_eq!(parsed.ignored, ["application_name"]);
        assert_eq!(parse("postgresql://app@db/x").unwrap().login.server.encryption, Encryption::Prefer);
    }

    #[test]
    fn nonsense_is_refused_without_repeating_the_password() {
        for (text, says) in [
            ("host=db user=app password=hunter2", "is not an address"),
            ("mysql://app:hunter2@db/x", "not a PostgreSQL address"),
            ("postgresql://:hunter2@db/x", "names no user"),
            ("postgresql://db:5432/x", "names no user"),
            ("postgresql://app:hunter2@/x", "empty host"),
            ("postgresql://app:hunter2@%2Fvar%2Frun/x", "no host"),
            ("postgresql://app:hunter2@a,b/x", "several hosts"),
            ("postgresql://app:hunter2@db:port/x", "is not an address"),
            ("postgresql://app:hunter2@db/x?sslmode=maybe", "sslmode `maybe`"),
            ("postgresql://app:hunter2@db/x?sslkey=/k", "client certificates"),
            ("postgresql://app:hunter2%00@db/x", "zero byte"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(!format!("{:?}", "postgresql://a:hunter2@b/c".parse::<Dsn>().unwrap()).contains("hunter2"));
    }
}
