//! Keycloak serves a realm. Its health endpoint alone would pass before realms are imported, and its port long before
//! that.

use std::collections::BTreeMap;
use std::fmt;

use lifecycle::Evidence;
use lifecycle::document::KeycloakReady;
use reqwest::StatusCode;
use serde_json::Value;
use url::Url;

use super::http::{Http, get, json, shown};
use super::{NotYet, State};

/// Ready when the realm's OpenID configuration is served, with the issuer of that realm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keycloak {
    /// Keycloak's address, without `/realms`.
    pub url: Url,
    /// The realm.
    pub realm: String,
    /// The management interface, whose `/health/ready` must say UP too.
    pub management: Option<Url>,
}

impl From<&KeycloakReady> for Keycloak {
    fn from(ready: &KeycloakReady) -> Self {
        Keycloak {
            url: ready.url.clone(),
            realm: ready.realm.clone().unwrap_or_else(|| "master".to_owned()),
            management: ready.management.clone(),
        }
    }
}

impl fmt::Display for Keycloak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keycloak {}/realms/{}", shown(&self.url).trim_end_matches('/'), self.realm)
    }
}

impl Keycloak {
    pub(super) async fn look(&self) -> Result<Evidence, NotYet> {
        if let Some(management) = &self.management {
            let url = beneath(management, &["health", "ready"])?;
            let json = BTreeMap::from([("/status".to_owned(), "UP".to_owned())]);
            Http { url, status: Some(200), json }.look().await.map_err(|error| NotYet {
                error: format!("its management interface {}", error.error),
                ..error
            })?;
        }
        let url = beneath(&self.url, &["realms", &self.realm, ".well-known", "openid-configuration"])?;
        let response = get(&url).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(NotYet::new(
                    State::Absent,
                    format!("realm `{}` is not there (404 for {url})", self.realm),
                )
                .code(404));
            }
            status => {
                return Err(NotYet::new(State::Unhealthy, format!("answers {status} for {url}"))
                    .code(status.as_u16()));
            }
        }
        let body = json(response).await?;
        let issuer = body.get("issuer").and_then(Value::as_str).unwrap_or_default();
        if !issuer.ends_with(&format!("/realms/{}", self.realm)) {
            let issuer: String = issuer.chars().take(200).collect();
            return Err(NotYet::new(
                State::Unhealthy,
                format!("its issuer is `{issuer}`, wanted one that ends with /realms/{}", self.realm),
            ));
        }
        Ok(Evidence::level("realm").with("issuer", issuer))
    }
}

pub(super) fn beneath(base: &Url, path: &[&str]) -> Result<Url, NotYet> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| NotYet::new(State::Unknown, format!("{base} is not an http address")).never())?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::super::Probe;
    use super::super::faults::{self, Fault};
    use super::*;

    async fn against(status: &str, body: &str, management: Option<(&str, &str)>) -> Result<Evidence, NotYet> {
        let answer = |status: &str, body: &str| {
            Fault::Answer(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
        };
        let peer = faults::serve(answer(status, body)).await;
        let other = match management {
            Some((status, body)) => Some(faults::serve(answer(status, body)).await),
            None => None,
        };
        let url = |peer: &faults::Peer| format!("http://{}/auth", peer.address).parse().unwrap();
        let probe =
            Keycloak { url: url(&peer), realm: "staff".to_owned(), management: other.as_ref().map(url) };
        faults::look(Probe::Keycloak(probe)).await
    }

    #[tokio::test]
    async fn the_realm_must_be_served_by_its_own_issuer() {
        let right = r#"{"issuer": "https://id.example/auth/realms/staff"}"#;
        assert_eq!(against("200 OK", right, None).await.unwrap().level, "realm");
        for (status, body, state) in [
            ("200 OK", r#"{"issuer": "https://id.example/realms/master"}"#, State::Unhealthy),
            ("200 OK", r#"{"issuer": "https://id.example/realms/otherstaff"}"#, State::Unhealthy),
            ("200 OK", "{}", State::Unhealthy),
            ("200 OK", "<html>welcome</html>", State::Unhealthy),
            ("404 Not Found", "", State::Absent),
            ("503 Service Unavailable", "", State::Unhealthy),
            ("302 Found", "", State::Unhealthy),
        ] {
            assert_eq!(against(status, body, None).await.unwrap_err().state, state, "{status} {body}");
        }
    }

    #[tokio::test]
    async fn the_management_interface_counts_when_it_is_given() {
        let right = r#"{"issuer": "https://id.example/realms/staff"}"#;
        assert!(against("200 OK", right, Some(("200 OK", r#"{"status": "UP"}"#))).await.is_ok());
        let error = against("200 OK", right, Some(("503 Service Unavailable", r#"{"status": "DOWN"}"#)))
            .await
            .unwrap_err();
        assert!(error.error.contains("management interface answers 503"), "{error}");
        assert!(against("200 OK", right, Some(("200 OK", r#"{"status": "DOWN"}"#))).await.is_err());
    }

    #[test]
    fn the_path_of_the_address_is_kept() {
        let base = "http://kc/auth/".parse().unwrap();
        assert_eq!(beneath(&base, &["realms", "x y"]).unwrap().as_str(), "http://kc/auth/realms/x%20y");
    }
}
