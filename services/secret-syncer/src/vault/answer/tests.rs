//! Answers as the API documents them, and others.

use std::time::{Duration, UNIX_EPOCH};

use super::*;

const PLACE: Place<'_> = Place { mount: "secret", part: "data", path: "app" };
const URL: &str = "https://vault";
const PLANTED: &str = "PLANTEDvaultA7f3Kq9vX2";

fn data(values: &str) -> String {
    format!(
        r#"{{"data": {{"data": {values}, "metadata": {{"created_time": "2026-11-21T10:28:40.6Z", "deletion_time": "", "destroyed": false, "version": 3}}}}}}"#
    )
}

fn metadata(version: u64, fate: &str) -> String {
    format!(
        r#"{{"data": {{"current_version": {version}, "versions": {{"1": {{"created_time": "a", "deletion_time": "", "destroyed": true}}, "2": {{"created_time": "b", {fate}}}}}}}}}"#
    )
}

fn held(values: &str) -> Result<Held, VaultError> {
    Data::held(data(values).as_bytes(), URL, PLACE)
}

fn current(version: u64, fate: &str) -> Result<Option<u64>, VaultError> {
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let found = Metadata::current(metadata(version, fate).as_bytes(), now, URL, PLACE)?;
    Ok(found.map(|version| version.number))
}

#[test]
fn values_are_text_whole_numbers_and_truths() {
    let held =
        held(r#"{"a": "it's \"quoted\" \u00e4", "b": 18446744073709551615, "c": -5, "d": true, "e": ""}"#)
            .unwrap();
    assert_eq!((held.version.number, held.version.created.as_str()), (3, "2026-11-21T10:28:40.6Z"));
    let text: Vec<_> = held.values.values().map(|value| value.expose_text().unwrap()).collect();
    assert_eq!(text, ["it's \"quoted\" ä", "18446744073709551615", "-5", "true", ""]);
    assert!(!format!("{held:?}").contains("quoted"));
}

#[test]
fn what_no_secret_can_hold_names_its_key_and_nothing_else() {
    for value in [
        "1.5",
        "null",
        "18446744073709551616",
        &format!("[\"{PLANTED}\"]"),
        &format!("{{\"x\": \"{PLANTED}\"}}"),
    ] {
        let error = held(&format!(r#"{{"a": "fine", "b": {value}}}"#)).unwrap_err();
        assert_eq!(
            error,
            VaultError::Unfit { place: "secret/data/app".to_owned(), key: "b".to_owned() },
            "{value}"
        );
    }
}

#[test]
fn an_answer_of_another_form_is_not_quoted() {
    for body in [
        PLANTED.to_owned(),
        format!("\"{PLANTED}\""),
        format!(r#"{{"data": "{PLANTED}"}}"#),
        format!(r#"{{"data": {{"data": "{PLANTED}"}}}}"#),
        data(&format!("\"{PLANTED}\"")),
        data("{}").replace("3}", &format!("\"{PLANTED}\"}}")),
    ] {
        let error = Data::held(body.as_bytes(), URL, PLACE).unwrap_err();
        assert!(matches!(error, VaultError::Unreadable { .. }), "{body}");
        assert!(!format!("{error} {error:?}").contains("PLANTED"), "{error}");
    }
}

#[test]
fn the_newest_version_counts_while_it_lives() {
    let live = r#""deletion_time": "", "destroyed": false"#;
    assert_eq!(current(2, live).unwrap(), Some(2));
    assert_eq!(current(1, live).unwrap(), None, "destroyed");
    assert_eq!(current(0, live).unwrap(), None, "nothing written yet");
    assert_eq!(current(2, r#""deletion_time": "2023-11-14T22:13:20Z", "destroyed": false"#).unwrap(), None);
    assert_eq!(
        current(2, r#""deletion_time": "2023-11-14T22:13:20.5Z", "destroyed": false"#).unwrap(),
        Some(2),
        "not yet"
    );
    assert!(current(3, live).is_err(), "the newest is not among them");
    assert!(current(2, r#""deletion_time": "soon", "destroyed": false"#).is_err());
}

#[test]
fn tokens_and_engines_are_read_as_documented() {
    let lent =
        Lent::of(br#"{"auth": {"client_token": "t", "lease_duration": 60, "renewable": true}}"#).unwrap();
    assert_eq!((lent.token.unwrap().expose_text(), lent.seconds, lent.renewable), (Some("t"), 60, true));
    assert!(Lent::of(br#"{"auth": null}"#).is_none());
    assert!(
        Lent::of(br#"{"auth": {"client_token": "", "lease_duration": 60, "renewable": true}}"#)
            .unwrap()
            .token
            .is_none()
    );
    assert_eq!(lifetime(br#"{"data": {"ttl": 0}}"#), Some((0, false)));
    assert_eq!(lifetime(br#"{"data": {"ttl": 9, "renewable": true}}"#), Some((9, true)));
    assert!(no_route(br#"{"errors": ["no handler"]}"#) && !no_route(br#"{"errors": []}"#) && !no_route(b"x"));
    assert!(is_version_two(br#"{"data": {"type": "kv", "options": {"version": "2"}}}"#));
    for other in [
        r#"{"type": "kv", "options": null}"#,
        r#"{"type": "kv", "options": {"version": "1"}}"#,
        r#"{"type": "pki"}"#,
    ] {
        assert!(!is_version_two(format!(r#"{{"data": {other}}}"#).as_bytes()), "{other}");
    }
}
