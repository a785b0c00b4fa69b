//! Keycloak: the realms and clients that documents declare are made, and client secrets are read for Secrets to copy.
//!
//! What carries no mark of this environment is left alone unless the document says to take it over; what carries another's
//! is never touched.

mod admin;
mod answer;
mod api;
mod error;
pub mod plan;
mod representation;
pub mod spec;
mod state;
mod step;
mod teardown;
mod values;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use lifecycle::Component;
use lifecycle::document::Environment;

pub use api::Api;
pub use error::{Error, Unread};
pub use spec::Spec;
pub use state::World;
pub use step::Step;
pub use teardown::teardown;
pub use values::Values;
pub use world::{ClientSecret, KeycloakTarget};

/// Each client that the documents declare: its component, how it is looked at and changed, and how it should be. Clients of
/// one server share its connection and its token. Values are read from `values`.
pub fn targets<V: Values + Clone>(
    environment: &Environment,
    values: &V,
) -> Vec<(Component, KeycloakTarget<V>, Spec)> {
    let mut apis: BTreeMap<spec::Server, Arc<Api<V>>> = BTreeMap::new();
    let target = |spec: Spec| {
        let api = apis
            .entry(spec.server.clone())
            .or_insert_with(|| Arc::new(Api::new(spec.server.clone(), values.clone())));
        (spec.component.clone(), KeycloakTarget::new(Arc::clone(api)), spec)
    };
    spec::specs(environment).into_iter().map(target).collect()
}
