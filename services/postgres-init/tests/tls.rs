//! Each mode of TLS accepts what it says and nothing less.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use common::{Db, World};
use postgres::{Encryption, ErrorKind, Server, Session};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// A certificate authority, in PEM, and a certificate with its key for a host.
fn certificates(host: &str) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
    (ca.pem(), leaf.pem(), own.serialize_pem())
}

#[tokio::test]
async fn modes_accept_what_they_say() {
    let world = World::start(18).await;
    let (ca, certificate, key) = certificates("localhost");
    let data = world.server.data_dir().to_owned();
    let owner = std::fs::metadata(&data).unwrap();
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        let file = data.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    world.run("postgres", "ALTER SYSTEM SET ssl = on").await;
    world.run("postgres", "SELECT pg_reload_conf()").await;
    let server = |host: &str, tls, ca: Option<&str>| Server {
        host: host.to_owned(),
        tls,
        ca: ca.map(|ca| ca.as_bytes().to_vec()),
        ..world.address()
    };
    let (other, ..) = certificates("localhost");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while let Err(error) = try_login(&world, &server("localhost", Encryption::Require, None)).await {
        assert!(std::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    let (localhost, address) = ("localhost", "127.0.0.1");
    for (host, mode, ca, accepts) in [
        (address, Encryption::Require, None, true),
        (address, Encryption::Prefer, None, true),
        (address, Encryption::VerifyCa, Some(ca.as_str()), true),
        (address, Encryption::VerifyCa, Some(other.as_str()), false),
        (address, Encryption::VerifyCa, None, false),
        (localhost, Encryption::VerifyFull, Some(ca.as_str()), true),
        (localhost, Encryption::VerifyFull, Some(other.as_str()), false),
        (address, Encryption::VerifyFull, Some(ca.as_str()), false),
        (localhost, Encryption::VerifyFull, None, false),
    ] {
        match try_login(&world, &server(host, mode, ca)).await {
            Ok(()) => assert!(accepts, "{host} {mode:?} was accepted"),
            Err(error) => assert!(!accepts && error.kind == ErrorKind::Tls, "{host} {mode:?}: {error}"),
        }
    }

    // What is not required is used where it is offered.
    let password = chassis::SecretValue::new(world.server.password());
    let preferring = server(address, Encryption::Prefer, None);
    let within = std::time::Duration::from_mins(1);
    let mut session =
        Session::open(&preferring, "postgres", Some(&password), "postgres", "test", within).await.unwrap();
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert!(sqlx::query_scalar::<_, bool>(encrypted).fetch_one(session.parts().0).await.unwrap());

    // The whole way, with the CA from a Secret.
    let folder = world.secrets.path().join("dev/pg-ca");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("ca.crt"), &ca).unwrap();
    let mut document = world.document("dev", &[Db::new("registry")]);
    document["postgres"]["main"]["host"] = "localhost".into();
    document["postgres"]["main"]["tls"] =
        serde_json::json!({"mode": "verify-full", "ca": {"secret": "pg-ca", "key": "ca.crt"}});
    world.settle(&document).await;
    world.stop().await;
}

async fn try_login(world: &World, server: &Server) -> Result<(), postgres::Error> {
    let password = chassis::SecretValue::new(world.server.password());
    let within = std::time::Duration::from_mins(1);
    postgres::Session::open(server, "postgres", Some(&password), "postgres", "test", within)
        .await?
        .close()
        .await;
    Ok(())
}
