//! Trust bundles: certificates of authorities, each once, in order, and never anything else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use chassis::SecretValue;
use proptest::prelude::*;
use secret_syncer::generate::{TrustError, bundle, make};
use serde_json::json;

/// A new authority: its certificate and its private key.
fn authority() -> (String, String) {
    let spec = json!({"kind": "ca", "common_name": "test", "private": "key"});
    let made = make(&serde_json::from_value(spec).unwrap(), "crt", None, 1_900_000_000).unwrap();
    let text = |key: &str| made[key].expose_text().unwrap().to_owned();
    (text("crt"), text("key"))
}

fn bundled(values: &[&str]) -> Result<String, TrustError> {
    let values: Vec<SecretValue> = values.iter().map(|value| SecretValue::new(*value)).collect();
    bundle(&values).map(|value| value.expose_text().unwrap().to_owned())
}

#[test]
fn a_bundle_holds_each_certificate_once_in_the_order_given() {
    let [a, b, c] = [authority().0, authority().0, authority().0];
    assert_eq!(bundled(&[&a]).unwrap(), a);
    assert_eq!(bundled(&[&b, &a]).unwrap(), format!("{b}{a}"));
    assert_eq!(bundled(&[&format!("{a}{b}{a}"), &c, &b, &a]).unwrap(), format!("{a}{b}{c}"));
    // Written by others: text before, between and after, line ends of Windows, no line end at the end.
    let noted = format!("# issued by nobody\n{}\r\nSubject: x\r\n{}", a.trim_end(), b.replace('\n', "\r\n"));
    assert_eq!(bundled(&[&noted, &b]).unwrap(), format!("{a}{b}"));
}

#[test]
fn anything_but_certificates_is_refused_and_not_shown() {
    let (a, key) = authority();
    let wrapped = |label: &str, text: &str| text.replace("CERTIFICATE", label).replace("PRIVATE KEY", label);
    let cut = a.split_at(a.len() / 2).0;
    let longer =
        pem::encode(&pem::Pem::new("CERTIFICATE", [pem::parse(&a).unwrap().contents(), &[0]].concat()));
    for (values, error) in [
        (vec![key.as_str()], TrustError::PrivateKey),
        (vec![&a, &key], TrustError::PrivateKey),
        (vec![&format!("{a}{key}")], TrustError::PrivateKey),
        (vec![&format!("{a}{}", key.split_at(80).0)], TrustError::PrivateKey),
        (vec![&wrapped("RSA PRIVATE KEY", &key)], TrustError::PrivateKey),
        (vec![&wrapped("EC PRIVATE KEY", &key)], TrustError::PrivateKey),
        (vec![&wrapped("ENCRYPTED PRIVATE KEY", &key)], TrustError::PrivateKey),
        (vec![&wrapped("OPENSSH PRIVATE KEY", &key)], TrustError::PrivateKey),
        (vec![&wrapped("TRUSTED CERTIFICATE", &a)], TrustError::NotCertificates),
        (vec![&wrapped("CERTIFICATE REQUEST", &a)], TrustError::NotCertificates),
        (vec![&wrapped("PUBLIC KEY", &a)], TrustError::NotCertificates),
        (vec![&a, "hunter2"], TrustError::NotCertificates),
        (vec!["hunter2"], TrustError::NotCertificates),
        (vec![&a, ""], TrustError::Nothing),
        (vec![" \n"], TrustError::Nothing),
        (vec![], TrustError::Nothing),
        (vec![cut], TrustError::Unreadable),
        (vec![&format!("{a}{cut}")], TrustError::Unreadable),
        (vec![&format!("{cut}\n{a}")], TrustError::Unreadable),
        (vec![&wrapped("CERTIFICATE", &key)], TrustError::Unreadable),
        (vec![&longer], TrustError::Unreadable),
        (vec!["-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"], TrustError::Unreadable),
    ] {
        let found = bundled(&values).unwrap_err();
        assert_eq!(found, error, "{values:?}");
        let body = key.lines().nth(1).unwrap();
        assert!(!format!("{found} {found:?}").contains(body) && !found.to_string().contains("hunter2"));
    }
    assert_eq!(bundle(&[SecretValue::new([0x30, 0xff])]), Err(TrustError::NotCertificates), "DER is no PEM");
    for (value, error) in
        [(key.as_str(), TrustError::PrivateKey), ("", TrustError::Nothing), (cut, TrustError::Unreadable)]
    {
        assert_eq!(bundled(&[value]), Err(error));
    }
}

proptest! {
    #[test]
    fn a_bundle_of_a_bundle_is_itself_and_holds_all(picks in prop::collection::vec(0..4_usize, 1..12)) {
        let authorities: Vec<String> = (0..4).map(|_| authority().0).collect();
        let values: Vec<&str> = picks.iter().map(|pick| authorities[*pick].as_str()).collect();
        let once = bundled(&values).unwrap();
        prop_assert_eq!(&bundled(&[&once]).unwrap(), &once);
        for (i, authority) in authorities.iter().enumerate() {
            prop_assert_eq!(once.matches(authority.as_str()).count(), usize::from(picks.contains(&i)));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), at in 0..1000_usize) {
        drop(bundled(&[&text]));
        // Something strange in the middle of a good one.
        let mut good = authority().0;
        let at = at % good.len();
        good.insert_str(at, &text);
        if let Ok(bundle) = bundled(&[&good]) {
            prop_assert_eq!(bundled(&[&bundle]).unwrap(), bundle);
        }
    }
}
