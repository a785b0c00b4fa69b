//! What Rollcall knows about readiness, without any I/O: components, events, needs, the graph, the documents that
//! describe an environment, and the manifests of charts. No clock, no network, no runtime: everything here is a function of its arguments.

mod component;
pub mod document;
mod event;
mod explain;
mod gate;
mod graph;
mod hash;
pub mod manifests;
mod need;
mod placeholder;
mod roster;
mod timeline;

pub use component::{Component, ComponentError, Kind, is_dns_label, is_name};
pub use event::{Event, Evidence, Moment, Phase};
pub use explain::{Link, explain};
pub use gate::Gate;
pub use graph::{Cycle, Edge, Graph};
pub use hash::sha256_hex;
pub use need::{Need, OnRestart, When};
pub use placeholder::placeholder;
pub use roster::Roster;
pub use timeline::{Entry, Timeline};
