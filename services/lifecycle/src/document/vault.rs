//! Vaults in documents: where a KV version 2 secrets engine is, and how this fragment logs in to it.
//!
//! A vault belongs to the fragment that names it: each fragment has its own login, and another fragment's policies are
//! none of its business. Values travel over https only; there is no way to switch verification off.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::check::Found;
use super::{Document, SecretRef};

/// A HashiCorp Vault or OpenBao, and how to log in to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// Its address, https, without `/v1`.
    #[schemars(with = "String")]
    pub url: Url,
    /// The namespace of Vault Enterprise or OpenBao in which everything lies; the root namespace when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where the KV version 2 secrets engine is mounted; `secret` when absent.
    #[serde(default = "engine")]
    pub mount: String,
    /// How the server's certificate is verified; by the system's authorities when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<VaultTls>,
    /// How to log in.
    pub login: VaultLogin,
}

fn engine() -> String {
    "secret".to_owned()
}

/// TLS towards a vault; certificate and name are always verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a map such as {} or {ca: {secret: …, key: …}}")]
pub struct VaultTls {
    /// The certificate authority, PEM; the system's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretRef>,
}

/// How to log in to a vault: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VaultLogin {
    /// With the token of this process's service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesLogin>,
    /// With an AppRole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approle: Option<AppRoleLogin>,
    /// With a token that somebody else made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
}

/// A login with the token of this process's service account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesLogin {
    /// The role of the auth method.
    pub role: String,
    /// Where the auth method is mounted; `kubernetes` when absent.
    #[serde(default = "kubernetes")]
    pub mount: String,
}

fn kubernetes() -> String {
    "kubernetes".to_owned()
}

/// A login with an AppRole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppRoleLogin {
    /// The RoleID, which names the role and is no secret.
    pub role_id: String,
    /// The SecretID.
    pub secret_id: SecretRef,
    /// Where the auth method is mounted; `approle` when absent.
    #[serde(default = "approle")]
    pub mount: String,
}

fn approle() -> String {
    "approle".to_owned()
}

impl Vault {
    /// The values that reading from this vault needs.
    pub fn references(&self) -> impl Iterator<Item = &SecretRef> {
        self.tls.iter().filter_map(|tls| tls.ca.as_ref()).chain(self.login.references())
    }
}

impl VaultLogin {
    /// What it logs in with.
    pub fn references(&self) -> impl Iterator<Item = &SecretRef> {
        self.approle.iter().map(|login| &login.secret_id).chain(self.token.iter())
    }
}

/// Whether `text` may be a path of a vault, such as a mount or a namespace: parts of letters, digits, `-`, `_` and `.`,
/// with `/` between them. Nothing in it can lead out of where it is put.
pub fn is_vault_path(text: &str) -> bool {
    let fits = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    text.len() <= 512 && text.split('/').all(fits)
}

pub(super) fn check(document: &Document, found: &mut Found) {
    for (name, vault) in &document.vault {
        let key = format!("vault.{name}");
        found.name(&key, name);
        address(&key, &vault.url, found);
        path(format!("{key}.mount"), &vault.mount, found);
        if let Some(namespace) = &vault.namespace {
            path(format!("{key}.namespace"), namespace, found);
        }
        if let Some(ca) = vault.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
            found.secret_ref(&format!("{key}.tls.ca"), ca);
        }
        login(&format!("{key}.login"), &vault.login, found);
    }
}

fn login(key: &str, login: &VaultLogin, found: &mut Found) {
    let VaultLogin { kubernetes, approle, token } = login;
    let given = [kubernetes.is_some(), approle.is_some(), token.is_some()];
    if given.into_iter().filter(|given| *given).count() != 1 {
        found.say(key, "give exactly one of kubernetes, approle, token");
    }
    if let Some(login) = kubernetes {
        path(format!("{key}.kubernetes.mount"), &login.mount, found);
        if login.role.is_empty() {
            found.say(format!("{key}.kubernetes.role"), "is empty");
        }
    }
    if let Some(login) = approle {
        path(format!("{key}.approle.mount"), &login.mount, found);
        if login.role_id.is_empty() {
            found.say(format!("{key}.approle.role_id"), "is empty");
        }
        found.secret_ref(&format!("{key}.approle.secret_id"), &login.secret_id);
    }
    if let Some(token) = token {
        found.secret_ref(&format!("{key}.token"), token);
    }
}

fn path(key: String, text: &str, found: &mut Found) {
    if !is_vault_path(text) {
        let rule = "use letters, digits, `-`, `_` and `.`, with `/` only between them";
        found.say(key, format!("`{text}` is no path: {rule}"));
    }
}

fn address(key: &str, url: &Url, found: &mut Found) {
    let key = format!("{key}.url");
    if !url.username().is_empty() || url.password().is_some() {
        found.say(key, "holds credentials; documents never do");
    } else if url.scheme() != "https" || url.host_str().is_none() {
        found.say(
            key,
            format!("`{url}` is not an https address; values and tokens do not travel in the clear"),
        );
    } else if url.query().is_some() || url.fragment().is_some() {
        found.say(key, format!("`{url}` has a query or a fragment; write the address of the server alone"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Environment, Source, check_fragment};

    fn document(vault: &serde_json::Value) -> Document {
        serde_json::from_value(serde_json::json!({
            "rollcall": "v1",
            "environment": {"name": "dev", "uid": "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06"},
            "fragment": {"name": "app", "namespace": "app"},
            "vault": {"main": vault},
        }))
        .unwrap()
    }

    fn found(vault: &serde_json::Value) -> Vec<String> {
        check_fragment(&document(vault))
            .into_iter()
            .map(|(key, message)| format!("{key}: {message}"))
            .collect()
    }

    fn with(login: &str, more: &str) -> serde_json::Value {
        serde_json::from_str(&format!(r#"{{"login": {login}, {more}}}"#)).unwrap()
    }

    const TOKEN: &str = r#"{"token": {"secret": "vault", "key": "token"}}"#;
    const URL: &str = r#""url": "https://vault.vault.svc:8200""#;

    #[test]
    fn each_login_alone_is_right() {
        for login in [
            TOKEN,
            r#"{"kubernetes": {"role": "syncer"}}"#,
            r#"{"kubernetes": {"role": "syncer", "mount": "clusters/main"}}"#,
            r#"{"approle": {"role_id": "r", "secret_id": {"secret": "vault", "key": "id"}}}"#,
        ] {
            assert_eq!(found(&with(login, URL)), [""; 0], "{login}");
        }
    }

    #[test]
    fn what_is_wrong_names_its_key() {
        let both = r#"{"token": {"secret": "vault", "key": "token"}, "kubernetes": {"role": "syncer"}}"#;
        for (login, more, says) in [
            ("{}", URL, "vault.main.login: give exactly one"),
            (both, URL, "vault.main.login: give exactly one"),
            (r#"{"kubernetes": {"role": ""}}"#, URL, "vault.main.login.kubernetes.role: is empty"),
            (r#"{"token": {"secret": "vault", "key": "to ken"}}"#, URL, "vault.main.login.token.key:"),
            (
                TOKEN,
                r#""url": "http://127.0.0.1:8200""#,
                "vault.main.url: `http://127.0.0.1:8200/` is not an https",
            ),
            (TOKEN, r#""url": "https://u:pw@vault:8200""#, "vault.main.url: holds credentials"),
            (TOKEN, r#""url": "https://vault/?x=1""#, "has a query"),
            (
                TOKEN,
                r#""url": "https://vault", "mount": "a/../sys""#,
                "vault.main.mount: `a/../sys` is no path",
            ),
            (TOKEN, r#""url": "https://vault", "mount": "/secret/""#, "vault.main.mount:"),
            (TOKEN, r#""url": "https://vault", "namespace": "a b""#, "vault.main.namespace:"),
        ] {
            let found = found(&with(login, more));
            assert!(found.len() == 1 && found[0].contains(says), "{login} {more}: {found:?}");
            assert!(!found[0].contains("pw"), "{found:?}");
        }
    }

    #[test]
    fn what_it_refers_to_is_found() {
        let login = r#"{"approle": {"role_id": "r", "secret_id": {"secret": "vault", "key": "id"}}}"#;
        let more = format!(r#"{URL}, "tls": {{"ca": {{"secret": "pki/ca", "key": "ca.crt"}}}}"#);
        let vault: Vault = serde_json::from_value(with(login, &more)).unwrap();
        let keys: Vec<&str> = vault.references().map(|reference| reference.key.as_str()).collect();
        assert_eq!((keys, vault.mount.as_str()), (vec!["ca.crt", "id"], "secret"));
        let file = "app.yaml".to_owned();
        let merged = Environment::merge([Source { file, document: document(&with(login, &more)) }]);
        let referred: Vec<String> = merged
            .environment
            .unwrap()
            .references()
            .into_iter()
            .map(|(secret, key)| format!("{secret} {key}"))
            .collect();
        assert_eq!(referred, ["secret/app/vault id", "secret/pki/ca ca.crt"]);
    }
}
