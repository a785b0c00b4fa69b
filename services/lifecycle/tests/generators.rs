//! Generators in documents: what each kind takes, what it refuses, and which keys it makes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::needless_pass_by_value, reason = "rows of tables are written where they are used")]

use lifecycle::document::{AltName, Document, Environment, Generator, Secret, Source, check_union};
use proptest::prelude::*;
use serde_json::{Value, json};

fn generator(value: Value) -> Result<Generator, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Everything that is wrong with these Secrets of one fragment in namespace `app`.
fn problems(secrets: Value) -> String {
    let document: Document = serde_json::from_value(json!({
        "rollcall": "v1",
        "environment": {"name": "dev", "uid": "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06"},
        "fragment": {"name": "app", "namespace": "app"},
        "secrets": secrets,
    }))
    .unwrap();
    let merged = Environment::merge([Source { file: "app.yaml".to_owned(), document }]);
    let union = merged.environment.iter().flat_map(check_union);
    merged.problems.iter().cloned().chain(union).map(|p| p.to_string()).collect::<Vec<_>>().join("\n")
}

fn leaf(more: Value) -> Value {
    let mut leaf =
        json!({"kind": "certificate", "ca": {"secret": "ca"}, "names": ["db"], "private": "tls.key"});
    leaf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    leaf
}

/// A sound authority beside this generator.
fn beside_a_ca(generator: &Value) -> Value {
    json!({
        "ca": {"generate": {"ca.crt": {"kind": "ca", "common_name": "dev", "private": "ca.key"}}},
        "tls": {"generate": {"tls.crt": generator}},
    })
}

#[test]
fn every_kind_has_its_fields_and_the_others_are_refused() {
    for (value, keys) in [
        (json!({"kind": "password"}), vec!["own"]),
        (json!({"kind": "password", "length": 40}), vec!["own"]),
        (json!({"kind": "hmac"}), vec!["own"]),
        (json!({"kind": "hmac", "bytes": 64, "encoding": "base64url"}), vec!["own"]),
        (json!({"kind": "private-key", "algorithm": "rsa-3072"}), vec!["own"]),
        (json!({"kind": "private-key", "algorithm": "ed25519", "public": "p"}), vec!["own", "p"]),
        (json!({"kind": "ca", "common_name": "c", "private": "k"}), vec!["own", "k"]),
        (leaf(json!({})), vec!["own", "tls.key"]),
        (leaf(json!({"bundle": "ca.crt", "usage": "both", "days": 90})), vec!["own", "tls.key", "ca.crt"]),
    ] {
        let generator = generator(value.clone()).unwrap();
        assert_eq!(generator.writes("own"), keys);
        assert_eq!(
            generator.needs().map(ToString::to_string),
            (value["kind"] == "certificate").then(|| "ca".to_owned())
        );
        let written = serde_json::to_value(&generator).unwrap();
        assert_eq!(serde_json::from_value::<Generator>(written).unwrap(), generator);
    }
    for (value, says) in [
        (json!({"kind": "password", "bytes": 32}), "unknown field `bytes`, expected `length`"),
        (json!({"kind": "password", "alphabet": "hex"}), "unknown field `alphabet`"),
        (json!({"kind": "hmac", "length": 32}), "unknown field `length`, expected `bytes` or `encoding`"),
        (json!({"kind": "hmac", "encoding": "base32"}), "unknown variant `base32`"),
        (json!({"kind": "private-key"}), "missing field `algorithm`"),
        (json!({"kind": "private-key", "algorithm": "rsa-1024"}), "unknown variant `rsa-1024`"),
        (json!({"kind": "private-key", "algorithm": "ed25519", "private": "k"}), "unknown field `private`"),
        (json!({"kind": "ca", "private": "k"}), "missing field `common_name`"),
        (json!({"kind": "ca", "common_name": "c"}), "missing field `private`"),
        (json!({"kind": "ca", "common_name": "c", "private": "k", "names": ["x"]}), "unknown field `names`"),
        (leaf(json!({"public": "p"})), "unknown field `public`"),
        (leaf(json!({"names": ["a b"]})), "`a b` is neither a DNS name nor an IP address"),
        (leaf(json!({"days": 70_000})), "invalid value"),
        (json!({"kind": "certificate", "private": "k"}), "missing field `ca`"),
        (json!({"kind": "uuid"}), "unknown variant `uuid`, expected one of `password`, `hmac`"),
        (json!({"length": 32}), "missing field `kind`"),
    ] {
        let error = generator(value.clone()).expect_err(&value.to_string());
        assert!(error.contains(says), "{value} says {error}");
    }
}

#[test]
fn a_secrets_keys_are_all_its_generators_write() {
    let secret: Secret = serde_json::from_value(json!({"generate": {
        "password": {"kind": "password"},
        "tls.crt": leaf(json!({"bundle": "ca.crt"})),
    }}))
    .unwrap();
    assert_eq!(
        secret.generated().into_iter().collect::<Vec<_>>(),
        ["ca.crt", "password", "tls.crt", "tls.key"]
    );
}

#[test]
fn names_of_certificates_are_what_verifiers_match() {
    for good in ["db", "db.app.svc", "*.kafka.app.svc", "10.0.0.1", "::1", "xn--bcher-kva.example", "a1.2b"] {
        let name: AltName = good.parse().unwrap();
        assert_eq!(name.to_string(), good);
    }
    for bad in [
        "",
        " db",
        "db.",
        ".db",
        "a..b",
        "DB",
        "a_b",
        "-a",
        "a-",
        "*",
        "*.svc",
        "a.*.b.c",
        "**.a.b",
        "1.2.3",
        "10.0.0.256",
        "a\0b",
        "bücher.example",
        "db:5432",
        "http://db",
        "a\nb",
        "10.0.0.0/8",
    ] {
        assert!(bad.parse::<AltName>().is_err(), "{bad:?}");
    }
    assert!("a".repeat(64).parse::<AltName>().is_err());
    assert!(["a"; 127].join(".").parse::<AltName>().is_ok(), "253 characters");
    assert!(["a"; 128].join(".").parse::<AltName>().is_err());
}

#[test]
fn sound_generators_have_no_problems() {
    let secrets = json!({
        "ca": {"generate": {"ca.crt": {"kind": "ca", "common_name": "shop's authority", "private": "ca.key"}}},
        "given": {"external": true},
        "tls": {"generate": {"tls.crt": leaf(json!({"bundle": "ca.crt"}))}},
        "theirs": {"generate": {"tls.crt": leaf(json!({"ca": {"secret": "given", "certificate": "a", "private": "b"}}))}},
        "client": {"generate": {"tls.crt": leaf(json!({"names": [], "common_name": "app", "usage": "client"}))}},
        "keys": {"generate": {
            "hmac": {"kind": "hmac"},
            "signing": {"kind": "private-key", "algorithm": "ed25519", "public": "verifying"},
        }},
    });
    assert_eq!(problems(secrets), "");
}

#[test]
fn mistakes_are_named() {
    let long = "a".repeat(65);
    let password = json!({"kind": "password"});
    for (secrets, says) in [
        (
            json!({"s": {"generate": {"k": {"kind": "password", "length": 23}}}}),
            "generate.k.length: 23 is not between 24",
        ),
        (
            json!({"s": {"generate": {"k": {"kind": "hmac", "bytes": 15}}}}),
            "generate.k.bytes: 15 is not between 16",
        ),
        (json!({"s": {"generate": {"a/b": password}}}), "`a/b` is no key of a Secret"),
        (
            json!({"s": {"generate": {"k": {"kind": "private-key", "algorithm": "ed25519", "public": "../x"}}}}),
            "`../x` is no key of a Secret",
        ),
        (
            json!({"s": {"generate": {"k": {"kind": "private-key", "algorithm": "ed25519", "public": "k"}}}}),
            "secrets.s.generate.k: writes the key `k` twice",
        ),
        (
            json!({"s": {"generate": {"a": password, "k": {"kind": "private-key", "algorithm": "ed25519", "public": "a"}}}}),
            "secrets.s.generate.k: writes the key `a` and `a` writes it too",
        ),
        (beside_a_ca(&leaf(json!({"bundle": "tls.key"}))), "writes the key `tls.key` twice"),
        (beside_a_ca(&leaf(json!({"names": []}))), "tls.crt.names: is empty, and clients look for"),
        (beside_a_ca(&leaf(json!({"names": [], "usage": "client"}))), "whose certificate it is"),
        (beside_a_ca(&leaf(json!({"names": ["a", "b", "a"]}))), "`a` stands twice"),
        (beside_a_ca(&leaf(json!({"names": vec!["a"; 101]}))), "has 101 entries, 100 are allowed"),
        (beside_a_ca(&leaf(json!({"days": 0}))), "tls.crt.days: 0 is not between 1 and 3650"),
        (beside_a_ca(&leaf(json!({"common_name": long}))), "write 1 to 64 characters"),
        (beside_a_ca(&leaf(json!({"common_name": "a\nb"}))), r"`a\nb` is no name of a subject"),
        (beside_a_ca(&leaf(json!({"common_name": ""}))), "is no name of a subject"),
        (
            beside_a_ca(&leaf(json!({"ca": {"secret": "ca", "private": "a b"}}))),
            "tls.crt.ca: `a b` is no key",
        ),
        (beside_a_ca(&leaf(json!({"ca": {"secret": "tls"}}))), "tls.crt.ca.secret: is this Secret itself"),
        (beside_a_ca(&leaf(json!({"ca": {"secret": "app/tls"}}))), "is this Secret itself"),
        (
            beside_a_ca(&leaf(json!({"ca": {"secret": "none"}}))),
            "secret/app/none: is referred to, and no fragment declares it",
        ),
        (
            beside_a_ca(&leaf(json!({"ca": {"secret": "ca", "private": "key"}}))),
            "its key `key` is referred to, and it is made with ca.crt, ca.key only",
        ),
        (
            json!({"ca": {"generate": {"ca.crt": password, "ca.key": password}}, "tls": {"generate": {"tls.crt": leaf(json!({}))}}}),
            "secret/app/ca does not make `ca.crt` and `ca.key` as one authority",
        ),
        (
            json!({"ca": {"generate": {"ca.crt": {"kind": "ca", "common_name": "c", "private": "k", "days": 8000}}}}),
            "ca.crt.days: 8000 is not between 1 and 7300",
        ),
    ] {
        let found = problems(secrets.clone());
        assert!(found.contains(says), "{secrets}\nsays {found:?}, not {says:?}");
    }
}

#[test]
fn the_schema_takes_what_the_types_take_and_names_every_kind() {
    let schema = serde_json::to_value(Document::json_schema()).unwrap();
    let kinds = schema["$defs"]["Generator"]["oneOf"].as_array().unwrap();
    let names: Vec<&str> =
        kinds.iter().map(|kind| kind["properties"]["kind"]["const"].as_str().unwrap()).collect();
    assert_eq!(names, ["password", "hmac", "private-key", "ca", "certificate"]);
    for kind in kinds {
        let required: Vec<&str> =
            kind["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(required.contains(&"kind"), "{kind}");
        assert_eq!(kind["additionalProperties"], false, "{kind}");
        assert!(
            kind.get("$ref").is_none(),
            "what stands elsewhere and is closed would refuse `kind`: {kind}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_a_name_or_refused_and_a_name_is_written_as_it_was_read(text in any::<String>()) {
        if let Ok(name) = text.parse::<AltName>() {
            prop_assert_eq!(name.to_string().parse::<AltName>().unwrap(), name);
        }
    }
}
