//! An HTTP GET is answered as expected: the status (any 2xx, or exactly one), and text in a JSON body.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use lifecycle::Evidence;
use lifecycle::document::HttpReady;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, redirect};
use serde_json::Value;
use url::Url;

use super::{DEADLINE, NotYet, State, net};

/// No health answer is longer; what is beyond is not read.
const BODY_MAX: usize = 64 * 1024;

/// Ready when a GET of `url` is answered with `status` and a body that holds `json`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Http {
    /// What is asked for.
    pub url: Url,
    /// The one status that counts; any from 200 to 299 when absent.
    pub status: Option<u16>,
    /// What the JSON body must hold: JSON pointer (RFC 6901) to text.
    pub json: BTreeMap<String, String>,
}

impl From<&HttpReady> for Http {
    fn from(ready: &HttpReady) -> Self {
        Http { url: ready.url.clone(), status: ready.status, json: ready.json.clone() }
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.url))?;
        match self.status {
            Some(status) => write!(f, "={status}"),
            None => Ok(()),
        }
    }
}

impl Http {
    pub(super) async fn look(&self) -> Result<Evidence, NotYet> {
        let response = get(&self.url).await?;
        let status = response.status();
        let expected = self.status.map_or_else(|| status.is_success(), |wanted| status.as_u16() == wanted);
        if !expected {
            return Err(unexpected(&response, self.status));
        }
        if !self.json.is_empty() {
            let body = json(response).await?;
            for (pointer, wanted) in &self.json {
                expect(&body, pointer, wanted)?;
            }
        }
        Ok(Evidence::level("answers").with("status", status.as_u16().to_string()))
    }
}

/// An address for people: without the credentials it may hold.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Addresses that cannot hold credentials refuse to lose them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Sends a GET on a connection of its own and waits for the head of the answer.
pub(super) async fn get(url: &Url) -> Result<Response, NotYet> {
    let client = client(url.scheme() == "https")?;
    sent(client.get(url.clone()), url).await
}

/// Sends a request to this address and waits for the head of the answer.
pub(super) async fn sent(request: RequestBuilder, url: &Url) -> Result<Response, NotYet> {
    match request.send().await {
        Ok(response) => Ok(response),
        Err(error) if error.is_timeout() => Err(NotYet::timed_out()),
        Err(error) => {
            let address = format!(
                "{}:{}",
                url.host_str().unwrap_or_default(),
                url.port_or_known_default().unwrap_or_default()
            );
            Err(net::judge(&error.without_url(), &address).await)
        }
    }
}

/// What is wrong with an answer's status.
fn unexpected(response: &Response, wanted: Option<u16>) -> NotYet {
    let status = response.status();
    let wanted = wanted.map_or_else(|| "2xx".to_owned(), |status| status.to_string());
    let redirect = match response.headers().get("location").and_then(|to| to.to_str().ok()) {
        Some(to) if status.is_redirection() => {
            let to = response.url().join(to).map_or_else(|_| to.to_owned(), |url| shown(&url));
            format!(" to {to}; redirects are not followed")
        }
        _ => String::new(),
    };
    let state = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => State::Denied,
        StatusCode::NOT_FOUND | StatusCode::GONE => State::Absent,
        _ => State::Unhealthy,
    };
    NotYet::new(state, format!("answers {status}{redirect}, wanted {wanted}")).code(status.as_u16())
}

/// Reads the body as JSON, within bounds.
pub(super) async fn json(mut response: Response) -> Result<Value, NotYet> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > BODY_MAX => {
                return Err(NotYet::new(
                    State::Unhealthy,
                    format!("its body is longer than {BODY_MAX} bytes"),
                ));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) if error.is_timeout() => return Err(NotYet::timed_out()),
            Err(error) => {
                return Err(NotYet::new(State::Rejecting, chassis::exit::chain(&error.without_url())));
            }
        }
    }
    serde_json::from_slice(&body)
        .map_err(|error| NotYet::new(State::Unhealthy, format!("its body is not JSON: {error}")))
}

/// Whether `body` holds the text `wanted` at `pointer`. `true` and `3` are compared as they are written; a path that
/// is merely there proves nothing.
pub(super) fn expect(body: &Value, pointer: &str, wanted: &str) -> Result<(), NotYet> {
    let found = match body.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
        Some(_) => {
            return Err(NotYet::new(State::Unhealthy, format!("{pointer} is not text, wanted `{wanted}`")));
        }
        None => {
            return Err(NotYet::new(
                State::Unhealthy,
                format!("its body has no {pointer}, wanted `{wanted}`"),
            ));
        }
    };
    if found == wanted {
        return Ok(());
    }
    let found: String = found.chars().take(80).collect();
    Err(NotYet::new(State::Unhealthy, format!("{pointer} is `{found}`, wanted `{wanted}`")))
}

/// The client for plain HTTP, and the one for TLS. They are two because the second reads every certificate authority of
/// the system, which costs memory, and fails where there is none.
fn client(tls: bool) -> Result<Client, NotYet> {
    static PLAIN: OnceLock<Result<Client, String>> = OnceLock::new();
    static TLS: OnceLock<Result<Client, String>> = OnceLock::new();
    let client = if tls { TLS.get_or_init(|| build(true)) } else { PLAIN.get_or_init(|| build(false)) };
    client.clone().map_err(|error| {
        let hint = "https needs the system's certificate authorities: mount them, or set SSL_CERT_FILE";
        NotYet::new(State::Unknown, format!("{error} ({hint})")).never()
    })
}

fn build(tls: bool) -> Result<Client, String> {
    builder(tls).build().map_err(|error| chassis::exit::chain(&error))
}

/// What every client of a probe has in common; the system's authorities are read where `system` says so.
pub(super) fn builder(system: bool) -> ClientBuilder {
    super::install_crypto();
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .timeout(DEADLINE)
        // Every probe proves that a new connection works.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("rollcall-wait/", env!("CARGO_PKG_VERSION")));
    if system { builder } else { builder.tls_certs_only([]) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Probe;
    use super::super::faults::{self, Fault};
    use super::*;

    async fn look(address: &str, status: Option<u16>, json: &[(&str, &str)]) -> Result<Evidence, NotYet> {
        let json = json.iter().map(|(pointer, text)| ((*pointer).to_owned(), (*text).to_owned())).collect();
        let url = format!("http://{address}/health").parse().unwrap();
        faults::look(Probe::Http(Http { url, status, json })).await
    }

    async fn against(answer: &str, status: Option<u16>, json: &[(&str, &str)]) -> Result<Evidence, NotYet> {
        let peer = faults::serve(Fault::Answer(answer.to_owned())).await;
        look(&peer.address, status, json).await
    }

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn only_the_expected_status_passes() {
        for (status, wanted, passes) in [
            ("200 OK", None, true),
            ("204 No Content", None, true),
            ("500 Internal Server Error", None, false),
            ("404 Not Found", None, false),
            ("100 Continue", None, false),
            ("200 OK", Some(204), false),
            ("404 Not Found", Some(404), true),
        ] {
            let seen = against(&answer(status, ""), wanted, &[]).await;
            assert_eq!(seen.is_ok(), passes, "{status} {wanted:?}: {seen:?}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_is_named() {
        let redirect =
            "HTTP/1.1 302 Found\r\nlocation: http://user:pw@elsewhere/login\r\ncontent-length: 0\r\n\r\n";
        let error = against(redirect, None, &[]).await.unwrap_err();
        assert_eq!((error.state, error.code.as_str()), (State::Unhealthy, "302"));
        assert!(error.error.contains("elsewhere/login; redirects are not followed"), "{error}");
        assert!(!error.error.contains("pw@"), "{error}");
    }

    #[tokio::test]
    async fn text_in_the_body_is_compared_and_not_merely_found() {
        let body = json!({"status": "UP", "db": {"ok": false}, "n": 3, "list": []}).to_string();
        let wants = |pointer: &'static str, text: &'static str| {
            let answer = answer("200 OK", &body);
            async move { against(&answer, None, &[(pointer, text)]).await }
        };
        assert!(wants("/status", "UP").await.is_ok());
        assert!(wants("/n", "3").await.is_ok());
        for (pointer, text, says) in [
            ("/db/ok", "true", "/db/ok is `false`"),
            ("/status", "up", "/status is `UP`"),
            ("/none", "UP", "no /none"),
            ("/list", "", "not text"),
        ] {
            let error = wants(pointer, text).await.unwrap_err();
            assert_eq!(error.state, State::Unhealthy);
            assert!(error.error.contains(says), "{error}");
        }
        assert!(
            against(&answer("200 OK", "UP"), None, &[("/status", "UP")])
                .await
                .unwrap_err()
                .error
                .contains("not JSON")
        );
    }

    #[tokio::test]
    async fn an_endless_body_is_bounded() {
        let long = "x".repeat(BODY_MAX + 1);
        let error = against(&answer("200 OK", &long), None, &[("/status", "UP")]).await.unwrap_err();
        assert!(error.error.contains("longer than"), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_http_server_is_rejecting() {
        for fault in [Fault::AcceptAndClose, Fault::Answer("SSH-2.0-OpenSSH\r\n".to_owned())] {
            let peer = faults::serve(fault).await;
            assert_eq!(look(&peer.address, None, &[]).await.unwrap_err().state, State::Rejecting);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_and_a_stalled_body_time_out() {
        let silent = faults::serve(Fault::NeverAccept).await;
        assert_eq!(look(&silent.address, None, &[]).await.unwrap_err().state, State::TimedOut);
        let stalled =
            faults::serve(Fault::Stall("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_owned())).await;
        assert_eq!(look(&stalled.address, None, &[("/a", "b")]).await.unwrap_err().state, State::TimedOut);
    }

    #[tokio::test]
    async fn refused_and_unresolved_are_told_apart() {
        assert_eq!(look(&faults::closed_port().await, None, &[]).await.unwrap_err().state, State::Refused);
        assert_eq!(look("no-such-host.invalid", None, &[]).await.unwrap_err().state, State::Unresolved);
    }

    #[tokio::test]
    async fn a_certificate_nobody_signed_is_rejected() {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (address, server) = faults::serve_tls(own.cert.der().clone(), own.signing_key.serialize_der());
        let url = format!("https://{address}/").parse().unwrap();
        let error =
            faults::look(Probe::Http(Http { url, status: None, json: BTreeMap::new() })).await.unwrap_err();
        assert_eq!(error.state, State::Rejecting, "{error}");
        assert!(error.error.contains("UnknownIssuer"), "{error}");
        assert!(server.join().unwrap().is_err(), "no request was sent");
    }
}
