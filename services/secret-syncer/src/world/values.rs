//! Making values out of values: what is copied, put into a text, or bundled.

use std::collections::BTreeMap;

use chassis::SecretValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

use super::Contents;
use crate::spec::{Part, Place, Recipe, Source, Wanted};

/// Everything but RFC 3986's unreserved characters is encoded: such a value is safe in every part of a URL.
const URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What sources hold; none for one that does not exist.
pub(super) type Sources = BTreeMap<Source, Option<Contents>>;

/// The value at a place, if it is there.
pub(super) fn at<'a>(sources: &'a Sources, place: &Place) -> Option<&'a SecretValue> {
    sources.get(&place.source)?.as_ref()?.keys.get(&place.key)
}

/// What is asked for, key by key: all keys of a source, or those that are named.
pub(super) fn wanted(wanted: &Wanted, sources: &Sources) -> BTreeMap<String, Recipe> {
    match wanted {
        Wanted::Keys(keys) => keys.clone(),
        Wanted::All(source) => {
            let keys = sources.get(source).and_then(|contents| contents.as_ref());
            let same = |key: &String| Recipe::Same(Place { source: source.clone(), key: key.clone() });
            keys.into_iter()
                .flat_map(|contents| contents.keys.keys())
                .map(|key| (key.clone(), same(key)))
                .collect()
        }
    }
}

/// Makes a value; none when one of those that it is made of is not there. The text says why nothing can be made of them.
pub(super) fn compose(recipe: &Recipe, sources: &Sources) -> Option<Result<SecretValue, String>> {
    match recipe {
        Recipe::Same(place) => at(sources, place).map(|value| Ok(value.clone())),
        Recipe::Text(parts) => {
            let mut text = Zeroizing::new(Vec::new());
            for part in parts {
                match part {
                    Part::Text(plain) => text.extend_from_slice(plain.as_bytes()),
                    Part::Value { place, url: false } => text.extend_from_slice(at(sources, place)?.expose()),
                    Part::Value { place, url: true } => {
                        for encoded in percent_encode(at(sources, place)?.expose(), URL) {
                            text.extend_from_slice(encoded.as_bytes());
                        }
                    }
                }
            }
            Some(Ok(SecretValue::new(text.as_slice())))
        }
        Recipe::Bundle(places) => {
            let values: Option<Vec<SecretValue>> =
                places.iter().map(|place| at(sources, place).cloned()).collect();
            Some(crate::generate::bundle(&values?).map_err(|error| error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &str) -> Place {
        Place { source: Source::Object("secret/dev/s".parse().unwrap()), key: key.to_owned() }
    }

    #[test]
    fn a_text_holds_values_as_they_are_or_encoded_for_a_url() {
        let keys = [("user", "ann"), ("password", "p@ss/w:rd? é")];
        let keys = keys.map(|(key, value)| (key.to_owned(), SecretValue::new(value))).into();
        let sources: Sources = [(place("").source, Some(Contents { keys, ..Contents::default() }))].into();
        let value = |key: &str, url| Part::Value { place: place(key), url };
        let text = |text: &str| Part::Text(text.to_owned());
        let made = |parts: Vec<Part>| compose(&Recipe::Text(parts), &sources).map(|made| made.unwrap());
        let url =
            made(vec![text("pg://"), value("user", true), text(":"), value("password", true), text("@h")]);
        assert_eq!(url.unwrap().expose_text(), Some("pg://ann:p%40ss%2Fw%3Ard%3F%20%C3%A9@h"));
        assert_eq!(made(vec![value("password", false)]).unwrap().expose_text(), Some("p@ss/w:rd? é"));
        assert_eq!(made(vec![value("none", false)]), None);
    }
}
