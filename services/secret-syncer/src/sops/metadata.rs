//! What sops writes beside the values: for whom the data key is wrapped, and the checksum over all values.

use std::io::Read;

use age::x25519::Identity;
use age::{DecryptError, Decryptor, armor::ArmoredReader};
use chassis::SecretValue;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::SopsError;
use super::cipher::{self, DataKey};
use super::node::{Node, Scalar};

/// What the checksum over encrypted values alone begins with the SHA-256 of, so that it never equals one over all values.
const ONLY_ENCRYPTED: &[u8] = b"sops";

/// A file's metadata.
pub(super) struct Metadata {
    /// Recipient, and the data key wrapped for it.
    wrapped: Vec<(String, String)>,
    modified: String,
    mac: String,
    only_encrypted: bool,
}

impl Metadata {
    /// Takes the metadata out of a file.
    pub(super) fn take(tree: &mut Node) -> Result<Metadata, SopsError> {
        let Node::Map(entries) = tree else { return Err(SopsError::NotEncrypted) };
        let at = entries.iter().position(|(key, _)| key == "sops").ok_or(SopsError::NotEncrypted)?;
        let (_, sops) = entries.remove(at);
        if !matches!(sops, Node::Map(_)) {
            return Err(SopsError::NotEncrypted);
        }
        if matches!(sops.get("key_groups"), Some(Node::List(groups)) if groups.len() > 1) {
            return Err(SopsError::Metadata("the data key is shared among groups, which this does not read"));
        }
        let text = |key: &str| sops.get(key).and_then(Node::text).map(str::to_owned);
        let groups = match sops.get("key_groups") {
            Some(Node::List(groups)) => groups.first().and_then(|group| group.get("age")),
            _ => None,
        };
        let wrapped = match sops.get("age").filter(|age| !matches!(age, Node::Null)).or(groups) {
            Some(Node::List(keys)) => keys.iter().map(wrapped).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        let wrapped = wrapped.filter(|wrapped| !wrapped.is_empty());
        Ok(Metadata {
            wrapped: wrapped.ok_or(SopsError::Metadata("there is no age recipient among them"))?,
            modified: text("lastmodified").ok_or(SopsError::Metadata("lastmodified is not there"))?,
            mac: text("mac").ok_or(SopsError::BrokenMac)?,
            only_encrypted: matches!(sops.get("mac_only_encrypted"), Some(Node::Scalar(Scalar::Other(text))) if text == "True"),
        })
    }

    /// Unwraps the data key with one of the identities given.
    pub(super) fn data_key(&self, identity: &SecretValue) -> Result<DataKey, SopsError> {
        let text = identity.expose_text().ok_or(SopsError::Identity)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let identities: Vec<Identity> =
            lines.map(|line| line.parse().map_err(|_| SopsError::Identity)).collect::<Result<_, _>>()?;
        if identities.is_empty() {
            return Err(SopsError::Identity);
        }
        let mut damaged = None;
        for (recipient, wrapped) in &self.wrapped {
            match unwrap(wrapped, &identities) {
                Ok(key) => return Ok(key),
                Err(Some(DecryptError::NoMatchingKeys)) => {}
                Err(_) => damaged = damaged.or(Some(recipient)),
            }
        }
        Err(match damaged {
            Some(recipient) => SopsError::Damaged { recipient: recipient.clone() },
            None => SopsError::WrongKey {
                recipients: self.wrapped.iter().map(|(recipient, _)| recipient.clone()).collect(),
            },
        })
    }

    /// Compares the checksum over a decrypted tree with the one that sops wrote.
    pub(super) fn verify(&self, tree: &Node, key: &DataKey) -> Result<(), SopsError> {
        let mut hash = Sha512::new();
        if self.only_encrypted {
            hash.update(Sha256::digest(ONLY_ENCRYPTED));
        }
        tree.visit(&mut Vec::new(), &mut |_, scalar| {
            if !self.only_encrypted || matches!(scalar, Scalar::Opened { .. }) {
                hash.update(scalar.counted());
            }
            Ok(())
        })?;
        let found = hash.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02X}"));
        let (written, _) = cipher::one(&self.mac, key, &self.modified).ok_or(SopsError::BrokenMac)?;
        if bool::from(found.as_bytes().ct_eq(written.expose())) { Ok(()) } else { Err(SopsError::BrokenMac) }
    }
}

fn wrapped(key: &Node) -> Option<(String, String)> {
    Some((key.get("recipient")?.text()?.to_owned(), key.get("enc")?.text()?.to_owned()))
}

/// The data key, or why not; a key of another length than 32 bytes is no error of age's.
fn unwrap(wrapped: &str, identities: &[Identity]) -> Result<DataKey, Option<DecryptError>> {
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(wrapped.as_bytes()))?;
    let mut reader = decryptor.decrypt(identities.iter().map(|identity| identity as &dyn age::Identity))?;
    let mut key = Zeroizing::new([0; 32]);
    reader.read_exact(&mut *key).map_err(DecryptError::Io)?;
    // The last chunk is authenticated when the end is reached.
    match reader.read(&mut [0]) {
        Ok(0) => Ok(key),
        _ => Err(None),
    }
}
