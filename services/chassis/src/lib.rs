//! What every Rollcall service stands on: settings, documents, secrets, health, metrics, telemetry, the bus, `converge`.
//!
//! It knows no product: what a Postgres or a Keycloak is, services know.

pub mod announcer;
pub mod backoff;
pub mod bus;
pub mod clock;
pub mod converge;
pub mod diagnostics;
pub mod documents;
pub mod exit;
pub mod grpc;
pub mod health;
pub mod hub;
pub mod metrics;
mod output;
pub mod provision;
pub mod run;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod teardown;
pub mod telemetry;
pub mod wire;

pub use exit::{Exit, Failure};
pub use output::Output;
pub use run::Context;
pub use secret::SecretValue;
