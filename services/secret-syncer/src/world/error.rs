//! What goes wrong with stores and sources. Never holds a value.

use std::io::ErrorKind;
use std::path::Path;

use chassis::converge::Fault;
use lifecycle::Component;

use crate::escrow::EscrowError;
use crate::keycloak;
use crate::sops::SopsError;
use crate::spec::Source;
use crate::vault::VaultError;

/// What goes wrong with a store or a source. Never holds a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refuses.
    #[error("{object}: cannot {doing} {place}{}", advice(source))]
    Io {
        /// The object, or the store.
        object: String,
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        place: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The key cannot be kept in such a store.
    #[error(
        "{object}: a directory cannot keep a key named `{key}`; use letters, digits, `-`, `_` and `.`, and begin with none of the last"
    )]
    KeyName {
        /// The object.
        object: Component,
        /// The key.
        key: String,
    },
    /// Something is in the place of a key.
    #[error("{object}: {place} is in the way of key `{key}` and is no file; remove it")]
    InTheWay {
        /// The object.
        object: Component,
        /// The key.
        key: String,
        /// Where.
        place: String,
    },
    /// A value is larger than Kubernetes allows.
    #[error("{object}: key `{key}` is larger than 1 MiB; Kubernetes keeps no such value")]
    TooLarge {
        /// The object.
        object: Component,
        /// The key.
        key: String,
    },
    /// The object changed hands after it was looked at.
    #[error("{0} changed while it was written; it is looked at again")]
    Changed(Component),
    /// A value is not there any more.
    #[error("{from} key `{key}` went away while it was read")]
    SourceGone {
        /// The source.
        from: Source,
        /// The key in it.
        key: String,
    },
    /// No value can be made of what is there.
    #[error("{object} key `{key}`: {reason}")]
    Unmade {
        /// The object.
        object: Component,
        /// The key.
        key: String,
        /// Why, without a value.
        reason: String,
    },
    /// Another process is writing the same object and does not finish.
    #[error("{object}: another process has held {place} locked for {seconds} s; see that it ends")]
    Locked {
        /// The object.
        object: Component,
        /// Its folder.
        place: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Its owner has not given it to the namespace in which the copy is to stand.
    #[error("{source_object} is not given to namespace {namespace}: its owner's RoleBinding in namespace {} must let the group system:serviceaccounts:{namespace} `get` it by name", source_object.namespace().unwrap_or_default())]
    NotGiven {
        /// The original.
        source_object: Component,
        /// The copy's namespace.
        namespace: String,
    },
    /// This process was not told how to read such a source.
    #[error("{0} cannot be read: {1}")]
    NoReader(Source, &'static str),
    /// What was generated cannot be sealed.
    #[error(transparent)]
    Escrow(#[from] EscrowError),
    /// Keycloak's answer.
    #[error(transparent)]
    Keycloak(#[from] Box<keycloak::Error>),
    /// Vault's answer.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A sops file that cannot be read.
    #[error("the sops file {file}: {source}")]
    Sops {
        /// The file, as documents name it.
        file: String,
        /// What is wrong with it.
        source: SopsError,
    },
    /// The API server's answer.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::Error),
}

impl Error {
    /// Somebody else was faster: it is looked at again at once.
    pub(crate) fn is_race(&self) -> bool {
        matches!(self, Error::Changed(_) | Error::Kubernetes(kubernetes::Error::Changed(_)))
    }

    /// The store as a whole cannot be used.
    pub(super) fn store(root: &Path, doing: &'static str, source: std::io::Error) -> Self {
        Error::Io { object: "the store".to_owned(), doing, place: root.display().to_string(), source }
    }
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "; let this process's user read and write the store",
        ErrorKind::ReadOnlyFilesystem => "; the store must be on a file system that can be written",
        ErrorKind::StorageFull => "; free some space",
        _ => "",
    }
}

impl Fault for Error {
    fn is_transient(&self) -> bool {
        match self {
            Error::Io { source, .. } => !matches!(
                source.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::NotADirectory
                    | ErrorKind::Unsupported
                    | ErrorKind::InvalidInput
                    | ErrorKind::InvalidFilename
            ),
            Error::KeyName { .. }
            | Error::InTheWay { .. }
            | Error::TooLarge { .. }
            | Error::Unmade { .. }
            | Error::NoReader(..)
            | Error::NotGiven { .. }
            | Error::Escrow(_)
            | Error::Sops { .. } => false,
            Error::Changed(_) | Error::SourceGone { .. } | Error::Locked { .. } => true,
            Error::Keycloak(error) => error.is_transient(),
            Error::Vault(error) => error.is_transient(),
            Error::Kubernetes(error) => error.is_transient(),
        }
    }

    fn code(&self) -> String {
        match self {
            Error::Io { source, .. } => format!("{:?}", source.kind()),
            Error::Kubernetes(error) => error.code().to_owned(),
            Error::NotGiven { .. } => "NotGiven".to_owned(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_trying_again_may_cure_is_told_apart() {
        let io = |kind: ErrorKind| Error::Io {
            object: "secret/dev/x".to_owned(),
            doing: "write",
            place: "/store".to_owned(),
            source: kind.into(),
        };
        assert!(!io(ErrorKind::PermissionDenied).is_transient());
        assert!(io(ErrorKind::PermissionDenied).to_string().contains("let this process's user"));
        assert!(!io(ErrorKind::ReadOnlyFilesystem).is_transient());
        assert!(io(ErrorKind::StorageFull).is_transient());
        assert_eq!(io(ErrorKind::StorageFull).code(), "StorageFull");
    }
}
