//! The tokens of PostgreSQL's SQL, as far as finding the end of a statement needs them: every byte belongs to one token.

use std::fmt;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Blanks and ends of lines.
    Space,
    /// `-- …` or `/* … */`, which may be nested.
    Comment,
    /// A keyword or an unquoted identifier.
    Word,
    /// `"…"`.
    Quoted,
    /// `'…'` and `E'…'`.
    Text,
    /// `$tag$…$tag$`.
    Dollar,
    /// A number.
    Number,
    /// Any one other character.
    Sign(u8),
}

impl Kind {
    /// Whether a server would not even see it.
    pub fn is_trivia(self) -> bool {
        matches!(self, Kind::Space | Kind::Comment)
    }
}

/// What was opened and never closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// `/*`.
    Comment,
    /// `"`.
    Quoted,
    /// `'`.
    Text,
    /// `$tag$`.
    Dollar,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Open::Comment => "a comment `/*` that is never closed",
            Open::Quoted => "a quoted identifier that is never closed",
            Open::Text => "a string that is never closed",
            Open::Dollar => "a dollar-quoted string that is never closed",
        })
    }
}

/// The token at `at`: its kind and where it ends. `escapes` says that a backslash escapes in every string
/// (`standard_conforming_strings = off`), not only in `E'…'`. At the end of the text there is none.
pub fn next(text: &str, at: usize, escapes: bool) -> Result<Option<(Kind, usize)>, Open> {
    let bytes = text.as_bytes();
    let Some(&first) = bytes.get(at) else { return Ok(None) };
    let second = bytes.get(at + 1).copied();
    let found = match first {
        b if is_space(b) => (Kind::Space, run(bytes, at, is_space)),
        b'-' if second == Some(b'-') => (Kind::Comment, run(bytes, at, |b| b != b'\n' && b != b'\r')),
        b'/' if second == Some(b'*') => (Kind::Comment, comment(bytes, at).ok_or(Open::Comment)?),
        b'"' => (Kind::Quoted, quoted(bytes, at, b'"', false).ok_or(Open::Quoted)?),
        b'\'' => (Kind::Text, quoted(bytes, at, b'\'', escapes).ok_or(Open::Text)?),
        b'e' | b'E' if second == Some(b'\'') => (Kind::Text, escaped(bytes, at + 1).ok_or(Open::Text)?),
        b'$' => match dollar_tag(bytes, at) {
            Some(open) => (Kind::Dollar, dollar(text, at, open).ok_or(Open::Dollar)?),
            None => (Kind::Sign(b'$'), at + 1),
        },
        b if starts_word(b) => (Kind::Word, run(bytes, at, continues_word)),
        b if b.is_ascii_digit() => (Kind::Number, run(bytes, at, |b| b.is_ascii_alphanumeric() || b == b'_')),
        b => (Kind::Sign(b), at + 1),
    };
    Ok(Some(found))
}

/// What PostgreSQL's lexer takes for a blank.
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn run(bytes: &[u8], at: usize, belongs: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().position(|b| !belongs(*b)).map_or(bytes.len(), |length| at + length)
}

fn comment(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut depth, mut at) = (0usize, at);
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'/', Some(b'*')) => (depth, at) = (depth + 1, at + 2),
            (b'*', Some(b'/')) => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}

/// The end of what the quote at `at` opens. A doubled quote stands for itself.
fn quoted(bytes: &[u8], at: usize, quote: u8, escapes: bool) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match *bytes.get(at)? {
            b if b == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            b if b == quote => return Some(at + 1),
            b'\\' if escapes => at += 2,
            _ => at += 1,
        }
    }
}

/// `E'…'`, and what continues it: another string on a later line is the same literal, with the same escapes.
fn escaped(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = quoted(bytes, at, b'\'', true)?;
    while let Some(more) = continuation(bytes, end) {
        end = quoted(bytes, more, b'\'', true)?;
    }
    Some(end)
}

fn continuation(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut at, mut newline) = (at, false);
    loop {
        match *bytes.get(at)? {
            b'\'' => return newline.then_some(at),
            b'-' if bytes.get(at + 1) == Some(&b'-') => at = run(bytes, at, |b| b != b'\n' && b != b'\r'),
            b if is_space(b) => {
                newline |= b == b'\n' || b == b'\r';
                at += 1;
            }
            _ => return None,
        }
    }
}

/// The end of `$tag$` at `at`, if that is what stands there.
fn dollar_tag(bytes: &[u8], at: usize) -> Option<usize> {
    let first = *bytes.get(at + 1)?;
    if first == b'$' {
        return Some(at + 2);
    }
    if !starts_word(first) {
        return None;
    }
    let end = run(bytes, at + 1, |b| starts_word(b) || b.is_ascii_digit());
    (bytes.get(end) == Some(&b'$')).then_some(end + 1)
}

fn dollar(text: &str, at: usize, open: usize) -> Option<usize> {
    let tag = &text[at..open];
    text[open..].find(tag).map(|length| open + length + tag.len())
}

/// What stands in a string or dollar-quoted token, without its quotes and unescaped as far as doubled quotes go.
pub fn inner(kind: Kind, text: &str) -> Option<String> {
    match kind {
        Kind::Quoted => Some(text.strip_prefix('"')?.strip_suffix('"')?.replace("\"\"", "\"")),
        Kind::Text => {
            let text = text.strip_prefix(['e', 'E']).unwrap_or(text);
            Some(text.strip_prefix('\'')?.strip_suffix('\'')?.replace("''", "'"))
        }
        Kind::Dollar => {
            let tag = text.get(..=text.get(1..)?.find('$')? + 1)?;
            Some(text.strip_prefix(tag)?.strip_suffix(tag)?.to_owned())
        }
        _ => None,
    }
}
