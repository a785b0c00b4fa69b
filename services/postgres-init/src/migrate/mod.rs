//! Migrations as components: looked at, decided, run, and written down where modules and the hub see it.

mod connect;
mod files;
pub mod plan;
pub mod spec;
mod world;

pub use files::check;
pub use spec::{MigrationSpec, specs};
pub use world::{Error, MigrationTarget};
