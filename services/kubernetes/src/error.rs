//! What an API server refuses, judged by the code and reason of its answer.

use std::time::Duration;

use crate::Name;

/// Why a call failed. Never holds a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing says where the API server is, or what says it cannot be used.
    #[error(
        "no API server of Kubernetes can be used: {0}; run in a pod with a service account, or set KUBECONFIG"
    )]
    Unconfigured(String),
    /// The answer did not come, or not whole.
    #[error("{what}: the API server cannot be reached: {reason}")]
    Unreachable {
        /// What was asked.
        what: String,
        /// What the connection said.
        reason: String,
    },
    /// The API server does not know who we are: the token has expired, or is for somebody else.
    #[error(
        "{what}: the API server does not accept our credentials; is the service-account token still valid?"
    )]
    Unauthenticated {
        /// What was asked.
        what: String,
    },
    /// We may not: no Role allows it, or a quota or an admission policy is against it.
    #[error("cannot {verb} {name}: forbidden; a Role in namespace {namespace} must allow `{verb}` on {resource} with resourceNames [{object}], and no quota or admission policy be against it",
        namespace = name.namespace, resource = name.resource.plural(), object = name.name)]
    Forbidden {
        /// What was tried, as RBAC calls it.
        verb: &'static str,
        /// On what.
        name: Name,
    },
    /// Somebody else has written a field that we would write.
    #[error("{name}: somebody else holds {held}; leave it to them, or let them give it up")]
    Conflict {
        /// The object.
        name: Name,
        /// Which fields, and who, as the server knows them.
        held: String,
    },
    /// The object changed after it was looked at.
    #[error("{0} changed after it was looked at; it is looked at again")]
    Changed(Name),
    /// The namespace is being deleted: nothing can be made in it.
    #[error("{name}: namespace {} is being deleted", name.namespace)]
    Terminating {
        /// The object.
        name: Name,
    },
    /// The namespace does not exist.
    #[error("{name}: namespace {} does not exist; make it first", name.namespace)]
    NoNamespace {
        /// The object.
        name: Name,
    },
    /// The API server, or what guards its door, says no to the object itself.
    #[error("{what}: the API server refuses it: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// The HTTP status; 403 where we may not.
        code: u16,
        /// Its words, which name fields, not values.
        reason: String,
    },
    /// The API server has trouble or asks for patience.
    #[error("{what}: the API server answers {code}; trying again later")]
    Busy {
        /// What was asked.
        what: String,
        /// The HTTP status.
        code: u16,
        /// How much patience, if it says so.
        after: Option<Duration>,
    },
    /// No request can be made of it, for example because a name is none.
    #[error("{what}: no request can be made of it: {reason}; correct the name")]
    Unaskable {
        /// What was to be asked.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What it answered cannot be read.
    #[error("{what}: the answer cannot be read: {reason}")]
    Unreadable {
        /// What was asked.
        what: String,
        /// Which shape was expected; never what was found.
        reason: String,
    },
}

impl Error {
    /// What sort of error it is, in one word, for what is counted and announced.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Unconfigured(_) => "Unconfigured",
            Error::Unreachable { .. } => "Unreachable",
            Error::Unauthenticated { .. } => "Unauthorized",
            Error::Forbidden { .. } => "Forbidden",
            Error::Conflict { .. } => "Conflict",
            Error::Changed(_) => "Changed",
            Error::Terminating { .. } => "NamespaceTerminating",
            Error::NoNamespace { .. } => "NoNamespace",
            Error::Refused { .. } => "Invalid",
            Error::Busy { .. } => "Busy",
            Error::Unaskable { .. } => "Unaskable",
            Error::Unreadable { .. } => "Unreadable",
        }
    }

    /// Whether trying again may help without anybody's doing something.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. }
            | Error::Unauthenticated { .. }
            | Error::Changed(_)
            | Error::Terminating { .. }
            | Error::NoNamespace { .. }
            | Error::Busy { .. } => true,
            Error::Unconfigured(_)
            | Error::Forbidden { .. }
            | Error::Conflict { .. }
            | Error::Refused { .. }
            | Error::Unaskable { .. }
            | Error::Unreadable { .. } => false,
        }
    }
}
