//! What can go wrong while migrations run, judged by SQLSTATE and never by a message's words.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::problem::Problem;

/// Why migrations did not run to their end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was run.
    #[error("{}", list(.0))]
    Refused(Vec<Problem>),
    /// What a query has answered with is not run, nor is anything after it.
    #[error("{}", stopped(.0))]
    Generated(Vec<Problem>),
    /// A statement failed. What ran before it in the same transaction was undone.
    #[error("{0}")]
    Statement(Box<Failed>),
    /// The server did not do something else that was needed.
    #[error("{doing}: {said}; {}", said.advice())]
    Server {
        /// What was being done.
        doing: String,
        /// What the server said.
        said: Said,
    },
    /// Somebody else holds the lock.
    #[error(
        "{what} is held by somebody else, since more than {waited:?}; wait until those migrations have ended, or see pg_locks who it is"
    )]
    Busy {
        /// Which lock.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The lock was lost while migrations ran.
    #[error("{0} was lost while migrations ran; run them again")]
    LostLock(String),
    /// Everything ran, and something is left to do all the same.
    #[error("everything ran, but is still not settled: {0}; does somebody else migrate it too?")]
    Unsettled(String),
}

/// A statement that failed.
#[derive(Debug)]
pub struct Failed {
    /// The file.
    pub file: String,
    /// The line of what the server objects to, or of the statement.
    pub line: usize,
    /// Which statement of the file, from 1.
    pub number: usize,
    /// What the server said.
    pub said: Said,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed { file, line, number, said } = self;
        write!(f, "{file}:{line}: statement {number}: {said}; {}", said.advice())
    }
}

/// A server's own words, or those of the way to it. Never the values that stand in rows: those are in its details, which
/// are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The SQLSTATE; empty when no server spoke.
    pub code: String,
    /// The message.
    pub text: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.code.is_empty() { Ok(()) } else { write!(f, " (SQLSTATE {})", self.code) }
    }
}

impl Said {
    /// What an error of the client library says.
    pub fn of(error: &sqlx::Error) -> Said {
        match error {
            sqlx::Error::Database(error) => {
                Said { code: error.code().unwrap_or_default().into_owned(), text: error.message().to_owned() }
            }
            // Its text may quote a character of a password.
            sqlx::Error::Configuration(_) => {
                Said::words("the client library refuses the role's name or password")
            }
            other => Said::words(other.to_string()),
        }
    }

    /// No server spoke.
    pub fn words(text: impl Into<String>) -> Said {
        Said { code: String::new(), text: text.into() }
    }

    /// The same without the server's words, which may quote the statement.
    #[must_use]
    pub fn without_words(self) -> Said {
        Said {
            text: "the server refuses a statement that holds a secret, so its words are left out".to_owned(),
            ..self
        }
    }

    /// Whether trying again may help without anybody's doing: lost connections, resources, shutdowns, deadlocks, held locks.
    pub fn is_transient(&self) -> bool {
        self.code.is_empty()
            || ["08", "40", "53", "57"].iter().any(|class| self.code.starts_with(class))
            || matches!(self.code.as_str(), "55P03" | "55006")
    }

    /// SQLSTATEs: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
    fn advice(&self) -> &'static str {
        match self.code.as_str() {
            "" => "check the way to the server, and run it again",
            "42501" => "give the role that migrates this right, or have it own the thing",
            "42P07" | "42710" | "42P06" | "42701" | "42723" => {
                "it is there already: has this migration run without a record? baseline, or take it away"
            }
            "42P01" | "42703" | "42704" | "42883" | "3F000" => {
                "it is not there: does another migration make it, in another file, schema or service?"
            }
            "25001" => "it cannot run in a transaction; put it into a file of its own",
            "55P03" | "55006" => "somebody else uses it; run it again when they have finished",
            "53100" => "free space on the server's disk, or enlarge it, and run it again",
            "57014" => "raise the time a statement may take, or see what it waits for",
            code => match code.get(..2) {
                Some("42") => "correct the statement",
                Some("22" | "23") => "the rows that are there do not allow it; correct them or the statement",
                Some("40") => "run it again",
                Some("08" | "53" | "57") => "run it again when the server is well",
                _ => "see the server's log",
            },
        }
    }
}

impl Error {
    pub(crate) fn server(doing: impl Into<String>) -> impl FnOnce(sqlx::Error) -> Error {
        let doing = doing.into();
        move |error| Error::Server { doing, said: Said::of(&error) }
    }

    /// Whether trying again may help without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Refused(_) | Error::Generated(_) => false,
            Error::Statement(failed) => failed.said.is_transient(),
            Error::Server { said, .. } => said.is_transient(),
            Error::Busy { .. } | Error::LostLock(_) | Error::Unsettled(_) => true,
        }
    }

    /// The SQLSTATE; empty when no server spoke.
    pub fn code(&self) -> &str {
        match self {
            Error::Statement(failed) => &failed.said.code,
            Error::Server { said, .. } => &said.code,
            _ => "",
        }
    }
}

/// How many lines below the statement's first line the server found the error.
pub(crate) fn lines_below(error: &sqlx::Error, sql: &str) -> usize {
    let position = match error {
        sqlx::Error::Database(error) => {
            error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::position)
        }
        _ => None,
    };
    // Positions count characters, from 1.
    let Some(PgErrorPosition::Original(at)) = position else { return 0 };
    sql.chars().take(at.saturating_sub(1)).filter(|c| *c == '\n').count()
}

fn stopped(problems: &[Problem]) -> String {
    let refused: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("nothing of what the query answers with was run, nor what follows it: {}", refused.join("\n"))
}

fn list(problems: &[Problem]) -> String {
    let refused: Vec<String> = problems.iter().filter(|p| p.refuses()).map(ToString::to_string).collect();
    format!("nothing was run: {}", refused.join("\n"))
}
