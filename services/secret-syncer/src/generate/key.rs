//! Key pairs, written as every TLS library and Java read them.

use chassis::SecretValue;
use lifecycle::document::Algorithm;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;

use super::GenerateError;

/// A key pair.
#[derive(Debug)]
pub(super) struct Pair {
    /// PKCS#8 as PEM.
    pub(super) private: SecretValue,
    /// SubjectPublicKeyInfo as PEM. Nothing secret, but a value of a Secret like the others.
    pub(super) public: SecretValue,
}

/// Makes a key pair.
///
/// OpenSSL's libcrypto makes all of them. It is in every program of ours anyhow (librdkafka is built with it), it makes RSA
/// keys in a fraction of the time of a library written in Rust, and it writes version 1 of PKCS#8: ring writes Ed25519 keys
/// in version 2 (RFC 5958), which OpenSSL 3.0 cannot read.
pub(super) fn pair(algorithm: Algorithm) -> Result<Pair, GenerateError> {
    written(algorithm).map_err(|error| GenerateError::Key { algorithm, problem: error.to_string() })
}

fn written(algorithm: Algorithm) -> Result<Pair, ErrorStack> {
    let key = match algorithm {
        Algorithm::Ed25519 => PKey::generate_ed25519()?,
        Algorithm::EcdsaP256 => PKey::ec_gen("prime256v1")?,
        Algorithm::EcdsaP384 => PKey::ec_gen("secp384r1")?,
        Algorithm::Rsa2048 => rsa(2048)?,
        Algorithm::Rsa3072 => rsa(3072)?,
        Algorithm::Rsa4096 => rsa(4096)?,
    };
    Ok(Pair {
        private: SecretValue::new(key.private_key_to_pem_pkcs8()?),
        public: SecretValue::new(key.public_key_to_pem()?),
    })
}

/// With the public exponent 65537, which FIPS 186-5 section A.1.1 asks for at least.
fn rsa(bits: u32) -> Result<PKey<Private>, ErrorStack> {
    PKey::from_rsa(Rsa::generate(bits)?)
}
