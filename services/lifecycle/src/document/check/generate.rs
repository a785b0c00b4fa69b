//! Checks of generators: values are strong enough, certificates make sense, and each key has one maker.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Found, is_key};
use crate::document::{
    COMMON_NAME_MAX, Ca, Certificate, Generator, Hmac, ObjectName, Password, Usage, is_common_name,
};

/// 24 letters and digits are 143 bits; more than 1024 no login takes.
const PASSWORD: RangeInclusive<u16> = 24..=1024;
/// 128 bits, the shortest key of AES; HMAC wants as many as its hash has (RFC 2104 section 3), which is the default.
const HMAC: RangeInclusive<u16> = 16..=1024;
/// More authorities than anybody is in the middle of replacing.
const KEEP: RangeInclusive<u16> = 0..=8;
/// An authority of twenty years outlives what it is made for.
const CA_DAYS: RangeInclusive<u16> = 1..=7300;
/// A leaf of more than ten years would never be renewed by anybody who knows how.
const CERTIFICATE_DAYS: RangeInclusive<u16> = 1..=3650;
/// More names than any module answers to; each makes every handshake longer.
const NAMES: usize = 100;

/// Checks the generators of one Secret. `at` is where it stands in the document; `own` says whether a name means this
/// Secret itself.
pub(super) fn generators(
    at: &str,
    own: impl Fn(&ObjectName) -> bool,
    generators: &BTreeMap<String, Generator>,
    found: &mut Found,
) {
    let mut makers: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, generator) in generators {
        let at = format!("{at}.generate.{key}");
        for written in generator.writes(key) {
            if !is_key(written) {
                found.say(
                    &at,
                    format!("`{written}` is no key of a Secret: use letters, digits, `-`, `_` and `.`"),
                );
            }
            if let Some(other) = makers.insert(written, key) {
                let whom = if other == key { "twice" } else { &format!("and `{other}` writes it too") };
                found
                    .say(&at, format!("writes the key `{written}` {whom}; give each value a key of its own"));
            }
        }
        match generator {
            Generator::Password(Password { length }) => within(&at, "length", *length, &PASSWORD, found),
            Generator::Hmac(Hmac { bytes, .. }) => within(&at, "bytes", *bytes, &HMAC, found),
            Generator::PrivateKey(_) => {}
            Generator::Ca(Ca { common_name, days, keep, .. }) => {
                subject(&at, common_name, found);
                within(&at, "keep", u16::from(*keep), &KEEP, found);
                within(&at, "days", *days, &CA_DAYS, found);
            }
            Generator::Certificate(leaf) => {
                certificate(&at, leaf, found);
                if own(&leaf.ca.secret) {
                    found.say(
                        format!("{at}.ca.secret"),
                        "is this Secret itself; keep the authority in a Secret of its own, so that who reads the certificate does not get the key that signs",
                    );
                }
            }
        }
    }
}

fn within(at: &str, what: &str, value: u16, range: &RangeInclusive<u16>, found: &mut Found) {
    if !range.contains(&value) {
        found.say(
            format!("{at}.{what}"),
            format!("{value} is not between {} and {}", range.start(), range.end()),
        );
    }
}

fn subject(at: &str, name: &str, found: &mut Found) {
    if !is_common_name(name) {
        found.say(
            format!("{at}.common_name"),
            format!(
                "`{}` is no name of a subject: write 1 to {COMMON_NAME_MAX} characters, none of them invisible",
                name.escape_debug()
            ),
        );
    }
}

fn certificate(at: &str, leaf: &Certificate, found: &mut Found) {
    within(at, "days", leaf.days, &CERTIFICATE_DAYS, found);
    if let Some(name) = &leaf.common_name {
        subject(at, name, found);
    }
    if leaf.names.is_empty() && leaf.usage != Usage::Client {
        found.say(
            format!("{at}.names"),
            "is empty, and clients look for a server's name there; give at least one",
        );
    } else if leaf.names.is_empty() && leaf.common_name.is_none() {
        found.say(at, "says nothing about whose certificate it is; give a common_name or names");
    }
    if leaf.names.len() > NAMES {
        found.say(format!("{at}.names"), format!("has {} entries, {NAMES} are allowed", leaf.names.len()));
    }
    for (i, name) in leaf.names.iter().enumerate() {
        if leaf.names[..i].contains(name) {
            found.say(format!("{at}.names"), format!("`{name}` stands twice"));
        }
    }
    for key in [&leaf.ca.certificate, &leaf.ca.private] {
        if !is_key(key) {
            found.say(format!("{at}.ca"), format!("`{key}` is no key of a Secret"));
        }
    }
}
