//! temp
use chassis::SecretValue;
use lifecycle::document::Generator;
use rand::distr::{Alphanumeric, SampleString};
use std::collections::BTreeMap;
pub fn make(generator: &Generator, key: &str) -> BTreeMap<String, SecretValue> {
    let value = Alphanumeric.sample_string(&mut rand::rng(), generator.length.into());
    [(key.to_owned(), SecretValue::new(value.into_bytes()))].into()
}
