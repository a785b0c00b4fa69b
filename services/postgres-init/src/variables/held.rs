//! What environment variables hold, read as a Secret is: the rest of the service reads passwords by name, wherever they are.

use std::collections::BTreeMap;
use std::fmt;

use chassis::SecretValue;
use chassis::secret::{SecretError, SecretReader};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use lifecycle::Component;

/// Values by the variables that hold them. `Debug` shows none.
#[derive(Clone, Default)]
pub struct Held(BTreeMap<String, SecretValue>);

impl Held {
    /// Values by the variables that hold them.
    pub fn new(values: BTreeMap<String, SecretValue>) -> Held {
        Held(values)
    }

    /// The same with one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: SecretValue) -> Held {
        self.0.insert(name.to_owned(), value);
        self
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SecretReader for Held {
    fn read<'a>(
        &'a self,
        object: &'a Component,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, SecretValue>>, SecretError>> {
        let found = (object.name() == super::SECRET).then(|| self.0.clone());
        ready(Ok(found)).boxed()
    }

    fn place(&self) -> String {
        "the environment variables of this process".to_owned()
    }

    fn namespace(&self) -> BoxFuture<'_, Option<String>> {
        ready(None).boxed()
    }
}
