//! MOSIP's databases as its reference documents declare them, filled by scripts in the shape of MOSIP's, once and never again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;

use chassis::shutdown::Shutdown;
use clap::Parser;
use common::World;
use common::bench::Bench;
use lifecycle::document::{Document, Environment};
use postgres::ErrorKind;
use serde_json::{Value, json};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

const PASSWORD: &str = "one for all users, as MOSIP has it";
/// The fifteen that the chart turns on, and eSignet's two.
const DATABASES: usize = 17;

/// The fragments with databases, on this server and with files in this folder.
fn fragments(bench: &Bench) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/environments/mosip");
    let environment = chassis::documents::load_complete(&[folder]).unwrap();
    let documents = environment.sources().map(|source| &source.document);
    let mut fragments = Vec::new();
    for document in documents.filter(|document| !document.databases.is_empty()) {
        let mut fragment = serde_json::to_value(document).unwrap();
        for half in ["/postgres/main", "/uses/postgres/main"] {
            if let Some(server) = fragment.pointer_mut(half) {
                server["host"] = "127.0.0.1".into();
                server["port"] = bench.world.server.port().into();
            }
        }
        for database in fragment["databases"].as_object_mut().unwrap().values_mut() {
            // A machine for tests may have no other locale.
            if let Some(locale) = database.get_mut("locale") {
                locale["name"] = "C.UTF-8".into();
            }
        }
        for migration in fragment["migrations"].as_object_mut().unwrap().values_mut() {
            for source in migration["sources"].as_array_mut().unwrap() {
                let directory = source["directory"].as_str().unwrap().trim_start_matches('/').to_owned();
                source["directory"] = bench.path().join(directory).to_str().unwrap().into();
            }
        }
        fragments.push(fragment);
    }
    fragments
}

/// A folder of `db_scripts` as MOSIP's are: what drops and makes beside what fills.
fn scripts(bench: &Bench, database: &str, schema: &str, user: &str) {
    let file = |name: &str, text: &str| bench.file(&format!("db_scripts/{database}/{name}"), text);
    file("drop_db.sql", &format!("DROP DATABASE IF EXISTS {database};\n"));
    file("drop_role.sql", &format!("drop role if exists {user};\n"));
    file("role_dbuser.sql", &format!("CREATE ROLE {user} WITH INHERIT LOGIN PASSWORD :dbuserpwd;\n"));
    file(
        "db.sql",
        &format!(
            "CREATE DATABASE {database} TEMPLATE template0;\n\\c {database} postgres\nCREATE SCHEMA {schema};\n"
        ),
    );
    file("ddl.sql", &format!("\\c {database}\n\n\\ir ddl/{schema}-person.sql\n\\ir ddl/{schema}-fk.sql\n"));
    file(
        &format!("ddl/{schema}-person.sql"),
        &format!(
            "-- Người\nCREATE TABLE {schema}.person (id character varying(36) NOT NULL, name character varying(64),\n  \
             CONSTRAINT pk_person PRIMARY KEY (id));\nCREATE INDEX CONCURRENTLY idx_person_name ON {schema}.person (name);\n\
             COMMENT ON TABLE {schema}.person IS 'A person; with a semicolon';\n"
        ),
    );
    file(
        &format!("ddl/{schema}-fk.sql"),
        &format!(
            "CREATE TABLE {schema}.name_of (person character varying(36) REFERENCES {schema}.person);\n"
        ),
    );
    file(
        "grants.sql",
        &format!(
            "\\c {database} postgres\nGRANT CONNECT ON DATABASE {database} TO {user};\nGRANT USAGE ON SCHEMA {schema} TO {user};\n\
             GRANT SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES ON ALL TABLES IN SCHEMA {schema} TO {user};\n\
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT,INSERT,UPDATE,DELETE,REFERENCES ON TABLES TO {user};\n"
        ),
    );
    file(
        "dml.sql",
        &format!(
            "\\c {database} postgres\n\\echo 'loading'\n\nTRUNCATE TABLE {schema}.person cascade ;\n\n\
             \\COPY {schema}.person (id,name) FROM './dml/{schema}-person.csv' delimiter ',' HEADER  csv;\n"
        ),
    );
    file(&format!("dml/{schema}-person.csv"), "id,name\n1,\"Asha, of Pune\"\n2,\n");
    let upgrade = format!("\\c {database} postgres\n\\echo 'Upgrade Queries not required'\n");
    bench.file(&format!("db_upgrade_scripts/{database}/sql/0.1_to_0.2_upgrade.sql"), &upgrade);
    bench.file(&format!("db_upgrade_scripts/{database}/sql/0.1_to_0.2_rollback.sql"), &upgrade);
}

/// Writes Secrets with every key that is generated for these, and the documents.
fn declare(bench: &Bench, fragments: &[Value]) {
    for (place, fragment) in fragments.iter().enumerate() {
        std::fs::create_dir_all(bench.path().join("documents")).unwrap();
        let file = bench.path().join(format!("documents/{place}.json"));
        std::fs::write(file, fragment.to_string()).unwrap();
        for (secret, item) in fragment["secrets"].as_object().unwrap() {
            let folder = bench.world.secrets.path().join("postgres").join(secret);
            std::fs::create_dir_all(&folder).unwrap();
            for key in item["generate"].as_object().into_iter().flatten().map(|(key, _)| key) {
                let value = if secret == "db-common-secrets" {
                    PASSWORD.to_owned()
                } else {
                    format!("{secret} {key}")
                };
                std::fs::write(folder.join(key), value).unwrap();
            }
            if secret == "postgres-postgresql" {
                std::fs::write(folder.join("postgres-password"), bench.world.server.password()).unwrap();
            }
        }
    }
}

async fn apply(bench: &Bench) {
    let documents = bench.path().join("documents");
    let args = ["postgres-init", "apply", documents.to_str().unwrap()];
    let done =
        postgres_init::run(postgres_init::Args::parse_from(args), bench.context(Shutdown::manual())).await;
    done.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Databases, each with its schema and its user.
fn databases(fragments: &[Value]) -> Vec<(String, String, String)> {
    let all = fragments.iter().flat_map(|fragment| fragment["databases"].as_object().unwrap());
    all.map(|(name, database)| {
        let schema = database["schemas"].as_object().unwrap().keys().next().unwrap().clone();
        (name.clone(), schema, database["roles"]["app"]["name"].as_str().unwrap().to_owned())
    })
    .collect()
}

async fn denied(world: &World, user: &str, database: &str, sql: &str) {
    let mut session = world.login(user, PASSWORD, database).await.unwrap();
    let error = session.execute(sql).await.expect_err(sql);
    assert_eq!(error.kind, ErrorKind::Denied, "{sql}: {error}");
    session.close().await;
}

const LEDGER: &str =
    "SELECT string_agg(component || state || xmin::text, E'\\n' ORDER BY component) FROM rollcall.ledger";

#[tokio::test(flavor = "multi_thread")]
async fn all_seventeen_are_made_and_filled_once() {
    let bench = Bench::start(16).await;
    let mut fragments = fragments(&bench);
    let databases = databases(&fragments);
    assert_eq!(databases.len(), DATABASES);
    for (database, schema, user) in &databases {
        scripts(&bench, database, schema, user);
    }
    declare(&bench, &fragments);
    apply(&bench).await;

    let world = &bench.world;
    for (database, _, user) in &databases {
        // Names without a schema are found, as MOSIP's modules write them.
        let mut own = world.login(user, PASSWORD, database).await.unwrap();
        own.execute("INSERT INTO name_of VALUES (NULL); SELECT id FROM person").await.unwrap();
        own.close().await;
        denied(world, user, database, "CREATE TABLE mine (id int)").await;
        denied(world, user, database, "DROP TABLE person").await;
    }
    let other = world.login("masteruser", PASSWORD, "mosip_audit").await.unwrap_err();
    assert_eq!(other.kind, ErrorKind::NoConnect);
    let rows = "SELECT string_agg(id || coalesce(name, '-'), ';' ORDER BY id) FROM person";
    assert_eq!(world.ask("mosip_keymgr", rows).await, "1Asha, of Pune;2-");
    assert_eq!(world.ask("mosip_audit", rows).await, "", "its dml is off");

    // What people changed stays: nothing runs again.
    world.run("mosip_keymgr", "UPDATE person SET name = 'edited' WHERE id = '2'").await;
    let (written, ledger) = (world.written().await, world.ask("rollcall", LEDGER).await);
    apply(&bench).await;
    assert_eq!((world.written().await, world.ask("rollcall", LEDGER).await), (written, ledger));
    assert_eq!(world.ask("mosip_keymgr", rows).await, "1Asha, of Pune;2edited");

    // The next release of one of them brings an upgrade.
    bench.file(
        "db_upgrade_scripts/mosip_keymgr/sql/1.3.0_to_1.3.1_upgrade.sql",
        "\\c mosip_keymgr postgres\nALTER TABLE keymgr.person ADD COLUMN born date;\n",
    );
    bench.file(
        "db_upgrade_scripts/mosip_keymgr/sql/1.3.0_to_1.3.1_rollback.sql",
        "\\c mosip_keymgr postgres\nALTER TABLE keymgr.person DROP COLUMN born;\n",
    );
    for fragment in &mut fragments {
        if let Some(version) = fragment.pointer_mut("/migrations/mosip_keymgr/psql/version") {
            *version = json!("1.3.1");
        }
    }
    declare(&bench, &fragments);
    apply(&bench).await;
    assert_eq!(world.ask("mosip_keymgr", "SELECT count(born)::text || count(*) FROM person").await, "02");
    bench.world.stop().await;
}

#[test]
fn the_documents_are_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/environments/mosip");
    let environment: Environment = chassis::documents::load_complete(&[folder]).unwrap();
    let documents: Vec<&Document> = environment.sources().map(|source| &source.document).collect();
    let databases = documents.iter().flat_map(|document| document.databases.keys());
    let migrations = documents.iter().flat_map(|document| document.migrations.keys());
    assert_eq!(databases.collect::<Vec<_>>(), migrations.collect::<Vec<_>>(), "each is filled by its own");
}
