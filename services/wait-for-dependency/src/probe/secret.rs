//! A Secret holds its keys, and none of them is empty. Values are read and forgotten; nothing here shows one.

use std::fmt;

use chassis::SecretValue;
use chassis::secret::{SecretError, SecretStore};
use lifecycle::document::SecretKey;
use lifecycle::{Component, Evidence};

use super::{NotYet, State};

/// The certificate authorities that a key holds. Without them nothing is known of the peer they are for.
pub(super) async fn authority(key: &SecretKey, secrets: &SecretStore) -> Result<Vec<u8>, NotYet> {
    let value = read(key, secrets).await.map_err(NotYet::blind)?;
    if value.expose().is_empty() {
        return Err(NotYet::new(State::Absent, format!("{key} is empty")).blind());
    }
    Ok(value.expose().to_vec())
}

async fn read(key: &SecretKey, secrets: &SecretStore) -> Result<SecretValue, NotYet> {
    secrets.read(&key.secret, &key.key).await.map_err(|error| unreadable(&error))
}

/// Ready when the Secret holds every one of these keys and none is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret {
    /// The Secret, with its namespace.
    pub secret: Component,
    /// Its keys. When no document says which it has: at least one, whichever it is.
    pub keys: Vec<String>,
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keys.is_empty() {
            self.secret.fmt(f)
        } else {
            write!(f, "{}:{}", self.secret, self.keys.join(","))
        }
    }
}

impl Secret {
    pub(super) async fn look(&self, secrets: &SecretStore) -> Result<Evidence, NotYet> {
        let held = secrets.contents(&self.secret, &self.keys).await.map_err(|error| unreadable(&error))?;
        if held.is_empty() {
            return Err(NotYet::new(State::Absent, format!("{} holds no key", self.secret)));
        }
        match held.iter().find(|(_, value)| value.expose().is_empty()) {
            Some((key, _)) => {
                Err(NotYet::new(State::Absent, format!("{} key `{key}` is empty", self.secret)))
            }
            None => Ok(Evidence::level("present")),
        }
    }
}

/// What a secret that cannot be read means. One that no Role allows is waited for: who waits in a pod may be there before its
/// Role is, and ending would only make the kubelet start it again.
pub(super) fn unreadable(error: &SecretError) -> NotYet {
    let state = match error {
        SecretError::Missing { .. } | SecretError::MissingKey { .. } | SecretError::Empty { .. } => {
            State::Absent
        }
        SecretError::Forbidden { .. } => return NotYet::new(State::Denied, error).blind(),
        SecretError::Unreadable { .. } => State::Denied,
        SecretError::Unfit { .. } => State::Unhealthy,
        SecretError::NoStore(_)
        | SecretError::NotAsked(_)
        | SecretError::Unavailable { .. }
        | SecretError::Refused { .. } => State::Unknown,
    };
    NotYet { never: !error.is_transient(), ..NotYet::new(state, error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_key_must_be_there_and_not_empty() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("dev/db");
        std::fs::create_dir_all(&folder).unwrap();
        let store = SecretStore::Root(root.path().to_owned());
        let look = async |keys: &[&str]| {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            Secret { secret: "secret/dev/db".parse().unwrap(), keys }.look(&store).await
        };
        std::fs::write(folder.join("full"), "hunter2").unwrap();
        std::fs::write(folder.join("empty"), "").unwrap();
        assert_eq!(look(&["full"]).await.unwrap().level, "present");
        for keys in [&["full", "none"][..], &["empty"], &["full", "empty"]] {
            let error = look(keys).await.unwrap_err();
            assert_eq!((error.state, error.never), (State::Absent, false), "{error}");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert_eq!(look(&[]).await.unwrap_err().state, State::Absent, "without names every key counts");
        std::fs::remove_file(folder.join("empty")).unwrap();
        assert_eq!(look(&[]).await.unwrap().level, "present");
        std::fs::remove_file(folder.join("full")).unwrap();
        assert_eq!(look(&[]).await.unwrap_err().state, State::Absent, "nothing there is nothing seen");
    }

    #[tokio::test]
    async fn without_its_authority_nothing_is_known_of_a_peer_and_an_empty_password_is_not_yet() {
        use crate::probe::{Authority, Encryption, Kafka, Login, Password, Probe, Server, probe};
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("dev/db")).unwrap();
        let store = SecretStore::Root(root.path().to_owned());
        let key = |key: &str| SecretKey { secret: "secret/dev/db".parse().unwrap(), key: key.to_owned() };
        let authority = Some(Authority::Secret(key("ca")));
        let kafka = Probe::Kafka(Kafka {
            brokers: vec!["k:1".to_owned()],
            expect_brokers: 1,
            tls: Some(authority.clone()),
            topic: None,
        });
        let login = |password| {
            let server = Server {
                host: "db".into(),
                port: 1,
                encryption: Encryption::Require,
                authority: authority.clone(),
            };
            Probe::Login(Login { server, database: "x".into(), role: "x".into(), password })
        };
        for written in [None, Some("")] {
            if let Some(text) = written {
                std::fs::write(root.path().join("dev/db/ca"), text).unwrap();
            }
            for probed in [&kafka, &login(Password::None)] {
                let error = probe(probed, &store).await.unwrap_err();
                assert_eq!((error.state, error.blind, error.never), (State::Absent, true, false), "{error}");
            }
        }
        std::fs::write(root.path().join("dev/db/password"), "").unwrap();
        let error = probe(&login(Password::Secret(key("password"))), &store).await.unwrap_err();
        assert_eq!((error.state, error.never), (State::Absent, false), "{error}");
    }

    #[test]
    fn who_cannot_be_asked_may_be_asked_later_and_what_no_role_allows_is_waited_for() {
        let secret: Component = "secret/dev/db".parse().unwrap();
        let (remedy, problem) = ("a Role must allow it".to_owned(), "refused".to_owned());
        for (error, state, never) in [
            (SecretError::Forbidden { secret: secret.clone(), remedy }, State::Denied, false),
            (
                SecretError::Unavailable { secret: secret.clone(), problem: problem.clone() },
                State::Unknown,
                false,
            ),
            (SecretError::Refused { secret, problem }, State::Unknown, true),
        ] {
            let found = unreadable(&error);
            assert_eq!((found.state, found.never, found.blind), (state, never, true), "{found}");
            assert_eq!(found.error, error.to_string());
        }
    }

    #[tokio::test]
    async fn without_a_store_it_will_never_work() {
        let probe = Secret { secret: "secret/dev/db".parse().unwrap(), keys: vec!["k".to_owned()] };
        assert!(probe.look(&SecretStore::None).await.unwrap_err().never);
    }
}
