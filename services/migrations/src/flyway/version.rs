//! Versions as Flyway compares them: part by part, as numbers of any length.

use std::cmp::Ordering;
use std::fmt;

/// A version: numbers with dots or underscores between them.
#[derive(Debug, Clone)]
pub struct Version {
    /// Without leading zeros, so that a longer one is a greater one.
    parts: Vec<String>,
    /// As it stands in a history: with dots.
    text: String,
}

/// A version that holds something other than digits, dots and underscores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version: use digits, with dots or single underscores between them")]
pub struct NoVersion(pub String);

impl Version {
    /// Reads a version from a file's name or a history.
    pub fn parse(text: &str) -> Result<Self, NoVersion> {
        let normal = text.replace('_', ".");
        let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !normal.split('.').all(number) {
            return Err(NoVersion(text.to_owned()));
        }
        let parts = normal.split('.').map(|part| part.trim_start_matches('0').to_owned()).collect();
        Ok(Version { parts, text: normal })
    }

    /// The first number's digits as they are written.
    pub(crate) fn leading(&self) -> &str {
        self.text.split('.').next().unwrap_or_default()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let part = |version: &'_ Version, n: usize| version.parts.get(n).cloned().unwrap_or_default();
        (0..self.parts.len().max(other.parts.len()))
            .map(|n| (part(self, n), part(other, n)))
            .map(|(a, b)| a.len().cmp(&b.len()).then_with(|| a.cmp(&b)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn parts_are_numbers_and_trailing_zeros_are_nothing() {
        let ascending =
            ["0", "1", "1.0.1", "1_2", "1.10", "2", "20180607185601", "20202412090311.1", "201810171130331"];
        for pair in ascending.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        for (a, b) in [("1", "1.0"), ("1.0", "1_0_0"), ("001", "1"), ("0", "0.0")] {
            assert_eq!(version(a), version(b));
        }
        for wrong in ["", "1.", ".1", "1..2", "1a", "a", "-1", "1__2"] {
            assert!(Version::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(version("1_2").to_string(), "1.2");
    }

    proptest! {
        #[test]
        fn short_numbers_compare_as_numbers(a in proptest::collection::vec(0u32..200, 1..4), b in proptest::collection::vec(0u32..200, 1..4)) {
            let text = |v: &[u32]| v.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
            let padded = |v: &[u32]| { let mut v = v.to_vec(); v.resize(4, 0); v };
            prop_assert_eq!(version(&text(&a)).cmp(&version(&text(&b))), padded(&a).cmp(&padded(&b)));
        }
    }
}
