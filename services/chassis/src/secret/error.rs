//! Why a secret cannot be read.

use lifecycle::Component;

/// A secret that cannot be read. Never holds the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// This process was not told where secrets are.
    #[error("{0} cannot be read: set ROLLCALL_SECRETS_DIR or ROLLCALL_SECRETS_ROOT")]
    NoStore(Component),
    /// This process does not say of itself that it reads it, so no Role allows it either.
    #[error(
        "{0} is not read: it is not among what this process asks to read; this is a mistake in Rollcall, report it"
    )]
    NotAsked(Component),
    /// There is no such Secret.
    #[error(
        "{secret} does not exist (looked in {place}); create it, or declare under `secrets` how it is generated or copied"
    )]
    Missing {
        /// The Secret.
        secret: Component,
        /// Where it would be: a folder, or who was asked.
        place: String,
    },
    /// The Secret is there, the key is not.
    #[error("{secret} has no key `{key}` (looked in {place}); add the key, or correct it in the document")]
    MissingKey {
        /// The Secret.
        secret: Component,
        /// The key.
        key: String,
        /// Where it is: a folder, or who was asked.
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
    /// No Role allows it.
    #[error("{secret} cannot be read: forbidden; {remedy}")]
    Forbidden {
        /// The Secret.
        secret: Component,
        /// Which rule of which Role would allow it.
        remedy: String,
    },
    /// Whoever keeps it cannot be asked just now.
    #[error("{secret} cannot be read now: {problem}")]
    Unavailable {
        /// The Secret.
        secret: Component,
        /// What keeps us from asking.
        problem: String,
    },
    /// Whoever keeps it will not answer this question, or not in a way that is understood.
    #[error("{secret} cannot be read: {problem}")]
    Refused {
        /// The Secret.
        secret: Component,
        /// What is wrong, and what to do.
        problem: String,
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
    /// Whether it may be readable later by itself: somebody may still be making it, or who keeps it is away.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            SecretError::Missing { .. }
                | SecretError::MissingKey { .. }
                | SecretError::Empty { .. }
                | SecretError::Unavailable { .. }
        )
    }
}
