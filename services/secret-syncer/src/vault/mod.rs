//! Reading Secrets from a Vault (HashiCorp Vault or OpenBao, KV version 2), and noticing that one changed without reading it.
//!
//! Every call has a deadline and is made at most twice: a second time after a login, when the server no longer knows our
//! token. TLS is always verified, redirects are not followed, and no proxy is asked: a token goes to the server that the
//! document names and to nobody else.
//!
//! The crate `vaultrs` is not used: it takes `VAULT_SKIP_VERIFY` from the environment, trusts the system's authorities beside
//! the one it is given, and shows its token in `Debug`.

mod answer;
mod error;
mod http;
mod lease;
mod session;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use chassis::SecretValue;
use lifecycle::document::{self, SecretRef};
use rand::RngExt;
use url::Url;

use answer::{Data, Metadata};
use http::{Answer, Http};
use session::Session;

pub use answer::{Held, Version};
pub use error::VaultError;

/// Where Kubernetes puts the token of a pod's service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How to reach a Vault and log in to it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its address, https, without `/v1`.
    pub url: Url,
    /// The namespace in which everything lies.
    pub namespace: Option<String>,
    /// The certificate authorities that may vouch for the server, PEM; the system's when absent.
    pub ca: Option<SecretValue>,
    /// How to log in.
    pub login: Login,
}

/// How to log in.
#[derive(Debug, Clone)]
pub enum Login {
    /// With the token of a service account.
    Kubernetes {
        /// Where the auth method is mounted.
        mount: String,
        /// The role of the auth method.
        role: String,
        /// The file with the token; read anew for each login, because Kubernetes replaces it.
        token_file: PathBuf,
    },
    /// With an AppRole.
    AppRole {
        /// Where the auth method is mounted.
        mount: String,
        /// The RoleID.
        role_id: String,
        /// The SecretID.
        secret_id: SecretValue,
    },
    /// With a token that somebody else made.
    Token(SecretValue),
}

impl Settings {
    /// What a document says; `value` looks up what [`references`](document::Vault::references) names.
    pub fn of<E: From<VaultError>>(
        vault: &document::Vault,
        mut value: impl FnMut(&SecretRef) -> Result<SecretValue, E>,
    ) -> Result<Settings, E> {
        let ca = vault.tls.as_ref().and_then(|tls| tls.ca.as_ref()).map(&mut value).transpose()?;
        let given = &vault.login;
        let login = match (&given.kubernetes, &given.approle, &given.token) {
            (Some(login), None, None) => Login::Kubernetes {
                mount: login.mount.clone(),
                role: login.role.clone(),
                token_file: PathBuf::from(SERVICE_ACCOUNT),
            },
            (None, Some(login), None) => Login::AppRole {
                mount: login.mount.clone(),
                role_id: login.role_id.clone(),
                secret_id: value(&login.secret_id)?,
            },
            (None, None, Some(token)) => Login::Token(value(token)?),
            _ => {
                let problem = "the document must give exactly one of kubernetes, approle, token".to_owned();
                return Err(VaultError::Unusable { url: vault.url.to_string(), problem }.into());
            }
        };
        Ok(Settings { url: vault.url.clone(), namespace: vault.namespace.clone(), ca, login })
    }
}

/// A Vault. It logs in when it is first asked, renews its token in time and logs in again when that no longer helps; one
/// value serves any number of readers. When a credential that it was made with is replaced, make another.
pub struct Vault {
    http: Http,
    session: Session,
    /// Mounts that are known to be KV version 2.
    engines: Mutex<BTreeSet<String>>,
}

impl Vault {
    /// A Vault that has not been asked anything yet. It fails for an address that is not https, and for a certificate
    /// authority that is none.
    pub fn new(settings: Settings) -> Result<Vault, VaultError> {
        let Settings { url, namespace, ca, login } = settings;
        let http = Http::new(url, namespace.as_deref(), ca.as_ref())?;
        Ok(Vault { http, session: Session::new(login), engines: Mutex::default() })
    }

    /// The newest version of a secret, whole; none when there is no secret, or its newest version was deleted.
    pub async fn read(&self, mount: &str, path: &str) -> Result<Option<Held>, VaultError> {
        let place = Place { mount, part: "data", path };
        let answer = self.ask(place).await?;
        match answer.status {
            200 => Data::held(&answer.body, &self.http.address(), place).map(Some),
            404 => self.missing(&answer, place).await.map(|()| None),
            _ => Err(self.http.judged(&answer, place)),
        }
    }

    /// Which version of a secret is the newest, without reading it; none when there is no secret, or its newest version was
    /// deleted. Needs the policy to allow `read` on `<mount>/metadata/<path>`.
    pub async fn current_version(&self, mount: &str, path: &str) -> Result<Option<Version>, VaultError> {
        let place = Place { mount, part: "metadata", path };
        let answer = self.ask(place).await?;
        match answer.status {
            200 => Metadata::current(&answer.body, SystemTime::now(), &self.http.address(), place),
            404 => self.missing(&answer, place).await.map(|()| None),
            _ => Err(self.http.judged(&answer, place)),
        }
    }

    /// Waits until the newest version is another than `seen`, and says which; looks about every `every`, at the metadata
    /// only. The first look that fails ends the wait: whoever waits decides when to go on.
    pub async fn changed(
        &self,
        mount: &str,
        path: &str,
        seen: Option<&Version>,
        every: Duration,
    ) -> Result<Option<Version>, VaultError> {
        loop {
            // Many secrets are not looked at in one moment.
            let pause = every.mul_f64(rand::rng().random_range(0.8..=1.2));
            tokio::time::sleep(pause).await;
            let now = self.current_version(mount, path).await?;
            if now.as_ref() != seen {
                return Ok(now);
            }
        }
    }

    async fn ask(&self, place: Place<'_>) -> Result<Answer, VaultError> {
        let parts = place.parts().ok_or_else(|| VaultError::NoPath { place: place.to_string() })?;
        let token = self.session.token(&self.http).await?;
        let answer = self.http.get(&parts, &token).await?;
        if answer.status != 403 {
            return Ok(answer);
        }
        match self.session.another(&self.http, &token).await? {
            Some(token) => self.http.get(&parts, &token).await,
            None => Ok(answer),
        }
    }

    /// That a secret is not there is believed only of an engine that could hold it: version 1 says of every path of version
    /// 2 that nothing is there.
    async fn missing(&self, answer: &Answer, place: Place<'_>) -> Result<(), VaultError> {
        let mount = || place.mount.to_owned();
        if answer::no_route(&answer.body) {
            return Err(VaultError::NoEngine { mount: mount() });
        }
        if self.engines.lock().unwrap_or_else(PoisonError::into_inner).contains(place.mount) {
            return Ok(());
        }
        let token = self.session.token(&self.http).await?;
        let mut parts = vec!["sys", "internal", "ui", "mounts"];
        parts.extend(place.parts().into_iter().flatten());
        let engine = self.http.get(&parts, &token).await?;
        match engine.status {
            200 if answer::is_version_two(&engine.body) => {
                self.engines.lock().unwrap_or_else(PoisonError::into_inner).insert(mount());
                Ok(())
            }
            200 => Err(VaultError::NotVersionTwo { mount: mount() }),
            // Who may not know what the engine is may all the same read from it.
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.http.address())
    }
}

/// A path of the API beneath an engine.
#[derive(Clone, Copy)]
struct Place<'a> {
    mount: &'a str,
    part: &'static str,
    path: &'a str,
}

impl<'a> Place<'a> {
    /// Its parts, none of which leads elsewhere.
    fn parts(self) -> Option<Vec<&'a str>> {
        let parts: Vec<&str> = self.mount.split('/').chain([self.part]).chain(self.path.split('/')).collect();
        let fits = |part: &&str| !matches!(*part, "" | "." | "..") && !part.chars().any(char::is_control);
        parts.iter().all(fits).then_some(parts)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.mount, self.part, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(login: &str) -> Result<Settings, VaultError> {
        let text = format!(
            r#"{{"url": "https://vault", "namespace": "team", "tls": {{"ca": {{"secret": "pki", "key": "ca.crt"}}}}, "login": {login}}}"#
        );
        let vault: document::Vault = serde_json::from_str(&text).unwrap();
        Settings::of(&vault, |reference| {
            Ok(SecretValue::new(format!("{}/{}", reference.secret, reference.key)))
        })
    }

    #[test]
    fn a_document_becomes_settings_with_its_values_looked_up() {
        let token = settings(r#"{"token": {"secret": "vault", "key": "token"}}"#).unwrap();
        assert_eq!(token.ca.unwrap().expose(), b"pki/ca.crt");
        assert!(matches!(token.login, Login::Token(value) if value.expose() == b"vault/token"));
        let approle = r#"{"approle": {"role_id": "r", "secret_id": {"secret": "vault", "key": "id"}}}"#;
        assert!(matches!(
            settings(approle).unwrap().login,
            Login::AppRole { mount, role_id, secret_id }
                if mount == "approle" && role_id == "r" && secret_id.expose() == b"vault/id"
        ));
        let kubernetes = settings(r#"{"kubernetes": {"role": "r", "mount": "k/main"}}"#).unwrap();
        assert!(matches!(
            kubernetes.login,
            Login::Kubernetes { mount, role, token_file }
                if mount == "k/main" && role == "r" && token_file == std::path::Path::new(SERVICE_ACCOUNT)
        ));
        assert!(matches!(settings("{}"), Err(VaultError::Unusable { .. })));
    }
}
