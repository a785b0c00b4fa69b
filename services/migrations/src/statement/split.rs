//! Finds where statements end.

use super::token::{self, Kind, Open};

/// One statement of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// All of it: the blanks and comments before it, its semicolon, and the rows that follow a `COPY … FROM STDIN`.
    pub whole: &'a str,
    /// What a server is sent: from its first word to its last, without the semicolon.
    pub sql: &'a str,
    /// The line of its first word; the first line is 1.
    pub line: usize,
    /// The rows that follow a `COPY … FROM STDIN`, without the `\.` that ends them.
    pub data: Option<&'a str>,
}

/// A text taken apart: what its statements and the tail consist of, joined, is the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split<'a> {
    /// The statements, in order.
    pub statements: Vec<Statement<'a>>,
    /// Blanks and comments after the last one.
    pub tail: &'a str,
}

/// Why a text cannot be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Something is opened and never closed.
    #[error("line {line}: {open}; close it")]
    Open {
        /// Where it is opened.
        line: usize,
        /// What.
        open: Open,
    },
    /// Rows without an end.
    #[error(
        "line {line}: the rows of this COPY … FROM STDIN have no end; write `\\.` on a line of its own after them"
    )]
    Rows {
        /// Where the statement begins.
        line: usize,
    },
}

impl SplitError {
    /// The line it is about.
    pub fn line(&self) -> usize {
        match self {
            SplitError::Open { line, .. } | SplitError::Rows { line } => *line,
        }
    }
}

/// Takes a text apart. Semicolons in strings, comments, brackets and SQL-standard function bodies end nothing.
pub fn split(text: &str) -> Result<Split<'_>, SplitError> {
    let mut split = Split { statements: Vec::new(), tail: "" };
    let mut tracker = Tracker::default();
    let (mut begin, mut at, mut escapes) = (0, 0, false);
    // From the first to behind the last token that a server would see.
    let mut seen: Option<(usize, usize)> = None;
    loop {
        let token = token::next(text, at, escapes)
            .map_err(|open| SplitError::Open { line: line_of(text, at), open })?;
        let Some((kind, end)) = token else { break };
        let ends = kind == Kind::Sign(b';') && tracker.may_end();
        if !ends {
            if !kind.is_trivia() {
                seen = Some((seen.map_or(at, |(first, _)| first), end));
                tracker.see(kind, &text[at..end]);
            }
            at = end;
            continue;
        }
        // A semicolon without a statement before it belongs to the next one's blanks.
        if let Some((first, last)) = seen.take() {
            let (sql, line) = (&text[first..last], line_of(text, first));
            let (data, end) = if tracker.copies_in() {
                let (data, end) = copied(text, end).ok_or(SplitError::Rows { line })?;
                (Some(data), end)
            } else {
                (None, end)
            };
            split.statements.push(Statement { whole: &text[begin..end], sql, line, data });
            escapes = escapes_after(sql, escapes);
            begin = end;
            at = end;
        } else {
            at = end;
        }
        tracker = Tracker::default();
    }
    match seen {
        None => split.tail = &text[begin..],
        Some((first, last)) => {
            let line = line_of(text, first);
            if tracker.copies_in() {
                return Err(SplitError::Rows { line });
            }
            // Without a semicolon at its end it is a statement all the same.
            let statement =
                Statement { whole: &text[begin..last], sql: &text[first..last], line, data: None };
            split.statements.push(statement);
            split.tail = &text[last..];
        }
    }
    Ok(split)
}

/// The line that a place in a text is on; the first is 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The rows after the semicolon at whose end `at` is, and where what follows them begins.
pub(crate) fn copied(text: &str, at: usize) -> Option<(&str, usize)> {
    let begin = at + text[at..].find('\n')? + 1;
    let mut line = begin;
    loop {
        let end = text[line..].find('\n').map(|length| line + length);
        if text[line..end.unwrap_or(text.len())].trim_end_matches('\r') == "\\." {
            return Some((&text[begin..line], end.map_or(text.len(), |end| end + 1)));
        }
        line = end? + 1;
    }
}

/// Whether a backslash escapes in every string once this statement has run.
pub(crate) fn escapes_after(sql: &str, escapes: bool) -> bool {
    let words: Vec<String> = sql
        .split(|c: char| c.is_whitespace() || c == '=' || c == '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let value = match words.as_slice() {
        ["set", "session" | "local", "standard_conforming_strings", "to", value]
        | ["set", "session" | "local", "standard_conforming_strings", value]
        | ["set", "standard_conforming_strings", "to", value]
        | ["set", "standard_conforming_strings", value] => *value,
        ["reset", "standard_conforming_strings" | "all"] => "on",
        _ => return escapes,
    };
    matches!(value, "off" | "false" | "no" | "0")
}

/// Follows a statement's tokens to know whether a semicolon ends it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tracker {
    brackets: usize,
    /// How many `BEGIN ATOMIC` and `CASE` are open in the body of a function.
    blocks: usize,
    /// The first words, in capitals.
    head: Vec<String>,
    last: String,
    copies_in: bool,
}

/// `CREATE OR REPLACE PROCEDURE` is the longest beginning that matters.
const HEAD: usize = 4;

impl Tracker {
    /// Takes one token that is neither blank nor comment.
    pub(crate) fn see(&mut self, kind: Kind, text: &str) {
        match kind {
            Kind::Sign(b'(') => self.brackets += 1,
            Kind::Sign(b')') => self.brackets = self.brackets.saturating_sub(1),
            Kind::Word => {
                self.word(text.to_ascii_uppercase());
                return;
            }
            _ => {}
        }
        self.last.clear();
    }

    fn word(&mut self, word: String) {
        if self.head.len() < HEAD {
            self.head.push(word.clone());
        }
        match word.as_str() {
            "ATOMIC" if self.last == "BEGIN" && self.is_routine() => self.blocks += 1,
            "CASE" if self.blocks > 0 => self.blocks += 1,
            "END" => self.blocks = self.blocks.saturating_sub(1),
            "STDIN" if self.last == "FROM" && self.brackets == 0 => {
                self.copies_in = self.head.first().is_some_and(|first| first == "COPY");
            }
            _ => {}
        }
        self.last = word;
    }

    fn is_routine(&self) -> bool {
        let head: Vec<&str> = self.head.iter().map(String::as_str).collect();
        matches!(
            head.as_slice(),
            ["CREATE", "FUNCTION" | "PROCEDURE", ..]
                | ["CREATE", "OR", "REPLACE", "FUNCTION" | "PROCEDURE", ..]
        )
    }

    /// Whether a semicolon here ends the statement.
    pub(crate) fn may_end(&self) -> bool {
        self.brackets == 0 && self.blocks == 0
    }

    /// Whether rows follow the statement.
    pub(crate) fn copies_in(&self) -> bool {
        self.copies_in
    }
}
