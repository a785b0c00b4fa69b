//! Certificates as PEM (RFC 7468): reading them, trust bundles, and what stays of an authority when it is rotated.

use std::collections::BTreeSet;

use chassis::SecretValue;
use pem::{EncodeConfig, LineEnding, Pem};
use x509_parser::prelude::{FromDer, X509Certificate};

const LABEL: &str = "CERTIFICATE";
const BEGIN: &str = "-----BEGIN ";

/// Why a value is not what certificates are read from. Never holds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// There is a private key in it.
    #[error(
        "holds a private key, which whoever reads a trust bundle would get; name the key of the Secret that holds the certificate"
    )]
    PrivateKey,
    /// There is something else in it.
    #[error("holds something that is no certificate; give PEM blocks of type CERTIFICATE only")]
    NotCertificates,
    /// There is nothing in it.
    #[error("holds no certificate; give at least one PEM block of type CERTIFICATE")]
    Nothing,
    /// A block cannot be read.
    #[error("holds a certificate that cannot be read; write it anew")]
    Unreadable,
}

/// The trust bundle of all these certificates: each once, in the order in which they are first met, and nothing else:
/// text between the certificates does not come along.
pub fn bundle(pems: &[SecretValue]) -> Result<SecretValue, TrustError> {
    let mut seen = BTreeSet::new();
    let mut text = String::new();
    for value in pems {
        for der in certificates(value)? {
            if !seen.contains(&der) {
                text.push_str(&pem(der.clone()));
                seen.insert(der);
            }
        }
    }
    if seen.is_empty() { Err(TrustError::Nothing) } else { Ok(SecretValue::new(text)) }
}

/// The certificates of a rotated authority: those of its own, and behind them some of what was there before, without the
/// first `skip` and at most `keep`.
pub fn succession(
    own: Option<&SecretValue>,
    before: &SecretValue,
    skip: usize,
    keep: usize,
) -> Result<SecretValue, TrustError> {
    let mut values: Vec<SecretValue> = own.into_iter().cloned().collect();
    let before = certificates(before)?.into_iter().skip(skip).take(keep);
    values.extend(before.map(|der| SecretValue::new(pem(der))));
    bundle(&values)
}

/// The certificates of a value, as DER, at least one; each of them can be [parsed].
pub(super) fn certificates(value: &SecretValue) -> Result<Vec<Vec<u8>>, TrustError> {
    let text = value.expose_text().ok_or(TrustError::NotCertificates)?;
    // Labels first: nothing that may be secret is decoded.
    let labels: Vec<&str> = text.split(BEGIN).skip(1).collect();
    let label = |block: &&str| block.split("-----").next().unwrap_or_default().to_owned();
    let labels: Vec<String> = labels.iter().map(label).collect();
    if labels.iter().any(|label| label.ends_with("PRIVATE KEY")) {
        return Err(TrustError::PrivateKey);
    }
    if labels.iter().any(|label| label != LABEL) {
        return Err(TrustError::NotCertificates);
    }
    if labels.is_empty() {
        return Err(if text.trim().is_empty() { TrustError::Nothing } else { TrustError::NotCertificates });
    }
    let blocks = pem::parse_many(text).map_err(|_| TrustError::Unreadable)?;
    // The reader passes over a block without an end.
    if blocks.len() != labels.len() {
        return Err(TrustError::Unreadable);
    }
    let ders: Vec<Vec<u8>> = blocks.into_iter().map(Pem::into_contents).collect();
    for der in &ders {
        parsed(der)?;
    }
    Ok(ders)
}

/// A certificate that fills all of its bytes.
pub(super) fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, TrustError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(TrustError::Unreadable),
    }
}

/// A certificate as PEM.
pub(super) fn pem(der: Vec<u8>) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(LABEL, der), config)
}
