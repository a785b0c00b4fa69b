//! Making values: passwords, symmetric keys, key pairs, and certificates with an authority of their own.
//!
//! Everything random comes from a cryptographic source that the operating system seeds; the clock is an argument. Nothing
//! here is kept, and no error holds a value.

mod certificate;
mod key;
mod state;
mod trust;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chassis::SecretValue;
use lifecycle::document::{Algorithm, Encoding, Generator, Hmac};
use rand::Rng;
use rand::distr::{Alphanumeric, SampleString};
use zeroize::Zeroizing;

pub use state::{is_trust, spare, state};
pub use trust::{TrustError, bundle, succession};

/// An authority as its Secret holds it: what signs certificates.
#[derive(Debug, Clone)]
pub struct CaMaterial {
    /// Its certificate as PEM, and behind it those of the authorities before it that are still believed.
    pub certificate: SecretValue,
    /// The private key of the first certificate, PKCS#8 as PEM.
    pub private: SecretValue,
}

/// Why a value cannot be made. Never holds a value.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// A certificate needs somebody who signs it.
    #[error("a certificate is made by its authority, and none was given")]
    NoCa,
    /// The authority's Secret is not an authority.
    #[error("the authority cannot sign: its {part} {problem}")]
    Ca {
        /// `certificate` or `private key`.
        part: &'static str,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// Two values would be written under one key.
    #[error("the key `{0}` would be written twice; give each value a key of its own")]
    KeyTwice(String),
    /// A name that no certificate can hold.
    #[error("`{0}` cannot stand in a certificate")]
    Name(String),
    /// There is no such date in certificates: years are 1970 to 9999.
    #[error("the clock or the number of days is out of range; correct the clock of this machine")]
    Clock,
    /// The cryptographic library fails.
    #[error("{} cannot be made: {problem}", name(*algorithm))]
    Key {
        /// What was to be made.
        algorithm: Algorithm,
        /// What the library says.
        problem: String,
    },
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ed25519 => "an Ed25519 key",
        Algorithm::EcdsaP256 => "a P-256 key",
        Algorithm::EcdsaP384 => "a P-384 key",
        Algorithm::Rsa2048 => "an RSA key of 2048 bits",
        Algorithm::Rsa3072 => "an RSA key of 3072 bits",
        Algorithm::Rsa4096 => "an RSA key of 4096 bits",
    }
}

/// Makes new values: one for each key that [`Generator::writes`] names. `own_key` is the key the generator stands under,
/// `ca` what signs certificates (ignored by the other kinds), `now` in seconds since 1970.
///
/// An RSA key takes up to some seconds of a processor, everything else less than a millisecond: run it where nothing waits.
pub fn make(
    generator: &Generator,
    own_key: &str,
    ca: Option<&CaMaterial>,
    now: i64,
) -> Result<BTreeMap<String, SecretValue>, GenerateError> {
    let values = match generator {
        Generator::Password(spec) => vec![password(spec.length)],
        Generator::Hmac(spec) => vec![symmetric(spec)],
        Generator::PrivateKey(spec) => {
            let pair = key::pair(spec.algorithm)?;
            if spec.public.is_some() { vec![pair.private, pair.public] } else { vec![pair.private] }
        }
        Generator::Ca(spec) => certificate::authority(spec, now)?,
        Generator::Certificate(spec) => certificate::leaf(spec, ca.ok_or(GenerateError::NoCa)?, now)?,
    };
    let mut made = BTreeMap::new();
    for (key, value) in generator.writes(own_key).into_iter().zip(values) {
        if made.insert(key.to_owned(), value).is_some() {
            return Err(GenerateError::KeyTwice(key.to_owned()));
        }
    }
    Ok(made)
}

/// Letters and digits, 5.95 bits each. The thread's generator is cryptographic (ChaCha) and seeded by the operating system.
fn password(length: u16) -> SecretValue {
    SecretValue::new(Alphanumeric.sample_string(&mut rand::rng(), length.into()).into_bytes())
}

fn symmetric(spec: &Hmac) -> SecretValue {
    let mut bytes = Zeroizing::new(vec![0; spec.bytes.into()]);
    rand::rng().fill_bytes(&mut bytes);
    let text = match spec.encoding {
        Encoding::Base64 => STANDARD.encode(&*bytes),
        Encoding::Base64url => URL_SAFE_NO_PAD.encode(&*bytes),
        Encoding::Hex => hex(&bytes),
    };
    SecretValue::new(text)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    // Room for all of it: a buffer that grew would leave pieces of the value behind in memory.
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}
