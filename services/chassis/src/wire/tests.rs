//! What goes out comes back in.

use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn evidences() -> impl Strategy<Value = Evidence> {
    let facts = prop::collection::btree_map("[a-z_]{1,8}", ".{0,8}", 0..3);
    ("[a-z]{0,8}", facts, 0..10_000u64, ".{0,20}", "[A-Z0-9]{0,5}").prop_map(
        |(level, incarnation, latency, error, error_code)| Evidence {
            level,
            incarnation,
            latency: Duration::from_millis(latency),
            error,
            error_code,
        },
    )
}

fn events() -> impl Strategy<Value = Event> {
    let name = prop::sample::select(vec!["database/registry", "topic/a.b", "secret/dev/x", "module/m"]);
    let times = (0..u64::MAX / 2, 0..u64::MAX / 2, any::<u64>(), any::<u32>());
    (any::<u128>(), name, 0..6usize, times, evidences(), ".{0,30}", "[a-z/-]{0,20}").prop_map(
        |(uid, name, phase, (since, time, generation, attempts), evidence, reason, source)| Event {
            environment: Uuid::from_u128(uid),
            component: name.parse().unwrap(),
            phase: Phase::ALL[phase],
            since: Moment(since),
            generation,
            evidence,
            reason,
            attempts,
            source,
            time: Moment(time),
        },
    )
}

proptest! {
    #[test]
    fn an_event_comes_back_as_it_went(event in events()) {
        let bytes = News::Event(event.clone()).record("dev").encode_to_vec();
        prop_assert_eq!(record_uid(&bytes), Some(event.environment));
        prop_assert_eq!(News::read(&event.key(), &bytes), Ok(News::Event(event)));
    }

    #[test]
    fn a_state_comes_back_as_it_went(event in events(), observable in any::<bool>(), unknown in any::<bool>()) {
        let mut state = ComponentState { observable, ..ComponentState::from(&event) };
        if unknown {
            state.phase = None;
        }
        let wire = rollcall_proto::diagnostics::v1::ComponentState::from(&state);
        prop_assert_eq!(ComponentState::try_from(wire), Ok(state));
    }

    #[test]
    fn no_bytes_make_reading_panic(key in ".{0,20}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = News::read(&key, &bytes);
        let _ = record_uid(&bytes);
    }
}

fn document() -> lifecycle::document::Document {
    serde_json::from_value(serde_json::json!({
        "rollcall": "v1",
        "environment": {"name": "dev", "uid": "11111111-1111-4111-8111-111111111111"},
        "fragment": {"name": "base", "namespace": "dev"},
        "modules": {"keycloak": {"ready": {"http": {"url": "http://keycloak/health"}}}}
    }))
    .unwrap()
}

#[test]
fn a_fragment_holds_its_document() {
    let fragment = Fragment::try_from(&document()).unwrap();
    let back = Fragment::try_from(pb::Fragment::from(&fragment)).unwrap();
    assert_eq!(back, fragment);
    assert_eq!(back.document().unwrap(), document());
    assert_eq!(fragment.hash, document().hash().unwrap());
}

#[test]
fn a_fragment_that_was_tampered_with_is_refused() {
    let fragment = Fragment::try_from(&document()).unwrap();
    let mut wire = pb::Fragment::from(&fragment);
    wire.document.push(' ');
    assert_eq!(Fragment::try_from(wire), Err(WireError::Hash));
    let other = Fragment { name: "other".to_owned(), ..fragment };
    assert!(matches!(other.document(), Err(WireError::Document(_))));
}

#[test]
fn a_newer_schema_is_known_by_name_and_not_read() {
    let fragment = Fragment { schema: "v2".to_owned(), ..Fragment::try_from(&document()).unwrap() };
    let back = Fragment::try_from(pb::Fragment::from(&fragment)).unwrap();
    assert_eq!(back.document(), Err(WireError::Schema("v2".to_owned())));
}

#[test]
fn a_bring_up_comes_back_as_it_went() {
    let bring_up = BringUp {
        environment: document().environment,
        generation: 4,
        started: Moment(1_234),
        fragments_hash: "ab".to_owned(),
    };
    let news = News::BringUp(bring_up);
    let bytes = news.record("dev").encode_to_vec();
    assert_eq!(News::read("bring-up/4", &bytes), Ok(news));
}

#[test]
fn who_mounted_a_fragment_travels_and_what_is_forgotten_is_a_record_of_its_own() {
    let fragment =
        Fragment { mounted_by: Some("dev/hub".to_owned()), ..Fragment::try_from(&document()).unwrap() };
    let wire = pb::Fragment::from(&fragment);
    assert!(wire.mounted, "as the release before understands it");
    assert_eq!(Fragment::try_from(wire.clone()).unwrap(), fragment);
    let before = pb::Fragment { mounted_by: String::new(), ..wire };
    assert_eq!(Fragment::try_from(before).unwrap().mounted_by, None, "by whom, nobody knows");

    let Fragment { environment, name, hash, .. } = fragment;
    let uid = environment.uid;
    let news = News::Forgotten(Forgotten { environment, name, hash, mounted_by: "dev/hub".to_owned() });
    let bytes = news.record("dev").encode_to_vec();
    assert_eq!(record_uid(&bytes), Some(uid));
    assert_eq!(News::read("forgotten/base", &bytes), Ok(news));
    assert!(matches!(News::read("fragment/base", &bytes), Err(WireError::Key { .. })));
}

#[test]
fn a_record_is_judged_field_by_field() {
    let event = || pb::Event {
        environment: Some(environment(&document().environment)),
        component: "module/a".to_owned(),
        phase: 3,
        since: Some(Timestamp { seconds: 1, nanos: 0 }),
        time: Some(Timestamp { seconds: 1, nanos: 0 }),
        ..pb::Event::default()
    };
    assert!(event_from(event()).is_ok());
    for (wire, says) in [
        (pb::Event { phase: 77, ..event() }, "phase 77"),
        (pb::Event { phase: 0, ..event() }, "phase 0"),
        (pb::Event { since: None, ..event() }, "since is missing"),
        (pb::Event { since: Some(Timestamp { seconds: -1, nanos: 0 }), ..event() }, "since is out of range"),
        (
            pb::Event { time: Some(Timestamp { seconds: 1, nanos: -1_000_000 }), ..event() },
            "time is out of range",
        ),
        (pb::Event { environment: None, ..event() }, "environment is missing"),
        (pb::Event { component: "nonsense".to_owned(), ..event() }, "component"),
    ] {
        let error = event_from(wire).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_record_under_a_foreign_key_is_refused() {
    let news = News::Fragment(Fragment::try_from(&document()).unwrap());
    let bytes = news.record("dev").encode_to_vec();
    assert!(matches!(News::read("fragment/other", &bytes), Err(WireError::Key { .. })));
    assert_eq!(News::read("x", &[]), Err(WireError::Kind));
}
