//! What keeps Secrets and ConfigMaps: one trait, whatever the store is made of.

use std::collections::{BTreeMap, BTreeSet};

use chassis::SecretValue;
use lifecycle::Component;
use serde::{Deserialize, Serialize};

use super::{Claim, Error, Mark};

/// A store. A reader sees a key whole or not at all, and so does the next run after a crash.
pub trait Backend: Send + Sync {
    /// Reads an object, perhaps as it was a moment ago; none when there is none. With a key that was written under a mark comes
    /// that mark, or a later one: otherwise what another instance of us makes at this moment would seem to be a stranger's.
    fn read(&self, object: &Component) -> impl Future<Output = Result<Option<Contents>, Error>> + Send;

    /// Reads a source for what is to be written to a target that was seen in this version, or as absent: not as it was before that.
    /// Whoever has written the target since is noticed by its version; whoever wrote it until then had read nothing newer.
    fn read_for(
        &self,
        source: &Component,
        _target: &Component,
        _version: Option<&str>,
    ) -> impl Future<Output = Result<Option<Contents>, Error>> + Send {
        self.read(source)
    }

    /// Fails unless what is in an object may be carried to where a target stands. Where only those who may read both carry, this
    /// process's own rights say so, and nothing more is asked.
    fn given(
        &self,
        _source: &Component,
        _target: &Component,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// Makes one change of an object that is ours, absent, or empty; or of anybody's when the change is by force. Of two that
    /// create a key at once one wins, and both go on with the winner's value.
    fn write(&self, object: &Component, change: Change) -> impl Future<Output = Result<(), Error>> + Send;

    /// Deletes an object that is ours, in the state that was looked at.
    fn delete(
        &self,
        object: &Component,
        claim: &Claim,
        version: Option<&str>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// What is noted, apart from an object, of its having been generated; nothing when nothing is. Whatever is read of the
    /// object afterwards is as it is then, never as it was before.
    fn remembered(
        &self,
        object: &Component,
        claim: &Claim,
    ) -> impl Future<Output = Result<Record, Error>> + Send;

    /// Writes that note; an empty one takes it away.
    fn remember(
        &self,
        object: &Component,
        claim: &Claim,
        record: &Record,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// What is noted of an object's having been generated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// The keys that were.
    pub keys: BTreeSet<String>,
    /// Their values, sealed for somebody who can restore them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow: Option<Escrow>,
}

/// Values that only one can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escrow {
    /// Who: an age recipient.
    pub recipient: String,
    /// How often the values had been rotated.
    pub serial: u32,
    /// The ciphertext, armored.
    pub sealed: String,
}

/// What a store holds of one object.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Its keys.
    pub keys: BTreeMap<String, SecretValue>,
    /// Its mark; the text says why it cannot be read.
    pub mark: Option<Result<Mark, String>>,
    /// Which state of it this is, where the store can tell.
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

/// One change of one object.
#[derive(Debug)]
pub struct Change {
    /// Who changes it.
    pub claim: Claim,
    /// The state it was decided on, where the store can tell: in another nothing is changed.
    pub version: Option<String>,
    /// The type of an object that is made.
    pub kind: Option<String>,
    /// Keys that are absent, in groups that belong together: a private key and its public key. A group that is there stays as
    /// it is, whoever made it; one that a crash left half-made is made anew.
    pub create: Vec<BTreeMap<String, SecretValue>>,
    /// As often as this the created keys count as rotated.
    pub serial: u32,
    /// Generated keys that get another value.
    pub rotate: BTreeMap<String, Rotated>,
    /// Generated keys that are written anew and count as they did: certificates that people trust.
    pub trust: BTreeMap<String, Refreshed>,
    /// Keys that follow something and are written.
    pub set: BTreeMap<String, SecretValue>,
    /// Keys that the mark notes as written by us, and that go.
    pub remove: BTreeSet<String>,
    /// Somebody else's writing gives way.
    pub force: bool,
}

/// What a key is to hold instead of what was read of it.
#[derive(Debug)]
pub struct Refreshed {
    /// What was read; if it holds something else by now nothing is changed.
    pub before: Option<SecretValue>,
    /// What it is to hold.
    pub value: SecretValue,
}

/// Another value of a generated key.
#[derive(Debug)]
pub struct Rotated {
    /// It.
    pub value: SecretValue,
    /// Under which key the old one is kept.
    pub previous: Option<String>,
    /// Which rotation this is.
    pub serial: u32,
}

impl Change {
    /// A change of nothing but the mark.
    pub fn claim(claim: Claim, version: Option<String>) -> Self {
        Change {
            claim,
            version,
            kind: None,
            create: Vec::new(),
            serial: 0,
            rotate: BTreeMap::new(),
            trust: BTreeMap::new(),
            set: BTreeMap::new(),
            remove: BTreeSet::new(),
            force: false,
        }
    }
}

impl Change {
    /// The keys that are to be created, given those that are there.
    pub(super) fn creates(&self, is_there: impl Fn(&str) -> bool) -> Vec<(&String, &SecretValue)> {
        let half = self.create.iter().filter(|group| !group.keys().all(|key| is_there(key)));
        half.flatten().collect()
    }
}
