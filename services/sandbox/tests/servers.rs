//! PostgreSQL and Kafka come up for real, keep their data through `kill -9`, and live side by side.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sandbox::{Kafka, KafkaOptions, Options, Postgres, PostgresOptions, Sandbox, Supervisor};

const READY: Duration = Duration::from_mins(2);

async fn start() -> Sandbox {
    let supervisor = Supervisor::command(env!("CARGO_BIN_EXE_sandbox-supervisor"), [] as [&str; 0]);
    Sandbox::start(Options::new(supervisor)).await.expect("a sandbox starts")
}

/// Sends a request and returns the first bytes of the answer.
fn ask(port: u16, request: &[u8], length: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a deadline");
    stream.write_all(request).expect("it reads");
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).expect("it answers");
    answer
}

/// An SSLRequest, to which every PostgreSQL without TLS answers `N`.
fn assert_answers(postgres: &Postgres) {
    assert_eq!(ask(postgres.port(), &[0, 0, 0, 8, 4, 210, 22, 47], 1), b"N");
}

/// ApiVersions version 0, correlation id 7, no client id: the broker repeats the correlation id, without an error.
fn assert_serves(kafka: &Kafka) {
    let answer = ask(kafka.port(), &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255], 10);
    assert_eq!(answer[4..], [0, 0, 0, 7, 0, 0]);
}

fn read(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).expect("it is there")
}

#[tokio::test]
async fn every_postgres_version_comes_up() {
    let sandbox = start().await;
    for version in [14, 15, 16, 17, 18] {
        let postgres =
            sandbox.postgres(PostgresOptions { version, ..PostgresOptions::default() }).await.expect("made");
        postgres.ready(READY).await.expect("ready");
        assert_answers(&postgres);
        assert_eq!(read(&postgres.data_dir().join("PG_VERSION")).trim(), version.to_string());
        postgres.stop().await.expect("stopped");
        assert!(sandbox::ports::is_free(postgres.port()));
    }
    sandbox.stop().await.expect("ends");
}

#[tokio::test]
async fn postgres_keeps_its_data_and_settings_through_a_kill() {
    let sandbox = start().await;
    let settings =
        vec![("log_statement".to_owned(), "all".to_owned()), ("cluster_name".to_owned(), "it's".to_owned())];
    let postgres =
        sandbox.postgres(PostgresOptions { settings, ..PostgresOptions::default() }).await.expect("made");
    postgres.ready(READY).await.expect("ready");
    let identity =
        std::fs::read(postgres.data_dir().join("global/pg_control")).expect("a control file")[..8].to_vec();
    postgres.kill().await.expect("killed");
    assert!(sandbox::ports::is_free(postgres.port()));
    postgres.start().await.expect("started");
    postgres.ready(READY).await.expect("ready again");
    assert_answers(&postgres);
    let after =
        std::fs::read(postgres.data_dir().join("global/pg_control")).expect("a control file")[..8].to_vec();
    assert_eq!(identity, after, "it is the same cluster");
    assert!(read(postgres.log()).contains("automatic recovery in progress"), "the kill was one");
    sandbox.stop().await.expect("ends");
}

#[tokio::test]
async fn a_disk_of_its_own_is_really_full_and_outlives_the_server_but_not_the_sandbox() {
    let sandbox = start().await;
    let made =
        sandbox.postgres(PostgresOptions { disk: Some(128 << 20), ..PostgresOptions::default() }).await;
    if !nix::unistd::geteuid().is_root() {
        let error = made.err().expect("only root may").to_string();
        return assert!(error.contains("run as root"), "{error}");
    }
    let postgres = made.expect("made");
    postgres.ready(READY).await.expect("ready");
    let seen = read(std::path::Path::new("/proc/self/mounts"));
    assert!(
        !seen.contains(sandbox.dir().to_str().expect("a path")),
        "the machine sees nothing of it: {seen}"
    );
    let file = postgres.data_dir().join("something");
    postgres.fill_disk(0).expect("filled");
    let full = std::fs::write(&file, "else").expect_err("it is full");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    postgres.kill().await.expect("killed");
    postgres.free_disk().expect("freed");
    std::fs::write(&file, "else").expect("there is room");
    postgres.start().await.expect("started");
    postgres.ready(READY).await.expect("ready again");
    assert_eq!(read(&file), "else");
    assert!(read(postgres.log()).contains("automatic recovery in progress"), "it has the same data");
    sandbox.stop().await.expect("ends");
    assert!(!file.exists());
}

#[tokio::test]
async fn kafka_keeps_its_cluster_through_a_kill() {
    let sandbox = start().await;
    let kafka = sandbox.kafka(KafkaOptions::default()).await.expect("made");
    kafka.ready(READY).await.expect("ready");
    assert_serves(&kafka);
    let identity = read(&kafka.data_dir().join("meta.properties"));
    kafka.kill().await.expect("killed");
    assert!(sandbox::ports::is_free(kafka.port()));
    kafka.start().await.expect("started");
    kafka.ready(READY).await.expect("ready again");
    assert_serves(&kafka);
    assert_eq!(read(&kafka.data_dir().join("meta.properties")), identity, "it is the same cluster");
    kafka.stop().await.expect("stopped");
    sandbox.stop().await.expect("ends");
}

#[tokio::test]
async fn two_sandboxes_live_side_by_side() {
    let (one, other) = tokio::join!(start(), start());
    let of = async |sandbox: &Sandbox| {
        let postgres = sandbox.postgres(PostgresOptions::default()).await.expect("postgres");
        let kafka = sandbox.kafka(KafkaOptions::default()).await.expect("kafka");
        postgres.ready(READY).await.expect("postgres is ready");
        kafka.ready(READY).await.expect("kafka is ready");
        (postgres, kafka)
    };
    let ((postgres, kafka), (other_postgres, other_kafka)) = tokio::join!(of(&one), of(&other));
    assert_ne!(
        read(&kafka.data_dir().join("meta.properties")),
        read(&other_kafka.data_dir().join("meta.properties"))
    );
    one.stop().await.expect("ends");
    assert!(sandbox::ports::is_free(postgres.port()) && sandbox::ports::is_free(kafka.port()));
    assert!(!postgres.data_dir().exists());
    assert_answers(&other_postgres);
    assert_serves(&other_kafka);
    other.stop().await.expect("ends");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let sandbox = start().await;
    let settings = vec![("max_connections".to_owned(), "many".to_owned())];
    let postgres =
        sandbox.postgres(PostgresOptions { settings, ..PostgresOptions::default() }).await.expect("made");
    let error = postgres.ready(READY).await.expect_err("it ends").to_string();
    assert!(error.contains("exit code 1") && error.contains("max_connections"), "{error}");
    let options = PostgresOptions { version: 9, ..PostgresOptions::default() };
    let error = sandbox.postgres(options).await.err().expect("no such version").to_string();
    assert!(error.contains("14 to 18"), "{error}");
}
