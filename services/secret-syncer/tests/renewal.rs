//! Certificates after they were made: a new authority, expiry and keys that do not belong to them are said, nobody is cut off,
//! and what is to be renewed is, in its time and never in a storm.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[allow(dead_code, reason = "each file of tests uses some of it")]
mod support;

use std::path::Path;
use std::sync::Arc;

use chassis::SecretValue;
use chassis::converge::Reconcile;
use lifecycle::document::Generator;
use proptest::prelude::*;
use secret_syncer::generate::{CaMaterial, expiry, make};
use secret_syncer::plan::{Action, Certificate, Marker, Plan, Signer, There, Value, World, plan};
use secret_syncer::spec::specs;
use support::{environment, ready, run, standings, targets};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};

const DAY: i64 = 86_400;

fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap()
}

/// An authority, a leaf, and what consumers trust; each rotated so often.
fn documents(authority: u32, leaf: u32) -> String {
    format!(
        "
secrets:
  ca:
    generate: {{ca.crt: {{kind: ca, common_name: dev, private: ca.key}}}}
    rotate: {{serial: {authority}, previous: {{ca.crt: old-ca.crt}}}}
  web:
    generate: {{tls.crt: {{kind: certificate, ca: {{secret: ca}}, names: [web], private: tls.key, bundle: ca.crt}}}}
    rotate: {{serial: {leaf}}}
configmaps:
  trust: {{bundle: {{ca.crt: [{{secret: ca, key: ca.crt}}]}}}}
"
    )
}

fn read(root: &Path, path: &str) -> SecretValue {
    SecretValue::new(std::fs::read(root.join(path)).unwrap())
}

/// Whether somebody who trusts these believes the certificate now.
fn believes(roots: &SecretValue, leaf: &SecretValue) -> bool {
    let mut store = RootCertStore::empty();
    CertificateDer::pem_slice_iter(roots.expose()).for_each(|root| store.add(root.unwrap()).unwrap());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::new(default_provider())).build();
    let leaf = CertificateDer::from_pem_slice(leaf.expose()).unwrap();
    let name = "web".try_into().unwrap();
    verifier.unwrap().verify_server_cert(&leaf, &[], &name, &[], UnixTime::now()).is_ok()
}

/// What there is to do and to say of one object.
fn plan_of(root: &Path, documents: &str, object: &str) -> Plan {
    let environment = environment("dev", 7, documents);
    let all = targets(&environment, root);
    let (_, target, spec) = all.iter().find(|(name, _, _)| name.to_string() == object).unwrap();
    plan(spec, &run(target.observe(spec)).unwrap())
}

fn drift(root: &Path, documents: &str, object: &str) -> String {
    let plan = plan_of(root, documents, object);
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    plan.drift.iter().map(|note| note.text.clone()).collect::<Vec<_>>().join("\n")
}

fn all_ready(root: &Path, documents: &str) {
    for (object, standing) in standings(root, documents) {
        assert!(matches!(standing, chassis::converge::Standing::Ready { .. }), "{object}: {standing:?}");
    }
}

#[test]
fn while_an_authority_is_rotated_everybody_believes_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    all_ready(root, &documents(0, 0));
    let (old_trust, old_leaf) = (read(root, "app/.configmaps/trust/ca.crt"), read(root, "app/web/tls.crt"));
    assert!(believes(&old_trust, &old_leaf));
    assert_eq!(drift(root, &documents(0, 0), "secret/app/web"), "");

    all_ready(root, &documents(1, 0));
    let trust = read(root, "app/.configmaps/trust/ca.crt");
    assert_ne!(trust, old_trust);
    assert_eq!(read(root, "app/web/tls.crt"), old_leaf, "it is not made anew behind anybody's back");
    assert!(believes(&trust, &old_leaf), "whoever got the new bundle still believes the old certificate");
    let says = drift(root, &documents(1, 0), "secret/app/web");
    assert!(says.contains("`tls.crt` is signed by the authority that ca held before"), "{says}");
    assert!(says.contains("raise `rotate.serial`"), "{says}");

    all_ready(root, &documents(1, 1));
    let leaf = read(root, "app/web/tls.crt");
    assert!(believes(&trust, &leaf) && !believes(&old_trust, &leaf));
    let beside = read(root, "app/web/ca.crt");
    assert!(believes(&beside, &leaf) && believes(&beside, &old_leaf), "the bundle beside it holds both too");
    assert_eq!(drift(root, &documents(1, 1), "secret/app/web"), "");
    for (_, standing) in standings(root, &documents(1, 1)) {
        ready(&standing, false);
    }
}

#[test]
fn a_certificate_of_an_authority_that_is_no_more_is_said_to_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    all_ready(root, &documents(0, 0));
    // As when it was forgotten, because it was lost.
    std::fs::remove_dir_all(root.join("app/ca")).unwrap();
    std::fs::remove_dir_all(root.join("app/.generated/ca")).unwrap();
    all_ready(root, &documents(0, 0));
    let says = drift(root, &documents(0, 0), "secret/app/web");
    assert!(says.contains("not signed by the authority that ca holds"), "{says}");
    assert!(says.contains("whoever trusts that one refuses it"), "{says}");
    assert!(!believes(&read(root, "app/.configmaps/trust/ca.crt"), &read(root, "app/web/tls.crt")));
}

/// A store with an authority that was made four hundred days ago, and its certificate by this many days later, as Rollcall's.
fn aged(root: &Path, documents: &str, days: i64) -> CaMaterial {
    let made = now() - 400 * DAY;
    let ca = serde_json::json!({"kind": "ca", "common_name": "old", "private": "ca.key"});
    let mut authority = make(&serde_json::from_value(ca).unwrap(), "ca.crt", None, made).unwrap();
    let authority = CaMaterial {
        certificate: authority.remove("ca.crt").unwrap(),
        private: authority.remove("ca.key").unwrap(),
        previous: None,
    };
    support::write(root, "app/ca/ca.crt", authority.certificate.expose_text().unwrap());
    support::write(root, "app/ca/ca.key", authority.private.expose_text().unwrap());
    all_ready(root, documents);
    let leaf = serde_json::json!({"kind": "certificate", "ca": {"secret": "ca"}, "names": ["web"], "private": "tls.key"});
    let leaf: Generator = serde_json::from_value(leaf).unwrap();
    for (key, value) in make(&leaf, "tls.crt", Some(&authority), made + days * DAY).unwrap() {
        std::fs::write(root.join("app/web").join(key), value.expose()).unwrap();
    }
    authority
}

fn leaf(more: &str) -> String {
    format!(
        "
secrets:
  ca: {{external: true}}
  web: {{generate: {{tls.crt: {{kind: certificate, ca: {{secret: ca}}, names: [web], private: tls.key{more}}}}}}}
"
    )
}

#[test]
fn a_certificate_that_is_to_be_renewed_is_before_it_expires_and_after() {
    // 265 days left of 365; 100 days; and 10 days ago.
    for (age, is_due) in [(300, false), (135, true), (25, true)] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let authority = aged(root, &leaf(""), age);
        let before = read(root, "app/web/tls.crt");
        let ends = expiry(&before).unwrap();
        // Nobody asked for it: it is said, and everything else goes on.
        let says = drift(root, &leaf(""), "secret/app/web");
        assert_eq!(!says.is_empty(), is_due, "{says}");
        let words = if ends < now() { "`tls.crt` expired on 20" } else { "`tls.crt` expires on 20" };
        assert_eq!(says.contains(words) && says.contains("raise `rotate.serial`"), is_due, "{says}");
        all_ready(root, &leaf(""));
        assert_eq!(read(root, "app/web/tls.crt"), before);
        let renew = leaf(", renew: true");
        let step = plan_of(root, &renew, "secret/app/web").steps.pop().map(|step| step.to_string());
        assert_eq!(step.is_some(), is_due);
        assert!(step.is_none_or(|step| step.starts_with("renew `tls.crt`, because `tls.crt` expire")));
        ready(&standings(root, &renew)["secret/app/web"], is_due);
        let after = read(root, "app/web/tls.crt");
        assert_eq!(expiry(&after).unwrap() > now() + 364 * DAY, is_due);
        assert_eq!(after == before, !is_due);
        assert!(believes(&authority.certificate, &after));
        ready(&standings(root, &renew)["secret/app/web"], false);
    }
}

#[test]
fn a_key_that_is_not_its_certificates_is_said_or_both_are_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    aged(root, &leaf(""), 300);
    // What a crash in the middle of a renewal leaves behind.
    std::fs::copy(root.join("app/ca/ca.key"), root.join("app/web/tls.key")).unwrap();
    let says = drift(root, &leaf(""), "secret/app/web");
    assert!(says.contains("`tls.crt` does not belong to the private key beside it"), "{says}");
    ready(&standings(root, &leaf(", renew: true"))["secret/app/web"], true);
    assert_eq!(drift(root, &leaf(", renew: true"), "secret/app/web"), "");
}

/// A Secret with a certificate of so many days that is to be renewed, and one that stands so.
fn decided(days: u16, state: Certificate, at: i64, fixed: bool, report: bool) -> Plan {
    let mut spec = specs(&environment("dev", 7, &leaf(&format!(", renew: true, days: {days}"))))
        .into_iter()
        .find(|spec| spec.object.name() == "web")
        .unwrap();
    spec.report_only = report;
    let value = |key: &str| (key.to_owned(), Value { fingerprint: key.to_owned(), flaw: None });
    let marker =
        Marker::Of { owner: spec.owner.clone(), sources: [].into(), keys: [].into(), rotated: [].into() };
    let keys = ["tls.crt", "tls.key"];
    let mut world = World {
        there: Some(There { keys: keys.map(value).into(), marker, immutable: fixed, ..There::default() }),
        certificates: [("tls.crt".to_owned(), state)].into(),
        now: at,
        ..World::default()
    };
    world.recorded.keys = keys.map(str::to_owned).into();
    for source in spec.reads() {
        world.sources.insert(source, Some(secret_syncer::plan::Seen::default()));
    }
    plan(&spec, &world)
}

fn renews(plan: &Plan) -> bool {
    plan.steps
        .iter()
        .any(|step| matches!(&step.action, Action::Generate { rotate, .. } if !rotate.is_empty()))
}

proptest! {
    #[test]
    fn a_renewal_lasts_and_what_stands_well_is_never_refused_for_one(
        days in 1..3650_u16,
        age in 0..4000_i64,
        hours in 0..24_i64,
        authority in prop::option::of(0..5000_i64),
        paired in prop::bool::weighted(0.8),
        fixed in prop::bool::weighted(0.1),
        report in prop::bool::weighted(0.1),
    ) {
        let at = 1_900_000_000;
        let begins = at - age * DAY - hours * 3600 - 300;
        let authority_ends = authority.map(|left| at + left * DAY);
        let cut = |ends: i64| authority_ends.map_or(ends, |authority| ends.min(authority));
        let state = Certificate {
            begins,
            ends: cut(begins + 300 + i64::from(days) * DAY),
            paired,
            signer: Signer::Present,
            authority_ends,
        };
        let decision = decided(days, state, at, fixed, report);
        prop_assert!(decision.refusals.is_empty() && decision.pending.is_empty());
        prop_assert!(!renews(&decision) || !(fixed || report));
        let left = state.ends - at;
        let is_due = !paired || 3 * left < state.ends - state.begins;
        prop_assert!(is_due || decision.steps.is_empty() && decision.drift.is_empty());
        prop_assert!(!is_due || renews(&decision) || !decision.drift.is_empty(), "somebody is told");
        if renews(&decision) {
            let made = Certificate {
                begins: at - 300,
                ends: cut(at + i64::from(days) * DAY),
                paired: true,
                ..state
            };
            prop_assert!(!renews(&decided(days, made, at, fixed, report)), "once");
            if paired {
                let later = at + i64::from(days) * DAY / 5;
                prop_assert!(!renews(&decided(days, made, later, fixed, report)), "it lasts");
            }
        }
    }
}

#[test]
fn what_is_no_certificate_is_not_judged_as_one() {
    let dir = tempfile::tempdir().unwrap();
    support::write(dir.path(), "app/ca/ca.crt", "no certificate");
    support::write(dir.path(), "app/ca/ca.key", "no key");
    support::write(dir.path(), "app/web/tls.crt", "theirs");
    support::write(dir.path(), "app/web/tls.key", "theirs");
    assert_eq!(drift(dir.path(), &leaf(""), "secret/app/web"), "");
}
