//! psql's variables.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::quote::identifier;

/// What `-v name=value` and `\set` give. Values are never shown: any may be a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, Value>);

#[derive(Clone, PartialEq, Eq)]
struct Value {
    text: Zeroizing<String>,
    secret: bool,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Variables {
    /// None.
    pub fn new() -> Self {
        Variables::default()
    }

    /// With this one too.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value, false);
        self
    }

    /// With this one too, which is a secret: no statement that holds it is shown, nor what a server says about it.
    #[must_use]
    pub fn with_secret(mut self, name: &str, value: &str) -> Self {
        self.set(name, value, true);
        self
    }

    /// With this secret as a quoted literal, for scripts that write `PASSWORD :name` as MOSIP's do.
    #[must_use]
    pub fn with_secret_literal(self, name: &str, value: &str) -> Self {
        let quoted = Zeroizing::new(quote_literal(value));
        self.with_secret(name, &quoted)
    }

    pub(super) fn set(&mut self, name: &str, value: &str, secret: bool) {
        self.0.insert(name.to_owned(), Value { text: Zeroizing::new(value.to_owned()), secret });
    }

    pub(super) fn unset(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Its value, and whether that is a secret.
    pub(super) fn get(&self, name: &str) -> Option<(&str, bool)> {
        self.0.get(name).map(|value| (value.text.as_str(), value.secret))
    }
}

/// How psql writes `:'name'`: with escapes where there is a backslash.
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if text.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// A reference to a variable in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    pub(super) name: &'a str,
    pub(super) how: How,
    /// Where it ends.
    pub(super) end: usize,
}

/// How a variable's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// `:name`.
    Bare,
    /// `:'name'`.
    Literal,
    /// `:"name"`.
    Identifier,
    /// `:{?name}`.
    IsSet,
}

/// The reference at the colon at `at`, if that is one.
pub(super) fn reference(text: &str, at: usize) -> Option<Reference<'_>> {
    let rest = text.get(at + 1..)?;
    let (open, close, how) = match rest.as_bytes().first()? {
        b'\'' => ("'", "'", How::Literal),
        b'"' => ("\"", "\"", How::Identifier),
        b'{' => ("{?", "}", How::IsSet),
        _ => ("", "", How::Bare),
    };
    let inner = rest.strip_prefix(open)?;
    let belongs = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let length = inner.bytes().position(|b| !belongs(b)).unwrap_or(inner.len());
    let name = inner.get(..length).filter(|name| !name.is_empty())?;
    inner.get(length..)?.starts_with(close).then_some(Reference {
        name,
        how,
        end: at + 1 + open.len() + length + close.len(),
    })
}

impl Variables {
    /// What stands for a reference, and whether that is a secret; none where the variable has no value, which psql leaves
    /// as it is.
    pub(super) fn value(&self, reference: Reference<'_>) -> Option<(String, bool)> {
        let found = self.get(reference.name);
        if reference.how == How::IsSet {
            return Some((if found.is_some() { "TRUE" } else { "FALSE" }.to_owned(), false));
        }
        let (text, secret) = found?;
        let text = match reference.how {
            How::Literal => quote_literal(text),
            How::Identifier => identifier(text),
            _ => text.to_owned(),
        };
        Some((text, secret))
    }
}
