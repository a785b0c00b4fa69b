//! Real servers on this machine, for `rollcall rehearse` and for tests: PostgreSQL 14 to 18, Kafka 4.1, Keycloak 26.7, the
//! API of Kubernetes 1.34 and Vault 1.14, fetched with Maven or compiled from Go modules when first asked for, on free loopback ports, as
//! root or as anybody.
//!
//! A supervisor process is the parent of every server. When its owner ends, even by `kill -9`, it ends them all and
//! removes their directory; when both are killed, the next sandbox sweeps what is left.
//!
//! ```no_run
//! # async fn example() -> Result<(), sandbox::Error> {
//! use std::time::Duration;
//! use sandbox::{KafkaOptions, Options, PostgresOptions, ProcessSpec, Sandbox, Supervisor};
//!
//! let program = std::env::current_exe().unwrap_or_default(); // whose `sandbox-supervisor` calls `sandbox::supervise()`
//! let sandbox = Sandbox::start(Options::new(Supervisor::command(program, ["sandbox-supervisor"]))).await?;
//! let postgres = sandbox.postgres(PostgresOptions::default()).await?;
//! let kafka = sandbox.kafka(KafkaOptions::default()).await?;
//! postgres.ready(Duration::from_secs(30)).await?;
//! kafka.ready(Duration::from_secs(60)).await?;
//! let spec = ProcessSpec::new("hub", "rollcall", sandbox.dir().join("hub.log"));
//! let hub = sandbox.spawn(spec.args(["wait-for-dependency", "serve"]).env("KAFKA", kafka.brokers())).await?;
//! postgres.kill().await?;
//! postgres.start().await?; // the same port, the same data
//! hub.stop(Duration::from_secs(5)).await?;
//! sandbox.stop().await
//! # }
//! ```

mod api;
mod cache;
mod cgroups;
mod encryption;
mod error;
mod golang;
mod handle;
mod helm;
pub mod image;
mod kafka;
mod keycloak;
mod kubernetes;
mod link;
mod namespaces;
mod node;
mod pki;
pub mod ports;
mod postgres;
mod process;
mod protocol;
mod record;
mod sandbox;
mod supervisor;
pub mod tools;
mod vault;

pub use nix::sys::signal::Signal;

pub use crate::encryption::Encryption;
pub use crate::error::Error;
pub use crate::handle::Handle;
pub use crate::kafka::{Kafka, KafkaOptions};
pub use crate::keycloak::{Keycloak, KeycloakDatabase, KeycloakOptions};
pub use crate::kubernetes::Kubernetes;
pub use crate::link::Event;
pub use crate::node::{Daemon, Network, Node};
pub use crate::postgres::{Postgres, PostgresOptions};
pub use crate::protocol::{Exit, ProcessSpec, Restart};
pub use crate::sandbox::{Options, Progress, Sandbox, Supervisor};
pub use crate::supervisor::supervise;
pub use crate::vault::Vault;
