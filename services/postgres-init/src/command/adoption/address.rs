//! A server as people name it: an address copied from an application, or libpq's variables.

use chassis::SecretValue;
use lifecycle::{Component, Kind};
use postgres::address::{Address, Said, authority, encryption};
use postgres::{Encryption, Server};

use crate::world::Access;

/// Why an address is of no use. Never repeats it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} {problem}; write --postgres postgresql://user@host:port/database, or set PGHOST, PGPORT, PGUSER, PGDATABASE"
)]
pub(super) struct AddressError {
    /// The flag or variable.
    pub(super) name: &'static str,
    /// What is wrong with it.
    pub(super) problem: String,
}

fn wrong(name: &'static str, problem: impl Into<String>) -> AddressError {
    AddressError { name, problem: problem.into() }
}

/// The server and the role that are meant. What the address leaves out, libpq's variables say; `env` answers those that are set.
///
/// # Errors
/// It names no host, or something in it is not understood.
pub(super) fn address(
    given: Option<&Address>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Access, AddressError> {
    let said = given.map_or_else(
        || Ok(Said::default()),
        |given| given.read().map_err(|problem| wrong("--postgres", problem)),
    )?;
    if said.password.is_some() {
        tracing::warn!(
            "--postgres holds a password, which everybody on this machine can read in the process list; use PGPASSWORD or --password-file"
        );
    }
    if !said.ignored.is_empty() {
        tracing::warn!(
            "--postgres: parameters that say nothing about reaching the server are ignored: {}",
            said.ignored.join(", ")
        );
    }
    let or = |said: String, name: &str| Some(said).filter(|said| !said.is_empty()).or_else(|| env(name));
    let host = or(said.host, "PGHOST").ok_or_else(|| wrong("PGHOST", "is not given"))?;
    if host.starts_with('/') || host.contains(',') {
        return Err(wrong("PGHOST", "names a socket or several hosts"));
    }
    let port = match (said.port, env("PGPORT")) {
        (Some(port), _) => port,
        (None, Some(port)) => port.parse().map_err(|_| wrong("PGPORT", "is not a port"))?,
        (None, None) => 5432,
    };
    let tls = match (said.tls, env("PGSSLMODE")) {
        (Some(tls), _) => tls,
        (None, Some(mode)) => encryption(&mode).map_err(|problem| wrong("PGSSLMODE", problem))?,
        (None, None) => Encryption::Prefer,
    };
    let file = said.ca.or_else(|| env("PGSSLROOTCERT").and_then(|file| authority(&file)));
    let ca = file
        .map(|file| {
            std::fs::read(&file).map_err(|error| wrong("sslrootcert", format!("{}: {error}", file.display())))
        })
        .transpose()?;
    Ok(Access {
        server: Server { component: Component::new(Kind::Postgres, "named"), host, port, tls, ca },
        user: or(said.user, "PGUSER").ok_or_else(|| wrong("PGUSER", "is not given"))?,
        password: said.password.or_else(|| env("PGPASSWORD").map(SecretValue::new)),
        // Every server has it, and nothing is to be found in it.
        database: or(said.database, "PGDATABASE").unwrap_or_else(|| "postgres".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: Option<&str>, env: &[(&str, &str)]) -> Result<Access, AddressError> {
        let given = text.map(|text| text.parse::<Address>().unwrap());
        let env =
            |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        address(given.as_ref(), &env)
    }

    #[test]
    fn an_address_goes_before_variables_and_these_fill_what_it_leaves_out() {
        let env = [("PGHOST", "other"), ("PGPORT", "6000"), ("PGUSER", "admin"), ("PGPASSWORD", "hunter2")];
        let access = read(None, &env).unwrap();
        assert_eq!(
            (access.server.host.as_str(), access.server.port, access.user.as_str()),
            ("other", 6000, "admin")
        );
        assert_eq!(
            (access.database.as_str(), access.password),
            ("postgres", Some(SecretValue::new("hunter2")))
        );
        let access = read(Some("postgresql://me%40x@[::1]:1/db?sslmode=require"), &env).unwrap();
        assert_eq!(
            (access.server.host.as_str(), access.server.port, access.user.as_str()),
            ("::1", 1, "me@x")
        );
        assert_eq!((access.database.as_str(), access.server.tls), ("db", Encryption::Require));
    }

    #[test]
    fn nonsense_is_refused_without_repeating_a_password() {
        for (text, says) in [
            ("mysql://a:hunter2@db/x", "not a PostgreSQL address"),
            ("host=db password=hunter2", "is not an address"),
            ("postgresql://a:hunter2@db/x?sslmode=maybe", "none of"),
            ("postgresql://a:hunter2@%2Frun/x", "socket"),
            ("postgresql://:hunter2@db/x", "PGUSER"),
        ] {
            let error = read(Some(text), &[]).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("hunter2"), "{text}: {error}");
        }
        assert!(read(None, &[("PGUSER", "a")]).unwrap_err().to_string().contains("PGHOST"));
        assert!(
            !format!("{:?}", "postgresql://a:hunter2@b/c".parse::<Address>().unwrap()).contains("hunter2")
        );
    }
}
