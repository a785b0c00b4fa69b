//! Whose a service-account token is: asked of the API server (TokenReview), never read out of the token.

use serde::Deserialize;
use serde_json::json;

use crate::{Cluster, Error};

/// Who showed a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `system:serviceaccount:<namespace>:<name>` for a service account.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
}

impl Identity {
    /// The service account's namespace and name; none for anybody else.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.user.strip_prefix("system:serviceaccount:")?.split_once(':')
    }
}

#[derive(Deserialize)]
struct Review {
    #[serde(default)]
    status: ReviewStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    username: String,
    groups: Vec<String>,
}

impl Cluster {
    /// Whose a token is, if it is valid and made for `audience`; none otherwise. The right to create `tokenreviews` is needed.
    pub async fn whose(&self, token: &str, audience: &str) -> Result<Option<Identity>, Error> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let review: Review = self.create("tokenreviews", path, &review).await?;
        let status = review.status;
        // A server that does not know audiences answers without them; such a token is for everybody, so for nobody.
        let is_for_us = status.authenticated && status.audiences.iter().any(|known| known == audience);
        Ok(is_for_us.then_some(Identity { user: status.user.username, groups: status.user.groups }))
    }
}
