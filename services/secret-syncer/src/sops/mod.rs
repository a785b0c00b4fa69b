//! Files that sops encrypted for an age recipient: opened whole, with their checksum verified, or not at all.
//!
//! A file is YAML or JSON and holds either a flat map of keys to values or the manifest of a Kubernetes Secret. Each value
//! must be encrypted in it: one that stands there for everybody to read is no secret any more, whichever rule of sops left
//! it so, and the file is refused. So is one with an empty value, which sops neither encrypts nor counts in its checksum. The
//! format is that of `aes/cipher.go` and `sops.go` of getsops/sops 3.

mod cipher;
mod content;
mod metadata;
mod node;

use std::collections::BTreeMap;

use chassis::SecretValue;

use node::{Node, Scalar};

/// Why a file was not opened. Never holds a value, nor any other text of the file than keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SopsError {
    /// It is neither YAML nor JSON, or not one map.
    #[error("the file is not readable as one map in YAML or JSON{}; is it the file that sops wrote?", place(*.line))]
    Unreadable {
        /// Which line, when known.
        line: Option<u64>,
    },
    /// Nobody encrypted it.
    #[error(
        "the file has no sops metadata, so its values are in the clear; encrypt it with `sops encrypt`, and replace every value that it held"
    )]
    NotEncrypted,
    /// Its metadata lack something, or say something unknown.
    #[error("the file's sops metadata cannot be used: {0}; write the file anew with `sops encrypt --age …`")]
    Metadata(&'static str),
    /// What was given as identity is none.
    #[error(
        "the age identity is not one: it must hold a line `AGE-SECRET-KEY-1…`, as `age-keygen` writes it"
    )]
    Identity,
    /// The file is for other recipients.
    #[error(
        "the age identity opens none of the file's recipients ({}); add this identity's public key with `sops rotate --add-age`, or give the identity of one of them", .recipients.join(", ")
    )]
    WrongKey {
        /// The public keys that the file is encrypted for.
        recipients: Vec<String>,
    },
    /// The data key is not what its wrapping promises.
    #[error(
        "the data key for recipient {recipient} is damaged; take the file from where it was last whole, or write it anew"
    )]
    Damaged {
        /// The public key.
        recipient: String,
    },
    /// A value cannot be decrypted: it was changed, or moved from another key.
    #[error(
        "`{key}` cannot be decrypted: it was changed or moved after it was encrypted; edit the file with `sops edit` only"
    )]
    Undecryptable {
        /// The keys that lead to it, joined with dots.
        key: String,
    },
    /// A value that stands in the clear.
    #[error(
        "`{key}` is in the clear in a file that sops encrypted; encrypt it too (`sops edit`, without encrypted_regex or unencrypted_suffix that leaves it out), and replace its value"
    )]
    Plain {
        /// The keys that lead to it, joined with dots.
        key: String,
    },
    /// The checksum over all values is not the one that sops wrote.
    #[error(
        "the file's checksum is broken: a value was changed, added or removed without sops; compare it with where it came from, then edit it with `sops edit` only"
    )]
    BrokenMac,
    /// A value that cannot be a value of a Secret.
    #[error("`{key}` {problem}")]
    Unfit {
        /// The keys that lead to it, joined with dots.
        key: String,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
}

fn place(line: Option<u64>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

/// Opens a file with an age identity (the text that `age-keygen` wrote, or its `AGE-SECRET-KEY-1…` alone) and gives the
/// values of the Secret it describes: all of them, or an error.
pub fn open(file: &str, identity: &SecretValue) -> Result<BTreeMap<String, SecretValue>, SopsError> {
    let mut tree = Node::parse(file)?;
    let metadata = metadata::Metadata::take(&mut tree)?;
    let key = metadata.data_key(identity)?;
    cipher::decrypt(&mut tree, &key)?;
    let values = content::values(&tree)?;
    metadata.verify(&tree, &key)?;
    Ok(values)
}

/// The keys that lead to a value, for people.
fn shown(path: &[&str]) -> String {
    path.join(".")
}

impl Scalar {
    /// Its bytes as sops counts them in the checksum.
    fn counted(&self) -> &[u8] {
        match self {
            Scalar::Text(value) | Scalar::Opened { value, .. } => value.expose(),
            Scalar::Other(text) => text.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests;
