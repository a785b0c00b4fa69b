//! Real servers on this machine, for `rollcall rehearse` and for tests: PostgreSQL 14 to 18, Kafka 4.1, Keycloak 26.7, the
//! API of Kubernetes 1.34 and Vault 1.14, fetched with Maven or compiled from Go modules when first asked for, on free loopback ports, as
//! root or as anybody; and, as root, a whole Kubernetes of one node.
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
//!
//! # A whole Kubernetes
//!
//! [`Sandbox::node`] makes a cluster of one node that runs pods, ready in some six seconds. It lives in namespaces of its
//! own, has no registry to pull from and no way further than this machine: images are made and loaded with
//! [`image`], from programs of this machine. [`Node::daemon`] gives each of its parts, to be stopped, killed and started
//! again, and [`Node::host`] the address at which pods reach servers of this machine. NetworkPolicies are accepted and not
//! enforced; there is no storage but `hostPath` and `emptyDir`.
//!
//! ```no_run
//! # async fn example(sandbox: sandbox::Sandbox, program: &std::path::Path) -> Result<(), sandbox::Error> {
//! use std::time::Duration;
//! use sandbox::image::{Base, Image};
//! use sandbox::{Daemon, PostgresOptions};
//!
//! let node = sandbox.node().await?;
//! node.ready(Duration::from_mins(2)).await?;
//! let base = Base::of([program])?; // the libraries of all programs: a layer that their images share
//! node.load(&[Image::of_program("localhost/rollcall:1", "rollcall", &base, program)?]).await?;
//! let also = Some(node.host()?);
//! let postgres = sandbox.postgres(PostgresOptions { also, ..PostgresOptions::default() }).await?;
//! postgres.ready(Duration::from_secs(30)).await?;
//! println!("pods find PostgreSQL at {}:{}", node.host()?, postgres.port());
//! let applied = node.kubectl().args(["apply", "-f", "modules.yaml"]).status(); // or Helm, with node.kubeconfig()
//! node.restart(Daemon::Containerd).await?; // pods live on
//! let server = node.daemon(Daemon::ApiServer)?;
//! server.kill().await?; // away for as long as it takes to see what becomes of that
//! server.start().await?;
//! node.ready(Duration::from_mins(2)).await
//! # }
//! ```
//!
//! With `SANDBOX_KUBECONFIG` a cluster that is there already is used instead, by anybody; [`Sandbox::node`] says how images
//! come to it.

mod api;
mod cache;
mod cgroups;
mod containers;
mod disk;
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
mod pgbouncer;
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
mod workflows;

pub use nix::sys::signal::Signal;

pub use crate::containers::Containers;
pub use crate::encryption::Encryption;
pub use crate::error::Error;
pub use crate::handle::Handle;
pub use crate::helm::Helm;
pub use crate::kafka::{Kafka, KafkaOptions};
pub use crate::keycloak::{Keycloak, KeycloakDatabase, KeycloakOptions};
pub use crate::kubernetes::Kubernetes;
pub use crate::link::Event;
pub use crate::node::{Daemon, Network, Node};
pub use crate::pgbouncer::{PgBouncer, PgBouncerOptions};
pub use crate::postgres::{Postgres, PostgresOptions};
pub use crate::protocol::{Exit, ProcessSpec, Restart};
pub use crate::sandbox::{Options, Progress, Sandbox, Supervisor};
pub use crate::supervisor::supervise;
pub use crate::vault::Vault;
