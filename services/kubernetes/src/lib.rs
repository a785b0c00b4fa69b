//! What needs an API server of Kubernetes: a Secret or ConfigMap by name, applied field by field and watched by name, a
//! pod's Event, what runs pods, and whose a service-account token is.
//!
//! Every call names its object: nothing here lists what it was not told of. What we keep of a value is wiped when it is
//! dropped; copies that are made while a request is encoded, sent and received are not.

mod client;
mod error;
mod event;
mod object;
mod secrets;
mod token;
mod watch;
mod workload;

pub use client::{Applied, Cluster};
pub use error::Error;
pub use event::PodReference;
pub use object::{Desired, Name, Object, Resource};
pub use secrets::reader;
pub use token::Identity;
pub use workload::{Rollout, Workload};
