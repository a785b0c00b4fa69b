//! Which values a decrypted file describes: a flat map, or the manifest of a Kubernetes Secret.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chassis::SecretValue;
use zeroize::Zeroizing;

use super::node::{Kind, Node, Scalar};
use super::{SopsError, shown};

/// The values, by their keys.
pub(super) fn values(tree: &Node) -> Result<BTreeMap<String, SecretValue>, SopsError> {
    match says(tree, "kind").as_deref() {
        Some("Secret") if says(tree, "apiVersion").as_deref() == Some("v1") => manifest(tree),
        _ => flat(tree, &[]),
    }
}

/// What a manifest says of itself, in the clear or not.
fn says(tree: &Node, key: &str) -> Option<String> {
    match tree.get(key)? {
        Node::Scalar(Scalar::Text(value) | Scalar::Opened { value, kind: Kind::Text }) => {
            value.expose_text().map(str::to_owned)
        }
        _ => None,
    }
}

/// `data` is base64, `stringData` is not and stands above it, as Kubernetes has it.
fn manifest(tree: &Node) -> Result<BTreeMap<String, SecretValue>, SopsError> {
    let part = |name: &'static str| match tree.get(name) {
        None | Some(Node::Null) => Ok(BTreeMap::new()),
        Some(part) => flat(part, &[name]),
    };
    let mut values = BTreeMap::new();
    for (key, value) in part("data")? {
        let unfit = || SopsError::Unfit {
            key: shown(&["data", &key]),
            problem: "is not base64, which values under `data` are; encode it, or move it under `stringData`",
        };
        let text = value.expose().trim_ascii();
        let decoded = Zeroizing::new(STANDARD.decode(text).map_err(|_| unfit())?);
        values.insert(key, SecretValue::new(decoded.as_slice()));
    }
    values.extend(part("stringData")?);
    Ok(values)
}

fn flat(tree: &Node, place: &[&str]) -> Result<BTreeMap<String, SecretValue>, SopsError> {
    let at = |key: &str| shown(&[place, &[key]].concat());
    let Node::Map(entries) = tree else {
        return Err(SopsError::Unfit { key: shown(place), problem: "is not a map of keys to values" });
    };
    let mut values = BTreeMap::new();
    for (key, node) in entries {
        let unfit = |problem| SopsError::Unfit { key: at(key), problem };
        let value = match node {
            Node::Scalar(scalar) => value(scalar).ok_or_else(|| SopsError::Plain { key: at(key) })?,
            Node::Map(_) | Node::List(_) => {
                return Err(unfit(
                    "holds a map or a list; a Secret's values are flat: write it as one text, or in a file of its own",
                ));
            }
            Node::Null => return Err(unfit("holds nothing; give it a value, or take the key out")),
        };
        values.insert(key.clone(), value.map_err(unfit)?);
    }
    Ok(values)
}

/// A value as text: as it was written before it was encrypted. Nothing when it was not encrypted.
fn value(scalar: &Scalar) -> Option<Result<SecretValue, &'static str>> {
    let (value, kind) = match scalar {
        Scalar::Opened { value, kind } => (value, kind),
        Scalar::Text(text) if text.expose().is_empty() => {
            // Neither the cipher nor the checksum covers it: anybody could have added it.
            return Some(Err("is empty, which sops does not protect; give it a value, or take the key out"));
        }
        Scalar::Text(_) | Scalar::Other(_) => return None,
    };
    let text = value.expose();
    let whole = || {
        let text = value.expose_text().unwrap_or_default();
        text.parse::<i128>().is_ok_and(|number| number.to_string() == text)
    };
    Some(match kind {
        Kind::Text => Ok(value.clone()),
        Kind::Truth => Ok(SecretValue::new(if text == b"True" { "true" } else { "false" })),
        Kind::Number if whole() => Ok(value.clone()),
        // sops has rounded it, and dropped the zeros at its end.
        Kind::Number => Err("is a fraction, which sops does not keep as it was written; write it in quotes"),
        Kind::Foreign => Err("is a date or a comment; write it in quotes"),
    })
}
