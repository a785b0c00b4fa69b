//! What needs an API server of Kubernetes: a Secret or ConfigMap by name, applied field by field and watched by name, a
//! pod's Event, and whose a service-account token is.
//!
//! Every call names its object: nothing here lists what it was not told of. Values are wiped from our own memory when they
//! are dropped; the buffers of the HTTP and TLS libraries are theirs.

mod client;
mod error;
mod event;
mod object;
mod token;
mod watch;

pub use client::{Applied, Cluster};
pub use error::Error;
pub use event::PodReference;
pub use object::{Desired, Name, Object, Resource};
pub use token::Identity;
pub use watch::Watch;
