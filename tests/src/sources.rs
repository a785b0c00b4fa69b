//! A real Vault and a real Keycloak beside a cluster, and what their administrators do.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Certificate, Client, Method};
use sandbox::{Encryption, Keycloak, KeycloakOptions, Sandbox, Vault};
use serde_json::{Value, json};

use crate::{PATIENCE, until};

/// How long the servers may take to start.
const READY: Duration = Duration::from_mins(3);
/// The realm of the scene.
pub const REALM: &str = "staff";

/// The servers, with what reads them.
pub struct Sources {
    /// The Vault.
    pub vault: Vault,
    /// The Keycloak.
    pub keycloak: Keycloak,
    /// The real sops and age.
    pub tools: Encryption,
    /// The RoleID of a login that may read `mail/smtp`.
    pub role_id: String,
    /// Its SecretID.
    pub secret_id: String,
    /// The folder of sops files; the key that opens them lies beside it.
    pub sops: PathBuf,
    root: String,
    http: Client,
}

impl Sources {
    /// Starts the servers: a Vault with an AppRole, and a Keycloak with a realm in which the client `rollcall`, whose secret
    /// this is, looks after clients.
    pub async fn start(sandbox: &Sandbox, login: &str) -> Sources {
        let options = KeycloakOptions::default();
        let (vault, keycloak, tools) =
            tokio::join!(sandbox.vault(), sandbox.keycloak(options), sandbox.encryption());
        let (vault, keycloak, tools) = (vault.unwrap(), keycloak.unwrap(), tools.unwrap());
        let (open, ready) = tokio::join!(vault.ready(READY), keycloak.ready(READY));
        open.and(ready).unwrap();
        // The first one stays, which is as good: all of ours install the same.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let ca = Certificate::from_pem_bundle(&std::fs::read(vault.authority()).unwrap()).unwrap();
        let http = Client::builder().tls_certs_only(ca).timeout(PATIENCE).build().unwrap();
        let (root, sops) = (vault.root_token().unwrap(), sandbox.dir().join("sops"));
        std::fs::create_dir(&sops).unwrap();
        let (role_id, secret_id) = Default::default();
        let mut sources = Sources { vault, keycloak, tools, role_id, secret_id, sops, root, http };
        sources.furnish_vault().await;
        sources.furnish_keycloak(login).await;
        sources
    }

    async fn furnish_vault(&mut self) {
        self.at_vault("sys/mounts/secret", json!({"type": "kv", "options": {"version": "2"}})).await;
        self.at_vault("sys/auth/approle", json!({"type": "approle"})).await;
        // What `copy: {from: {vault: …}}` needs, and no more.
        let policy = "path \"secret/data/mail/smtp\" { capabilities = [\"read\"] }";
        self.at_vault("sys/policies/acl/mail", json!({"policy": policy})).await;
        self.at_vault("auth/approle/role/syncer", json!({"token_policies": ["mail"]})).await;
        let path = format!("{}/v1/auth/approle/role/syncer/role-id", self.vault.url());
        let answer = self.http.get(path).header("x-vault-token", &self.root).send().await.unwrap();
        let role: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        role["data"]["role_id"].as_str().unwrap().clone_into(&mut self.role_id);
        let secret = self.at_vault("auth/approle/role/syncer/secret-id", json!({})).await;
        secret["data"]["secret_id"].as_str().unwrap().clone_into(&mut self.secret_id);
        // The engine is there some moments after it was mounted.
        until("the engine is there", async || {
            self.try_vault("secret/data/first", json!({"data": {}})).await.is_some()
        })
        .await;
    }

    async fn furnish_keycloak(&self, login: &str) {
        self.at_keycloak(Method::POST, "", json!({"realm": REALM, "enabled": true})).await;
        let account = json!({"clientId": "rollcall", "serviceAccountsEnabled": true, "secret": login});
        self.at_keycloak(Method::POST, "/staff/clients", account).await;
        let (account, holder) = (self.uid("rollcall").await, self.uid("realm-management").await);
        let user = self.of_keycloak(&format!("/staff/clients/{account}/service-account-user")).await;
        let user = user["id"].as_str().unwrap();
        for role in ["view-clients", "manage-clients"] {
            let role = self.of_keycloak(&format!("/staff/clients/{holder}/roles/{role}")).await;
            let path = format!("/staff/users/{user}/role-mappings/clients/{holder}");
            self.at_keycloak(Method::POST, &path, json!([role])).await;
        }
    }

    /// Writes a version of a secret into the Vault.
    pub async fn write(&self, path: &str, values: Value) {
        self.at_vault(&format!("secret/data/{path}"), json!({"data": values})).await;
    }

    /// Makes a client with this secret.
    pub async fn client(&self, id: &str, secret: &str) {
        self.at_keycloak(Method::POST, "/staff/clients", json!({"clientId": id, "secret": secret})).await;
    }

    /// Makes a client's secret anew.
    pub async fn rotate(&self, id: &str) {
        let path = format!("/staff/clients/{}/client-secret", self.uid(id).await);
        self.at_keycloak(Method::POST, &path, Value::Null).await;
    }

    /// Removes a client.
    pub async fn remove(&self, id: &str) {
        self.at_keycloak(Method::DELETE, &format!("/staff/clients/{}", self.uid(id).await), Value::Null)
            .await;
    }

    /// The file with the age key that opens the sops files.
    pub fn sops_key(&self) -> PathBuf {
        self.sops.with_extension("key")
    }

    /// Encrypts a file of this name for the age key, which is made with the first one.
    pub async fn encrypt(&self, name: &str, text: &str) {
        let key = self.sops_key();
        let run = async |program: PathBuf, args: &[&str]| {
            let output = tokio::process::Command::new(program).args(args).output().await.unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        if !key.exists() {
            std::fs::write(&key, run(self.tools.age_keygen(), &[]).await).unwrap();
        }
        let public = run(self.tools.age_keygen(), &["-y", &key.display().to_string()]).await;
        let (plain, file) = (tempfile::tempdir().unwrap(), self.sops.join(name));
        let plain = plain.path().join(name);
        std::fs::write(&plain, text).unwrap();
        let args = ["encrypt", "--age", public.trim(), &plain.display().to_string()];
        let fresh = self.sops.with_extension("new");
        std::fs::write(&fresh, run(self.tools.sops(), &args).await).unwrap();
        std::fs::rename(fresh, file).unwrap();
    }

    async fn uid(&self, client: &str) -> String {
        let found = self.of_keycloak(&format!("/staff/clients?clientId={client}")).await;
        found[0]["id"].as_str().unwrap().to_owned()
    }

    async fn at_vault(&self, path: &str, body: Value) -> Value {
        self.try_vault(path, body).await.unwrap_or_else(|| panic!("the vault refuses {path}"))
    }

    async fn try_vault(&self, path: &str, body: Value) -> Option<Value> {
        let request = self.http.post(format!("{}/v1/{path}", self.vault.url()));
        let answer = request.header("x-vault-token", &self.root).body(body.to_string()).send().await.unwrap();
        let success = answer.status().is_success();
        let bytes = answer.bytes().await.unwrap();
        success.then(|| serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn of_keycloak(&self, path: &str) -> Value {
        self.at_keycloak(Method::GET, path, Value::Null).await
    }

    /// Asks as the administrator; what is no success fails the test.
    async fn at_keycloak(&self, method: Method, path: &str, body: Value) -> Value {
        let (user, password) = (self.keycloak.admin_user(), self.keycloak.admin_password());
        let form = format!("grant_type=password&client_id=admin-cli&username={user}&password={password}");
        let url = format!("{}/realms/master/protocol/openid-connect/token", self.keycloak.url());
        let request = self.http.post(url).header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(form).send().await.unwrap().bytes().await.unwrap();
        let token: Value = serde_json::from_slice(&answer).unwrap();
        let url = format!("{}/admin/realms{path}", self.keycloak.url());
        let mut request = self.http.request(method, url).bearer_auth(token["access_token"].as_str().unwrap());
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "keycloak answers {} for {path}", answer.status());
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default()
    }
}
