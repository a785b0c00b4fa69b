//! A cluster that speaks TLS is reached with the certificate authority of a Secret, and with no other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use std::path::Path;
use std::process::Command;

use chassis::converge::{Fault, Reconcile};
use chassis::secret::SecretStore;
use sandbox::{KafkaOptions, ports};
use support::{Cluster, document, ready, settled, target_with};

#[test]
#[ignore = "the sandbox's supervisor, not a test"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A key with a certificate that vouches for itself, at 127.0.0.1.
fn certificate(dir: &Path) {
    let request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=kafka -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out ca.crt";
    openssl(dir, &request.split(' ').collect::<Vec<_>>());
    let store = "pkcs12 -export -in ca.crt -inkey key.pem -out store.p12 -password pass:changeit";
    openssl(dir, &store.split(' ').collect::<Vec<_>>());
}

fn options(store: &Path) -> (KafkaOptions, u16) {
    let ports = ports::free(3).unwrap();
    let (plain, controller, tls) = (ports[0], ports[1], ports[2]);
    let settings = [
        (
            "listeners",
            format!(
                "PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},SSL://127.0.0.1:{tls}"
            ),
        ),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls}")),
        ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL".to_owned()),
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
        ("ssl.keystore.type", "PKCS12".to_owned()),
        ("ssl.keystore.location", store.display().to_string()),
        ("ssl.keystore.password", "changeit".to_owned()),
    ];
    let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    (KafkaOptions { port: Some(plain), settings, ..KafkaOptions::default() }, tls)
}

#[tokio::test]
async fn only_the_authority_of_the_document_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    certificate(dir.path());
    std::fs::set_permissions(
        dir.path().join("store.p12"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let (options, port) = options(&dir.path().join("store.p12"));
    let cluster = Cluster::with(options).await;

    let secrets = SecretStore::Root(dir.path().join("secrets"));
    let document = document(&format!("127.0.0.1:{port}"), "dev", 7, "{tls.t: {kafka: main, partitions: 1}}")
        .replace("']}", "'], tls: {ca: {secret: ca, key: ca.crt}}}")
        + "secrets: {ca: {external: true}}\n";
    let (target, spec) = target_with(&document, &secrets);
    let error = target.observe(&spec).await.unwrap_err();
    let text = chassis::exit::chain(&error);
    assert!(
        error.is_transient()
            && text.contains("certificate authority of kafka/main")
            && text.contains("secret/app/ca"),
        "{text}"
    );

    // Another authority's certificate.
    let folder = dir.path().join("secrets/app/ca");
    std::fs::create_dir_all(&folder).unwrap();
    let other = tempfile::tempdir().unwrap();
    certificate(other.path());
    std::fs::copy(other.path().join("ca.crt"), folder.join("ca.crt")).unwrap();
    let error = target.observe(&spec).await.unwrap_err();
    let text = chassis::exit::chain(&error);
    assert!(text.contains("kafka/main") && text.to_lowercase().contains("certificate"), "{text}");

    // Corrected, the same target gets in: it reads the Secret anew.
    std::fs::copy(dir.path().join("ca.crt"), folder.join("ca.crt")).unwrap();
    let standings = settled(&target, &spec).await;
    ready(&standings["topic/tls.t"], true);
    assert_eq!(cluster.partitions("tls.t").await, 1);
    cluster.stop().await;
}
