//! The arguments of `wait`.

use std::ffi::OsString;
use std::path::PathBuf;

use postgres::address::Address;

use super::report::Output;

/// Waits until everything named is ready, then runs the command after `--`, whose process this one becomes.
///
/// Targets are looked at in parallel, each for what it is for: a database by a login that could write, a topic by its
/// leaders, HTTP by its status. An open port alone proves nothing; --tcp is there for what speaks nothing else.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct WaitArgs {
    /// Wait for the start needs of this module of the documents
    #[arg(long, value_name = "NAME", help_heading = "From documents")]
    pub module: Option<String>,
    /// Files or folders with documents [default: ROLLCALL_DOCUMENTS]
    #[arg(value_name = "DOCUMENTS", help_heading = "From documents")]
    pub documents: Vec<PathBuf>,

    /// A port that accepts connections
    #[arg(long, value_name = "HOST:PORT", help_heading = "Targets (each may be repeated)")]
    pub tcp: Vec<String>,
    /// A GET that is answered with any 2xx, or exactly STATUS; redirects are not followed
    #[arg(long, value_name = "URL[=STATUS]", help_heading = "Targets (each may be repeated)")]
    pub http: Vec<String>,
    /// A login that could write: postgresql://user@host:port/database?sslmode=…
    #[arg(long, value_name = "ADDRESS", help_heading = "Targets (each may be repeated)")]
    pub postgres: Vec<Address>,
    /// A cluster that answers, or a topic whose partitions all have leaders
    #[arg(long, value_name = "HOST:PORT[,…][/TOPIC]", help_heading = "Targets (each may be repeated)")]
    pub kafka: Vec<String>,
    /// grpc.health.v1 that says SERVING
    #[arg(long, value_name = "HOST:PORT[/SERVICE]", help_heading = "Targets (each may be repeated)")]
    pub grpc: Vec<String>,
    /// A Keycloak that serves a realm (master when none is named)
    #[arg(long, value_name = "URL[/realms/NAME]", help_heading = "Targets (each may be repeated)")]
    pub keycloak: Vec<String>,
    /// A key of a Secret that is there and not empty
    #[arg(long, value_name = "[NAMESPACE/]NAME:KEY", help_heading = "Targets (each may be repeated)")]
    pub secret: Vec<String>,

    /// The file with the password for --postgres; one for all, or one for each in their order
    #[arg(long, value_name = "FILE", help_heading = "Passwords", conflicts_with = "password_secret")]
    pub password_file: Vec<PathBuf>,
    /// The Secret with the password for --postgres, likewise
    #[arg(long, value_name = "[NAMESPACE/]NAME:KEY", help_heading = "Passwords")]
    pub password_secret: Vec<String>,

    /// Give up after this long, such as 90s or 5m; 0 waits for ever [default: ROLLCALL_DEADLINE, else 0]
    #[arg(short, long, value_name = "DURATION")]
    pub timeout: Option<String>,
    /// The longest time between looks
    #[arg(short, long, value_name = "DURATION", default_value = "1s")]
    pub interval: String,
    /// End as soon as it is known that waiting is in vain: access denied (65), a dependency failed (69), nobody makes it (70)
    #[arg(long)]
    pub fail_fast: bool,
    /// Say nothing while waiting
    #[arg(short, long)]
    pub quiet: bool,
    /// How to speak: log lines, or one JSON object a line on standard output
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,

    /// What to become when everything is ready
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

const AFTER: &str = "\
Exit codes: 0 ready (or the command's own) · 2 wrong usage · 65 will never work · 69 a dependency failed ·
70 cycle, or nobody makes it · 75 asked to stop · 124 the deadline passed

Passwords come from PGPASSWORD, --password-file or --password-secret, best not from the address: everybody on the machine
can read that. Secrets are read under ROLLCALL_SECRETS_DIR or ROLLCALL_SECRETS_ROOT; where neither is set, from the API
server that KUBECONFIG or the pod's service account names, with the right to `get` each by name.

Examples:
  wait --postgres postgresql://app@db/registry --http http://keycloak/realms/master=200 --timeout 5m -- ./serve
  wait --kafka kafka:9092/registry.events --grpc audit:7070 --output json
  wait --module registry /etc/rollcall -- ./serve";

impl WaitArgs {
    /// Whether a target is named on the command line.
    pub(super) fn has_targets(&self) -> bool {
        let texts = [&self.tcp, &self.http, &self.kafka, &self.grpc, &self.keycloak, &self.secret];
        !self.postgres.is_empty() || texts.iter().any(|texts| !texts.is_empty())
    }
}
