//! The login that an address copied from an application describes: `postgresql://user@host:port/database?sslmode=require`.

use postgres::address::Address;

use crate::probe::{Authority, Encryption, Login, Password, Server};

/// What an address says.
#[derive(Debug)]
pub(super) struct Parsed {
    /// The login it describes; its password is that of the address, or none.
    pub(super) login: Login,
    /// Parameters that say nothing about reaching the server.
    pub(super) ignored: Vec<String>,
}

/// Reads an address. The error never repeats it.
pub(super) fn parsed(address: &Address) -> Result<Parsed, String> {
    const SHAPE: &str = "write postgresql://user@host:port/database";
    let said = address.read().map_err(|error| format!("{error}; {SHAPE}"))?;
    if said.host.is_empty() {
        return Err(format!("names no host; {SHAPE}"));
    }
    if said.user.is_empty() {
        return Err(format!("names no user; only a login proves that the user can work; {SHAPE}"));
    }
    Ok(Parsed {
        login: Login {
            server: Server {
                host: said.host,
                port: said.port.unwrap_or(5432),
                encryption: said.tls.unwrap_or(Encryption::Prefer),
                authority: said.ca.map(Authority::File),
            },
            // As libpq: the database is called like the user when none is named.
            database: if said.database.is_empty() { said.user.clone() } else { said.database },
            role: said.user,
            password: said.password.map_or(Password::None, Password::Given),
        },
        ignored: said.ignored,
    })
}

#[cfg(test)]
mod tests {
    use chassis::SecretValue;

    use super::*;

    fn parse(text: &str) -> Result<Parsed, String> {
        parsed(&text.parse().unwrap())
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
        assert!(
            !format!("{:?}", "postgresql://a:hunter2@b/c".parse::<Address>().unwrap()).contains("hunter2")
        );
    }
}
