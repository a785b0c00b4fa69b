//! Secret values: read by name when they are needed, never printed, wiped from memory when dropped.

mod error;
mod store;

use std::collections::BTreeMap;
use std::fmt;

use futures_util::future::BoxFuture;
use lifecycle::Component;
use zeroize::Zeroizing;

pub use error::SecretError;
pub use store::SecretStore;

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

/// Whoever reads Secrets and ConfigMaps from something else than files, such as a cluster. Nothing is asked before the first
/// read.
pub trait SecretReader: fmt::Debug + Send + Sync {
    /// Every key of one Secret or ConfigMap, read at one time; none when there is no such object. The component must have its
    /// namespace spelled out. Takes a bounded time and tries once.
    fn read<'a>(
        &'a self,
        object: &'a Component,
    ) -> BoxFuture<'a, Result<Option<BTreeMap<String, SecretValue>>, SecretError>>;

    /// Where it reads, in words, for messages.
    fn place(&self) -> String;

    /// The namespace that names written without one are in; none when nothing says it.
    fn namespace(&self) -> BoxFuture<'_, Option<String>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_never_shows_in_debug() {
        assert_eq!(format!("{:?}", SecretValue::new("hunter2")), "SecretValue(…)");
    }
}
