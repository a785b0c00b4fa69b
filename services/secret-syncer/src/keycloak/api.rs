//! Speaking to a Keycloak: a service account's token, kept until it ends, and requests whose answers are judged by status.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use chassis::SecretValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard, Semaphore};
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::answer::Answer;
use super::error::{Error, Unread};
use super::spec::Server;
use super::values::{Values, password};

/// One request takes at most this long, its body included.
const REQUEST: Duration = Duration::from_secs(10);
/// A connection is made within this long.
const CONNECT: Duration = Duration::from_secs(5);
/// A token is renewed so long before it ends, so that none ends on the way.
const MARGIN: Duration = Duration::from_secs(10);
/// How many requests a server gets from us at once, however many clients are looked at.
const AT_ONCE: usize = 4;
/// No answer that we ask for is longer; what is beyond is not read.
const BODY_MAX: usize = 4 * 1024 * 1024;

/// What is asked for, for errors: what is tried, and which role suffices for it.
#[derive(Debug, Clone)]
pub(super) struct Purpose {
    pub(super) action: String,
    pub(super) needs: &'static str,
}

/// A request beneath `/admin/realms`.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
    /// A secret in the body, never to be repeated.
    pub(super) secret: Option<&'a SecretValue>,
    pub(super) purpose: Purpose,
}

struct Token {
    value: SecretValue,
    until: Instant,
}

#[derive(Default)]
struct Kept {
    client: Option<Client>,
    token: Option<Token>,
    /// The last login that failed, and when.
    failed: Option<(Instant, Error)>,
}

/// A connection to one server with one service account, shared by all that is looked at there.
pub struct Api<V> {
    server: Server,
    values: V,
    kept: Mutex<Kept>,
    turns: Semaphore,
    realms: Mutex<()>,
}

impl<V> fmt::Debug for Api<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("server", &self.server).finish_non_exhaustive()
    }
}

impl<V: Values> Api<V> {
    /// A server that is spoken to when something is asked of it; its secrets are read from `values`.
    pub fn new(server: Server, values: V) -> Self {
        Api {
            server,
            values,
            kept: Mutex::new(Kept::default()),
            turns: Semaphore::new(AT_ONCE),
            realms: Mutex::default(),
        }
    }

    /// Where secrets are read.
    pub(super) fn values(&self) -> &V {
        &self.values
    }

    /// The server and its address, for messages.
    pub(super) fn name(&self) -> String {
        format!("keycloak/{} at {}", self.server.name, self.server.url)
    }

    /// A turn to make realms and their roles, which many clients ask for.
    pub(super) async fn realms(&self) -> MutexGuard<'_, ()> {
        self.realms.lock().await
    }

    /// Forgets the token: what it may do has changed.
    pub(super) async fn renew(&self) {
        self.kept.lock().await.token = None;
    }

    /// Asks with a token, and once more with a new one when Keycloak does not take the token any more. Statuses in
    /// `known` are answers; all others but a success are errors.
    pub(super) async fn ask(&self, request: &Request<'_>, known: &[StatusCode]) -> Result<Answer, Error> {
        let url = self.beneath(&["admin", "realms"], request.path, request.query, &request.purpose)?;
        for again in [true, false] {
            let (client, token) = self.session().await?;
            // Nobody closes them.
            let turn = self.turns.acquire().await.ok();
            let mut build = client.request(request.method.clone(), url.clone());
            build = build.bearer_auth(token.expose_text().unwrap_or_default());
            if let Some(body) = &request.body {
                build = build.header("content-type", "application/json").body(body.to_vec());
            }
            let sent = self.send(build, &request.purpose).await;
            drop(turn);
            let answer = match sent {
                Err(error @ Error::Unreachable { .. }) => {
                    // It may be another server that comes back, with another certificate.
                    *self.kept.lock().await = Kept::default();
                    return Err(error);
                }
                sent => sent?,
            };
            if answer.status == StatusCode::UNAUTHORIZED && again {
                self.renew().await;
                continue;
            }
            if answer.status.is_success() {
                return Ok(answer);
            }
            if known.contains(&answer.status) {
                // A page of something that stands before Keycloak says nothing about what is in it.
                let strange =
                    || self.strange(&request.purpose, &format!("is {} and not Keycloak's", answer.status));
                return if answer.is_keycloaks() { Ok(answer) } else { Err(strange()) };
            }
            let secrets = [Some(&token), request.secret];
            return Err(self.judge(&answer, &request.purpose, &secrets).await);
        }
        Err(self.denied(&request.purpose, StatusCode::UNAUTHORIZED))
    }

    /// The error of a blind one: it may ask, and sees nothing.
    pub(super) fn denied(&self, purpose: &Purpose, status: StatusCode) -> Error {
        Error::Denied {
            server: self.name(),
            client: self.server.client.clone(),
            action: purpose.action.clone(),
            needs: purpose.needs.to_owned(),
            status: status.as_u16(),
        }
    }

    /// What an answer means that is neither a success nor known to the caller.
    async fn judge(&self, answer: &Answer, purpose: &Purpose, secrets: &[Option<&SecretValue>]) -> Error {
        let (server, action, status) = (self.name(), purpose.action.clone(), answer.status);
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Error::Unwell { server, action, status: status.as_u16() }
            }
            _ if answer.is_strange() && status.is_client_error()
                || status == StatusCode::NOT_FOUND && !answer.is_keycloaks() =>
            {
                self.strange(purpose, &format!("is {status} and not Keycloak's"))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                // A role that it is given now is in the next token only.
                self.renew().await;
                self.denied(purpose, status)
            }
            _ if status.is_client_error() => Error::Refused {
                server,
                action,
                status: status.as_u16(),
                code: answer.code(),
                says: answer.words(secrets),
            },
            _ if status.is_server_error() => Error::Unwell { server, action, status: status.as_u16() },
            _ => {
                let problem = format!("is {status}, which leads elsewhere and is not followed");
                Error::Answer { server, action, problem }
            }
        }
    }

    /// An answer's body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, answer: &Answer, purpose: &Purpose) -> Result<T, Error> {
        serde_json::from_slice(&answer.body).map_err(|error| {
            // The error's text may quote the answer, which may be a secret.
            let problem = match error.classify() {
                serde_json::error::Category::Data => "is JSON of another shape than Keycloak's",
                _ => "is no JSON",
            };
            self.strange(purpose, problem)
        })
    }

    pub(super) fn strange(&self, purpose: &Purpose, problem: &str) -> Error {
        Error::Answer { server: self.name(), action: purpose.action.clone(), problem: problem.to_owned() }
    }

    /// A client and a token that is good for a while. Whoever waits while another's login fails fails with it, so that many
    /// do not wait for one deadline after another.
    async fn session(&self) -> Result<(Client, SecretValue), Error> {
        let asked = Instant::now();
        let mut kept = self.kept.lock().await;
        if let Some((_, error)) = kept.failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(error.clone());
        }
        if let (Some(client), Some(token)) = (&kept.client, &kept.token)
            && token.until > Instant::now()
        {
            return Ok((client.clone(), token.value.clone()));
        }
        match self.log_in(&kept).await {
            Ok((client, token)) => {
                let value = token.value.clone();
                *kept = Kept { client: Some(client.clone()), token: Some(token), failed: None };
                Ok((client, value))
            }
            Err(error) => {
                // The certificate authority may have changed too.
                *kept = Kept { failed: Some((Instant::now(), error.clone())), ..Kept::default() };
                Err(error)
            }
        }
    }

    async fn log_in(&self, kept: &Kept) -> Result<(Client, Token), Error> {
        let client = match &kept.client {
            Some(client) => client.clone(),
            None => self.client().await?,
        };
        let token = self.login(&client).await?;
        Ok((client, token))
    }

    /// Logs in by the client credentials grant. Id and secret go in the body: what is encoded how in a `Basic` header
    /// differs between versions of Keycloak.
    async fn login(&self, client: &Client) -> Result<Token, Error> {
        let server = &self.server;
        let value = |source| Error::Value { server: self.name(), source };
        let secret = password(&self.values, &server.secret).await.map_err(value)?;
        let purpose = Purpose { action: "log in".to_owned(), needs: "a service account" };
        let path = [server.realm.as_str(), "protocol", "openid-connect", "token"];
        let url = self.beneath(&["realms"], &path, &[], &purpose)?;
        let encoded = |text: &str| Zeroizing::new(utf8_percent_encode(text, NON_ALPHANUMERIC).to_string());
        let body = Zeroizing::new(format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            *encoded(&server.client),
            *encoded(secret.expose_text().unwrap_or_default()),
        ));
        let build = client
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.as_bytes().to_vec());
        let asked = Instant::now();
        let answer = self.send(build, &purpose).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND if answer.is_keycloaks() => {
                let (realm, client) = (server.realm.clone(), server.client.clone());
                return Err(Error::LoginRealm { server: self.name(), realm, client });
            }
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
                if !answer.is_strange() =>
            {
                return Err(Error::Login {
                    server: self.name(),
                    realm: server.realm.clone(),
                    client: server.client.clone(),
                    secret: server.secret.clone(),
                    code: answer.code().unwrap_or_else(|| answer.status.as_u16().to_string()),
                });
            }
            _ => return Err(self.judge(&answer, &purpose, &[Some(&secret)]).await),
        }
        let granted: Granted = self.json(&answer, &purpose)?;
        let good = Duration::from_secs(granted.expires_in);
        // A short-lived one is used for half of its life.
        let until = asked + good.saturating_sub(MARGIN).max(good / 2);
        Ok(Token { value: SecretValue::new(granted.access_token), until })
    }

    /// A client that verifies the server's certificate, by the given authority alone where one is given.
    async fn client(&self) -> Result<Client, Error> {
        install_crypto();
        let fail = |reason: String, transient| Error::Value {
            server: self.name(),
            source: Unread { reason, transient },
        };
        let builder = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .user_agent(concat!("rollcall-secret-syncer/", env!("CARGO_PKG_VERSION")));
        let builder = match &self.server.ca {
            Some(key) => {
                let ca = self.values.value(key).await;
                let ca = ca.map_err(|source| Error::Value { server: self.name(), source })?;
                let certificates = Certificate::from_pem_bundle(ca.expose()).unwrap_or_default();
                if certificates.is_empty() {
                    return Err(fail(format!("{key} holds no certificate in PEM; write one into it"), false));
                }
                builder.tls_certs_only(certificates)
            }
            // The system's authorities are read only where they are needed.
            None if self.server.url.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
        };
        builder.build().map_err(|error| fail(chassis::exit::chain(&error), false))
    }

    async fn send(&self, build: RequestBuilder, purpose: &Purpose) -> Result<Answer, Error> {
        let unreachable = |error: reqwest::Error| {
            // The address may hold what was asked for, and says nothing that the server's name does not.
            let reason = if error.is_timeout() {
                format!("no answer within {} s", REQUEST.as_secs())
            } else {
                chassis::exit::chain(&error.without_url())
            };
            Error::Unreachable { server: self.name(), reason }
        };
        let mut response: Response = build.send().await.map_err(unreachable)?;
        let (status, mut body) = (response.status(), Zeroizing::new(Vec::new()));
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > BODY_MAX {
                return Err(self.strange(purpose, &format!("is longer than {BODY_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }

    /// An address beneath the server's own.
    fn beneath(
        &self,
        first: &[&str],
        path: &[&str],
        query: &[(&str, &str)],
        purpose: &Purpose,
    ) -> Result<Url, Error> {
        let mut url = self.server.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => drop(segments.pop_if_empty().extend(first).extend(path)),
            Err(()) => return Err(self.strange(purpose, "cannot be asked for at such an address")),
        }
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

#[derive(serde::Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

/// Gives rustls its cryptography, once for the process. Whoever comes second keeps what is there.
fn install_crypto() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        // It fails only when a provider is installed already, which is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// JSON for a request's body, wiped when it is dropped.
pub(super) fn body(value: &Value) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(value.to_string().into_bytes())
}
