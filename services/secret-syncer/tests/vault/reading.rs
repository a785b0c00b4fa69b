//! Reading, versions, and noticing a change.

use std::fs;

use reqwest::Method;
use secret_syncer::vault::{Login, VaultError};
use serde_json::{Value, json};

use crate::support::{LOOK, PATIENCE, PLANTED, Server, eventually, planted, refused};

#[tokio::test]
async fn what_a_policy_allows_is_read_and_nothing_else() {
    let server = Server::start().await;
    server.write("apps/orders db", json!({"password": PLANTED, "port": 5432, "tls": true})).await;
    server.write("other", json!({"password": PLANTED})).await;
    server.policy("orders", "apps/orders db").await;
    let (token, _) = server.token("orders", json!({})).await;
    let vault = server.vault(Login::Token(chassis::SecretValue::new(token.clone())));

    let held = vault.read("secret", "apps/orders db").await.unwrap().unwrap();
    let text = |key: &str| held.values[key].expose_text().unwrap().to_owned();
    assert_eq!([text("password"), text("port"), text("tls")], [PLANTED, "5432", "true"]);
    assert_eq!(vault.current_version("secret", "apps/orders db").await.unwrap(), Some(held.version));

    let error = refused(vault.read("secret", "other").await);
    assert!(matches!(&error, VaultError::Forbidden { place, .. } if place == "secret/data/other"), "{error}");
    let error = refused(vault.current_version("secret", "other").await);
    assert!(error.to_string().contains("path \"secret/metadata/other\""), "{error}");
    for path in ["", "../sys/seal", "apps//x", "apps/./x", "a\nb"] {
        assert!(matches!(refused(vault.read("secret", path).await), VaultError::NoPath { .. }), "{path}");
    }
    server.stop(&[&token]).await;
}

#[tokio::test]
async fn what_is_not_there_is_told_from_what_cannot_be_there() {
    let server = Server::start().await;
    server.post("sys/mounts/old", json!({"type": "kv", "options": {"version": "1"}})).await;
    let vault = server.vault(server.root());
    assert_eq!(vault.read("secret", "none").await.unwrap(), None);
    assert_eq!(vault.current_version("secret", "none").await.unwrap(), None);
    assert!(matches!(refused(vault.read("nowhere", "none").await), VaultError::NoEngine { .. }));
    assert!(matches!(refused(vault.read("old", "none").await), VaultError::NotVersionTwo { .. }));
    assert!(matches!(refused(vault.current_version("old", "none").await), VaultError::NotVersionTwo { .. }));
    server.write("odd", json!({"fine": "x", "deep": {"password": PLANTED}})).await;
    let error = refused(vault.read("secret", "odd").await);
    assert!(matches!(&error, VaultError::Unfit { key, .. } if key == "deep"), "{error}");
    server.stop(&[]).await;
}

#[tokio::test]
async fn deleted_destroyed_and_made_anew_are_each_another_state() {
    let server = Server::start().await;
    let vault = server.vault(server.root());
    let now = async || {
        let version = vault.current_version("secret", "app").await.unwrap();
        let read = vault.read("secret", "app").await.unwrap();
        assert_eq!(read.map(|held| held.version), version, "both say the same");
        version
    };
    let delete = async |path: &str| server.ask(Method::DELETE, path, Value::Null).await.unwrap();
    server.write("app", json!({"password": PLANTED})).await;
    let first = now().await.unwrap();
    assert_eq!(first.number, 1);
    delete("secret/data/app").await;
    assert_eq!(now().await, None);
    server.post("secret/undelete/app", json!({"versions": [1]})).await;
    assert_eq!(now().await.as_ref(), Some(&first));
    server.write("app", json!({"password": "other"})).await;
    assert_eq!(now().await.unwrap().number, 2);
    server.post("secret/destroy/app", json!({"versions": [2]})).await;
    assert_eq!(now().await, None);
    delete("secret/metadata/app").await;
    assert_eq!(now().await, None);
    server.write("app", json!({"password": PLANTED})).await;
    let again = now().await.unwrap();
    assert!(again.number == 1 && again != first, "the same number is another version");
    server.stop(&[]).await;
}

#[tokio::test]
async fn a_change_is_noticed_by_metadata_alone() {
    let server = Server::start().await;
    server.write("app", json!({"password": "old"})).await;
    let audit = server.sandbox.dir().join("audit.log");
    let options = json!({"type": "file", "options": {"file_path": audit}});
    server.ask(Method::PUT, "sys/audit/file", options).await.unwrap();
    let vault = server.vault(server.root());
    let seen = vault.current_version("secret", "app").await.unwrap();
    // The log of the server is the witness of what is asked of it.
    let asked = |path: &str| {
        let text = fs::read_to_string(&audit).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["type"] == "request" && line["request"]["path"] == path).count()
    };
    let change = async {
        eventually(async || asked("secret/metadata/app") > 3).await;
        server.write("app", json!({"password": PLANTED})).await;
    };
    let wait = vault.changed("secret", "app", seen.as_ref(), LOOK);
    let (noticed, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(wait, change) }).await.unwrap();
    assert_eq!(noticed.unwrap().unwrap().number, 2);
    assert_eq!(asked("secret/data/app"), 1, "only the administrator's own write");
    planted(vault.read("secret", "app").await);
    assert_eq!(asked("secret/data/app"), 2);
    server.stop(&[]).await;
}
