//! What a Keycloak answers: a status, a body that may hold secrets, and its words about a failure.

use chassis::SecretValue;
use reqwest::StatusCode;
use zeroize::Zeroizing;

/// How much of Keycloak's own words an error repeats.
const WORDS_MAX: usize = 200;

/// An answer: its status is a success, or one of those the caller knows what to do with.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// What Keycloak says of a failure.
#[derive(serde::Deserialize, Default)]
struct Failure {
    #[serde(default)]
    error: Option<String>,
    #[serde(default, rename = "errorMessage")]
    message: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
}

impl Answer {
    /// Whether a failure is told in Keycloak's manner: a JSON object that says something.
    pub(super) fn is_keycloaks(&self) -> bool {
        let failure = self.failure();
        failure.error.is_some() || failure.message.is_some()
    }

    /// Whether a failure is told by something else: a page of a proxy, say, or of another server.
    pub(super) fn is_strange(&self) -> bool {
        !self.body.is_empty() && !self.is_keycloaks()
    }

    fn failure(&self) -> Failure {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Keycloak's `error` code, where it is one.
    pub(super) fn code(&self) -> Option<String> {
        let is_code = |text: &String| {
            text.len() <= 64 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        self.failure().error.filter(is_code)
    }

    /// Keycloak's own words, short, on one line, without anything secret that we sent.
    pub(super) fn words(&self, secrets: &[Option<&SecretValue>]) -> String {
        let failure = self.failure();
        let Some(words) = failure.error_description.or(failure.message).or(failure.error) else {
            return String::new();
        };
        let mut words = words.replace(char::is_control, " ");
        for secret in secrets.iter().flatten().filter_map(|secret| secret.expose_text()) {
            if !secret.is_empty() {
                words = words.replace(secret, "…");
            }
        }
        words.chars().take(WORDS_MAX).collect()
    }
}
