//! How a certificate that is there stands: until when it is good, and who signed it.

use std::collections::BTreeSet;

use chassis::SecretValue;
use x509_parser::error::X509Error;
use x509_parser::prelude::X509Certificate;

use super::trust;
use crate::plan::{Condition, Signer};

/// What is known of a certificate, the first of several; `authority` is what the Secret of its authority holds now, the one
/// that signs before those that came before it. Without an authority nothing is said of who signed.
pub fn state(certificate: &SecretValue, authority: Option<&SecretValue>) -> Condition {
    let read = |value: &SecretValue| trust::certificates(value).ok();
    let Some(der) = read(certificate).and_then(|all| all.into_iter().next()) else {
        return Condition::Unreadable;
    };
    let Ok(leaf) = trust::parsed(&der) else { return Condition::Unreadable };
    let authority = authority.and_then(read).unwrap_or_default();
    let ends = |der: &Vec<u8>| Some(trust::parsed(der).ok()?.validity().not_after.timestamp());
    Condition::Good {
        from: leaf.validity().not_before.timestamp(),
        until: leaf.validity().not_after.timestamp(),
        signer: signer(&leaf, &authority),
        authority_until: authority.first().and_then(ends),
    }
}

fn signer(leaf: &X509Certificate<'_>, authority: &[Vec<u8>]) -> Signer {
    let mut signer = if authority.is_empty() { Signer::Unknown } else { Signer::Stranger };
    for (position, der) in authority.iter().enumerate() {
        let Ok(by) = trust::parsed(der) else { continue };
        if leaf.issuer().as_raw() != by.subject().as_raw() {
            continue;
        }
        match leaf.verify_signature(Some(by.public_key())) {
            Ok(()) if position == 0 => return Signer::Present,
            Ok(()) => return Signer::Former,
            // Nobody here can tell.
            Err(X509Error::SignatureUnsupportedAlgorithm) => signer = Signer::Unknown,
            Err(_) => {}
        }
    }
    signer
}

/// Whether a value holds exactly the certificates that whoever trusts an authority is to be given.
pub fn is_trust(value: &SecretValue, authority: &SecretValue) -> bool {
    let all = |value| trust::certificates(value).map(|all| all.into_iter().collect::<BTreeSet<_>>());
    matches!((all(value), all(authority)), (Ok(value), Ok(authority)) if value == authority)
}

/// How many more certificates an authority's value holds than its own and `keep` of those before it.
pub fn spare(authority: &SecretValue, keep: u8) -> usize {
    trust::certificates(authority).map_or(0, |all| all.len().saturating_sub(1 + usize::from(keep)))
}
