//! Certificates after they were made: a new authority and an end that comes near are said, and nobody is cut off.
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
use chassis::converge::{Reconcile, Standing};
use proptest::prelude::*;
use secret_syncer::generate::make;
use secret_syncer::plan::{
    Action, Certificate, Condition, Marker, Plan, Seen, Signer, There, Value, World, plan,
};
use secret_syncer::spec::specs;
use serde_json::json;
use support::{environment, pending, run, standing, standings, targets};
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

/// An authority, two that know each other by what lies beside their own certificates, and what everybody else trusts: the
/// authority and each leaf rotated so often, and so many authorities kept.
fn documents(authority: u32, [web, db]: [u32; 2], keep: u8) -> String {
    format!(
        "
secrets:
  ca:
    generate: {{ca.crt: {{kind: ca, common_name: dev, private: ca.key, keep: {keep}}}}}
    rotate: {{serial: {authority}}}
  web:
    generate: {{tls.crt: {{kind: certificate, ca: {{secret: ca}}, names: [web], private: tls.key, bundle: ca.crt}}}}
    rotate: {{serial: {web}}}
  db:
    generate: {{tls.crt: {{kind: certificate, ca: {{secret: ca}}, names: [web], private: tls.key, bundle: ca.crt}}}}
    rotate: {{serial: {db}}}
  public: {{copy: {{from: ca, keys: {{trusted: ca.crt}}}}}}
configmaps:
  trust: {{bundle: {{ca.crt: [{{secret: ca, key: ca.crt}}]}}}}
  copied: {{bundle: {{ca.crt: [{{secret: public, key: trusted}}]}}}}
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
        assert!(matches!(standing, Standing::Ready { .. }), "{object}: {standing:?}");
    }
}

/// Everything in a store that somebody trusts.
const TRUST: [&str; 5] = [
    "app/.configmaps/trust/ca.crt",
    "app/.configmaps/copied/ca.crt",
    "app/public/trusted",
    "app/web/ca.crt",
    "app/db/ca.crt",
];

/// Whether everybody believes both leaves.
#[track_caller]
fn all_believe(root: &Path) {
    for leaf in ["app/web/tls.crt", "app/db/tls.crt"] {
        for trust in TRUST {
            assert!(believes(&read(root, trust), &read(root, leaf)), "{trust} {leaf}");
        }
    }
}

fn count(root: &Path, path: &str) -> usize {
    CertificateDer::pem_slice_iter(read(root, path).expose()).count()
}

#[test]
fn while_an_authority_is_rotated_everybody_believes_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let make = |authority, leaves, keep| {
        let documents = documents(authority, leaves, keep);
        all_ready(root, &documents);
        all_believe(root);
        for (object, standing) in standings(root, &documents) {
            assert!(matches!(standing, Standing::Ready { changed: false, .. }), "{object}: {standing:?}");
        }
        ["secret/app/web", "secret/app/db"].map(|leaf| drift(root, &documents, leaf))
    };
    assert_eq!(make(0, [0, 0], 1), ["", ""]);
    let first = read(root, "app/web/tls.crt");
    let says = make(1, [0, 0], 1);
    assert_eq!(read(root, "app/web/tls.crt"), first, "it is not made anew behind anybody's back");
    for says in says {
        assert!(
            says.contains("`tls.crt` is signed by an authority before the one that ca has now"),
            "{says}"
        );
    }
    assert!(TRUST.iter().all(|trust| count(root, trust) == 2));
    let [web, db] = make(1, [1, 0], 1);
    assert!(web.is_empty() && !db.is_empty());
    assert_ne!(read(root, "app/web/tls.crt"), first);
    assert_eq!(make(1, [1, 1], 1), ["", ""]);
    // Once nothing of the old one is in use it need not be believed any more.
    assert_eq!(make(1, [1, 1], 0), ["", ""]);
    assert!(TRUST.iter().all(|trust| count(root, trust) == 1));
    assert!(!believes(&read(root, TRUST[0]), &first));
}

#[test]
fn two_rotations_are_survived_where_two_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for serial in 0..=2 {
        all_ready(dir.path(), &documents(serial, [0, 0], 2));
        all_believe(dir.path());
    }
    // More is kept than there is: everything.
    all_ready(dir.path(), &documents(2, [0, 0], 8));
    assert_eq!(count(dir.path(), TRUST[0]), 3);
}

#[test]
fn a_leaf_is_signed_by_the_new_authority_when_both_are_asked_for_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    all_ready(root, &documents(0, [0, 0], 1));
    let both = environment("dev", 7, &documents(1, [1, 1], 1));
    let all = targets(&both, root);
    // Whoever comes first.
    let (_, target, spec) = all.iter().find(|(name, _, _)| name.name() == "web").unwrap();
    let text = pending(&run(standing(target, spec)).unwrap()).to_owned();
    assert!(text.contains("secret/app/ca, which signs `tls.crt`, is to be rotated first"), "{text}");
    all_ready(root, &documents(1, [1, 1], 1));
    assert_eq!(drift(root, &documents(1, [1, 1], 1), "secret/app/web"), "");
}

#[test]
fn what_was_believed_is_kept_when_a_rotation_is_cut_short_or_made_by_two() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let once = |serial| {
        documents(serial, [0, 0], 1).replace("serial: 1}", "serial: 1, previous: {ca.key: old.key}}")
    };
    all_ready(root, &once(0));
    let (key, believed) = (read(root, "app/ca/ca.key"), read(root, "app/ca/ca.crt"));
    all_ready(root, &once(1));
    // The crash came after the certificate and before its key: the mark says so of both, and the key is the old one.
    let path = root.join("app/ca/.rollcall");
    let mut mark: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    mark["rotated"].as_object_mut().unwrap().remove("ca.key").unwrap();
    std::fs::write(&path, mark.to_string()).unwrap();
    std::fs::write(root.join("app/ca/ca.key"), key.expose()).unwrap();
    let half = read(root, "app/ca/ca.crt");
    all_ready(root, &once(1));
    all_believe(root);
    let whole = read(root, "app/ca/ca.crt");
    let ders = |value: &SecretValue| {
        CertificateDer::pem_slice_iter(value.expose()).map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(ders(&whole)[1], ders(&believed)[0], "the one of before, not the one of the crash");
    assert_ne!(ders(&whole)[0], ders(&half)[0]);
    assert_eq!(read(root, "app/ca/old.key"), key);

    // Both decided before either wrote.
    let two = environment("dev", 7, &once(1).replace("serial: 1,", "serial: 2,"));
    let all = targets(&two, root);
    let (_, target, spec) = all.iter().find(|(name, _, _)| name.name() == "ca").unwrap();
    let decided = plan(spec, &run(target.observe(spec)).unwrap());
    let ours = &decided.steps[0];
    run(target.apply(spec, ours)).unwrap();
    let made = read(root, "app/ca/ca.crt");
    let late = run(target.apply(spec, ours)).unwrap_err();
    assert!(late.to_string().contains("changed"), "{late}");
    assert_eq!(read(root, "app/ca/ca.crt"), made);
    assert_eq!(ders(&made)[1], ders(&whole)[0]);
}

#[test]
fn a_certificate_of_an_authority_that_is_no_more_is_said_to_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (root, documents) = (dir.path(), documents(0, [0, 0], 1));
    all_ready(root, &documents);
    // As when it was forgotten, because it was lost.
    std::fs::remove_dir_all(root.join("app/ca")).unwrap();
    std::fs::remove_dir_all(root.join("app/.generated/ca")).unwrap();
    all_ready(root, &documents);
    let says = drift(root, &documents, "secret/app/web");
    assert!(says.contains("not signed by the authority that ca has"), "{says}");
    assert!(says.contains("whoever trusts that one refuses it"), "{says}");
    assert!(!believes(&read(root, TRUST[0]), &read(root, "app/web/tls.crt")));
}

/// A Secret with a certificate that stands so, decided about at a time.
fn decided(condition: Condition, outdated: bool, at: i64, fixed: bool, report: bool) -> Plan {
    let documents = documents(0, [0, 0], 1);
    let mut spec = specs(&environment("dev", 7, &documents))
        .into_iter()
        .find(|spec| spec.object.name() == "web")
        .unwrap();
    spec.report_only = report;
    let value = |key: &str| (key.to_owned(), Value { fingerprint: key.to_owned(), flaw: None });
    let marker =
        Marker::Of { owner: spec.owner.clone(), sources: [].into(), keys: [].into(), rotated: [].into() };
    let keys = ["tls.crt", "tls.key", "ca.crt"];
    let mut world = World {
        there: Some(There { keys: keys.map(value).into(), marker, immutable: fixed, ..There::default() }),
        certificates: [("tls.crt".to_owned(), Certificate { condition, outdated })].into(),
        now: at,
        ..World::default()
    };
    world.recorded.keys = keys.map(str::to_owned).into();
    for source in spec.reads() {
        world.sources.insert(source, Some(Seen::default()));
    }
    plan(&spec, &world)
}

proptest! {
    #[test]
    fn nobody_is_cut_off_by_a_certificate_that_grows_old(
        days in 1..4000_i64,
        age in -10..4000_i64,
        authority in prop::option::of(-10..5000_i64),
        signer in prop::sample::select(vec![Signer::Present, Signer::Former, Signer::Stranger, Signer::Unknown]),
        readable in prop::bool::weighted(0.9),
        outdated in prop::bool::weighted(0.2),
        fixed in prop::bool::weighted(0.2),
        report in prop::bool::weighted(0.2),
    ) {
        let now = 1_900_000_000;
        let (from, until) = (now - age * DAY, now + (days - age) * DAY);
        let authority_until = authority.map(|days| now + days * DAY);
        let good = Condition::Good { from, until, signer, authority_until };
        let decision = decided(if readable { good } else { Condition::Unreadable }, outdated, now, fixed, report);
        prop_assert!(decision.refusals.is_empty() && decision.pending.is_empty());
        let text = decision.drift.iter().map(|note| note.text.as_str()).collect::<Vec<_>>().join("\n");
        let is_old = readable && 3 * (until - now) < until - from;
        prop_assert_eq!(text.contains("`tls.crt` expire"), is_old, "{}", &text);
        // Signing anew mends nothing while the authority itself is to be made anew.
        let has_ended = readable && authority_until.is_some_and(|ends| ends <= now);
        prop_assert_eq!(text.contains("has expired, on "), has_ended, "{}", &text);
        for line in text.lines().filter(|line| has_ended && line.contains("rotate.serial")) {
            prop_assert!(line.contains("of that first, and then of this"), "{line}");
        }
        prop_assert_eq!(text.contains("is not good before"), readable && from > now && !is_old);
        let is_foreign = readable && matches!(signer, Signer::Former | Signer::Stranger);
        prop_assert_eq!(text.contains("signed by"), is_foreign, "{}", &text);
        prop_assert_eq!(text.contains("can be read"), !readable);
        prop_assert_eq!(text.contains("so they stay"), outdated && (fixed || report));
        // All that is ever done is to write what those who trust are given.
        prop_assert_eq!(decision.steps.len(), usize::from(outdated && !fixed && !report));
        for step in decision.steps {
            let Action::Generate { absent, rotate, trust, .. } = step.action else { panic!("{step:?}") };
            prop_assert!(absent.is_empty() && rotate.is_empty() && trust.contains_key("tls.crt"));
        }
    }
}

#[test]
fn what_is_no_certificate_is_not_judged_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let documents = "
secrets:
  ca: {external: true}
  web: {generate: {tls.crt: {kind: certificate, ca: {secret: ca}, names: [web], private: tls.key}}}
";
    for (path, value) in [
        ("ca/ca.crt", "no certificate"),
        ("ca/ca.key", "no key"),
        ("web/tls.crt", "theirs"),
        ("web/tls.key", "theirs"),
    ] {
        support::write(dir.path(), &format!("app/{path}"), value);
    }
    assert_eq!(drift(dir.path(), documents, "secret/app/web"), "", "somebody else's is as he likes it");
}

#[test]
fn one_that_somebody_made_beforehand_is_his_to_replace() {
    let dir = tempfile::tempdir().unwrap();
    let generator = json!({"kind": "ca", "common_name": "old", "days": 100, "private": "ca.key"});
    let made = make(&serde_json::from_value(generator).unwrap(), "ca.crt", None, now() - 90 * DAY).unwrap();
    for (key, value) in made {
        support::write(dir.path(), &format!("app/ca/{key}"), value.expose_text().unwrap());
    }
    let documents = "secrets: {ca: {generate: {ca.crt: {kind: ca, common_name: dev, private: ca.key}}}}";
    let says = drift(dir.path(), documents, "secret/app/ca");
    assert!(
        says.contains("`ca.crt` expires on 20") && says.contains("whoever made it must replace it"),
        "{says}"
    );
}

#[test]
fn an_authority_that_cannot_be_read_is_made_anew_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    all_ready(root, &documents(0, [0, 0], 1));
    std::fs::write(root.join("app/ca/ca.crt"), "cut short").unwrap();
    let says = drift(root, &documents(0, [0, 0], 1), "secret/app/ca");
    assert!(says.contains("`ca.crt` holds no certificate that can be read"), "{says}");
    let asked = documents(1, [1, 1], 1);
    all_ready(root, &asked);
    all_believe(root);
    assert_eq!(count(root, "app/ca/ca.crt"), 1, "nobody trusts what nobody can read");
}

#[test]
fn what_is_trusted_is_not_written_over_what_was_rotated_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    all_ready(root, &documents(0, [0, 0], 1));
    all_ready(root, &documents(1, [0, 0], 1));
    // One decides to drop the old one, and another rotates before it writes.
    let less = environment("dev", 7, &documents(1, [0, 0], 0));
    let all = targets(&less, root);
    let (_, target, spec) = all.iter().find(|(name, _, _)| name.name() == "ca").unwrap();
    let decided = plan(spec, &run(target.observe(spec)).unwrap());
    assert!(
        matches!(&decided.steps[0].action, Action::Generate { trust, .. } if trust.contains_key("ca.crt"))
    );
    all_ready(root, &documents(2, [0, 0], 2));
    let rotated = read(root, "app/ca/ca.crt");
    run(target.apply(spec, &decided.steps[0])).unwrap();
    // It reads again before it writes, so it drops what is behind the newest, and never the newest.
    let first = |value: &SecretValue| CertificateDer::from_pem_slice(value.expose()).unwrap();
    assert_eq!(first(&read(root, "app/ca/ca.crt")), first(&rotated));
    assert_eq!(count(root, "app/ca/ca.crt"), 1);
}
