//! What values are read from that no store keeps: clients of an identity provider, Vault, sops files.

use std::fmt;
use std::pin::Pin;

use super::{Contents, Error};
use crate::spec::Source;

/// A reader of such sources.
pub trait Outside: fmt::Debug + Send + Sync {
    /// Reads a source; none when it does not exist.
    fn read<'a>(
        &'a self,
        source: &'a Source,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Contents>, Error>> + Send + 'a>>;
}

/// Reads nothing: for where no source lies outside the store.
#[derive(Debug, Clone, Copy)]
pub struct Nowhere;

impl Outside for Nowhere {
    fn read<'a>(
        &'a self,
        source: &'a Source,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Contents>, Error>> + Send + 'a>> {
        Box::pin(async move { Err(Error::NoReader(source.clone(), "nothing says where it is")) })
    }
}
