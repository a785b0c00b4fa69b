//! Names in SQL, folded and cut from their quotes as the server does it.

use std::fmt;

use super::token::{self, Kind};

/// A name of a table or anything else that lives in a schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The schema, where one is given.
    pub schema: Option<String>,
    /// The name.
    pub name: String,
}

impl Name {
    /// A name without a schema.
    pub fn bare(name: impl Into<String>) -> Self {
        Name { schema: None, name: name.into() }
    }

    /// A name in a schema.
    pub fn qualified(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Name { schema: Some(schema.into()), name: name.into() }
    }

    /// The same name; without a schema it is one of `schema`.
    #[must_use]
    pub fn or_in(&self, schema: &str) -> Self {
        Name { schema: Some(self.schema.clone().unwrap_or_else(|| schema.to_owned())), ..self.clone() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A token that a server would see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
}

impl Seen<'_> {
    /// Whether it is this keyword.
    pub(super) fn is(self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(super) fn is_sign(self, sign: u8) -> bool {
        self.kind == Kind::Sign(sign)
    }

    /// The identifier it is: folded to lower case unless it is quoted.
    pub(super) fn identifier(self) -> Option<String> {
        match self.kind {
            Kind::Word => Some(self.text.to_ascii_lowercase()),
            Kind::Quoted => token::inner(self.kind, self.text),
            _ => None,
        }
    }
}

/// The tokens of a statement that a server would see; what cannot be read ends them.
pub(super) fn seen(sql: &str) -> Vec<Seen<'_>> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Ok(Some((kind, end))) = token::next(sql, at, false) {
        if !kind.is_trivia() {
            tokens.push(Seen { kind, text: &sql[at..end] });
        }
        at = end;
    }
    tokens
}

/// The name that these tokens begin with, and what follows it. Of three parts the first is the database.
pub(super) fn name<'t, 'a>(tokens: &'t [Seen<'a>]) -> Option<(Name, &'t [Seen<'a>])> {
    let (first, mut rest) = tokens.split_first()?;
    let mut parts = vec![first.identifier()?];
    while let [dot, part, more @ ..] = rest
        && dot.is_sign(b'.')
        && let Some(part) = part.identifier()
    {
        parts.push(part);
        rest = more;
    }
    let name = parts.pop()?;
    Some((Name { schema: parts.pop(), name }, rest))
}

/// Names with commas between them, each perhaps after `ONLY` and before `*`.
pub(super) fn names(mut tokens: &[Seen<'_>]) -> Vec<Name> {
    let mut found = Vec::new();
    loop {
        if let [only, rest @ ..] = tokens
            && only.is("ONLY")
        {
            tokens = rest;
        }
        let Some((name, rest)) = name(tokens) else { return found };
        found.push(name);
        let rest = rest.strip_prefix(&[Seen { kind: Kind::Sign(b'*'), text: "*" }]).unwrap_or(rest);
        match rest {
            [comma, rest @ ..] if comma.is_sign(b',') => tokens = rest,
            _ => return found,
        }
    }
}
