//! Chart `postgres-init` in place of OpenG2P's, on a server where the old script was before: first it reports, then it makes what is
//! new, and what the old script made stays as it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use acceptance::catalog::superuser_of;
use acceptance::charts::Charts;
use acceptance::charts::foreign::{args, waiter};
use acceptance::charts::matrix::old_databases;
use acceptance::cluster::Cluster;
use acceptance::running::Running;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

/// What the old script did for one entry, each statement by itself.
const OLD: [&str; 3] = [
    "CREATE DATABASE odkdb",
    "CREATE USER odkuser WITH PASSWORD 'old-password' CREATEDB CREATEROLE REPLICATION",
    "GRANT ALL ON DATABASE odkdb TO odkuser",
];

/// Everything the server knows of databases, roles and memberships, as text.
async fn catalog(postgres: &sandbox::Postgres, only: &str) -> Vec<String> {
    let mut connection = superuser_of(postgres, "postgres").await;
    let mut lines = Vec::new();
    for (table, name) in [("pg_database", "datname"), ("pg_authid", "rolname")] {
        // The server freezes what it likes.
        let sql = format!(
            "SELECT (to_jsonb(t) - 'datfrozenxid' - 'datminmxid')::text AS line FROM {table} t WHERE {name} ~ '{only}' ORDER BY {name}"
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
        lines.extend(rows.iter().map(|row| row.get::<String, _>("line")));
    }
    lines
}

/// Applies all that is rendered but what runs; the folder of the documents.
async fn install(cluster: &Cluster, manifests: &[Value], name: &str) -> String {
    let documents = cluster.dir().join(name);
    std::fs::create_dir_all(&documents).unwrap();
    for manifest in manifests.iter().filter(|manifest| manifest["kind"] != "Job") {
        cluster.apply(manifest.clone()).await;
        if manifest["kind"] == "ConfigMap" {
            for (file, text) in manifest["data"].as_object().unwrap() {
                std::fs::write(documents.join(file), text.as_str().unwrap()).unwrap();
            }
        }
    }
    documents.display().to_string()
}

#[tokio::test]
async fn the_old_charts_values_report_first_and_touch_nothing_that_the_old_script_made() {
    let cluster = Cluster::start(&[]).await;
    let charts = Charts::of(&cluster.sandbox).await;
    let postgres = cluster.postgres().await;
    for statement in OLD {
        sqlx::raw_sql(statement).execute(&mut superuser_of(&postgres, "postgres").await).await.unwrap();
    }
    cluster.secret("rollcall", "commons-postgresql", &[("postgres-password", postgres.password())]).await;
    cluster.secret("rollcall", "odk-db-user", &[("odk-db-user-password", "old-password")]).await;

    // OpenG2P's values as they are, but for where the server is.
    let mut values = old_databases();
    values["postgresql"]["host"] = json!(postgres.host());
    values["postgresql"]["port"] = json!(postgres.port());
    values["postgresql"]["existingSecret"] = json!("commons-postgresql");
    let account = ("rollcall", "syncer-registry-pg-init");
    let before = catalog(&postgres, ".").await;
    let manifests = charts.render("postgres-init", &values);
    let documents = install(&cluster, &manifests, "report").await;
    let kubeconfig = cluster.account(account).await.kubeconfig;
    cluster.secret("rollcall", "syncer", &[("syncer-db-user", "new-password")]).await;
    let report = Running::start(&cluster, "report", &kubeconfig, &["postgres-init", "apply", &documents]);
    // What is in the way is part of the report: whoever only asked for one has not failed.
    let said = report.ends(0, "mode is report").await;
    assert!(said.contains("role `odkuser` exists and carries no mark"), "{said}");
    assert!(said.contains("would make role `syncer_owner`"), "{said}");
    assert_eq!(catalog(&postgres, ".").await, before, "a report changes nothing");
    // Where nothing is in the way the report is all there is to do.
    let mut fresh = values.clone();
    fresh["databases"].as_array_mut().unwrap().truncate(1);
    let documents = install(&cluster, &charts.render("postgres-init", &fresh), "fresh").await;
    let report = Running::start(&cluster, "fresh", &kubeconfig, &["postgres-init", "apply", &documents]);
    report.ends(0, "mode is report; would").await;
    assert_eq!(catalog(&postgres, ".").await, before);

    // Then enforced: what is new is made, its password too; what was there is refused by name and stays.
    cluster.admin().delete("secret", "rollcall", "syncer").await.unwrap();
    values["mode"] = json!("enforce");
    values["environment"] = json!({"uid": "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06"});
    values["passwords"] = json!({"generate": true});
    values["databases"][1]["generate"] = json!(false);
    let manifests = charts.render("postgres-init", &values);
    let documents = install(&cluster, &manifests, "enforce").await;
    let before = catalog(&postgres, "odk").await;
    let job = manifests.iter().find(|manifest| manifest["kind"] == "Job").unwrap();
    assert_eq!(job["spec"]["template"]["spec"]["initContainers"][0]["name"], "secret-syncer");
    let secrets = Running::start(&cluster, "secrets", &kubeconfig, &["secret-syncer", "apply", &documents]);
    secrets.ends(0, "").await;
    let enforce = Running::start(&cluster, "enforce", &kubeconfig, &["postgres-init", "apply", &documents]);
    enforce.ends(65, "odkdb").await;
    assert_eq!(catalog(&postgres, "odk").await, before);
    assert_eq!(catalog(&postgres, "^syncer(_user)?$").await.len(), 2, "the new database and its user");
    let made = cluster.keys("secret/rollcall/syncer").await.unwrap();
    let options = PgConnectOptions::new_without_pgpass().host(postgres.host()).port(postgres.port());
    let options = options.username("syncer_user").password(&made["syncer-db-user"]).database("syncer");
    options.ssl_mode(PgSslMode::Disable).connect().await.unwrap();

    // Adopted, class by class, with the very documents that the chart renders of these values; then they are followed.
    let password = "SELECT rolpassword FROM pg_authid WHERE rolname = 'odkuser'";
    let password = async || {
        let row =
            sqlx::query(password).fetch_one(&mut superuser_of(&postgres, "postgres").await).await.unwrap();
        row.get::<String, _>(0)
    };
    let before = password().await;
    let adopt = async |name: &str, args: &[&str]| {
        let args = [&["postgres-init"], args, &["--yes", &documents]].concat();
        Running::start(&cluster, name, &kubeconfig, &args).ends(0, "odkdb").await;
    };
    adopt("record", &["record"]).await;
    for class in ["attributes", "ownership", "grants", "public-connect"] {
        adopt(class, &["converge", "--class", class]).await;
    }
    let followed = Running::start(&cluster, "followed", &kubeconfig, &["postgres-init", "apply", &documents]);
    followed.ends(0, "odkdb").await;
    assert_eq!(password().await, before, "a password that logs in is never rewritten");
    let adopted = catalog(&postgres, "^odkuser$").await;
    assert!(adopted[0].contains("\"rolcreaterole\": false"), "{adopted:?}");
    let options = PgConnectOptions::new_without_pgpass().host(postgres.host()).port(postgres.port());
    let options = options.username("odkuser").password("old-password").database("odkdb");
    let mut own = options.ssl_mode(PgSslMode::Disable).connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE forms (id int)").execute(&mut own).await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_with_old_values_is_said() {
    let supervisor = sandbox::Supervisor::command(acceptance::binary(), ["sandbox-supervisor"]);
    let sandbox = sandbox::Sandbox::start(sandbox::Options::new(supervisor)).await.unwrap();
    let charts = Charts::of(&sandbox).await;
    for (pointer, value, words) in [
        ("/mode", json!("enforce"), "environment.uid: is missing"),
        ("/image", json!({"repository": "openg2p/postgres-init", "tag": "develop"}), "the old script"),
        ("/databases/0/name", json!("ODKDB"), "stands there twice"),
        ("/databases/0", json!({"name": "a", "user": "b", "secert": "c"}), "secert"),
        ("/database", json!({"name": "registry_db"}), "database"),
        ("/postgresql/tls", json!({"mode": "prefer"}), "tls"),
        ("/environment", json!({"uid": "mine"}), "uid"),
        ("/run", json!("always"), "run"),
    ] {
        let mut values = old_databases();
        if let Some((outer, key)) = pointer.rsplit_once('/').filter(|(outer, _)| outer.is_empty()) {
            assert!(outer.is_empty());
            values[key] = value;
        } else {
            let (outer, key) = pointer.rsplit_once('/').unwrap();
            match values.pointer_mut(outer).unwrap() {
                Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
                map => map[key] = value,
            }
        }
        let output = charts.template("postgres-init", &values);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{pointer}: {said}");
    }
    // A release may say for all its charts whose databases these are.
    let mut values = old_databases();
    values["global"]["rollcall"] = json!({"mode": "enforce", "environment": {"name": "dev", "uid": "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06"}});
    let manifests = charts.render("postgres-init", &values);
    let configmap = manifests.iter().find(|manifest| manifest["kind"] == "ConfigMap").unwrap();
    let fragment: Value =
        serde_json::from_str(configmap["data"]["openg2p-databases.json"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&fragment["environment"]["name"], &fragment["policy"]["mode"]),
        (&json!("dev"), &json!("enforce"))
    );
    assert_eq!(fragment["databases"]["odkdb"]["extensions"], json!(["pgcrypto", "unaccent"]));
    sandbox.stop().await.unwrap();
}

/// A module's chart that has it twice, and waits for what it makes.
#[tokio::test]
async fn a_modules_chart_has_it_as_a_dependency_as_before() {
    let supervisor = sandbox::Supervisor::command(acceptance::binary(), ["sandbox-supervisor"]);
    let sandbox = sandbox::Sandbox::start(sandbox::Options::new(supervisor)).await.unwrap();
    let charts = Charts::with_foreign(&sandbox).await;
    let global = json!({"mode": "enforce", "environment": {"name": "dev", "uid": "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06"}});
    let manifests =
        charts.render_as("far-mers", "openg2p-registry", &json!({"global": {"rollcall": global}}), &[]);
    let names = |kind: &str| -> Vec<&str> {
        let of_kind = manifests.iter().filter(|manifest| manifest["kind"] == kind);
        of_kind.map(|manifest| manifest["metadata"]["name"].as_str().unwrap()).collect()
    };
    for kind in ["ServiceAccount", "ConfigMap", "NetworkPolicy"] {
        assert_eq!(names(kind), ["far-mers-awe-pg-init", "far-mers-postgres-init"], "{kind}");
    }
    for kind in ["Role", "RoleBinding"] {
        assert_eq!(names(kind), ["far-mers-awe-pg-init-read", "far-mers-postgres-init-read"], "{kind}");
    }
    let jobs = names("Job");
    assert!(jobs.len() == 2 && jobs[0] != jobs[1], "{jobs:?}");

    // Both are fragments of one environment, and right together.
    let folder = sandbox.dir().join("fragments");
    std::fs::create_dir_all(&folder).unwrap();
    for configmap in manifests.iter().filter(|manifest| manifest["kind"] == "ConfigMap") {
        let name = configmap["metadata"]["name"].as_str().unwrap();
        let text = configmap["data"]["openg2p-databases.json"].as_str().unwrap();
        std::fs::write(folder.join(format!("{name}.json")), text).unwrap();
    }
    let merged = chassis::documents::load(&[folder]);
    assert_eq!(merged.problems, []);
    let environment = merged.environment.unwrap();
    let databases: Vec<String> =
        environment.databases().map(|database| database.component.to_string()).collect();
    assert_eq!(databases, ["database/far-mers_awe", "database/far_mers"]);
    assert_eq!(merged.problems, []);

    // The module waits for the very login that is made.
    let container =
        waiter(&manifests.iter().filter(|m| m["kind"] == "Deployment").cloned().collect::<Vec<_>>());
    assert_eq!(
        args(&container),
        ["wait", "--postgres=postgresql://far_mers_user@commons-postgresql:5432/far_mers"]
    );
    let of = json!({"name": "far-mers", "key": "far-mers-db-user"});
    assert_eq!(container["env"][0]["valueFrom"]["secretKeyRef"], of);

    // Without them there is nothing of them.
    let off = json!({"postgres-init": {"enabled": false}, "awe-pg-init": {"enabled": false}});
    assert_eq!(charts.render("openg2p-registry", &off).len(), 1);
    sandbox.stop().await.unwrap();
}
