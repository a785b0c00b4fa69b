//! What goes wrong with a Keycloak, judged by HTTP status and by Keycloak's `error` code. Never holds a value.

use chassis::converge::Fault;
use chassis::secret::SecretError;
use lifecycle::document::SecretKey;

/// A value that cannot be read just now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unread {
    /// What, where and what to do; never the value.
    pub reason: String,
    /// Whether it may appear by itself.
    pub transient: bool,
}

impl From<SecretError> for Unread {
    fn from(error: SecretError) -> Self {
        Unread { transient: error.is_transient(), reason: error.to_string() }
    }
}

/// What goes wrong with a Keycloak.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nobody answers, or not in time, or whoever answers is not who it should be.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// The server and its address.
        server: String,
        /// What the network says.
        reason: String,
    },
    /// A secret of ours or a certificate authority cannot be read.
    #[error("{server}: {source}")]
    Value {
        /// The server and its address.
        server: String,
        /// Why.
        source: Unread,
    },
    /// The service account is not let in.
    #[error(
        "{server}: realm `{realm}` does not let client `{client}` log in ({code}); see that it has a service account and that {secret} holds its secret"
    )]
    Login {
        /// The server and its address.
        server: String,
        /// The realm it logs in to.
        realm: String,
        /// Its client id.
        client: String,
        /// The secret that was used.
        secret: SecretKey,
        /// Keycloak's `error` code, or the HTTP status.
        code: String,
    },
    /// The realm to log in to is not there.
    #[error("{server}: realm `{realm}`, in which client `{client}` is to log in, does not exist")]
    LoginRealm {
        /// The server and its address.
        server: String,
        /// The realm.
        realm: String,
        /// The client id.
        client: String,
    },
    /// The service account may not do this, or not even look.
    #[error("{server} does not let client `{client}` {action}; give its service account {needs}")]
    Denied {
        /// The server and its address.
        server: String,
        /// The service account's client id.
        client: String,
        /// What was tried.
        action: String,
        /// Which role suffices.
        needs: String,
        /// The HTTP status, or none when Keycloak answered with what a blind one sees.
        status: u16,
    },
    /// Keycloak refuses what was asked of it.
    #[error("{server}: cannot {action}: {status}{}", said(says))]
    Refused {
        /// The server and its address.
        server: String,
        /// What was tried.
        action: String,
        /// The HTTP status.
        status: u16,
        /// Keycloak's `error` code; none when it gave none.
        code: Option<String>,
        /// What it says to that, with every value we sent blotted out.
        says: String,
    },
    /// The server, or what stands before it, is not well.
    #[error("{server}: cannot {action}: it answers {status}")]
    Unwell {
        /// The server and its address.
        server: String,
        /// What was tried.
        action: String,
        /// The HTTP status.
        status: u16,
    },
    /// What answers does not speak like Keycloak.
    #[error(
        "{server}: cannot {action}: the answer {problem}; see that the address is Keycloak's own and that nothing before it answers instead"
    )]
    Answer {
        /// The server and its address.
        server: String,
        /// What was tried.
        action: String,
        /// What is wrong with it; never the answer itself.
        problem: String,
    },
    /// Something changed after it was looked at.
    #[error("{server}: {what} changed while it was worked on; it is looked at again")]
    Changed {
        /// The server and its address.
        server: String,
        /// What.
        what: String,
    },
}

fn said(says: &str) -> String {
    if says.is_empty() { String::new() } else { format!(" ({says})") }
}

impl Fault for Error {
    fn is_transient(&self) -> bool {
        match self {
            Error::Unreachable { .. }
            | Error::LoginRealm { .. }
            | Error::Unwell { .. }
            // Proxies answer with pages of their own while the server behind them starts.
            | Error::Answer { .. }
            | Error::Changed { .. } => true,
            Error::Value { source, .. } => source.transient,
            // What is wrong with a request has a code. Without one it may be Keycloak's database: of two that make a thing
            // at once it tells one that its request is bad.
            Error::Refused { status, code, .. } => *status == 400 && code.is_none(),
            Error::Login { .. } | Error::Denied { .. } => false,
        }
    }

    fn code(&self) -> String {
        match self {
            Error::Login { code, .. } => code.clone(),
            Error::Denied { status, .. } | Error::Refused { status, .. } | Error::Unwell { status, .. } => {
                status.to_string()
            }
            Error::LoginRealm { .. } => "404".to_owned(),
            Error::Unreachable { .. }
            | Error::Value { .. }
            | Error::Answer { .. }
            | Error::Changed { .. } => String::new(),
        }
    }
}
