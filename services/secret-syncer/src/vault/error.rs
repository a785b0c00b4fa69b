//! What a Vault refuses, judged by the status of its answer and never by its words.

use std::path::PathBuf;

/// Why a Vault gave nothing. Never holds a value, a token, or the words of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// It cannot be asked as it is described.
    #[error("the vault {url} cannot be used: {problem}")]
    Unusable {
        /// Its address.
        url: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// What was asked for cannot be the path of a secret.
    #[error("`{place}` is no path of a vault: write names with `/` only between them")]
    NoPath {
        /// Where it would be.
        place: String,
    },
    /// No answer, or not a whole one.
    #[error("the vault {url} cannot be reached: {reason}")]
    Unreachable {
        /// Its address.
        url: String,
        /// What the connection said.
        reason: String,
    },
    /// Who answers cannot prove to be the server.
    #[error(
        "who answers at {url} does not prove to be it: {reason}; give the certificate authority of the vault as `tls: {{ca: …}}`"
    )]
    Untrusted {
        /// The address.
        url: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The token of the service account cannot be read.
    #[error(
        "the service-account token {} cannot be read: {problem}; run in a pod with automountServiceAccountToken, or use another login", .file.display()
    )]
    NoIdentity {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        problem: String,
    },
    /// The login is refused.
    #[error("the vault {url} refuses the {login} login ({status}): {hint}")]
    Denied {
        /// Its address.
        url: String,
        /// Which login.
        login: &'static str,
        /// The HTTP status.
        status: u16,
        /// What to look at.
        hint: &'static str,
    },
    /// Logged in, and no policy allows it.
    #[error(
        "the vault {url} forbids reading {place}; its policy must say: path \"{place}\" {{ capabilities = [\"read\"] }}"
    )]
    Forbidden {
        /// Its address.
        url: String,
        /// What was to be read.
        place: String,
    },
    /// Nothing is mounted there.
    #[error(
        "the vault has no secrets engine at `{mount}`; enable a KV version 2 engine, or correct the mount"
    )]
    NoEngine {
        /// The mount.
        mount: String,
    },
    /// What is mounted there is something else.
    #[error(
        "the secrets engine at `{mount}` is not KV version 2; `vault kv enable-versioning {mount}`, or name another mount"
    )]
    NotVersionTwo {
        /// The mount.
        mount: String,
    },
    /// It is sealed, a standby, overloaded or in trouble.
    #[error("the vault {url} answers {status}{}; trying again later", if *status == 503 { " (sealed, or down for maintenance)" } else { "" })]
    Busy {
        /// Its address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// Any other answer.
    #[error("the vault {url} refuses {place}: {status}")]
    Refused {
        /// Its address.
        url: String,
        /// What was asked.
        place: String,
        /// The HTTP status.
        status: u16,
    },
    /// What answers sends us elsewhere. A token does not follow.
    #[error(
        "who answers at {url} redirects ({status}), which a token does not follow; give the address of the active server, or of what balances among them"
    )]
    Redirected {
        /// Its address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer has another form than the API documents.
    #[error("what answers at {url} for {place} does not answer as a vault does; is it one?")]
    Unreadable {
        /// Its address.
        url: String,
        /// What was asked.
        place: String,
    },
    /// A value that cannot be a value of a Secret.
    #[error(
        "`{key}` of {place} is neither text nor a whole number nor true or false; write it as text, `vault kv patch` does"
    )]
    Unfit {
        /// The secret.
        place: String,
        /// The key.
        key: String,
    },
}

impl VaultError {
    /// Whether trying again may help without anybody's doing something.
    pub fn is_transient(&self) -> bool {
        match self {
            VaultError::Unreachable { .. }
            | VaultError::Untrusted { .. }
            | VaultError::Busy { .. }
            | VaultError::Redirected { .. }
            // A projected token is there a moment after the pod is.
            | VaultError::NoIdentity { .. } => true,
            VaultError::Unusable { .. }
            | VaultError::NoPath { .. }
            | VaultError::Denied { .. }
            | VaultError::Forbidden { .. }
            | VaultError::NoEngine { .. }
            | VaultError::NotVersionTwo { .. }
            | VaultError::Refused { .. }
            | VaultError::Unreadable { .. }
            | VaultError::Unfit { .. } => false,
        }
    }
}
