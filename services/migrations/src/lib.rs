//! Migrations: SQL files brought into databases, each once and in order, in three dialects.
//!
//! [`flyway`] goes on where Flyway was, and Flyway where it was; [`psql`] interprets scripts for psql, as MOSIP's; [`native`] is
//! our own. Each has `check`, which tells without a server everything that would be refused; `plan`, which decides from files
//! and what is in the database and does no I/O; and a function in [`world`] that looks, decides, runs and looks again.
//!
//! Nothing is destroyed that was there before a run unless a person has allowed the file that would do it ([`guard`]). What
//! fits into a transaction is one with the record that it ran; what does not is written down statement by statement, so that a
//! run that is cut anywhere goes on there ([`journal`]). Locks are tried and never waited in, on a connection of their own.

mod error;
pub mod flyway;
pub mod guard;
pub mod journal;
pub mod native;
pub mod problem;
pub mod psql;
mod quote;
pub mod script;
pub mod source;
pub mod statement;
pub mod world;

pub use error::{Error, Failed, Said};
pub use problem::{Problem, Severity};
pub use source::Sources;
pub use world::{Connect, Glance, Limits, Report};
