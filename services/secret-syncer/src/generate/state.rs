//! How a certificate that was made stands today: until when it is good, whose key it has, and who signed it.

use chassis::SecretValue;
use rcgen::{KeyPair, PublicKeyData};
use x509_parser::prelude::X509Certificate;
use zeroize::Zeroizing;

use super::trust;
use crate::plan::{Certificate, Signer};

/// What is known of a certificate, the first of several. None when it cannot be read: then whoever put it there knows.
///
/// `private` is the key that lies beside it, `present` and `previous` the authority's certificates of today and of before,
/// as far as there are any; a certificate that needs no authority is asked about with itself as `present`.
pub fn state(
    certificate: &SecretValue,
    private: &SecretValue,
    present: Option<&SecretValue>,
    previous: Option<&SecretValue>,
) -> Option<Certificate> {
    let first = |value: &SecretValue| trust::certificates(value).ok()?.into_iter().next();
    let der = first(certificate)?;
    let leaf = trust::parsed(&der).ok()?;
    let present = present.and_then(first);
    let previous = previous.and_then(first);
    let carries = |authority: &Option<Vec<u8>>| {
        authority.as_ref().is_some_and(|der| trust::parsed(der).is_ok_and(|by| is_signed(&leaf, &by)))
    };
    let signer = match &present {
        None => Signer::Unknown,
        Some(_) if carries(&present) => Signer::Present,
        Some(_) if carries(&previous) => Signer::Previous,
        Some(_) => Signer::Stranger,
    };
    let ends = |der: &Vec<u8>| Some(trust::parsed(der).ok()?.validity().not_after.timestamp());
    Some(Certificate {
        begins: leaf.validity().not_before.timestamp(),
        ends: leaf.validity().not_after.timestamp(),
        paired: is_pair(&leaf, private),
        signer,
        authority_ends: present.as_ref().and_then(ends),
    })
}

fn is_signed(leaf: &X509Certificate<'_>, by: &X509Certificate<'_>) -> bool {
    leaf.issuer().as_raw() == by.subject().as_raw() && leaf.verify_signature(Some(by.public_key())).is_ok()
}

/// Whether the private key is the certificate's. One that cannot be read is nobody's.
fn is_pair(certificate: &X509Certificate<'_>, private: &SecretValue) -> bool {
    let pair = private.expose_text().and_then(|text| KeyPair::from_pem(text).ok()).map(Zeroizing::new);
    pair.is_some_and(|pair| certificate.public_key().subject_public_key.data == pair.der_bytes())
}
