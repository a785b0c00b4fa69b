//! What is wrong with migrations, each with its file and line.

use std::fmt;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is run.
    Refused,
    /// Worth knowing; it runs all the same.
    Warned,
}

/// Something that is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The file; empty when it is about none.
    pub file: String,
    /// The line; none when it is about the whole file.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub text: String,
}

impl Problem {
    /// Something for which nothing is run.
    pub fn refused(file: impl Into<String>, line: Option<usize>, text: impl fmt::Display) -> Self {
        Problem { severity: Severity::Refused, file: file.into(), line, text: text.to_string() }
    }

    /// Something worth knowing.
    pub fn warned(file: impl Into<String>, line: Option<usize>, text: impl fmt::Display) -> Self {
        Problem { severity: Severity::Warned, ..Problem::refused(file, line, text) }
    }

    /// Whether nothing is run because of it.
    pub fn refuses(&self) -> bool {
        self.severity == Severity::Refused
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => {}
            (file, Some(line)) => write!(f, "{file}:{line}: ")?,
            (file, None) => write!(f, "{file}: ")?,
        }
        f.write_str(&self.text)
    }
}
