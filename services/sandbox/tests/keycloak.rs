//! Keycloak comes up for real, on files and on PostgreSQL, and serves an imported realm.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use sandbox::{KeycloakDatabase, KeycloakOptions, Options, PostgresOptions, Sandbox, Supervisor};

const READY: Duration = Duration::from_mins(5);

#[tokio::test]
async fn keycloak_serves_an_imported_realm_on_either_database() {
    let supervisor = Supervisor::command(env!("CARGO_BIN_EXE_sandbox-supervisor"), [] as [&str; 0]);
    let sandbox = Sandbox::start(Options::new(supervisor)).await.expect("a sandbox starts");
    let realm = sandbox.dir().join("staff.json");
    std::fs::write(&realm, r#"{"realm": "staff", "enabled": true}"#).expect("written");
    let postgres = sandbox.postgres(PostgresOptions::default()).await.expect("made");
    postgres.ready(READY).await.expect("ready");
    let db = KeycloakDatabase {
        url: format!("jdbc:postgresql://127.0.0.1:{}/postgres", postgres.port()),
        user: postgres.superuser().to_owned(),
        password: postgres.password().to_owned(),
    };
    for (db, host) in [(None, None), (Some(db), Some(Ipv4Addr::new(127, 0, 0, 2)))] {
        let options = KeycloakOptions { db, host, realms: vec![realm.clone()], ..KeycloakOptions::default() };
        let keycloak = sandbox.keycloak(options).await.expect("made");
        keycloak.ready(READY).await.expect("ready");
        let address = keycloak.url().replace("http://", "");
        assert!(address.starts_with(&host.unwrap_or(Ipv4Addr::LOCALHOST).to_string()));
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a deadline");
        write!(stream, "GET /realms/staff HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.contains("200 OK") && answer.contains(r#""realm":"staff""#), "{answer}");
        keycloak.stop().await.expect("stopped");
    }
    sandbox.stop().await.expect("ends");
}
