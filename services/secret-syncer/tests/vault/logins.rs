//! AppRole and token: renewed in time, made anew when revoked, and refused for good when nothing helps.

use std::time::Duration;

use chassis::SecretValue;
use secret_syncer::vault::{Login, VaultError};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{LOOK, PLANTED, Server, eventually, planted, refused};

/// An AppRole for one secret; its RoleID and a SecretID.
async fn approle(server: &Server, role: &str, settings: serde_json::Value) -> (String, String) {
    server.write("app", json!({"password": PLANTED})).await;
    server.policy("app", "app").await;
    server.post(&format!("auth/approle/role/{role}"), settings).await;
    let made = server.post(&format!("auth/approle/role/{role}/secret-id"), json!({})).await;
    let id =
        server.ask(reqwest::Method::GET, &format!("auth/approle/role/{role}/role-id"), json!(null)).await;
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    (text(&id.unwrap()["data"]["role_id"]), text(&made["data"]["secret_id"]))
}

fn login(role_id: &str, secret_id: &str) -> Login {
    Login::AppRole {
        mount: "approle".to_owned(),
        role_id: role_id.to_owned(),
        secret_id: SecretValue::new(secret_id),
    }
}

/// The accessors of all tokens there are.
async fn accessors(server: &Server) -> Vec<String> {
    let list = reqwest::Method::from_bytes(b"LIST").unwrap();
    let found = server.ask(list, "auth/token/accessors", json!(null)).await.unwrap();
    serde_json::from_value(found["data"]["keys"].clone()).unwrap()
}

#[tokio::test]
async fn one_login_lasts_beyond_the_life_of_its_token() {
    let server = Server::start().await;
    let once =
        json!({"token_policies": "app", "token_ttl": "10s", "token_max_ttl": "1h", "secret_id_num_uses": 1});
    let (role_id, secret_id) = approle(&server, "once", once).await;
    let vault = server.vault(login(&role_id, &secret_id));
    let start = Instant::now();
    // Nobody can log in a second time with this SecretID: what works after 10 s was renewed.
    while start.elapsed() < Duration::from_secs(21) {
        planted(vault.read("secret", "app").await);
        tokio::time::sleep(LOOK).await;
    }
    let again = server.vault(login(&role_id, &secret_id));
    let error = refused(again.read("secret", "app").await);
    assert!(matches!(error, VaultError::Denied { login: "AppRole", .. }) && !error.is_transient(), "{error}");
    server.stop(&[&secret_id]).await;
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_further_is_replaced() {
    let server = Server::start().await;
    let short = json!({"token_policies": "app", "token_ttl": "2s", "token_max_ttl": "3s"});
    let (role_id, secret_id) = approle(&server, "short", short).await;
    let vault = server.vault(login(&role_id, &secret_id));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        planted(vault.read("secret", "app").await);
        tokio::time::sleep(LOOK).await;
    }
    server.stop(&[&secret_id]).await;
}

#[tokio::test]
async fn a_revoked_token_is_replaced_and_a_forbidden_path_is_not_answered_with_logins() {
    let server = Server::start().await;
    let (role_id, secret_id) =
        approle(&server, "app", json!({"token_policies": "app", "token_ttl": "1h"})).await;
    let before = accessors(&server).await;
    let vault = server.vault(login(&role_id, &secret_id));
    let readers = (0..8).map(|_| vault.read("secret", "app"));
    futures_util::future::join_all(readers).await.into_iter().for_each(planted);
    for _ in 0..3 {
        assert!(matches!(refused(vault.read("secret", "first").await), VaultError::Forbidden { .. }));
    }
    let ours: Vec<String> =
        accessors(&server).await.into_iter().filter(|one| !before.contains(one)).collect();
    assert_eq!(ours.len(), 1, "eight readers and three refusals made one login");
    server.post("auth/token/revoke-accessor", json!({"accessor": ours[0]})).await;
    planted(vault.read("secret", "app").await);
    server.stop(&[&secret_id]).await;
}

#[tokio::test]
async fn a_token_of_somebody_else_is_renewed_and_missed_when_it_dies() {
    let server = Server::start().await;
    server.write("app", json!({"password": PLANTED})).await;
    server.policy("app", "app").await;
    let (token, accessor) = server.token("app", json!({"period": "6s"})).await;
    let vault = server.vault(Login::Token(SecretValue::new(token.clone())));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(13) {
        planted(vault.read("secret", "app").await);
        tokio::time::sleep(LOOK).await;
    }
    server.post("auth/token/revoke-accessor", json!({"accessor": accessor})).await;
    let error = refused(vault.read("secret", "app").await);
    assert!(matches!(error, VaultError::Denied { login: "token", status: 403, .. }), "{error}");
    assert!(error.to_string().contains("write another one into its Secret"), "{error}");

    // Without the policy `default` it may neither look itself up nor renew itself, and reads all the same.
    let (bare, _) = server.token("app", json!({"no_default_policy": true})).await;
    let vault = server.vault(Login::Token(SecretValue::new(bare.clone())));
    planted(vault.read("secret", "app").await);

    let broken = server.vault(Login::Token(SecretValue::new(format!("{bare}\n"))));
    let error = refused(broken.read("secret", "app").await);
    assert!(
        matches!(error, VaultError::Unusable { .. }) && error.to_string().contains("line break"),
        "{error}"
    );
    // A wrong one is refused, whatever it is.
    let wrong = server.vault(Login::Token(SecretValue::new(PLANTED)));
    eventually(async || matches!(refused(wrong.read("secret", "app").await), VaultError::Denied { .. }))
        .await;
    server.stop(&[&token, &bare]).await;
}
