//! OpenG2P's own chart of databases, unchanged but for its image: its Jobs' containers run our program with variables alone, on a real server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::BTreeMap;

use acceptance::catalog::superuser_of;
use acceptance::charts::Charts;
use acceptance::charts::foreign::process;
use acceptance::{PATIENCE, binary, root};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sandbox::{Options, Postgres, PostgresOptions, ProcessSpec, Sandbox, Supervisor};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Row};

const CHART: &str = "openg2p-postgres-init";

/// The manifests of a kind, by their names.
fn of_kind(manifests: &[Value], kind: &str) -> BTreeMap<String, Value> {
    let found = manifests.iter().filter(|manifest| manifest["kind"] == kind);
    found
        .map(|manifest| (manifest["metadata"]["name"].as_str().unwrap().to_owned(), manifest.clone()))
        .collect()
}

/// What a release of it is in the cluster: the containers of its Jobs and the values of its Secrets.
struct Release<'a> {
    sandbox: &'a Sandbox,
    postgres: &'a Postgres,
    containers: BTreeMap<String, Value>,
    secrets: BTreeMap<(String, String), String>,
}

impl Release<'_> {
    fn of<'a>(sandbox: &'a Sandbox, postgres: &'a Postgres, manifests: &[Value]) -> Release<'a> {
        let jobs = of_kind(manifests, "Job").into_iter();
        let mut secrets = BTreeMap::new();
        for (name, secret) in of_kind(manifests, "Secret") {
            for (key, value) in secret["data"].as_object().unwrap() {
                let value = BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
                secrets.insert((name.clone(), key.clone()), String::from_utf8(value).unwrap());
            }
        }
        let containers = jobs
            .map(|(name, job)| (name, job["spec"]["template"]["spec"]["containers"][0].clone()))
            .collect();
        Release { sandbox, postgres, containers, secrets }
    }

    /// The container of a Job as a process, in a namespace that has this uid.
    fn process(&self, run: &str, job: &str, uid: &str) -> ProcessSpec {
        let whose = [
            ("ROLLCALL_ENVIRONMENT_NAME", "openg2p"),
            ("ROLLCALL_ENVIRONMENT_UID", uid),
            ("ROLLCALL_FRAGMENT", "far-mers-postgres-init"),
        ];
        whose.into_iter().fold(self.bare(run, job), |process, (name, value)| process.env(name, value))
    }

    /// The same with what the chart gives it and no more.
    fn bare(&self, run: &str, job: &str) -> ProcessSpec {
        process(run, &self.containers[job], self.sandbox, |secret, key| match secret {
            "commons-postgresql" => self.postgres.password().to_owned(),
            _ => self.secrets[&(secret.to_owned(), key.to_owned())].clone(),
        })
    }

    /// Runs it to its end: its exit code and what it said.
    async fn ends(&self, spec: ProcessSpec) -> (Option<i32>, String) {
        let process = self.sandbox.spawn(spec).await.unwrap();
        let exit = process.exited(PATIENCE).await.unwrap();
        let said = std::fs::read_to_string(process.log()).unwrap();
        for value in self.secrets.values().map(String::as_str).chain([self.postgres.password()]) {
            assert!(!said.contains(value), "a password is shown: {said}");
        }
        (exit.code, said)
    }

    async fn logs_in(&self, database: &str, user: &str, secret: (&str, &str)) -> bool {
        let password = &self.secrets[&(secret.0.to_owned(), secret.1.to_owned())];
        let options =
            PgConnectOptions::new_without_pgpass().host(self.postgres.host()).port(self.postgres.port());
        let options = options.username(user).password(password).database(database);
        options.ssl_mode(PgSslMode::Disable).connect().await.is_ok()
    }
}

#[tokio::test]
async fn the_old_chart_needs_nothing_but_another_image() {
    let supervisor = Supervisor::command(binary(), ["sandbox-supervisor"]);
    let sandbox = Sandbox::start(Options::new(supervisor)).await.unwrap();
    let charts = Charts::of(&sandbox).await;
    charts.add(CHART, &root().join("tests/charts").join(CHART));
    let postgres = sandbox.postgres(PostgresOptions::default()).await.unwrap();
    postgres.ready(PATIENCE).await.unwrap();

    let server = json!({"postgresql": {"host": postgres.host(), "port": postgres.port()}});
    let mut switched = server.clone();
    switched["image"] = json!({"repository": "registry.local/rollcall/postgres-init", "tag": "0.1.0"});
    let old = charts.render_as("far-mers", CHART, &server, &[]);
    let new = charts.render_as("far-mers", CHART, &switched, &[]);
    for (name, job) in of_kind(&old, "Job") {
        let mut changed = job.clone();
        let image = &mut changed["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(*image, json!("openg2p/postgres-init:1.2.0"));
        *image = json!("registry.local/rollcall/postgres-init:0.1.0");
        assert_eq!(changed, of_kind(&new, "Job")[&name], "nothing but the image");
        assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["args"], Value::Null);
    }

    // On this server the old image made one of the two.
    for sql in [
        "CREATE DATABASE odkdb",
        "CREATE USER odkuser WITH PASSWORD 'of-an-earlier-release' CREATEDB CREATEROLE REPLICATION",
        "GRANT ALL PRIVILEGES ON DATABASE odkdb TO odkuser",
    ] {
        sqlx::raw_sql(sql).execute(&mut superuser_of(&postgres, "postgres").await).await.unwrap();
    }
    let (made, found) = ("far-mers-postgres-init-far-mers", "far-mers-postgres-init-odkdb");
    let (ours, theirs) = ("6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06", "7f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06");
    let release = Release::of(&sandbox, &postgres, &new);
    for run in ["install", "upgrade"] {
        let (code, said) = release.ends(release.process(run, made, ours)).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("PGSSLMODE=require"), "that the connection may be open is said: {said}");
        assert!(release.logs_in("far_mers", "far_mers_user", ("far-mers", "far-mers-db-user")).await);
    }
    let (code, said) = release.ends(release.process("found", found, ours)).await;
    assert_eq!(code, Some(0), "{said}");
    for words in [
        "carry nobody's mark",
        "role `odkuser` has another password than",
        "role `odkuser` has CREATEDB, CREATEROLE, REPLICATION",
        "every role of the server may connect to database `odkdb`",
    ] {
        assert!(said.contains(words), "`{words}`: {said}");
    }
    let powers = sqlx::query("SELECT rolcreaterole FROM pg_roles WHERE rolname = 'odkuser'");
    let powers = powers.fetch_one(&mut superuser_of(&postgres, "postgres").await).await.unwrap();
    assert!(powers.get::<bool, _>(0), "it stays as it was");

    // A namespace of the same names, whose chart made a password of its own.
    let second = Release::of(&sandbox, &postgres, &charts.render_as("far-mers", CHART, &switched, &[]));
    assert_ne!(second.secrets, release.secrets);
    let (code, said) = second.ends(second.process("second", made, theirs)).await;
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("belongs to environment `openg2p`"), "{said}");
    assert!(release.logs_in("far_mers", "far_mers_user", ("far-mers", "far-mers-db-user")).await);
    // The same namespace, whose Secret was made anew.
    let (code, said) = second.ends(second.process("rotated", made, ours)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(second.logs_in("far_mers", "far_mers_user", ("far-mers", "far-mers-db-user")).await);

    let (code, said) = release.ends(release.process("port", made, ours).env("DB_NAME", "")).await;
    assert!(code == Some(2) && said.contains("DB_NAME not given"), "{said}");
    let both = release.process("twice", made, ours).env("ROLLCALL_DOCUMENTS", "/etc/rollcall/documents");
    let (code, said) = release.ends(both).await;
    assert!(code == Some(2) && said.contains("ROLLCALL_ENVIRONMENT_NAME exclude each other"), "{said}");
    let both = release.bare("both", made).env("ROLLCALL_DOCUMENTS", "/etc/rollcall/documents");
    let (code, said) = release.ends(both).await;
    assert!(code == Some(2) && said.contains("give one of them"), "{said}");
    let (code, said) = release
        .ends(ProcessSpec::new("none", binary(), sandbox.dir().join("none.log")).args(["postgres-init"]))
        .await;
    assert!(code == Some(2) && said.contains("POSTGRES_HOST"), "{said}");
    // This machine is no pod, so nothing says whose they are.
    if !std::path::Path::new("/var/run/secrets/kubernetes.io/serviceaccount").exists() {
        let (code, said) = release.ends(release.bare("whose", made)).await;
        assert!(code == Some(2) && said.contains("automountServiceAccountToken"), "{said}");
    }
    sandbox.stop().await.unwrap();
}
