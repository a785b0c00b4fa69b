//! `rollcall rehearse`: the whole environment on this machine, with real servers and the real services, and a stand-in for
//! each module. What works here works in a cluster by the same code.

mod answer;
mod cast;
mod chaos;
mod direct;
mod follow;
mod play;
mod props;
mod real;
mod rewrite;
mod show;
mod stage;
mod stand_in;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

pub use cast::Cast;
pub use follow::{Board, Follower};
pub use play::run;
pub use rewrite::{Addresses, rewrite, stand_ins};
pub use stage::{Error, KafkaStart, Ports, SERVER_START, Service, Setting, Stage};
pub use stand_in::StandIn;
pub use stand_in::run as stand_in;

/// Bring the whole environment up on this machine, with real Postgres and Kafka.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Rehearse {
    /// The environment's documents, or folders of them.
    #[arg(value_name = "DOCUMENTS", required = true)]
    documents: Vec<PathBuf>,
    /// Run the real thing instead of a stand-in for this module; possible for a Keycloak.
    #[arg(long, value_name = "MODULE")]
    real: Option<String>,
    /// Start Kafka so much later than everything else.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    late_kafka: Option<Duration>,
    /// Kill services and stand-ins at random, and let stand-ins start at random speed, by this seed.
    #[arg(long, value_name = "SEED")]
    chaos: Option<u64>,
    /// Nobody polls: everything is woken by events.
    #[arg(long, conflicts_with = "direct")]
    no_polling: bool,
    /// No hub and no bus: everybody polls. For documents without topics.
    #[arg(long)]
    direct: bool,
    /// The Postgres version, 14 to 18.
    #[arg(long, default_value_t = 18, value_parser = clap::value_parser!(u16).range(14..=18))]
    postgres: u16,
    /// Keep documents, secrets, data and logs in this folder, which must be empty or not there yet.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Stay up when everything is ready, until interrupted: time for status, explain, watch and timeline.
    #[arg(long)]
    hold: bool,
    /// Give up after so long.
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    deadline: Duration,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: crate::output::Output,
    /// The log filter of every process; logs are in the folder given with --keep.
    #[arg(long, default_value = "info")]
    log: String,
}
