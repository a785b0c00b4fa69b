//! Quoting. Identifiers and literals reach SQL only through these two types, and they can only be built quoted.

use std::fmt;

/// `PostgreSQL` cuts longer identifiers silently (NAMEDATALEN - 1), which would make two names one.
const MAX: usize = 63;

/// A name that cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentError {
    /// There is nothing to quote.
    #[error("an empty name is no identifier")]
    Empty,
    /// The server would cut it.
    #[error("the name `{0}` is longer than {MAX} bytes; the server would cut it, so shorten it")]
    TooLong(String),
    /// No identifier may hold a zero byte.
    #[error("a name with a zero byte is no identifier")]
    Zero,
}

/// An identifier; displays quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident(String);

impl Ident {
    /// Takes a name as it is.
    pub fn new(name: &str) -> Result<Self, IdentError> {
        match name {
            "" => Err(IdentError::Empty),
            name if name.contains('\0') => Err(IdentError::Zero),
            name if name.len() > MAX => Err(IdentError::TooLong(name.to_owned())),
            name => Ok(Ident(name.to_owned())),
        }
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A text literal; displays quoted. Sessions set `standard_conforming_strings = on`.
#[derive(Clone, PartialEq, Eq)]
pub struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    /// Takes a text as it is.
    pub fn new(text: &'a str) -> Result<Self, IdentError> {
        if text.contains('\0') { Err(IdentError::Zero) } else { Ok(Literal(text)) }
    }
}

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the server reads back: the text between quotes, with doubled ones single; `None` when it ends early.
    fn read(quoted: &str, quote: char) -> Option<String> {
        let inner = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
        let mut text = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            if c == quote && chars.next() != Some(quote) {
                return None;
            }
            text.push(c);
        }
        Some(text)
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(name in "[^\0]{1,15}") {
            prop_assert_eq!(read(&Ident::new(&name).unwrap().to_string(), '"'), Some(name.clone()));
            prop_assert_eq!(read(&Literal::new(&name).unwrap().to_string(), '\''), Some(name));
        }

        #[test]
        fn quotes_and_semicolons_do_not_end_a_name(name in r#"["'; \\-]{1,60}"#) {
            prop_assert_eq!(read(&Ident::new(&name).unwrap().to_string(), '"'), Some(name.clone()));
            prop_assert_eq!(read(&Literal::new(&name).unwrap().to_string(), '\''), Some(name));
        }
    }

    #[test]
    fn names_the_server_would_cut_or_misread_are_refused() {
        assert_eq!(Ident::new(""), Err(IdentError::Empty));
        assert_eq!(Ident::new("a\0b"), Err(IdentError::Zero));
        assert!(Ident::new(&"a".repeat(63)).is_ok());
        // 32 characters, 64 bytes.
        assert!(matches!(Ident::new(&"ä".repeat(32)), Err(IdentError::TooLong(_))));
        assert!(Literal::new("a\0b").is_err());
    }
}
