//! The dialect of psql: scripts with its commands, as MOSIP's, interpreted without psql. What they would do is found out
//! without a server: a list of steps, or everything that is wrong.

mod arguments;
pub mod chain;
mod command;
mod copy;
pub(crate) mod exported;
mod interpret;
pub mod plan;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeSet;

use crate::problem::Problem;
pub use interpret::interpret;
pub use plan::{Plan, Settings, World, check, plan};
pub use variables::{Variables, quote_literal};

/// One thing that a script does.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// `\c`: go on in another database, as somebody else; none keeps what is.
    Connect {
        /// The database.
        database: Option<String>,
        /// The role.
        user: Option<String>,
    },
    /// Send a statement, with the rows that follow it in the script.
    Execute {
        /// The statement.
        sql: String,
        /// The rows of a `COPY … FROM STDIN`.
        rows: Option<String>,
    },
    /// `\gexec`: send a query, and then each text that it answers with.
    Generate {
        /// The query.
        sql: String,
    },
    /// `\copy … from`: rows from a file of the sources, or one that an earlier step wrote.
    CopyFrom {
        /// The `COPY … FROM STDIN`.
        sql: String,
        /// The file's path in the sources.
        path: String,
    },
    /// `\copy … to`: rows into a file that lives as long as the run.
    CopyTo {
        /// The `COPY … TO STDOUT`.
        sql: String,
        /// The file's path in the sources.
        path: String,
    },
    /// `\echo`.
    Echo(String),
}

/// A step, and where it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct Placed {
    /// The step.
    pub step: Step,
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// It holds a secret: it is not shown.
    pub secret: bool,
}

impl std::fmt::Debug for Placed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {self}", self.file, self.line)
    }
}

impl std::fmt::Display for Placed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |sql: &str| {
            if self.secret { "a statement that holds a secret".to_owned() } else { sql.to_owned() }
        };
        match &self.step {
            Step::Connect { database, user } => write!(
                f,
                "connect to {} as {}",
                database.as_deref().unwrap_or("the same database"),
                user.as_deref().unwrap_or("the same role")
            ),
            Step::Execute { sql, .. } => f.write_str(&shown(sql)),
            Step::Generate { sql } => write!(f, "run what this answers: {}", shown(sql)),
            Step::CopyFrom { sql, path } => write!(f, "{} < {path}", shown(sql)),
            Step::CopyTo { sql, path } => write!(f, "{} > {path}", shown(sql)),
            Step::Echo(text) => write!(f, "say {text}"),
        }
    }
}

/// What a script does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// In this order.
    pub steps: Vec<Placed>,
    /// The files that it consists of and copies from.
    pub files: BTreeSet<String>,
    /// What is worth knowing.
    pub warnings: Vec<Problem>,
}
