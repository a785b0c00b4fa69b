//! SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), computed on this side so that the server never sees a password.

use std::fmt;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What the server itself uses (`scram_iterations`).
const ITERATIONS: u32 = 4096;
const SALT: usize = 16;
/// How long the keys are (SHA-256), and a verifier at most.
const KEY: usize = 32;
const LONGEST: usize = 512;

/// A password that SASLprep (RFC 4013) forbids; says nothing of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "holds a character that SASLprep (RFC 4013) forbids, so login libraries disagree about it; write it anew"
)]
pub struct Forbidden;

/// A verifier in the form the server stores: as good as a password for whoever sees it stored, so its Debug does not show it.
#[derive(Clone)]
pub struct Verifier(Zeroizing<String>);

impl Verifier {
    /// A new verifier of a password.
    ///
    /// # Errors
    /// The password holds what SASLprep forbids.
    pub fn of(password: &str) -> Result<Self, Forbidden> {
        verifier(password).map(|text| Verifier(Zeroizing::new(text)))
    }

    /// Takes a verifier that somebody else computed; none where it is not one whole SCRAM-SHA-256 verifier: what the server does not
    /// recognise as one it would take for a password.
    pub fn parse(text: String) -> Option<Self> {
        let text = Zeroizing::new(text);
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let digits = iterations.len() <= 7 && iterations.bytes().all(|byte| byte.is_ascii_digit());
        let iterations: u32 = iterations.parse().ok().filter(|_| digits)?;
        let long = |text: &str| BASE64.decode(text).map(|bytes| bytes.len()).ok();
        let whole = iterations >= ITERATIONS
            && long(salt)? >= SALT
            && long(stored_key)? == KEY
            && long(server_key)? == KEY
            && text.len() <= LONGEST;
        whole.then_some(Verifier(text))
    }

    /// The text, for the server alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// Whether SASLprep lets a password through.
pub fn check(password: &str) -> Result<(), Forbidden> {
    stringprep::saslprep(password).map(drop).map_err(|_| Forbidden)
}

/// A new verifier with a random salt, in the form the server stores.
pub fn verifier(password: &str) -> Result<String, Forbidden> {
    make(password, &rand::random::<[u8; SALT]>(), ITERATIONS)
}

/// Whether a stored verifier is this password's; `None` when it is no SCRAM-SHA-256 verifier. Takes the same time for
/// right and wrong passwords.
pub fn matches(stored: &str, password: &str) -> Option<bool> {
    let (parameters, keys) = stored.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
    let (iterations, salt) = parameters.split_once(':')?;
    let (stored_key, _) = keys.split_once(':')?;
    let salt = BASE64.decode(salt).ok()?;
    let stored_key = BASE64.decode(stored_key).ok()?;
    let salted = salted(password, &salt, iterations.parse().ok()?).ok()?;
    Some(stored_key_of(&salted).ct_eq(&stored_key).into())
}

fn make(password: &str, salt: &[u8], iterations: u32) -> Result<String, Forbidden> {
    let salted = salted(password, salt, iterations)?;
    Ok(format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        BASE64.encode(salt),
        BASE64.encode(stored_key_of(&salted)),
        BASE64.encode(keyed(&salted, b"Server Key")),
    ))
}

fn salted(password: &str, salt: &[u8], iterations: u32) -> Result<[u8; 32], Forbidden> {
    let prepared = stringprep::saslprep(password).map_err(|_| Forbidden)?;
    Ok(pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(prepared.as_bytes(), salt, iterations))
}

fn stored_key_of(salted: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(keyed(salted, b"Client Key")).into()
}

fn keyed(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    // A block-sized key fits every key; HMAC pads shorter ones with zeros itself (RFC 2104), so this is the same.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 §3: user "user", password "pencil".
    #[test]
    fn the_example_of_rfc_7677_is_verified() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = salted("pencil", &salt, 4096).unwrap();
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                       r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                       c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = |key: &[u8; 32]| keyed(key, message.as_bytes());
        let client_key = keyed(&salted, b"Client Key");
        let proof: Vec<u8> =
            client_key.iter().zip(signature(&stored_key_of(&salted))).map(|(a, b)| a ^ b).collect();
        assert_eq!(BASE64.encode(proof), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(
            BASE64.encode(signature(&keyed(&salted, b"Server Key"))),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn a_verifier_matches_its_password_and_no_other() {
        for password in ["pencil", "pä\u{df}\u{2168}wort", "' \" \\ @ # % $ : /"] {
            let stored = verifier(password).unwrap();
            assert!(!stored.contains(password));
            assert_eq!(matches(&stored, password), Some(true));
            assert_eq!(matches(&stored, "another"), Some(false));
            assert_ne!(verifier(password).unwrap(), stored, "salts are random");
        }
    }

    #[test]
    fn only_a_whole_verifier_is_taken_from_others_and_it_does_not_show_itself() {
        let made = Verifier::of("pencil").unwrap();
        let taken = Verifier::parse(made.expose().to_owned()).unwrap();
        assert_eq!(matches(taken.expose(), "pencil"), Some(true));
        assert!(!format!("{taken:?}").contains("SCRAM"));
        let weak = make("pencil", &[1; SALT], 1).unwrap();
        let short = make("pencil", &[1; 4], ITERATIONS).unwrap();
        let cut = &made.expose()[..made.expose().len() - 4];
        for wrong in [
            "",
            "pencil",
            "md5d0199f51d2728db6011945145a1b607a",
            &weak,
            &short,
            cut,
            "SCRAM-SHA-256$+4096:a$b:c",
        ] {
            assert!(Verifier::parse(wrong.to_owned()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn equal_after_saslprep_is_equal() {
        // RFC 4013 §3: ROMAN NUMERAL NINE becomes IX, SOFT HYPHEN becomes nothing.
        let stored = verifier("IX").unwrap();
        assert_eq!(matches(&stored, "I\u{ad}X"), Some(true));
        assert_eq!(matches(&stored, "\u{2168}"), Some(true));
        assert_eq!(verifier("a\u{7}b"), Err(Forbidden));
    }

    #[test]
    fn what_is_no_scram_verifier_is_not_judged() {
        for stored in
            ["", "md5d0199f51d2728db6011945145a1b607a", "SCRAM-SHA-256$x:y$z", "SCRAM-SHA-256$4096:%$a:b"]
        {
            assert_eq!(matches(stored, "pencil"), None, "{stored}");
        }
    }
}
