//! Files that the real sops wrote (3.13.3, `fixtures/`): opened, and refused when anything in them is not as sops left it.

use age::secrecy::ExposeSecret;
use proptest::prelude::*;

use super::*;

const FLAT: &str = include_str!("fixtures/flat.yaml");
const JSON: &str = include_str!("fixtures/flat.json");
const MANIFEST: &str = include_str!("fixtures/manifest.yaml");
const MAC_ONLY: &str = include_str!("fixtures/manifest-mac-only.yaml");
const PLANTED: &str = "PLANTEDsopsA7f3Kq9vX2";

fn identity() -> SecretValue {
    SecretValue::new(include_str!("fixtures/identity.txt"))
}

fn opened(file: &str) -> Vec<(String, String)> {
    let values = open(file, &identity()).unwrap();
    let text = |value: &SecretValue| value.expose_text().unwrap().to_owned();
    values.iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

/// Why it is not opened; the error shows no value in any form.
fn refused(file: &str) -> SopsError {
    let error = open(file, &identity()).unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(
        !said.contains("PLANTED") && !said.contains("UExBTlRFR") && !said.contains("AGE-SECRET"),
        "{said}"
    );
    error
}

fn key(name: &str) -> String {
    name.to_owned()
}

/// A line of a file that begins like this, whole.
fn line<'a>(file: &'a str, begin: &str) -> &'a str {
    file.lines().find(|line| line.trim_start().starts_with(begin)).unwrap()
}

#[test]
fn flat_files_are_opened_in_yaml_and_in_json() {
    let wanted = [("password", PLANTED), ("port", "5432"), ("text", "two\nlines\n"), ("tls", "true")];
    for file in [FLAT, JSON] {
        assert_eq!(opened(file), wanted.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}

#[test]
fn a_manifest_gives_data_decoded_and_string_data_above_it() {
    let wanted = [("password", PLANTED), ("user", "orders_user")];
    for file in [MANIFEST, MAC_ONLY] {
        assert_eq!(opened(file), wanted.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}

#[test]
fn an_identity_may_stand_among_others_and_without_comments() {
    let own = include_str!("fixtures/identity.txt").lines().last().unwrap();
    let other = age::x25519::Identity::generate().to_string();
    for text in [own.to_owned(), format!("{}\n\n{own}\n", other.expose_secret())] {
        assert_eq!(open(FLAT, &SecretValue::new(text)).unwrap().len(), 4);
    }
}

#[test]
fn the_wrong_identity_is_told_the_recipients() {
    let other = age::x25519::Identity::generate();
    let error = open(FLAT, &SecretValue::new(other.to_string().expose_secret())).unwrap_err();
    let SopsError::WrongKey { recipients } = &error else { panic!("{error}") };
    assert_eq!(recipients.len(), 1);
    assert!(error.to_string().contains("age1eccyf90mws9fs9hdmzq99cagp66xks8g54vag4dc9mpmdjujgvdqe5d2u9"));
}

#[test]
fn what_is_no_identity_is_not_repeated() {
    for text in ["", "# nothing\n", PLANTED, "age1eccyf90mws9fs9hdmzq99cagp66xks8g54vag4dc9mpmdjujgvdqe5d2u9"]
    {
        let error = open(FLAT, &SecretValue::new(text)).unwrap_err();
        assert_eq!(error, SopsError::Identity);
        assert!(text.is_empty() || !error.to_string().contains(text));
    }
    assert_eq!(open(FLAT, &SecretValue::new([0xff])).unwrap_err(), SopsError::Identity);
}

#[test]
fn a_file_without_metadata_was_never_encrypted() {
    assert_eq!(refused(&format!("password: {PLANTED}\n")), SopsError::NotEncrypted);
    assert_eq!(refused(&format!("{{\"password\": \"{PLANTED}\"}}")), SopsError::NotEncrypted);
    assert_eq!(refused(&format!("password: {PLANTED}\nsops: {PLANTED}\n")), SopsError::NotEncrypted);
}

#[test]
fn metadata_without_recipient_or_checksum_are_told_apart() {
    let without = |begin: &str| FLAT.replace(&format!("{}\n", line(FLAT, begin)), "");
    assert!(matches!(refused(&without("lastmodified:")), SopsError::Metadata(_)));
    assert_eq!(refused(&without("mac:")), SopsError::BrokenMac);
    assert!(matches!(refused(&FLAT.replace("    age:", "    pgp:")), SopsError::Metadata(_)));
}

#[test]
fn what_cannot_be_read_is_not_quoted() {
    for text in [
        "",
        "- a list",
        PLANTED,
        &format!("password: [{PLANTED}"),
        &format!("{{\"password\": \"{PLANTED}\""),
        &format!("a: {PLANTED}\na: {PLANTED}\n"),
        &format!("{{\"a\": \"{PLANTED}\", \"a\": \"{PLANTED}\"}}"),
        &format!("{{\"a\": {}{}}}", "[".repeat(100), "]".repeat(100)),
        &format!("{FLAT}---\n{FLAT}"),
    ] {
        assert!(matches!(refused(text), SopsError::Unreadable { .. }), "{text}");
    }
}

#[test]
fn a_value_in_the_clear_refuses_the_whole_file() {
    let plain = |file: &str, at: &str| file.replace(line(file, at), &format!("{at} {PLANTED}"));
    assert_eq!(refused(&plain(FLAT, "password:")), SopsError::Plain { key: key("password") });
    let json = JSON.replace(line(JSON, "\"password\":"), &format!("\"password\": \"{PLANTED}\","));
    assert_eq!(refused(&json), SopsError::Plain { key: key("password") });
    let number = FLAT.replace(line(FLAT, "port:"), "port: 5432");
    assert_eq!(refused(&number), SopsError::Plain { key: key("port") });
    // Even by a rule of sops: what is meant as a Secret stands there for everybody.
    let added = FLAT.replacen("sops:", &format!("hint_unencrypted: {PLANTED}\nsops:"), 1);
    assert_eq!(refused(&added), SopsError::Plain { key: key("hint_unencrypted") });
    let manifest = MANIFEST.replacen("stringData:\n", &format!("stringData:\n    more: {PLANTED}\n"), 1);
    assert_eq!(refused(&manifest), SopsError::Plain { key: key("stringData.more") });
}

#[test]
fn what_is_empty_is_not_believed_because_anybody_could_have_added_it() {
    let added = FLAT.replacen("sops:", "admin: \"\"\nsops:", 1);
    assert!(
        matches!(refused(&added), SopsError::Unfit { key, problem } if key == "admin" && problem.contains("empty"))
    );
    let added = MANIFEST.replacen("stringData:\n", "stringData:\n    admin: null\n", 1);
    assert!(matches!(refused(&added), SopsError::Unfit { key, .. } if key == "stringData.admin"));
}

#[test]
fn what_was_changed_or_moved_cannot_be_decrypted() {
    let changed = FLAT.replacen("password: ENC[AES256_GCM,data:", "password: ENC[AES256_GCM,data:AAAA", 1);
    assert_eq!(refused(&changed), SopsError::Undecryptable { key: key("password") });
    // The same value under another key.
    assert_eq!(
        refused(&FLAT.replacen("password: ENC", "admin: ENC", 1)),
        SopsError::Undecryptable { key: key("admin") }
    );
    let cut = FLAT.replacen(",type:str]", ",type:str", 1);
    assert_eq!(refused(&cut), SopsError::Undecryptable { key: key("password") });
    let odd = FLAT.replacen(",type:str]", ",type:tree]", 1);
    assert_eq!(refused(&odd), SopsError::Undecryptable { key: key("password") });
}

#[test]
fn the_checksum_is_broken_by_whatever_the_values_themselves_cannot_show() {
    let without = |file: &str, begin: &str| file.replace(&format!("{}\n", line(file, begin)), "");
    assert_eq!(refused(&without(FLAT, "port:")), SopsError::BrokenMac, "one is missing");
    let (port, tls) = (line(FLAT, "port:"), line(FLAT, "tls:"));
    let swapped = FLAT.replace(port, "?").replace(tls, port).replace("?\n", &format!("{tls}\n"));
    assert_eq!(refused(&swapped), SopsError::BrokenMac, "another order");
    assert_eq!(refused(&MANIFEST.replace("name: orders-db", "name: other")), SopsError::BrokenMac);
    assert_eq!(
        opened(&MAC_ONLY.replace("name: orders-db", "name: other")).len(),
        2,
        "only values count here"
    );
    let mac = line(MAC_ONLY, "mac_only_encrypted:");
    assert_eq!(refused(&MAC_ONLY.replace(&format!("{mac}\n"), "")), SopsError::BrokenMac);
    let later = FLAT.replace(line(FLAT, "lastmodified:"), "    lastmodified: \"2026-01-01T00:00:00Z\"");
    assert_eq!(refused(&later), SopsError::BrokenMac);
    assert_eq!(
        refused(&FLAT.replace(line(FLAT, "mac:"), line(FLAT, "mac:").trim_end_matches(']'))),
        SopsError::BrokenMac
    );
}

#[test]
fn a_damaged_data_key_is_not_a_wrong_identity() {
    let lines: Vec<&str> = FLAT.lines().collect();
    let last = lines[lines.iter().position(|line| line.contains("END AGE")).unwrap() - 1].trim();
    let swapped: String = last.chars().rev().collect();
    let damaged = FLAT.replace(last, swapped.trim_start_matches('='));
    assert!(matches!(refused(&damaged), SopsError::Damaged { .. }));
    assert!(matches!(refused(&FLAT.replace("-----BEGIN AGE", "-----BEGIN EGA")), SopsError::Damaged { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whoever changes a file by whatever character cannot make it hold other values.
    #[test]
    fn a_changed_file_holds_the_same_values_or_is_refused(which in 0..4usize, at: prop::sample::Index, by in "[ -~\n]{0,3}", cut in 0..40usize) {
        let file = [FLAT, JSON, MANIFEST, MAC_ONLY][which];
        let at = at.index(file.len());
        let end = (at + cut).min(file.len());
        let changed = format!("{}{by}{}", &file[..at], &file[end..]);
        match open(&changed, &identity()) {
            Ok(values) => prop_assert_eq!(values, open(file, &identity()).unwrap()),
            Err(error) => {
                let said = format!("{error} {error:?}");
                prop_assert!(!said.contains("PLANTED"), "{}", said);
            }
        }
    }
}
