//! The mark on what Rollcall made: whose it is, what it follows and which keys were written, so that nothing else is ever
//! touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use chassis::SecretValue;
use hmac::{Hmac, Mac};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::plan::{Fingerprint, Marker};
use crate::spec::Owner;

/// Who makes what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub owner: Owner,
    /// What it is made from, in words; nothing when it is generated.
    pub sources: BTreeSet<String>,
}

/// The mark on an object, JSON in a file or an annotation. Fields that a newer version adds are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    environment: Uuid,
    name: String,
    fragment: String,
    /// Empty on what is generated.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    sources: BTreeSet<String>,
    /// Makes the fingerprints of this object unlike those of any other.
    salt: String,
    /// The keys that follow something, none that was generated.
    keys: BTreeMap<String, Fingerprint>,
    /// How often each generated key was rotated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rotated: BTreeMap<String, u32>,
    /// Keys that are being rotated: the value that each will have then. A crash in between is told apart by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rotating: BTreeMap<String, (Fingerprint, u32)>,
}

impl Mark {
    /// A mark without keys.
    pub fn new(claim: &Claim) -> Self {
        Mark {
            environment: claim.owner.environment,
            name: claim.owner.name.clone(),
            fragment: claim.owner.fragment.clone(),
            sources: claim.sources.clone(),
            salt: salt(),
            keys: BTreeMap::new(),
            rotated: BTreeMap::new(),
            rotating: BTreeMap::new(),
        }
    }

    /// A mark that is nobody's, for its salt.
    pub(super) fn scratch() -> Self {
        let owner = Owner { environment: Uuid::nil(), name: String::new(), fragment: String::new() };
        Mark::new(&Claim { owner, sources: BTreeSet::new() })
    }

    /// Reads a mark. The text says what is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
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
        let new = Mark::new(claim);
        if claim.sources.is_empty() {
            Mark { salt: self.salt, rotated: self.rotated, rotating: self.rotating, ..new }
        } else {
            Mark { salt: self.salt, keys: self.keys, ..new }
        }
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

    /// Notes that a generated key counts as rotated so often.
    pub fn rotated(&mut self, key: &str, serial: u32) {
        self.rotating.remove(key);
        if serial > 0 {
            self.rotated.insert(key.to_owned(), serial);
        }
    }

    /// Notes that a key is about to be given this value.
    pub fn rotating(&mut self, key: &str, value: &SecretValue, serial: u32) {
        self.rotating.insert(key.to_owned(), (self.fingerprint(value), serial));
    }

    /// How often a generated key counts as rotated.
    pub fn times(&self, key: &str) -> u32 {
        self.rotated.get(key).copied().unwrap_or(0)
    }

    /// Counts as rotated what was being rotated and has its new value.
    pub fn settle(&mut self, values: &BTreeMap<String, SecretValue>) {
        let has_new = |(key, (fingerprint, serial)): (&String, &(Fingerprint, u32))| {
            let value = values.get(key)?;
            (self.fingerprint(value) == *fingerprint).then(|| (key.clone(), *serial))
        };
        let done: Vec<(String, u32)> = self.rotating.iter().filter_map(has_new).collect();
        for (key, serial) in done {
            self.rotated(&key, serial);
        }
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
        Marker::Of {
            owner: self.owner(),
            sources: self.sources.clone(),
            keys: self.keys.clone(),
            rotated: self.rotated.clone(),
        }
    }

    /// Who wrote it, by its own account.
    pub fn owner(&self) -> Owner {
        Owner { environment: self.environment, name: self.name.clone(), fragment: self.fragment.clone() }
    }
}

/// A short name for a long one: the first 16 digits of its SHA-256.
pub(super) fn digest(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}

/// What nobody can guess, 64 digits.
pub(crate) fn salt() -> String {
    hex(&rand::rng().random::<[u8; 32]>())
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
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
            sources: ["secret/dev/source".to_owned()].into(),
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
        json["sources"] = "nowhere".into();
        assert!(Mark::parse(json.to_string().as_bytes()).is_err());
        assert!(Mark::parse(b"").is_err());
    }

    #[test]
    fn a_key_that_was_being_rotated_counts_as_rotated_once_it_has_its_new_value() {
        let mut mark = Mark::new(&Claim { sources: BTreeSet::new(), ..claim() });
        let new = SecretValue::new("new");
        mark.rotating("password", &new, 2);
        let values = |value: &str| [("password".to_owned(), SecretValue::new(value))].into();
        let rotated = |mark: &Mark| match mark.marker() {
            Marker::Of { rotated, .. } => rotated.get("password").copied(),
            _ => None,
        };
        mark.settle(&values("old"));
        assert_eq!(rotated(&mark), None);
        mark.settle(&values("new"));
        assert_eq!(rotated(&mark), Some(2));
    }

    #[test]
    fn a_mark_on_what_is_generated_has_no_source_and_notes_no_key() {
        let mut copy = Mark::new(&claim());
        copy.note("password", &SecretValue::new("hunter2"));
        let generated = copy.under(&Claim { sources: BTreeSet::new(), ..claim() });
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
