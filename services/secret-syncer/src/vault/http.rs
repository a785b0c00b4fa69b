//! Calls to a Vault: each with a deadline, bounded in size, over verified TLS, and none repeated here.

use std::time::Duration;

use chassis::SecretValue;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, RequestBuilder, redirect};
use url::Url;
use zeroize::Zeroizing;

use super::{Place, VaultError};

/// One call takes at most this long.
const REQUEST: Duration = Duration::from_secs(10);
/// A connection is made within this.
const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer that is read: the values of a Kubernetes Secret have at most 1 MiB; JSON may escape each byte with six.
const ANSWER: usize = 8 * 1024 * 1024;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Without it, an agent in between may refuse (its setting `require_request_header` guards against forged requests).
const REQUESTED: HeaderName = HeaderName::from_static("x-vault-request");

/// A connection to a Vault.
pub(super) struct Http {
    client: Client,
    url: Url,
}

/// An answer of whatever status. Its body may hold values.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Http {
    pub(super) fn new(
        url: Url,
        namespace: Option<&str>,
        ca: Option<&SecretValue>,
    ) -> Result<Http, VaultError> {
        let unusable = |problem: &str| VaultError::Unusable { url: shown(&url), problem: problem.to_owned() };
        if url.scheme() != "https" || url.cannot_be_a_base() {
            return Err(unusable("it is no https address; values and tokens do not travel in the clear"));
        }
        let mut headers = HeaderMap::from_iter([(REQUESTED, HeaderValue::from_static("true"))]);
        if let Some(namespace) = namespace {
            let value = HeaderValue::from_str(namespace).map_err(|_| unusable("its namespace is no name"))?;
            headers.insert(NAMESPACE, value);
        }
        // The first one stays, which is as good: all of ours install the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .https_only(true)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .default_headers(headers)
            .user_agent(concat!("rollcall-secret-syncer/", env!("CARGO_PKG_VERSION")));
        if let Some(ca) = ca {
            let certificates = Certificate::from_pem_bundle(ca.expose()).unwrap_or_default();
            if certificates.is_empty() {
                return Err(unusable("its certificate authority holds no certificate in PEM form"));
            }
            // These and no others.
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| unusable(&chassis::exit::chain(&error)))?;
        Ok(Http { client, url })
    }

    /// Its address for people.
    pub(super) fn address(&self) -> String {
        shown(&self.url)
    }

    /// Reads `/v1/<parts>`.
    pub(super) async fn get(&self, parts: &[&str], token: &SecretValue) -> Result<Answer, VaultError> {
        self.send(self.client.get(self.at(parts)?), Some(token)).await
    }

    /// Writes JSON to `/v1/<parts>`.
    pub(super) async fn post(
        &self,
        parts: &[&str],
        token: Option<&SecretValue>,
        body: Vec<u8>,
    ) -> Result<Answer, VaultError> {
        let request = self.client.post(self.at(parts)?);
        self.send(request.header("content-type", "application/json").body(body), token).await
    }

    /// What an answer means that is none of those that its caller expects.
    pub(super) fn judged(&self, answer: &Answer, place: Place<'_>) -> VaultError {
        let (url, status, place) = (self.address(), answer.status, place.to_string());
        match status {
            403 => VaultError::Forbidden { url, place },
            200..=299 => VaultError::Unreadable { url, place },
            _ => self.trouble(status).unwrap_or(VaultError::Refused { url, place, status }),
        }
    }

    /// What is wrong with the server itself, if that is what a status says: 412 is a standby that has not caught up, 429 a
    /// quota, 472 and 473 standbys, 503 sealed.
    pub(super) fn trouble(&self, status: u16) -> Option<VaultError> {
        let url = self.address();
        match status {
            300..=399 => Some(VaultError::Redirected { url, status }),
            408 | 412 | 429 | 472 | 473 | 500.. => Some(VaultError::Busy { url, status }),
            _ => None,
        }
    }

    fn at(&self, parts: &[&str]) -> Result<Url, VaultError> {
        let mut url = self.url.clone();
        let unusable = || VaultError::Unusable { url: self.address(), problem: "it has no path".to_owned() };
        url.path_segments_mut().map_err(|()| unusable())?.pop_if_empty().push("v1").extend(parts);
        Ok(url)
    }

    async fn send(&self, request: RequestBuilder, token: Option<&SecretValue>) -> Result<Answer, VaultError> {
        let request = match token {
            None => request,
            Some(token) => {
                let mut value =
                    HeaderValue::from_bytes(token.expose()).map_err(|_| VaultError::Unusable {
                        url: self.address(),
                        problem: "its token holds what no token can, such as a line break; write it anew"
                            .to_owned(),
                    })?;
                // Kept out of what the libraries below may log.
                value.set_sensitive(true);
                request.header(TOKEN, value)
            }
        };
        let mut response = request.send().await.map_err(|error| self.lost(error))?;
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(|error| self.lost(error))? {
            if body.len() + chunk.len() > ANSWER {
                let reason = format!("its answer is longer than {ANSWER} bytes");
                return Err(VaultError::Unreachable { url: self.address(), reason });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status: response.status().as_u16(), body })
    }

    fn lost(&self, error: reqwest::Error) -> VaultError {
        let (url, error) = (self.address(), error.without_url());
        if error.is_timeout() {
            return VaultError::Unreachable { url, reason: format!("no answer within {REQUEST:?}") };
        }
        match certificate(&error) {
            Some(reason) => VaultError::Untrusted { url, reason },
            None => VaultError::Unreachable { url, reason: chassis::exit::chain(&error) },
        }
    }
}

/// What is wrong with the server's certificate, if that is why a call failed.
fn certificate(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
        return Some(reason.to_string());
    }
    // An error of the operating system's kind hides what it is made of from its chain of sources.
    let hidden = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match hidden {
        Some(hidden) => certificate(hidden),
        None => certificate(error.source()?),
    }
}

/// An address without the credentials that it may hold by mistake.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Addresses that cannot hold credentials refuse to lose them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests;
