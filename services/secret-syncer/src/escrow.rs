//! Escrow: generated values encrypted to a public key whose private half no cluster knows, so that who holds that half can
//! give back what was lost.
//!
//! The format is age's, armored: `age --decrypt --identity KEY FILE` opens it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use age::x25519::Recipient;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chassis::SecretValue;
use lifecycle::Component;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

/// Why nothing was sealed. Never holds a value.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// The recipient is no public key of age.
    #[error(
        "`{0}` is no age recipient: write the public key, `age1` and 58 more characters, that `age-keygen` printed"
    )]
    Recipient(String),
    /// A private key was given where a public one belongs. It is not repeated.
    #[error(
        "the escrow recipient is a private key; write the public one, `age1…`, and replace the private one, which is no longer private"
    )]
    PrivateKey,
    /// The values could not be encrypted.
    #[error("{secret} cannot be sealed for escrow: {problem}")]
    Unsealable {
        /// Which Secret.
        secret: Component,
        /// What went wrong; never a value.
        problem: String,
    },
}

/// Whether `text` is the public key of an age identity (X25519): its form and its checksum are right.
pub fn is_recipient(text: &str) -> bool {
    text.parse::<Recipient>().is_ok()
}

/// Encrypts the values of a Secret that were generated at `made` for an environment. What comes out is text that holds only
/// ciphertext; inside is JSON: `secret`, `environment`, `made` (RFC 3339) and `keys`, each value in base64.
pub fn seal(
    recipient: &str,
    secret: &Component,
    environment: &str,
    made: SystemTime,
    values: &BTreeMap<String, SecretValue>,
) -> Result<String, EscrowError> {
    let parsed: Recipient = recipient.parse().map_err(|_| unfit(recipient))?;
    let failed = |problem: String| EscrowError::Unsealable { secret: secret.clone(), problem };
    let made = humantime::format_rfc3339_seconds(made).to_string();
    let content = Content { secret: secret.to_string(), environment, made, keys: Keys(values) };
    // Room for all of it at once: growing would leave copies behind that nobody wipes.
    let mut plain = Zeroizing::new(Vec::with_capacity(room(&content)));
    serde_json::to_writer(&mut *plain, &content).map_err(|error| failed(error.to_string()))?;
    age::encrypt_and_armor(&parsed, &plain).map_err(|error| failed(error.to_string()))
}

fn unfit(recipient: &str) -> EscrowError {
    if recipient.to_ascii_uppercase().contains("AGE-SECRET-KEY") {
        return EscrowError::PrivateKey;
    }
    EscrowError::Recipient(recipient.to_owned())
}

#[derive(Serialize)]
struct Content<'a> {
    secret: String,
    environment: &'a str,
    made: String,
    keys: Keys<'a>,
}

struct Keys<'a>(&'a BTreeMap<String, SecretValue>);

impl Serialize for Keys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            let text = Zeroizing::new(STANDARD.encode(value.expose()));
            map.serialize_entry(key, &*text)?;
        }
        map.end()
    }
}

/// No JSON text of this content is longer: base64 takes 4 bytes for 3, and JSON escapes a byte with at most 6.
fn room(content: &Content<'_>) -> usize {
    let names = content.secret.len() + content.environment.len() + content.made.len();
    let keys: usize =
        content.keys.0.iter().map(|(key, value)| 6 * key.len() + 4 * value.expose().len() / 3 + 16).sum();
    256 + 6 * names + keys
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use age::secrecy::ExposeSecret;
    use age::x25519::Identity;
    use proptest::prelude::*;

    use super::*;

    const PLANTED: &str = "PLANTEDescrowA7f3Kq9vX2";

    fn sealed(to: &Identity, values: &BTreeMap<String, SecretValue>) -> String {
        let secret: Component = "secret/dev/orders-db".parse().unwrap();
        let made = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        seal(&to.to_public().to_string(), &secret, "shop-dev", made, values).unwrap()
    }

    fn opened(by: &Identity, text: &str) -> serde_json::Value {
        serde_json::from_slice(&age::decrypt(by, text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn what_was_sealed_says_whose_it_is() {
        let identity = Identity::generate();
        let text = sealed(&identity, &[("password".to_owned(), SecretValue::new(PLANTED))].into());
        assert_eq!(
            opened(&identity, &text),
            serde_json::json!({
                "secret": "secret/dev/orders-db", "environment": "shop-dev", "made": "2023-11-14T22:13:20Z",
                "keys": {"password": STANDARD.encode(PLANTED)},
            })
        );
    }

    #[test]
    fn nothing_but_ciphertext_appears() {
        let text =
            sealed(&Identity::generate(), &[("password".to_owned(), SecretValue::new(PLANTED))].into());
        assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"), "{text}");
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let bytes = STANDARD.decode(body).unwrap();
        for word in [PLANTED, &STANDARD.encode(PLANTED), "orders-db", "shop-dev", "password"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()), "{word}");
            assert!(!text.contains(word), "{word}");
        }
        assert!(age::decrypt(&Identity::generate(), text.as_bytes()).is_err(), "only its recipient opens it");
    }

    #[test]
    fn what_is_no_recipient_is_refused_and_a_private_key_is_not_repeated() {
        let secret: Component = "secret/dev/orders-db".parse().unwrap();
        let refuse = |text: &str| seal(text, &secret, "dev", UNIX_EPOCH, &BTreeMap::new()).unwrap_err();
        let public = Identity::generate().to_public().to_string();
        let last = if public.ends_with('q') { "p" } else { "q" };
        for text in ["", "age1", "ssh-ed25519 AAAA", &format!("{}{last}", &public[..61])] {
            assert!(!is_recipient(text) && matches!(refuse(text), EscrowError::Recipient(_)), "{text}");
        }
        assert!(is_recipient(&public) && lifecycle::document::is_age_recipient(&public));
        let private = Identity::generate().to_string().expose_secret().to_owned();
        let error = refuse(&private);
        assert!(
            matches!(error, EscrowError::PrivateKey)
                && !format!("{error:?} {error}").contains(&private[15..])
        );
    }

    proptest! {
        #[test]
        fn any_values_come_back(values in proptest::collection::btree_map(".{0,20}", proptest::collection::vec(any::<u8>(), 0..200), 0..6)) {
            let identity = Identity::generate();
            let given: BTreeMap<String, SecretValue> =
                values.iter().map(|(key, value)| (key.clone(), SecretValue::new(value.clone()))).collect();
            let keys = opened(&identity, &sealed(&identity, &given))["keys"].clone();
            let back: BTreeMap<String, Vec<u8>> = serde_json::from_value::<BTreeMap<String, String>>(keys)
                .unwrap()
                .into_iter()
                .map(|(key, text)| (key, STANDARD.decode(text).unwrap()))
                .collect();
            prop_assert_eq!(back, values);
        }

        #[test]
        fn there_is_room_for_all_of_it(environment in ".{0,20}", values in proptest::collection::btree_map(".{0,40}", proptest::collection::vec(any::<u8>(), 0..100), 0..6)) {
            let values: BTreeMap<String, SecretValue> =
                values.into_iter().map(|(key, value)| (key, SecretValue::new(value))).collect();
            let content = Content { secret: "secret/a/b".to_owned(), environment: &environment, made: "now".to_owned(), keys: Keys(&values) };
            prop_assert!(serde_json::to_vec(&content).unwrap().len() <= room(&content));
        }
    }
}
