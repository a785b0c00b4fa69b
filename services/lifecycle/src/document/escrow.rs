//! What an age recipient looks like, as far as a document can be judged without cryptography.

/// The length of an X25519 recipient: `age1`, 52 characters of key, 6 of checksum (age's specification, C2SP/age).
const LENGTH: usize = 62;
/// The characters that Bech32 writes data with (BIP 173).
const CHARSET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Whether `text` looks like the public key of an age identity, `age1…`. Whether its checksum is right is seen by whoever
/// encrypts to it.
pub fn is_age_recipient(text: &str) -> bool {
    let data = text.strip_prefix("age1");
    text.len() == LENGTH && data.is_some_and(|data| data.chars().all(|c| CHARSET.contains(c)))
}

#[cfg(test)]
mod tests {
    use super::is_age_recipient;

    #[test]
    fn only_whole_public_keys_look_like_one() {
        // The example of age's own manual.
        let key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        assert!(is_age_recipient(key));
        for other in [
            "",
            "age1",
            &key[..61],
            &format!("{key}q"),
            &key.to_uppercase(),
            &key.replace('z', "b"),
            "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
        ] {
            assert!(!is_age_recipient(other), "{other}");
        }
    }
}
