//! The server dies, hangs, is sealed, or is somebody else.

use chassis::SecretValue;
use sandbox::Signal;
use secret_syncer::vault::{Settings, Vault, VaultError};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{PATIENCE, PLANTED, Server, eventually, planted, refused};

#[tokio::test]
async fn a_server_that_dies_is_unreachable_and_the_same_one_goes_on_when_it_is_back() {
    let server = Server::start().await;
    server.write("app", json!({"password": PLANTED})).await;
    let vault = server.vault(server.root());
    planted(vault.read("secret", "app").await);
    server.vault.kill().await.unwrap();
    let error = refused(vault.read("secret", "app").await);
    assert!(matches!(error, VaultError::Unreachable { .. }) && error.is_transient(), "{error}");
    server.vault.start().await.unwrap();
    server.ready().await;
    planted(vault.read("secret", "app").await);
    server.stop(&[]).await;
}

#[tokio::test]
async fn a_server_that_hangs_costs_a_deadline() {
    let server = Server::start().await;
    server.write("app", json!({"password": PLANTED})).await;
    let vault = server.vault(server.root());
    planted(vault.read("secret", "app").await);
    server.vault.handle().signal(Signal::SIGSTOP).unwrap();
    // The signal takes effect some moments later.
    let start = Instant::now();
    let error = loop {
        if let Err(error) = vault.current_version("secret", "app").await {
            break error;
        }
    };
    assert!(
        matches!(&error, VaultError::Unreachable { reason, .. } if reason.contains("no answer")),
        "{error}"
    );
    assert!(start.elapsed() < PATIENCE);
    server.vault.handle().signal(Signal::SIGCONT).unwrap();
    planted(vault.read("secret", "app").await);
    server.stop(&[]).await;
}

#[tokio::test]
async fn a_sealed_vault_is_waited_for() {
    let server = Server::start().await;
    server.write("app", json!({"password": PLANTED})).await;
    let vault = server.vault(server.root());
    server.post("sys/seal", json!({})).await;
    eventually(async || {
        let error = refused(vault.read("secret", "app").await);
        assert!(error.is_transient(), "{error}");
        matches!(error, VaultError::Busy { status: 503, .. }) && error.to_string().contains("sealed")
    })
    .await;
    server.vault.kill().await.unwrap();
    server.vault.start().await.unwrap();
    server.ready().await;
    planted(vault.read("secret", "app").await);
    server.stop(&[]).await;
}

#[tokio::test]
async fn only_the_given_authority_vouches_for_the_server_and_only_https_is_spoken() {
    let server = Server::start().await;
    let right = || server.settings(server.root());
    let other = server.sandbox.vault().await.unwrap();
    let foreign = SecretValue::new(std::fs::read(other.authority()).unwrap());
    let mut elsewhere = right().url;
    elsewhere.set_host(Some("127.0.0.2")).unwrap();
    elsewhere.set_port(right().url.port()).unwrap();
    for settings in [
        Settings { ca: Some(foreign.clone()), ..right() },
        // Its own authority is not one of the system's.
        Settings { ca: None, ..right() },
    ] {
        let error = refused(Vault::new(settings).unwrap().read("secret", "app").await);
        assert!(matches!(error, VaultError::Untrusted { .. }), "{error}");
    }
    // The same server under a name that its certificate does not have: a relay, as an attacker would run.
    let relay = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    elsewhere.set_port(Some(relay.local_addr().unwrap().port())).unwrap();
    let target = right().url.port().unwrap();
    let relayed = tokio::spawn(async move {
        let (mut client, _) = relay.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect(("127.0.0.1", target)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    let error =
        refused(Vault::new(Settings { url: elsewhere, ..right() }).unwrap().read("secret", "app").await);
    assert!(matches!(error, VaultError::Untrusted { .. }), "{error}");
    relayed.await.unwrap();

    let plain = right().url.as_str().replace("https", "http").parse().unwrap();
    let refuse = |settings: Settings| refused(Vault::new(settings));
    let error = refuse(Settings { url: plain, ..right() });
    assert!(
        matches!(error, VaultError::Unusable { .. }) && error.to_string().contains("no https"),
        "{error}"
    );
    for ca in ["", PLANTED, "-----BEGIN CERTIFICATE-----\nPLANTED\n-----END CERTIFICATE-----\n"] {
        let error = refuse(Settings { ca: Some(SecretValue::new(ca)), ..right() });
        assert!(matches!(error, VaultError::Unusable { .. }), "{error}");
    }
    assert!(!format!("{:?} {:?}", right(), Vault::new(right()).unwrap()).contains("hvs."));
    server.stop(&[]).await;
}
