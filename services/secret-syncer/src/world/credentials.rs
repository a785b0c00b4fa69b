//! Values of the store, for whoever logs in with them.

use chassis::SecretValue;
use chassis::converge::Fault;
use lifecycle::document::SecretKey;

use super::Backend;
use crate::keycloak::{Unread, Values};

/// Reads values from the store that secret-syncer keeps.
#[derive(Debug, Clone)]
pub struct InStore<B>(pub B);

impl<B: Backend> Values for InStore<B> {
    async fn value(&self, key: &SecretKey) -> Result<SecretValue, Unread> {
        let unread = |reason: String, transient| Unread { reason, transient };
        let contents = self.0.read(&key.secret).await;
        let contents =
            contents.map_err(|error| unread(chassis::exit::chain(&error), error.is_transient()))?;
        let Some(mut contents) = contents else {
            return Err(unread(format!("{} does not exist", key.secret), true));
        };
        let missing = || unread(format!("{} has no key `{}`", key.secret, key.key), true);
        contents.keys.remove(&key.key).ok_or_else(missing)
    }
}
