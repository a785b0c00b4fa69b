//! Values: AES-256 in Galois/Counter Mode, with the keys that lead to a value as its additional data, so that a value
//! cannot be moved to another key.

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chassis::SecretValue;
use zeroize::Zeroizing;

use super::node::{Kind, Node, Scalar};
use super::{SopsError, shown};

/// How an encrypted value begins, and its parts after that.
const BEGIN: &str = "ENC[AES256_GCM,data:";
const PARTS: [&str; 3] = [",iv:", ",tag:", ",type:"];
/// How long a nonce is; sops uses 32 bytes, not the usual 12.
const NONCE: usize = 32;

/// The key that all values of a file are encrypted with.
pub(super) type DataKey = Zeroizing<[u8; 32]>;

/// Decrypts every value that is encrypted; the others stay as they are.
pub(super) fn decrypt(tree: &mut Node, key: &DataKey) -> Result<(), SopsError> {
    tree.change(&mut Vec::new(), &mut |path, scalar| {
        let Scalar::Text(text) = &*scalar else { return Ok(()) };
        let Some(text) = text.expose_text().filter(|text| text.starts_with("ENC[")) else { return Ok(()) };
        let additional = path.iter().fold(String::new(), |all, part| all + part + ":");
        let (value, kind) =
            one(text, key, &additional).ok_or_else(|| SopsError::Undecryptable { key: shown(path) })?;
        *scalar = Scalar::Opened { value, kind };
        Ok(())
    })
}

/// Decrypts one value; nothing when it is not what was encrypted with this key for this place.
pub(super) fn one(text: &str, key: &DataKey, additional: &str) -> Option<(SecretValue, Kind)> {
    let rest = text.strip_prefix(BEGIN)?.strip_suffix(']')?;
    let (data, rest) = rest.split_once(PARTS[0])?;
    let (nonce, rest) = rest.split_once(PARTS[1])?;
    let (tag, kind) = rest.split_once(PARTS[2])?;
    let kind = match kind {
        "str" | "bytes" => Kind::Text,
        "int" | "float" => Kind::Number,
        "bool" => Kind::Truth,
        "time" | "comment" => Kind::Foreign,
        _ => return None,
    };
    let mut sealed = STANDARD.decode(data).ok()?;
    sealed.extend(STANDARD.decode(tag).ok()?);
    let nonce = STANDARD.decode(nonce).ok().filter(|nonce| nonce.len() == NONCE)?;
    let cipher = AesGcm::<Aes256, U32>::new_from_slice(&**key).ok()?;
    let payload = Payload { msg: &sealed, aad: additional.as_bytes() };
    let plain = cipher.decrypt(Nonce::<U32>::from_slice(&nonce), payload).ok()?;
    Some((SecretValue::new(plain), kind))
}
