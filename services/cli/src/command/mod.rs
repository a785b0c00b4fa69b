//! The commands for people. Each file is one command.

pub mod check;
pub mod down;
pub mod explain;
pub mod graph;
pub mod init;
pub mod plan;
pub mod rbac;
pub mod schema;
pub mod status;
pub mod timeline;
pub mod watch;

use std::path::PathBuf;

use clap::Args;

use crate::output::Output;

/// Documents to read, and how to print.
#[derive(Debug, Clone, Args)]
pub struct Documents {
    /// Documents, or folders of documents; ROLLCALL_DOCUMENTS when absent.
    #[arg(value_name = "DOCUMENTS", env = "ROLLCALL_DOCUMENTS", value_delimiter = ':', required = true)]
    pub paths: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}
