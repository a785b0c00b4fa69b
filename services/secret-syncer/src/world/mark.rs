//! The mark on what Rollcall made: whose it is, and of a copy what it follows and which keys were written, so that nothing
//! else is ever touched.

use std::collections::BTreeMap;
use std::fmt::Write;

use chassis::SecretValue;
use hmac::{Hmac, Mac};
use lifecycle::{Component, ComponentError};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::plan::{Fingerprint, Marker};
use crate::spec::Owner;

/// Who makes what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub owner: Owner,
    /// What it is copied from; none when it is generated.
    pub source: Option<Component>,
}

/// The mark on a Secret, JSON in a file or an annotation. Fields that a newer version adds are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    environment: Uuid,
    name: String,
    fragment: String,
    /// None on what is generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Makes the fingerprints of this Secret unlike those of any other.
    salt: String,
    /// The keys that were copied, none that was generated.
    keys: BTreeMap<String, Fingerprint>,
}

impl Mark {
    /// A mark without keys.
    pub fn new(claim: &Claim) -> Self {
        Mark {
            environment: claim.owner.environment,
            name: claim.owner.name.clone(),
            fragment: claim.owner.fragment.clone(),
            source: claim.source.as_ref().map(Component::to_string),
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
            source: None,
            salt: salt(),
            keys: BTreeMap::new(),
        }
    }

    /// Reads a mark. The text says what is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let mark: Mark = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        mark.source()?;
        Ok(mark)
    }

    /// The mark as JSON.
    pub fn json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }

    /// Whether the claim's owner wrote it.
    pub fn is_of(&self, claim: &Claim) -> bool {
        self.owner().is(&claim.owner)
    }

    /// The same mark under this claim. It notes the same keys, but none when the claim is to generate: a copied value
    /// that is kept as if it was generated must not follow anything again.
    #[must_use]
    pub fn under(self, claim: &Claim) -> Self {
        let keys = if claim.source.is_some() { self.keys } else { BTreeMap::new() };
        Mark { salt: self.salt, keys, ..Mark::new(claim) }
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
        match self.source() {
            Ok(source) => Marker::Of { owner: self.owner(), source, keys: self.keys.clone() },
            Err(why) => Marker::Unreadable(why),
        }
    }

    fn owner(&self) -> Owner {
        Owner { environment: self.environment, name: self.name.clone(), fragment: self.fragment.clone() }
    }

    fn source(&self) -> Result<Option<Component>, String> {
        let source = self.source.as_deref().map(str::parse).transpose();
        source.map_err(|error: ComponentError| error.to_string())
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
            source: Some("secret/dev/source".parse().unwrap()),
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

    #[test]
    fn a_mark_on_what_is_generated_has_no_source_and_notes_no_key() {
        let mut copy = Mark::new(&claim());
        copy.note("password", &SecretValue::new("hunter2"));
        let generated = copy.under(&Claim { source: None, ..claim() });
        assert!(!generated.notes("password"));
        let json = generated.json().unwrap();
        assert!(!String::from_utf8(json.clone()).unwrap().contains("source"));
        assert_eq!(Mark::parse(&json).unwrap(), generated);
    }

    #[test]
    fn a_mark_is_of_its_environment_and_fragment_whatever_the_environment_is_called() {
        let mark = Mark::new(&claim());
        let by = |change: fn(&mut Owner)| {
            let mut claim = claim();
            change(&mut claim.owner);
            mark.is_of(&claim)
        };
        assert!(by(|owner| owner.name = "renamed".to_owned()));
        assert!(!by(|owner| owner.fragment = "other".to_owned()));
        assert!(!by(|owner| owner.environment = Uuid::from_u128(8)));
    }
}
