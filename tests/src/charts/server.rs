//! What a real API server says of rendered objects.

use kube::api::{Patch, PatchParams, ValidationDirective};
use serde_json::Value;

use crate::cluster::{User, api};

impl User {
    /// Asks whether an object could be made as it is, down to the last key, and makes nothing.
    pub async fn try_out(&self, object: &Value) -> Result<(), kube::Error> {
        let params = PatchParams {
            force: true,
            dry_run: true,
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply("test")
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        api(&self.client(), object).patch(name, &params, &Patch::Apply(object)).await.map(drop)
    }
}
