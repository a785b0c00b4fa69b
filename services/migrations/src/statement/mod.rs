//! SQL text taken apart into statements, each with its line, and what a statement would do as far as its words tell.
//!
//! The lexer is our own. `pg_query` (libpg_query) is exact but compiles the server's parser in C, which would be the
//! largest part of each image, and follows one major version; `sqlparser` refuses too much of real DDL, and refusing a
//! statement that the server accepts would stop an environment that works today. Finding the ends of statements needs only
//! the server's lexical rules, which have changed once in a decade (SQL-standard function bodies, PostgreSQL 14).

mod class;
mod index;
#[cfg(test)]
mod laws;
mod name;
mod split;
pub mod token;
mod uses;

pub use class::{Class, Control, Copy, Destroys, Destruction, classify};
pub(crate) use index::{ConcurrentIndex, concurrent_index};
pub use name::Name;
pub use split::{Split, SplitError, Statement, split};
pub(crate) use split::{Tracker, copied, escapes_after};
pub use uses::{makes, uses};

/// Whether the first word of a statement is one of these.
pub(crate) fn begins(sql: &str, words: &[&str]) -> bool {
    let first = sql.split_whitespace().next().unwrap_or_default();
    words.iter().any(|word| first.eq_ignore_ascii_case(word))
}
