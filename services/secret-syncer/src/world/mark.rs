//! The mark on a copy: whose it is, what it follows, and which keys were written, so that nothing else is ever touched.

use std::collections::BTreeMap;
use std::fmt::Write;

use chassis::SecretValue;
use hmac::{Hmac, Mac};
use lifecycle::Component;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::plan::{Fingerprint, Marker};
use crate::spec::Owner;

/// Who copies what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub owner: Owner,
    /// What.
    pub source: Component,
}

/// The mark on a copy, JSON in a file or an annotation. Fields that a newer version adds are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    environment: Uuid,
    name: String,
    fragment: String,
    source: String,
    /// Makes the fingerprints of this copy unlike those of any other.
    salt: String,
    keys: BTreeMap<String, Fingerprint>,
}

impl Mark {
    /// A mark without keys.
    pub fn new(claim: &Claim) -> Self {
        Mark {
            environment: claim.owner.environment,
            name: claim.owner.name.clone(),
            fragment: claim.owner.fragment.clone(),
            source: claim.source.to_string(),
            salt: salt(),
            keys: BTreeMap::new(),
        }
    }

    /// A mark that is nobody's, for its salt.
    pub(super) fn scratch() -> Self {
        Mark {
            environment: Uuid::nil(),
            name: String::new(),
            fragment: String::new(),
            source: String::new(),
            salt: salt(),
            keys: BTreeMap::new(),
        }
    }

    /// Reads a mark. The text says what is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let mark: Mark = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        mark.source.parse::<Component>().map_err(|error| error.to_string())?;
        Ok(mark)
    }

    /// The mark as JSON.
    pub fn json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }

    /// Whether the claim's environment wrote it.
    pub fn is_of(&self, claim: &Claim) -> bool {
        self.environment == claim.owner.environment
    }

    /// The same mark, with the keys it notes, under this claim.
    #[must_use]
    pub fn under(self, claim: &Claim) -> Self {
        Mark { salt: self.salt, keys: self.keys, ..Mark::new(claim) }
    }

    /// Whether it notes a key.
    pub fn notes(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Notes a key with the value it has or gets.
    pub fn note(&mut self, key: &str, value: &SecretValue) {
        self.keys.insert(key.to_owned(), self.fingerprint(value));
    }

    /// Forgets a key.
    pub fn forget(&mut self, key: &str) {
        self.keys.remove(key);
    }

    /// What identifies a value: HMAC-SHA-256 under this mark's salt, the first half of it.
    pub fn fingerprint(&self, value: &SecretValue) -> Fingerprint {
        // HMAC takes keys of any length, so this cannot fail; if it ever did, values would only seem to differ.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.salt.as_bytes()) else {
            return String::new();
        };
        mac.update(value.expose());
        hex(&mac.finalize().into_bytes()[..16])
    }

    /// The mark as plan sees it.
    pub(super) fn marker(&self) -> Marker {
        match self.source.parse() {
            Ok(source) => Marker::Of {
                owner: Owner {
                    environment: self.environment,
                    name: self.name.clone(),
                    fragment: self.fragment.clone(),
                },
                source,
                keys: self.keys.clone(),
            },
            Err(error) => Marker::Unreadable(error.to_string()),
        }
    }
}

fn salt() -> String {
    hex(&rand::rng().random::<[u8; 32]>())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim {
            owner: Owner {
                environment: Uuid::from_u128(7),
                name: "dev".to_owned(),
                fragment: "base".to_owned(),
            },
            source: "secret/dev/source".parse().unwrap(),
        }
    }

    #[test]
    fn a_mark_reads_as_it_was_written_and_holds_no_value() {
        let mut mark = Mark::new(&claim());
        mark.note("password", &SecretValue::new("hunter2"));
        let json = mark.json().unwrap();
        assert_eq!(Mark::parse(&json).unwrap(), mark);
        assert!(!String::from_utf8(json).unwrap().contains("hunter2"));
    }

    #[test]
    fn a_fingerprint_tells_values_apart_and_means_nothing_elsewhere() {
        let (a, b) = (Mark::new(&claim()), Mark::new(&claim()));
        let (one, two) = (SecretValue::new("one"), SecretValue::new("two"));
        assert_eq!(a.fingerprint(&one), a.fingerprint(&one));
        assert_ne!(a.fingerprint(&one), a.fingerprint(&two));
        assert_ne!(a.fingerprint(&one), b.fingerprint(&one));
    }

    #[test]
    fn what_a_newer_version_adds_is_ignored_and_nonsense_is_not_a_mark() {
        let mut json = serde_json::to_value(Mark::new(&claim())).unwrap();
        json["later"] = true.into();
        assert!(Mark::parse(json.to_string().as_bytes()).is_ok());
        json["source"] = "nowhere".into();
        assert!(Mark::parse(json.to_string().as_bytes()).is_err());
        assert!(Mark::parse(b"").is_err());
    }
}
