//! Secret values: read by name when they are needed, never printed, wiped from memory when dropped.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use lifecycle::{Component, Kind};
use zeroize::Zeroizing;

/// A secret value. It has no `Display`, its `Debug` shows nothing, and its memory is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// Takes a value.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        SecretValue(Zeroizing::new(value.into()))
    }

    /// The value itself, for the one place that uses it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, for the one place that uses it; `None` when it is not UTF-8.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// A secret that cannot be read. Never holds the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// This process was not told where secrets are.
    #[error("{0} cannot be read: set ROLLCALL_SECRETS_DIR or ROLLCALL_SECRETS_ROOT")]
    NoStore(Component),
    /// There is no such Secret.
    #[error(
        "{secret} does not exist (looked in {place}); create it, or declare under `secrets` how it is generated or copied"
    )]
    Missing {
        /// The Secret.
        secret: Component,
        /// The folder that would be it.
        place: String,
    },
    /// The Secret is there, the key is not.
    #[error("{secret} has no key `{key}` (looked in {place}); add the key, or correct it in the document")]
    MissingKey {
        /// The Secret.
        secret: Component,
        /// The key.
        key: String,
        /// The folder that is the Secret.
        place: String,
    },
    /// The value is empty: whoever writes it may not be done yet.
    #[error("{secret} key `{key}` is empty; write the password into it")]
    Empty {
        /// The Secret.
        secret: Component,
        /// The key.
        key: String,
    },
    /// The value cannot be what it is used as.
    #[error("{secret} key `{key}` {problem}")]
    Unfit {
        /// The Secret.
        secret: Component,
        /// The key.
        key: String,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// The operating system refuses.
    #[error("{secret} key `{key}` cannot be read from {place}: {problem}")]
    Unreadable {
        /// The Secret.
        secret: Component,
        /// The key.
        key: String,
        /// The file.
        place: String,
        /// What the operating system says.
        problem: String,
    },
}

impl SecretError {
    /// Whether the secret may appear by itself: somebody may still be making it.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            SecretError::Missing { .. } | SecretError::MissingKey { .. } | SecretError::Empty { .. }
        )
    }
}

/// The folder of a namespace in which its ConfigMaps are.
const CONFIGMAPS: &str = ".configmaps";

/// Where secrets are read: folders of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretStore {
    /// Nowhere: nothing can be read.
    None,
    /// The folder of this process's own namespace: `<dir>/<secret>/<key>`. A Secret of another namespace is its
    /// neighbour: `<dir>/../<namespace>/<secret>/<key>`.
    Own {
        /// The folder.
        dir: PathBuf,
        /// The namespace it belongs to.
        namespace: String,
    },
    /// The whole store that secret-syncer keeps: `<root>/<namespace>/<secret>/<key>`.
    Root(PathBuf),
}

impl SecretStore {
    /// The folder that is a Secret or ConfigMap; the component must have its namespace spelled out.
    pub fn folder(&self, object: &Component) -> Option<PathBuf> {
        let namespace = object.namespace()?;
        let folder = match self {
            SecretStore::None => return None,
            SecretStore::Own { dir, namespace: own } if own == namespace => dir.clone(),
            SecretStore::Own { dir, .. } => dir.parent()?.join(namespace),
            SecretStore::Root(root) => root.join(namespace),
        };
        // No Secret's name begins with a dot, and both may have one name.
        let folder = if object.kind() == Kind::ConfigMap { folder.join(CONFIGMAPS) } else { folder };
        Some(folder.join(object.name()))
    }

    /// Reads one key of a Secret as it is, byte for byte.
    pub fn read(&self, secret: &Component, key: &str) -> Result<SecretValue, SecretError> {
        let folder = self.folder(secret).ok_or_else(|| SecretError::NoStore(secret.clone()))?;
        let file = folder.join(key);
        match std::fs::read(&file) {
            Ok(value) => Ok(SecretValue::new(value)),
            Err(error) if error.kind() == ErrorKind::NotFound && !folder.is_dir() => {
                Err(SecretError::Missing { secret: secret.clone(), place: folder.display().to_string() })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(SecretError::MissingKey {
                secret: secret.clone(),
                key: key.to_owned(),
                place: folder.display().to_string(),
            }),
            Err(error) => Err(SecretError::Unreadable {
                secret: secret.clone(),
                key: key.to_owned(),
                place: file.display().to_string(),
                problem: error.to_string(),
            }),
        }
    }

    /// Reads a password. An empty one, one that is not text, and one that ends with a line break (which an editor or
    /// `echo` put there, and which no login would ever match) are refused.
    pub fn password(&self, secret: &Component, key: &str) -> Result<SecretValue, SecretError> {
        let value = self.read(secret, key)?;
        let problem = match value.expose_text() {
            None => "is not UTF-8 text, so it cannot be a password; write it anew",
            Some("") => return Err(SecretError::Empty { secret: secret.clone(), key: key.to_owned() }),
            Some(text) if text.ends_with('\n') => {
                "ends with a line break that is hardly part of the password; write it without"
            }
            Some(text) if text.contains('\0') => "holds a zero byte, which no password may; write it anew",
            Some(_) => return Ok(value),
        };
        Err(SecretError::Unfit { secret: secret.clone(), key: key.to_owned(), problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, SecretStore) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("dev/db")).unwrap();
        let store = SecretStore::Root(root.path().to_owned());
        (root, store)
    }

    fn secret(text: &str) -> Component {
        text.parse().unwrap()
    }

    #[test]
    fn a_value_never_shows_in_debug() {
        assert_eq!(format!("{:?}", SecretValue::new("hunter2")), "SecretValue(…)");
    }

    #[test]
    fn what_is_missing_is_named() {
        let (_root, store) = store();
        let error = store.read(&secret("secret/dev/none"), "password").unwrap_err();
        assert!(
            error.is_transient() && error.to_string().contains("secret/dev/none does not exist"),
            "{error}"
        );
        let error = store.read(&secret("secret/dev/db"), "password").unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("no key `password`"), "{error}");
        let error = SecretStore::None.read(&secret("secret/dev/db"), "password").unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("ROLLCALL_SECRETS_DIR"), "{error}");
    }

    #[test]
    fn passwords_that_cannot_log_in_are_refused_without_being_shown() {
        let (root, store) = store();
        for (value, says) in [("", "is empty"), ("hunter2\n", "line break"), ("hun\0ter2", "zero byte")] {
            std::fs::write(root.path().join("dev/db/password"), value).unwrap();
            let error = store.password(&secret("secret/dev/db"), "password").unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("hun"), "{error}");
        }
        std::fs::write(root.path().join("dev/db/password"), "it's \" \\ ok ").unwrap();
        let value = store.password(&secret("secret/dev/db"), "password").unwrap();
        assert_eq!(value.expose_text(), Some("it's \" \\ ok "));
    }

    #[test]
    fn another_namespace_is_the_neighbour_folder() {
        let (root, _) = store();
        let own = SecretStore::Own { dir: root.path().join("dev"), namespace: "dev".to_owned() };
        assert_eq!(own.folder(&secret("secret/dev/db")), Some(root.path().join("dev/db")));
        assert_eq!(own.folder(&secret("secret/prod/db")), Some(root.path().join("prod/db")));
        assert_eq!(own.folder(&secret("configmap/prod/db")), Some(root.path().join("prod/.configmaps/db")));
    }
}
