//! Values that are made: of the form asked for, under the keys promised, never the same twice, never shown.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::needless_pass_by_value, reason = "rows of tables are written where they are used")]

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chassis::SecretValue;
use lifecycle::document::{Algorithm, AltName, Generator};
use proptest::prelude::*;
use rcgen::{KeyPair, PublicKeyData};
use secret_syncer::generate::{CaMaterial, GenerateError, make};
use serde_json::{Value, json};

const NOW: i64 = 1_900_000_000;

fn made(generator: Value, ca: Option<&CaMaterial>) -> BTreeMap<String, SecretValue> {
    make(&serde_json::from_value(generator).unwrap(), "own", ca, NOW).unwrap()
}

fn text<'a>(values: &'a BTreeMap<String, SecretValue>, key: &str) -> &'a str {
    values[key].expose_text().unwrap()
}

fn authority() -> CaMaterial {
    let mut values = made(json!({"kind": "ca", "common_name": "test", "private": "key"}), None);
    CaMaterial { certificate: values.remove("own").unwrap(), private: values.remove("key").unwrap() }
}

#[test]
fn passwords_are_letters_and_digits_of_the_length_asked_for() {
    for length in [24, 32, 1024] {
        let values = made(json!({"kind": "password", "length": length}), None);
        assert_eq!(values.len(), 1);
        assert_eq!(text(&values, "own").len(), length);
        assert!(text(&values, "own").bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}

#[test]
fn passwords_use_every_letter_and_digit_about_as_often() {
    let mut counts = [0_u32; 128];
    for _ in 0..62 {
        let values = made(json!({"kind": "password", "length": 1000}), None);
        text(&values, "own").bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    }
    let counts: Vec<u32> = counts.into_iter().filter(|count| *count > 0).collect();
    assert_eq!(counts.len(), 62);
    // 1000 of each are expected, with a standard deviation of 31: eight of them are never seen.
    assert!(counts.iter().all(|count| (750..1250).contains(count)), "{counts:?}");
}

#[test]
fn symmetric_keys_have_the_bytes_asked_for_in_every_encoding() {
    for bytes in [16, 32, 33, 1024] {
        let value = |encoding: &str| {
            let values = made(json!({"kind": "hmac", "bytes": bytes, "encoding": encoding}), None);
            text(&values, "own").to_owned()
        };
        let (base64, url, hex) = (value("base64"), value("base64url"), value("hex"));
        assert_eq!(STANDARD.decode(base64).unwrap().len(), bytes);
        assert_eq!(URL_SAFE_NO_PAD.decode(url).unwrap().len(), bytes);
        assert_eq!(hex.len(), 2 * bytes);
        assert!(hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    }
    let values = made(json!({"kind": "hmac"}), None);
    assert_eq!(STANDARD.decode(text(&values, "own")).unwrap().len(), 32, "when nothing is said");
}

#[test]
fn private_keys_are_pkcs8_of_their_algorithm_and_their_public_keys_belong_to_them() {
    for (name, algorithm, bytes) in [
        ("ed25519", &rcgen::PKCS_ED25519, 32),
        ("ecdsa-p256", &rcgen::PKCS_ECDSA_P256_SHA256, 65),
        ("ecdsa-p384", &rcgen::PKCS_ECDSA_P384_SHA384, 97),
        ("rsa-2048", &rcgen::PKCS_RSA_SHA256, 270),
        ("rsa-3072", &rcgen::PKCS_RSA_SHA256, 398),
        ("rsa-4096", &rcgen::PKCS_RSA_SHA256, 526),
    ] {
        let values = made(json!({"kind": "private-key", "algorithm": name, "public": "public"}), None);
        assert_eq!(values.keys().collect::<Vec<_>>(), ["own", "public"]);
        let private = text(&values, "own");
        assert!(
            private.starts_with("-----BEGIN PRIVATE KEY-----\n")
                && private.ends_with("-----END PRIVATE KEY-----\n")
        );
        // ring reads it, and ring did not make it.
        let pair = KeyPair::from_pem(private).unwrap();
        assert!(pair.is_compatible(algorithm), "{name}");
        // An RSA key is its modulus and exponent in DER: the length tells the bits.
        assert_eq!(pair.der_bytes().len(), bytes, "{name}");
        assert_eq!(pair.public_key_pem(), text(&values, "public"), "{name}");
        // Version 1, which is written as 0: OpenSSL 3.0 reads no other.
        assert!(is_version_1(private), "{name}");
    }
    let alone = made(json!({"kind": "private-key", "algorithm": "ed25519"}), None);
    assert_eq!(alone.keys().collect::<Vec<_>>(), ["own"]);
}

/// Whether a PKCS#8 structure says version 1: its first INTEGER, after the header of the outer SEQUENCE (2 to 4 bytes), is 0.
fn is_version_1(pem: &str) -> bool {
    pem::parse(pem).unwrap().contents().windows(3).take(5).any(|window| window == [2, 1, 0])
}

#[test]
fn what_cannot_be_made_is_said_and_holds_no_value() {
    let ca = authority();
    let leaf = |more: Value| {
        let mut leaf = json!({"kind": "certificate", "ca": {"secret": "ca"}, "names": ["db"], "private": "key", "bundle": "ca.crt"});
        leaf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<Generator>(leaf).unwrap()
    };
    let failure =
        |generator: &Generator, ca: Option<&CaMaterial>, now| make(generator, "own", ca, now).unwrap_err();
    assert!(matches!(failure(&leaf(json!({})), None, NOW), GenerateError::NoCa));
    assert!(
        matches!(failure(&leaf(json!({"private": "own"})), Some(&ca), NOW), GenerateError::KeyTwice(key) if key == "own")
    );
    assert!(matches!(
        failure(&leaf(json!({"common_name": "a\u{0}b"})), Some(&ca), NOW),
        GenerateError::Name(_)
    ));
    let Generator::Certificate(mut odd) = leaf(json!({})) else { panic!("no certificate") };
    odd.names = vec![AltName::Dns("db\nIP:10.0.0.1".to_owned())];
    let error = failure(&Generator::Certificate(odd), Some(&ca), NOW);
    assert_eq!(error.to_string(), r"`db\nIP:10.0.0.1` cannot stand in a certificate");

    let authority = json!({"kind": "ca", "common_name": "c", "private": "key"});
    let authority: Generator = serde_json::from_value(authority).unwrap();
    for now in [i64::MIN, -1, 253_402_300_800, i64::MAX] {
        assert!(matches!(failure(&authority, None, now), GenerateError::Clock), "{now}");
    }
    assert!(make(&authority, "own", None, 0).is_ok(), "a clock that was never set");
}

#[test]
fn nothing_shows_a_value() {
    let ca = authority();
    let secret = text(&made(json!({"kind": "password"}), None), "own").to_owned();
    let shown = format!("{ca:?} {:?}", made(json!({"kind": "hmac"}), None));
    assert!(!shown.contains("BEGIN") && !shown.contains(&secret), "{shown}");
}

/// Keys of a Secret.
fn keys() -> impl Strategy<Value = [String; 3]> {
    ["[a-z]{1,6}", "[A-Z]{1,6}", "[0-9]{1,6}"]
}

/// Everything but RSA, which would take minutes.
fn quick() -> impl Strategy<Value = Algorithm> {
    prop_oneof![Just(Algorithm::Ed25519), Just(Algorithm::EcdsaP256), Just(Algorithm::EcdsaP384)]
}

fn generators() -> impl Strategy<Value = (String, Generator)> {
    let days = 1..3650_u16;
    let names =
        prop::collection::vec(prop_oneof!["[a-z]{1,9}(\\.[a-z]{1,9}){0,3}", "10\\.0\\.[1-9]\\.[1-9]"], 0..4);
    let parts = (keys(), quick(), days, names, any::<bool>(), 0..5, 24..64_u16, "\\PC{1,64}");
    parts.prop_filter_map("no name", |([own, second, third], algorithm, days, names, both, kind, size, common)| {
        let more = both.then_some(third);
        let value = match kind {
            0 => json!({"kind": "password", "length": size}),
            1 => json!({"kind": "hmac", "bytes": size, "encoding": (if both { "hex" } else { "base64url" })}),
            2 => json!({"kind": "private-key", "algorithm": algorithm, "public": more}),
            3 => json!({"kind": "ca", "common_name": common, "private": second, "days": days, "algorithm": algorithm}),
            _ => json!({
                "kind": "certificate", "ca": {"secret": "ca"}, "names": names, "private": second, "bundle": more,
                "common_name": (names.is_empty()).then_some(common), "days": days, "algorithm": algorithm,
            }),
        };
        Some((own, serde_json::from_value(value).unwrap()))
    })
}

/// Any text at all, and some that is a name.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "(\\*\\.)?[a-z]{1,5}(\\.[a-z]{1,5}){0,2}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_generator_writes_exactly_the_keys_it_says_and_never_the_same_value_twice((own, generator) in generators()) {
        let ca = authority();
        let make = || make(&generator, &own, Some(&ca), NOW);
        let (first, second) = match (make(), make()) {
            (Ok(first), Ok(second)) => (first, second),
            // A name may be odd; it is then refused each time.
            (Err(GenerateError::Name(_)), Err(GenerateError::Name(_))) => return Ok(()),
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        let mut promised = generator.writes(&own);
        promised.sort_unstable();
        prop_assert_eq!(first.keys().map(String::as_str).collect::<Vec<_>>(), promised);
        let bundle = match &generator {
            Generator::Certificate(certificate) => certificate.bundle.as_deref(),
            _ => None,
        };
        for (key, value) in &first {
            prop_assert_eq!(lifecycle::placeholder(key, value.expose()), None, "what we make passes our own judgement");
            prop_assert_eq!(*value == second[key], Some(key.as_str()) == bundle, "{}", key);
        }
    }

    #[test]
    fn whatever_a_name_is_it_is_written_or_refused(name in names(), common in names(), now in any::<i64>()) {
        let ca = authority();
        let leaf = json!({
            "kind": "certificate", "ca": {"secret": "ca"}, "private": "key", "common_name": common, "usage": "client",
        });
        let Generator::Certificate(mut leaf) = serde_json::from_value(leaf).unwrap() else { panic!("no certificate") };
        let sound = name.parse::<AltName>();
        leaf.names = vec![AltName::Dns(name)];
        let made = make(&Generator::Certificate(leaf.clone()), "own", Some(&ca), NOW);
        let good = matches!(sound, Ok(AltName::Dns(_))) && lifecycle::document::is_common_name(&common);
        prop_assert_eq!(made.is_ok(), good);
        // Any clock at all: refused or right, never a panic.
        leaf.names = Vec::new();
        drop(make(&Generator::Certificate(leaf), "own", Some(&ca), now));
        let authority = json!({"kind": "ca", "common_name": "c", "private": "key"});
        let authority: Generator = serde_json::from_value(authority).unwrap();
        drop(make(&authority, "own", None, now));
    }
}

#[test]
fn mistakes_in_a_document_are_named_where_they_stand() {
    let parse = |generator: &str| {
        let text = format!(
            "rollcall: v1\nenvironment: {{name: dev, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}}\nfragment: {{name: app, namespace: app}}\nsecrets:\n  s:\n    generate:\n      own: {generator}\n"
        );
        chassis::documents::parse("app.yaml", &text)
    };
    for good in [
        "{kind: password}",
        "{kind: hmac, bytes: 64, encoding: hex}",
        "{kind: private-key, algorithm: ed25519, public: p}",
        "{kind: ca, common_name: \"12\", days: 10, private: k}",
        "{kind: certificate, ca: {secret: other/ca, certificate: a, private: b}, names: [db, 10.0.0.1, \"::1\"], private: k, bundle: b, usage: both, days: 90, algorithm: rsa-2048}",
    ] {
        assert!(parse(good).is_ok(), "{good}: {:?}", parse(good));
    }
    for (bad, says) in [
        ("{kind: password, bytes: 32}", "unknown field: found `bytes`, expected ``length``"),
        ("{kind: hmac, length: 32}", "unknown field: found `length`, expected ``bytes` or `encoding``"),
        ("{kind: hmac, bytes: many}", "expected u16"),
        ("{kind: uuid}", "expected `one of `password`, `hmac`, `private-key`, `ca`, `certificate``"),
        ("{length: 32}", "missing field `kind`"),
        ("{kind: certificate, ca: {secret: ca, crt: x}, names: [db], private: k}", "found `crt`"),
        (
            "{kind: certificate, ca: {secret: ca}, names: [a b], private: k}",
            "`a b` is neither a DNS name nor",
        ),
    ] {
        let problems = parse(bad).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let problem = problems[0].to_string();
        assert!(
            problem.starts_with("app.yaml: secrets.s.generate.own") && problem.contains(says),
            "{problem}"
        );
    }
}
