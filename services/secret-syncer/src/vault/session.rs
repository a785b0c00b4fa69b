//! Being logged in: a token that is made when it is first needed, renewed before it expires, and made anew when the server
//! no longer knows it.

use std::io::ErrorKind;

use chassis::SecretValue;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::debug;

use super::answer::{self, Lent};
use super::http::{Answer, Http};
use super::lease::{Due, Lease};
use super::{Login, VaultError};

/// A token file is never longer; the kubelet's have some 1,000 bytes.
const TOKEN_MAX: usize = 64 * 1024;
const LOOKUP: [&str; 3] = ["auth", "token", "lookup-self"];
const RENEW: [&str; 3] = ["auth", "token", "renew-self"];

/// A login that lasts.
pub(super) struct Session {
    login: Login,
    /// Held while somebody logs in or renews, so that the others wait for it and do not do the same.
    held: Mutex<Option<Token>>,
}

struct Token {
    value: SecretValue,
    lease: Lease,
}

impl Session {
    pub(super) fn new(login: Login) -> Session {
        Session { login, held: Mutex::new(None) }
    }

    /// A token that should work.
    pub(super) async fn token(&self, http: &Http) -> Result<SecretValue, VaultError> {
        let mut held = self.held.lock().await;
        let Some(token) = held.as_mut() else {
            return self.replace(http, &mut held).await;
        };
        let due = token.lease.due(Instant::now());
        if due == Due::Renewal {
            match http.post(&RENEW, Some(&token.value), b"{}".to_vec()).await {
                Ok(Answer { status: 200, body }) => {
                    if let Some(lent) = Lent::of(&body) {
                        token.lease = token.lease.renewed(Instant::now(), lent.seconds);
                        return Ok(token.value.clone());
                    }
                }
                // A third of its time is left for trying again.
                Err(error) if error.is_transient() => return Ok(token.value.clone()),
                Ok(answer) if http.trouble(answer.status).is_some() => return Ok(token.value.clone()),
                Ok(answer) => debug!(status = answer.status, "the vault does not renew our token"),
                Err(error) => return Err(error),
            }
        }
        match (due, &self.login) {
            // Only who made it can replace it; the server says when it is dead.
            (Due::Nothing, _) | (_, Login::Token(_)) => Ok(token.value.clone()),
            (Due::Expired, _) => self.replace(http, &mut held).await,
            (Due::Renewal | Due::Login, _) => {
                let old = token.value.clone();
                match self.replace(http, &mut held).await {
                    Err(error) if error.is_transient() => Ok(old),
                    other => other,
                }
            }
        }
    }

    /// Another token after the server refused something to this one, if the token was why: none when it lives and simply
    /// may not. (A token without the policy `default` may not even ask; it is replaced.)
    pub(super) async fn another(
        &self,
        http: &Http,
        refused: &SecretValue,
    ) -> Result<Option<SecretValue>, VaultError> {
        let mut held = self.held.lock().await;
        if let Some(token) = held.as_ref().filter(|token| token.value != *refused) {
            return Ok(Some(token.value.clone()));
        }
        let answer = http.get(&LOOKUP, refused).await?;
        match answer.status {
            200 => Ok(None),
            status if http.trouble(status).is_some() => Err(self.denied(http, &answer)),
            _ if matches!(self.login, Login::Token(_)) => Err(self.denied(http, &answer)),
            _ => self.replace(http, &mut held).await.map(Some),
        }
    }

    async fn replace(&self, http: &Http, held: &mut Option<Token>) -> Result<SecretValue, VaultError> {
        let token = match &self.login {
            Login::Token(value) => Token { value: value.clone(), lease: self.lease(http, value).await? },
            Login::Kubernetes { mount, role, token_file } => {
                let jwt = identity(token_file).await?;
                self.log_in(http, mount, &Kubernetes { role, jwt: text(&jwt) }).await?
            }
            Login::AppRole { mount, role_id, secret_id } => {
                self.log_in(http, mount, &AppRole { role_id, secret_id: text(secret_id) }).await?
            }
        };
        Ok(held.insert(token).value.clone())
    }

    async fn log_in(&self, http: &Http, mount: &str, body: &impl Serialize) -> Result<Token, VaultError> {
        let mut parts = vec!["auth"];
        parts.extend(mount.split('/'));
        parts.push("login");
        // Text in maps: this cannot fail; were it to, the server would refuse what is empty.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let since = Instant::now();
        let answer = http.post(&parts, None, body).await?;
        if answer.status != 200 {
            return Err(self.denied(http, &answer));
        }
        let Some(Lent { token: Some(value), seconds, renewable }) = Lent::of(&answer.body) else {
            let place = parts.join("/");
            return Err(VaultError::Unreadable { url: http.address(), place });
        };
        debug!(login = self.name(), seconds, renewable, "logged in to the vault");
        Ok(Token { value, lease: Lease::new(since, seconds, renewable) })
    }

    /// How long a token lives that somebody else made. One that may not even ask may still read.
    async fn lease(&self, http: &Http, token: &SecretValue) -> Result<Lease, VaultError> {
        let since = Instant::now();
        let answer = http.get(&LOOKUP, token).await?;
        match (answer.status, answer::lifetime(&answer.body)) {
            (200, Some((seconds, renewable))) => Ok(Lease::new(since, seconds, renewable)),
            (status, _) if http.trouble(status).is_some() => Err(self.denied(http, &answer)),
            _ => Ok(Lease::unknown(since)),
        }
    }

    fn denied(&self, http: &Http, answer: &Answer) -> VaultError {
        let hint = match &self.login {
            Login::Kubernetes { .. } => {
                "is the role there, is it bound to this service account and namespace, and can the vault review tokens?"
            }
            Login::AppRole { .. } => {
                "are role_id and secret_id right, and is the secret_id neither expired nor used up?"
            }
            Login::Token(_) => "it has expired or was revoked; write another one into its Secret",
        };
        let (url, status) = (http.address(), answer.status);
        http.trouble(status).unwrap_or_else(|| VaultError::Denied { url, login: self.name(), status, hint })
    }

    fn name(&self) -> &'static str {
        match self.login {
            Login::Kubernetes { .. } => "Kubernetes",
            Login::AppRole { .. } => "AppRole",
            Login::Token(_) => "token",
        }
    }
}

#[derive(Serialize)]
struct Kubernetes<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Serialize)]
struct AppRole<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

/// What is no text is no credential either: the server refuses it.
fn text(value: &SecretValue) -> &str {
    value.expose_text().unwrap_or_default().trim_end()
}

async fn identity(file: &std::path::Path) -> Result<SecretValue, VaultError> {
    let unreadable = |problem: String| VaultError::NoIdentity { file: file.to_owned(), problem };
    let read = tokio::fs::read(file).await.map(SecretValue::new);
    match read {
        Ok(value) if text(&value).is_empty() => Err(unreadable("it is empty".to_owned())),
        Ok(value) if value.expose().len() > TOKEN_MAX => {
            Err(unreadable("it is too long for a token".to_owned()))
        }
        Ok(value) => Ok(value),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(unreadable("it is not there".to_owned())),
        Err(error) => Err(unreadable(error.to_string())),
    }
}
