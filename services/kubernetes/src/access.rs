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
        let what = "subjectaccessreviews";
        let request = http::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(review.to_string().into_bytes());
        let request =
            request.map_err(|error| Error::Unaskable { what: what.to_owned(), reason: error.to_string() })?;
        let review: Review = self.plain(what, request).await?;
        Ok(review.status.allowed)
    }
}
