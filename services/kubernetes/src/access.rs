//! Whether others may read an object, by the API server's own judgement (SubjectAccessReview).

use serde::Deserialize;
use serde_json::json;

use crate::{Cluster, Error, Name};

#[derive(Deserialize)]
struct Review {
    status: Verdict,
}

#[derive(Deserialize)]
struct Verdict {
    allowed: bool,
}

impl Cluster {
    /// Whether the service accounts of a namespace, all of them, may `get` an object. Only what was given to that group counts,
    /// not what every service account or everybody may. The right to create `subjectaccessreviews` is needed.
    pub async fn is_given(&self, name: &Name, namespace: &str) -> Result<bool, Error> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "groups": [format!("system:serviceaccounts:{namespace}")],
                "resourceAttributes": {
                    "verb": "get", "resource": name.resource.plural(), "version": "v1",
                    "namespace": name.namespace, "name": name.name,
                },
            },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let review: Review = self.create("subjectaccessreviews", path, &review).await?;
        Ok(review.status.allowed)
    }
}
