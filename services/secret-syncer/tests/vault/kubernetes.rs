//! Logging in as a service account that a real Kubernetes API vouches for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use secret_syncer::vault::{Login, VaultError};
use serde_json::{Value, json};

use crate::support::{PLANTED, Server, eventually, planted, refused};

const READY: Duration = Duration::from_mins(2);

/// Makes a service account and gives a token of it.
async fn account(client: &Client, name: &str) -> String {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    api.create(&PostParams::default(), &account).await.unwrap();
    let spec = TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let made = api.create_token_request(name, &PostParams::default(), &request).await.unwrap();
    made.status.unwrap().token
}

fn login(token_file: &Path, role: &str) -> Login {
    Login::Kubernetes {
        mount: "clusters/main".to_owned(),
        role: role.to_owned(),
        token_file: token_file.to_owned(),
    }
}

#[tokio::test]
async fn a_service_account_reads_what_its_role_allows_and_another_does_not() {
    let server = Server::start().await;
    let cluster = server.sandbox.kubernetes().await.unwrap();
    cluster.ready(READY).await.unwrap();
    let kubeconfig = cluster.admin().unwrap();
    let text: Value = serde_json::from_slice(&std::fs::read(&kubeconfig).unwrap()).unwrap();
    let authority = PathBuf::from(text["clusters"][0]["cluster"]["certificate-authority"].as_str().unwrap());
    let config = Kubeconfig::read_from(&kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();

    let reviewer = account(&client, "vault").await;
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let binding = json!({
        "metadata": {"name": "vault"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": "vault", "namespace": "default"}],
    });
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();

    server.post("sys/auth/clusters/main", json!({"type": "kubernetes"})).await;
    let config = json!({
        "kubernetes_host": cluster.url(),
        "kubernetes_ca_cert": std::fs::read_to_string(authority).unwrap(),
        "token_reviewer_jwt": reviewer,
    });
    server.post("auth/clusters/main/config", config).await;
    let role = json!({
        "bound_service_account_names": ["syncer"], "bound_service_account_namespaces": ["default"],
        "token_policies": ["app"], "token_ttl": "3s", "token_max_ttl": "4s",
    });
    server.post("auth/clusters/main/role/app", role).await;
    server.policy("app", "app").await;
    server.write("app", json!({"password": PLANTED})).await;

    let file = server.sandbox.dir().join("token");
    let vault = server.vault(login(&file, "app"));
    let error = refused(vault.read("secret", "app").await);
    assert!(matches!(error, VaultError::NoIdentity { .. }) && error.is_transient(), "{error}");
    let (own, other) = (account(&client, "syncer").await, account(&client, "tenant").await);
    std::fs::write(&file, format!("{own}\n")).unwrap();
    // RBAC takes effect with a delay of some milliseconds.
    eventually(async || vault.read("secret", "app").await.is_ok()).await;
    planted(vault.read("secret", "app").await);

    let stranger = server.sandbox.dir().join("stranger");
    std::fs::write(&stranger, &other).unwrap();
    for login in [login(&stranger, "app"), login(&file, "none")] {
        let error = refused(server.vault(login).read("secret", "app").await);
        assert!(matches!(error, VaultError::Denied { login: "Kubernetes", .. }), "{error}");
    }
    // The file is read anew for each login: once the token dies, what stands in the file then counts.
    std::fs::write(&file, &other).unwrap();
    eventually(async || matches!(vault.read("secret", "app").await, Err(VaultError::Denied { .. }))).await;
    server.stop(&[&own, &other, &reviewer]).await;
}
