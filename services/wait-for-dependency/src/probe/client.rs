//! A client of a Keycloak's realm is there: it lets itself in with its own secret.
//!
//! It asks about a token that is none (introspection, RFC 7662): who is let in is told that it is not active, and who is not
//! gets 401. That makes no token and begins no session, and works whatever flows the client may use. Asking for a token
//! would not do: where a client may not have one, the code says the same as for a wrong secret.

use std::fmt;

use chassis::secret::SecretStore;
use lifecycle::document::SecretKey;
use lifecycle::{Component, Evidence};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Certificate, StatusCode};
use serde_json::Value;
use url::Url;

use super::http::{builder, json, sent, shown};
use super::keycloak::beneath;
use super::secret::{authority, unreadable};
use super::{NotYet, State};

/// Ready when Keycloak lets the client in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Client {
    /// Keycloak's address, without `/realms`.
    pub url: Url,
    /// The certificate authority to trust; the system's when absent.
    pub ca: Option<SecretKey>,
    /// The realm.
    pub realm: String,
    /// Its client id.
    pub id: String,
    /// Its secret.
    pub secret: SecretKey,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = shown(&self.url);
        write!(f, "keycloak {}/realms/{} as client {}", address.trim_end_matches('/'), self.realm, self.id)
    }
}

impl Client {
    /// The Secrets that a look reads.
    pub(super) fn reads(&self) -> impl Iterator<Item = &Component> {
        let ca = self.ca.iter().filter(|_| self.url.scheme() == "https");
        ca.chain([&self.secret]).map(|key| &key.secret)
    }

    pub(super) async fn look(&self, secrets: &SecretStore) -> Result<Evidence, NotYet> {
        let SecretKey { secret, key } = &self.secret;
        let secret = secrets.password(secret, key).await.map_err(|error| unreadable(&error))?;
        let path = ["realms", &self.realm, "protocol", "openid-connect", "token", "introspect"];
        let url = beneath(&self.url, &path)?;
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let text = secret.expose_text().unwrap_or_default();
        // In the body: what is encoded how in a `Basic` header differs between versions of Keycloak.
        let body = format!("client_id={}&client_secret={}&token=none", encoded(&self.id), encoded(text));
        let request = self.http(secrets).await?.post(url.clone());
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let response = sent(request, &url).await?;
        let (status, url) = (response.status(), shown(&url));
        let answer = match status {
            StatusCode::NOT_FOUND => {
                let says = format!("realm `{}` is not there (404 for {url})", self.realm);
                return Err(NotYet::new(State::Absent, says).code(404));
            }
            StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                json(response).await?
            }
            _ => {
                let says = format!("answers {status} for {url}");
                return Err(NotYet::new(State::Unhealthy, says).code(status.as_u16()));
            }
        };
        let code = answer.get("error").and_then(Value::as_str).unwrap_or_default();
        match (status, code) {
            (StatusCode::OK, _) if answer.get("active").is_some_and(Value::is_boolean) => {
                Ok(Evidence::level("client"))
            }
            // Keycloak tells an unknown client and a wrong secret apart by words at most.
            (_, "invalid_client" | "unauthorized_client") => {
                let says = format!(
                    "realm `{}` does not let client `{}` in: it is not there yet, is disabled, or has another secret than {}",
                    self.realm, self.id, self.secret
                );
                Err(NotYet::new(State::Denied, says).code(code))
            }
            (StatusCode::FORBIDDEN, _) => {
                let says =
                    format!("client `{}` is there and may not ask: a public client has no secret", self.id);
                Err(NotYet::new(State::Denied, says).code(status.as_u16()))
            }
            _ => {
                let says = format!("answers {status} for {url}, which is not what RFC 7662 says");
                Err(NotYet::new(State::Unhealthy, says).code(status.as_u16()))
            }
        }
    }

    /// A connection that trusts the given authority alone, where one is given.
    async fn http(&self, secrets: &SecretStore) -> Result<reqwest::Client, NotYet> {
        let tls = self.url.scheme() == "https";
        let mut builder = builder(tls && self.ca.is_none());
        if let Some(ca) = self.ca.as_ref().filter(|_| tls) {
            let certificates =
                Certificate::from_pem_bundle(&authority(ca, secrets).await?).unwrap_or_default();
            if certificates.is_empty() {
                let says = format!("{ca} holds no certificate in PEM; write one into it");
                return Err(NotYet::new(State::Unknown, says).blind());
            }
            builder = builder.tls_certs_only(certificates);
        }
        builder.build().map_err(|error| NotYet::new(State::Unknown, chassis::exit::chain(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Probe;
    use super::super::faults::{self, Fault};
    use super::*;

    async fn against(status: &str, body: &str, secret: Option<&str>) -> Result<Evidence, NotYet> {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let peer = faults::serve(Fault::Answer(answer)).await;
        let root = tempfile::tempdir().unwrap();
        if let Some(secret) = secret {
            std::fs::create_dir_all(root.path().join("app/portal")).unwrap();
            std::fs::write(root.path().join("app/portal/secret"), secret).unwrap();
        }
        let probe = Client {
            url: format!("http://{}/auth", peer.address).parse().unwrap(),
            ca: None,
            realm: "staff".to_owned(),
            id: "portal".to_owned(),
            secret: SecretKey { secret: "secret/app/portal".parse().unwrap(), key: "secret".to_owned() },
        };
        assert!(format!("{probe}").ends_with("/auth/realms/staff as client portal"), "{probe}");
        super::super::probe(&Probe::Client(probe), &SecretStore::Root(root.path().to_owned())).await
    }

    #[tokio::test]
    async fn only_who_is_let_in_is_there() {
        let seen = against("200 OK", r#"{"active": false}"#, Some("hunter2")).await.unwrap();
        assert_eq!(seen.level, "client");
        for (status, body, state) in [
            ("401 Unauthorized", r#"{"error": "invalid_client"}"#, State::Denied),
            ("401 Unauthorized", r#"{"error": "unauthorized_client"}"#, State::Denied),
            ("400 Bad Request", r#"{"error": "invalid_client"}"#, State::Denied),
            ("403 Forbidden", r#"{"error": "invalid_request"}"#, State::Denied),
            ("404 Not Found", r#"{"error": "Realm does not exist"}"#, State::Absent),
            ("400 Bad Request", r#"{"error": "invalid_request"}"#, State::Unhealthy),
            ("401 Unauthorized", "<html>log in</html>", State::Unhealthy),
            ("200 OK", "{}", State::Unhealthy),
            ("200 OK", r#"{"active": "false"}"#, State::Unhealthy),
            ("200 OK", "<html>welcome</html>", State::Unhealthy),
            ("302 Found", "", State::Unhealthy),
            ("503 Service Unavailable", "", State::Unhealthy),
        ] {
            let error = against(status, body, Some("hunter2")).await.unwrap_err();
            assert_eq!((error.state, error.never), (state, false), "{status} {body}: {error}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[tokio::test]
    async fn without_its_secret_it_is_not_yet() {
        for secret in [None, Some("")] {
            let error = against("200 OK", r#"{"active": false}"#, secret).await.unwrap_err();
            assert_eq!(error.state, State::Absent, "{error}");
        }
    }
}
