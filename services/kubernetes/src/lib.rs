//! What needs an API server of Kubernetes: a Secret or ConfigMap by name, applied field by field and watched by name, a
//! pod's Event and ports, what runs pods, whose a service-account token is, and who may read what.
//!
//! Every call about a Secret or ConfigMap names it: nothing here lists what it was not told of. What we keep of a value is
//! wiped when it is dropped; copies that are made while a request is encoded, sent and received are not.

mod access;
mod callers;
mod client;
mod connect;
mod error;
mod event;
mod forward;
mod namespace;
mod object;
mod secrets;
mod token;
mod watch;
mod workload;

pub use callers::{callers, callers_of};
pub use client::{Applied, Cluster};
pub use error::Error;
pub use forward::{Pod, Stream};
pub use object::{Desired, Name, Object, Resource};
pub use secrets::reader;
pub use token::Tokens;
pub use workload::{Rollout, Workload};
