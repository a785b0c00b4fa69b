//! Reading the values that a Keycloak is given or logged in to with, wherever Secrets are kept.

use chassis::SecretValue;
use chassis::secret::SecretStore;
use lifecycle::document::SecretKey;

use super::error::Unread;

/// Where values are read by name: folders, or an API server.
pub trait Values: Send + Sync {
    /// Reads one key of a Secret as it is, byte for byte.
    fn value(&self, key: &SecretKey) -> impl Future<Output = Result<SecretValue, Unread>> + Send;
}

impl Values for SecretStore {
    async fn value(&self, key: &SecretKey) -> Result<SecretValue, Unread> {
        Ok(self.read(&key.secret, &key.key).await?)
    }
}

/// Reads a secret that can log somebody in: text, without a line break that an editor left at its end.
pub(super) async fn password(values: &impl Values, key: &SecretKey) -> Result<SecretValue, Unread> {
    let value = values.value(key).await?;
    let problem = match value.expose_text() {
        Some("") => "is empty; write the client's secret into it",
        Some(text) if !text.contains(['\n', '\r', '\0']) => return Ok(value),
        Some(_) => "holds a line break or a zero byte, which is hardly part of the secret; write it without",
        None => "is not UTF-8 text, so it cannot be a client's secret; write it anew",
    };
    // Whoever writes it may not be done yet.
    Err(Unread { reason: format!("{key} {problem}"), transient: value.expose().is_empty() })
}
