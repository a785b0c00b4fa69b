//! Certificates that are made: believed by rustls for what they say and for nothing else, and worked with over real TLS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::needless_pass_by_value, reason = "rows of tables are written where they are used")]

use std::sync::Arc;
use std::time::Duration;

use chassis::SecretValue;
use lifecycle::document::Generator;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use secret_syncer::generate::{CaMaterial, bundle, make, state};
use secret_syncer::plan::Condition;
use serde_json::{Value, json};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const DAY: i64 = 86_400;

fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap()
}

/// Until when a certificate is good, the first of several.
fn expiry(certificate: &SecretValue) -> i64 {
    let Condition::Good { until, .. } = state(certificate, None) else { panic!("{certificate:?} is none") };
    until
}

fn generator(value: Value) -> Generator {
    serde_json::from_value(value).unwrap()
}

fn authority_of(more: Value, now: i64) -> CaMaterial {
    let mut spec = json!({"kind": "ca", "common_name": "test", "private": "key"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut made = make(&generator(spec), "crt", None, now).unwrap();
    CaMaterial { certificate: made.remove("crt").unwrap(), private: made.remove("key").unwrap() }
}

fn authority() -> CaMaterial {
    authority_of(json!({}), now())
}

fn spec(more: Value) -> Generator {
    let mut spec = json!({
        "kind": "certificate", "ca": {"secret": "ca"}, "names": ["db.app.svc", "*.kafka.svc", "10.0.0.7", "fd00::7"],
        "private": "key", "bundle": "ca.crt",
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    generator(spec)
}

struct Leaf {
    chain: SecretValue,
    key: SecretValue,
    bundle: SecretValue,
}

fn leaf(more: Value, ca: &CaMaterial) -> Leaf {
    let mut made = make(&spec(more), "crt", Some(ca), now()).unwrap();
    let mut take = |key| made.remove(key).unwrap();
    Leaf { chain: take("crt"), key: take("key"), bundle: take("ca.crt") }
}

impl Leaf {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain.expose()).map(Result::unwrap).collect()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.expose()).unwrap()
    }

    /// Whether somebody who trusts `roots` believes it is the server called `name`, at that time.
    fn is(&self, name: &str, roots: &SecretValue, at: i64) -> bool {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(trusting(roots), Arc::new(ring::default_provider()))
                .build()
                .unwrap();
        let (chain, name) = (self.chain(), ServerName::try_from(name.to_owned()).unwrap());
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at.try_into().unwrap()));
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], at).is_ok()
    }
}

fn trusting(roots: &SecretValue) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots.expose()) {
        store.add(certificate.unwrap()).unwrap();
    }
    Arc::new(store)
}

#[test]
fn a_certificate_is_believed_for_its_names_whatever_the_algorithms() {
    let (ca_names, leaf_names) =
        (["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-2048"], ["rsa-3072", "ed25519", "ecdsa-p384"]);
    let stranger = authority();
    for ca in ca_names {
        let authority = authority_of(json!({"algorithm": ca}), now());
        for algorithm in leaf_names {
            let leaf = leaf(json!({"algorithm": algorithm}), &authority);
            for name in ["db.app.svc", "DB.app.svc", "a.kafka.svc", "10.0.0.7", "fd00::7"] {
                assert!(leaf.is(name, &leaf.bundle, now()), "{ca} {algorithm} {name}");
                assert!(!leaf.is(name, &stranger.certificate, now()), "{ca} {algorithm} {name}");
            }
            for name in
                ["app.svc", "x.db.app.svc", "kafka.svc", "a.b.kafka.svc", "10.0.0.8", "fd00::8", "test"]
            {
                assert!(!leaf.is(name, &leaf.bundle, now()), "{ca} {algorithm} {name}");
            }
            assert_eq!(leaf.bundle, authority.certificate);
        }
    }
}

#[test]
fn a_certificate_is_good_for_its_days_and_no_longer_than_its_authority() {
    let (ca, start) = (authority(), now());
    let month = leaf(json!({"days": 30}), &ca);
    let ends = expiry(&month.chain);
    assert!((start + 30 * DAY..=now() + 30 * DAY).contains(&ends));
    for (at, good) in
        [(start - 3600, false), (start - 60, true), (start, true), (ends - 1, true), (ends + 1, false)]
    {
        assert_eq!(month.is("db.app.svc", &ca.certificate, at), good, "{} s from its end", ends - at);
    }
    let brief = authority_of(json!({"days": 10}), start);
    assert_eq!(expiry(&brief.certificate), start + 10 * DAY);
    assert_eq!(expiry(&leaf(json!({"days": 30}), &brief).chain), start + 10 * DAY);
    assert_eq!(expiry(&leaf(json!({}), &ca).chain) - now(), 365 * DAY);
    assert_eq!(expiry(&ca.certificate) / DAY - start / DAY, 3650, "when nothing is said");
    let both = bundle(&[ca.certificate.clone(), brief.certificate.clone()]).unwrap();
    assert_eq!(expiry(&both), expiry(&ca.certificate), "of several, the one that signs");
}

/// Both sides of a TLS connection in which each must show a certificate: whether a byte came across and back.
async fn handshake(
    server: &Leaf,
    client: &Leaf,
    name: &str,
    roots: &SecretValue,
) -> Result<(), std::io::Error> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let provider = Arc::new(ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(trusting(roots), Arc::clone(&provider)).build().unwrap();
    let accepting = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(server.chain(), server.key())
        .unwrap();
    let connecting = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusting(roots))
        .with_client_auth_cert(client.chain(), client.key())
        .unwrap();
    let (near, far) = tokio::io::duplex(16 * 1024);
    let serve = async {
        let mut stream = TlsAcceptor::from(Arc::new(accepting)).accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.flush().await
    };
    let ask = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(Arc::new(connecting)).connect(name, near).await?;
        stream.write_u8(7).await?;
        stream.flush().await?;
        assert_eq!(stream.read_u8().await?, 7);
        Ok(())
    };
    tokio::try_join!(serve, ask).map(drop)
}

#[tokio::test]
async fn server_and_client_work_over_tls_with_what_was_made() {
    for algorithm in ["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-2048"] {
        let ca = authority_of(json!({"algorithm": algorithm}), now());
        let server = leaf(json!({"algorithm": algorithm}), &ca);
        let client =
            leaf(json!({"usage": "client", "names": [], "common_name": "app", "algorithm": algorithm}), &ca);
        let both = leaf(json!({"usage": "both", "algorithm": algorithm}), &ca);
        handshake(&server, &client, "db.app.svc", &ca.certificate).await.unwrap();
        handshake(&both, &both, "10.0.0.7", &ca.certificate).await.unwrap();
        for (why, server, client, name, roots) in [
            ("another name", &server, &client, "other.svc", &ca.certificate),
            ("a client's as a server's", &client, &client, "app", &ca.certificate),
            ("a server's as a client's", &server, &server, "db.app.svc", &ca.certificate),
            ("another authority", &server, &client, "db.app.svc", &authority().certificate),
        ] {
            assert!(handshake(server, client, name, roots).await.is_err(), "{algorithm}: {why}");
        }
    }
}

/// An authority that the library makes without us, so that it may be odd.
fn odd(
    change: impl Fn(&mut CertificateParams),
    key: &KeyPair,
    issuer: Option<&Issuer<'_, KeyPair>>,
) -> CaMaterial {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let certificate = match issuer {
        Some(issuer) => params.signed_by(key, issuer),
        None => params.self_signed(key),
    };
    CaMaterial {
        certificate: SecretValue::new(certificate.unwrap().pem()),
        private: SecretValue::new(key.serialize_pem()),
    }
}

/// An authority named as directory services name theirs, `DC=example, DC=org`: a name with two parts of one type, which
/// rcgen keeps only one of.
fn directory_style() -> CaMaterial {
    use openssl::{asn1::Asn1Time, hash::MessageDigest, pkey::PKey, x509};
    let key = PKey::ec_gen("prime256v1").unwrap();
    let mut name = x509::X509NameBuilder::new().unwrap();
    name.append_entry_by_text("DC", "example").unwrap();
    name.append_entry_by_text("DC", "org").unwrap();
    let name = name.build();
    let mut certificate = x509::X509Builder::new().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(9).unwrap()).unwrap();
    certificate
        .append_extension(x509::extension::BasicConstraints::new().critical().ca().build().unwrap())
        .unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    CaMaterial {
        certificate: SecretValue::new(certificate.build().to_pem().unwrap()),
        private: SecretValue::new(key.private_key_to_pem_pkcs8().unwrap()),
    }
}

#[test]
fn what_an_intermediate_authority_signs_is_believed_by_who_trusts_the_root() {
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = odd(|_| (), &root_key, None);
    let issuer = Issuer::from_ca_cert_pem(root.certificate.expose_text().unwrap(), root_key).unwrap();
    let between =
        odd(|params| params.distinguished_name.push(DnType::CommonName, "between"), &key, Some(&issuer));
    let leaf = leaf(json!({}), &between);
    assert_eq!(leaf.chain().len(), 2, "the intermediate comes along");
    assert!(leaf.is("db.app.svc", &root.certificate, now()));
    assert!(!leaf.is("db.app.svc", &authority().certificate, now()));
}

#[test]
fn what_is_no_authority_signs_nothing_and_is_not_shown() {
    let (ca, other) = (authority(), authority());
    let own = leaf(json!({}), &ca);
    let key = KeyPair::generate().unwrap();
    let text = |value: &SecretValue| value.expose_text().unwrap().to_owned();
    let value = |text: &str| SecretValue::new(text);
    let behind = value(&(text(&other.certificate) + &text(&ca.certificate)));
    let directory = directory_style();
    let usage = odd(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign], &key, None);
    let plain = odd(|params| params.is_ca = IsCa::NoCa, &key, None);
    let past = authority_of(json!({"days": 1}), now() - 2 * DAY);
    let future = authority_of(json!({}), now() + DAY);
    for (certificate, private, says) in [
        (&value("hunter2"), &ca.private, "certificate cannot be read"),
        (&value(""), &ca.private, "certificate cannot be read"),
        (&ca.private, &ca.private, "certificate cannot be read"),
        (&SecretValue::new([0xff, 0xfe]), &ca.private, "certificate cannot be read"),
        (&behind, &ca.private, "does not belong to its private key"),
        (&ca.certificate, &value("hunter2"), "private key cannot be used"),
        (&ca.certificate, &ca.certificate, "private key cannot be used"),
        (&ca.certificate, &SecretValue::new([0xff]), "private key cannot be used"),
        (&ca.certificate, &other.private, "does not belong to its private key"),
        (&own.chain, &own.key, "is not an authority's"),
        (&usage.certificate, &usage.private, "is not an authority's"),
        (&plain.certificate, &plain.private, "is not an authority's"),
        (&directory.certificate, &directory.private, "has a name that cannot be repeated"),
        (&past.certificate, &past.private, "has expired"),
        (&future.certificate, &future.private, "is not good yet"),
    ] {
        let ca = CaMaterial { certificate: certificate.clone(), private: private.clone() };
        let error = make(&spec(json!({})), "crt", Some(&ca), now()).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(says), "{shown}, not {says}");
        assert!(!shown.contains("hunter2") && !shown.contains("BEGIN"), "{shown}");
    }
}

#[test]
fn the_first_of_several_authorities_signs_and_all_are_handed_on() {
    let (ca, before) = (authority(), authority());
    let both = bundle(&[ca.certificate.clone(), before.certificate.clone()]).unwrap();
    let signing = CaMaterial { certificate: both.clone(), private: ca.private.clone() };
    let leaf = leaf(json!({}), &signing);
    assert!(leaf.is("db.app.svc", &ca.certificate, now()));
    assert!(!leaf.is("db.app.svc", &before.certificate, now()));
    assert_eq!(leaf.bundle, both);
}
