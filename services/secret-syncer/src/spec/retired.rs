//! Where the values are that rotated ones have followed: under a key of the same Secret, if its document says which.

use std::collections::BTreeMap;

use lifecycle::Component;
use lifecycle::document::Environment;

use super::{Place, Source};

/// For a key of a Secret the one that keeps its value of before.
#[derive(Debug, Default)]
pub(super) struct Retired(BTreeMap<(Component, String), String>);

impl Retired {
    /// As the documents say.
    pub(super) fn of(environment: &Environment) -> Self {
        let kept = environment.secrets().flat_map(|declared| {
            let previous = declared.spec.rotate.as_ref().map(|rotate| rotate.previous.clone());
            let of = move |(key, previous)| ((declared.component.clone(), key), previous);
            previous.unwrap_or_default().into_iter().map(of)
        });
        Retired(kept.collect())
    }

    /// The key that keeps what another one held.
    pub(super) fn key(&self, secret: &Component, key: &str) -> Option<&str> {
        self.0.get(&(secret.clone(), key.to_owned())).map(String::as_str)
    }

    /// Where that is which was at a place before.
    pub(super) fn place(&self, place: &Place) -> Option<Place> {
        let Source::Object(secret) = &place.source else { return None };
        let key = self.key(secret, &place.key)?.to_owned();
        Some(Place { source: place.source.clone(), key })
    }
}
