//! Runs an audit: of the servers that documents declare, or of one that is named by an address or by PG* variables.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use chassis::{Context, Exit, Failure, Output, SecretValue};
use clap::Args;

use postgres::address::Address;

use super::address::address;
use super::failure;
use crate::audit::{Report, report};
use crate::targets;
use crate::world::Access;

/// What an audit is told.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER)]
pub struct AuditArgs {
    /// Documents, or folders of documents; each server that they declare with `admin` is audited [default: ROLLCALL_DOCUMENTS]
    #[arg(value_name = "DOCUMENTS", conflicts_with = "postgres")]
    documents: Vec<PathBuf>,
    /// The server: postgresql://user@host:port/database?sslmode=… [default: PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE]
    #[arg(long, value_name = "ADDRESS")]
    postgres: Option<Address>,
    /// The file with the password [default: PGPASSWORD]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A role that is meant to administer the server, and is not suspected; may be repeated
    #[arg(long, value_name = "ROLE")]
    administrator: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

const AFTER: &str = "\
Not suspected: the role that initdb made, whoever asks, whoever made database `rollcall`, the roles that providers of managed
servers use, and each --administrator. A superuser sees most; what could not be seen is said, and not judged.

Exit codes: 0 nobody can attack anybody · 65 somebody can, or the server does not let us in · 2 wrong usage · 75 try again

Examples:
  audit --postgres postgresql://postgres@db:5432/postgres?sslmode=require --password-file /run/secrets/pg
  audit --output json my-environment/";

/// Looks at each server and prints what was found.
pub(super) async fn run(args: AuditArgs, context: &Context) -> Result<(), Failure> {
    let administrators: BTreeSet<String> = args.administrator.iter().cloned().collect();
    let mut reports = Vec::new();
    let accesses = accesses(&args, context).await?;
    let administrators: BTreeSet<String> =
        accesses.iter().map(|(_, access)| access.user.clone()).chain(administrators).collect();
    for (name, access) in accesses {
        let facts = access.look(administrators.clone()).await;
        let facts = facts.map_err(|error| failure(&access.server.component, &error))?;
        reports.push(report(name, &facts));
    }
    let text = match args.output {
        Output::Text => reports.iter().map(Report::to_string).collect(),
        Output::Json => serde_json::to_string_pretty(&reports).map_err(Failure::internal)?,
    };
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        other => other.map_err(Failure::internal)?,
    }
    let attacked: Vec<&str> = reports
        .iter()
        .filter(|report| !report.attacks().is_empty())
        .map(|report| report.server.as_str())
        .collect();
    if attacked.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::NeverWorks,
        format!("attacks are possible on {}; what to do stands with each", attacked.join(", ")),
    ))
}

/// The servers, each with its name for people.
async fn accesses(args: &AuditArgs, context: &Context) -> Result<Vec<(String, Access)>, Failure> {
    let documents = match (args.documents.is_empty(), &args.postgres) {
        (true, None) => context.settings.documents.clone(),
        _ => args.documents.clone(),
    };
    if documents.is_empty() {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut access = address(args.postgres.as_ref(), &env).map_err(Failure::usage)?;
        if let Some(path) = &args.password_file {
            let read = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("--password-file {}: {error}", path.display())))?;
            access.password = Some(SecretValue::new(read.trim_end_matches(['\n', '\r'])));
        }
        return Ok(vec![(format!("{}:{}", access.server.host, access.server.port), access)]);
    }
    if args.password_file.is_some() {
        return Err(Failure::usage(
            "--password-file: documents say where passwords are; it goes with --postgres",
        ));
    }
    let environment = super::read(&documents)?;
    let mut accesses = Vec::new();
    for (component, target, spec) in targets(&environment, &context.secrets_of(&environment)?) {
        let access = target.access(&spec).await.map_err(|error| failure(&component, &error))?;
        accesses.push((component.to_string(), access));
    }
    if accesses.is_empty() {
        return Err(Failure::usage(
            "no document here declares a server with `admin`; name one with --postgres",
        ));
    }
    Ok(accesses)
}
