//! What is known of an object and of what it is made from: fingerprints, never values.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::Component;

use crate::spec::{Owner, Source};

/// What identifies a value without being it: a keyed digest, lower-case hexadecimal. Two fingerprints of one
/// [`World`] are equal when their values are.
pub type Fingerprint = String;

/// What is known of a key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Identifies it.
    pub fingerprint: Fingerprint,
    /// Why nobody can use it: `is empty`, `is a placeholder`.
    pub flaw: Option<&'static str>,
}

/// The keys of an object.
pub type Keys = BTreeMap<String, Value>;

/// What is, of one object and its sources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// The object; none when there is none.
    pub there: Option<There>,
    /// Its sources; none for one that does not exist.
    pub sources: BTreeMap<Source, Option<Seen>>,
    /// What the keys would be that are made of the sources as they are: none for a key whose values are not all there.
    /// The text says why nothing can be made of them.
    pub composed: BTreeMap<String, Result<Fingerprint, String>>,
    /// What a record says, which lies apart from the object, of its having been generated.
    pub recorded: Recorded,
    /// Those of the things it protects that are known to exist already.
    pub protected: BTreeSet<Component>,
    /// Its certificates that are there, by the key of what makes them.
    pub certificates: BTreeMap<String, Certificate>,
    /// Those of its authorities whose rotation is asked for and was not made yet.
    pub unrotated: BTreeSet<Component>,
    /// The time, in seconds since 1970.
    pub now: i64,
    /// How often somebody else's change of it was corrected lately.
    pub corrections: u32,
    /// What is said of workloads that use it and do not have its present values.
    pub restarts: Vec<String>,
}

/// A certificate that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    /// How it stands.
    pub condition: Condition,
    /// What lies with it for those who trust its authority is not what they should be given now.
    pub outdated: bool,
}

/// How a certificate stands. Times are in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing can be read of it.
    Unreadable,
    /// It is one.
    Good {
        /// From when it is good.
        from: i64,
        /// Until when.
        until: i64,
        /// Who signed it.
        signer: Signer,
        /// Until when its authority is good.
        authority_until: Option<i64>,
    },
}

/// Who signed a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The authority of today.
    Present,
    /// One before it that is still believed.
    Former,
    /// None of them.
    Stranger,
    /// There is nobody to compare with, or no way.
    Unknown,
}

/// What is noted of an object's having been generated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorded {
    /// The keys that were.
    pub keys: BTreeSet<String>,
    /// For whom their values are sealed, and how often they had been rotated then.
    pub sealed: Option<(String, u32)>,
}

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct There {
    /// Its keys.
    pub keys: Keys,
    /// Whose it is.
    pub marker: Marker,
    /// Which state of it this is, where the store can tell: what is decided on it is done in this state only.
    pub version: Option<String>,
    /// Its type, where the store knows types.
    pub kind: Option<String>,
    /// It can never be changed.
    pub immutable: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// When its keys were changed last, in milliseconds since 1970; 0 when the store cannot tell.
    pub modified: u64,
}

/// A source that is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Its keys.
    pub keys: Keys,
    /// Its type, where it has one.
    pub kind: Option<String>,
}

/// Whose an object is, by the mark that Rollcall leaves on what it makes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Marker {
    /// It has no mark.
    #[default]
    None,
    /// It has one that cannot be read.
    Unreadable(String),
    /// Somebody's documents declare it.
    Of {
        /// Whose.
        owner: Owner,
        /// What it is made from, in words; nothing when it was generated.
        sources: BTreeSet<String>,
        /// The keys that follow something, with the value last written.
        keys: BTreeMap<String, Fingerprint>,
        /// How often each generated key was rotated.
        rotated: BTreeMap<String, u32>,
    },
}
