//! Names at their limits are made exactly as they are written or refused before any server is asked, and passwords with any
//! character log in or are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use chassis::converge::Standing;
use common::{Db, World, uid};
use lifecycle::document::{Document, Environment, Source};
use postgres_init::scram;
use serde_json::{Value, json};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

const LONGEST: &str = "a23456789-123456789-123456789-123456789-123456789-123456789-123";

/// A document with a database and a login role of these names.
fn document(server: &Value, database: &str, role: &str) -> Value {
    json!({
        "rollcall": "v1", "environment": {"name": "dev", "uid": uid("dev")},
        "fragment": {"name": "base", "namespace": "dev"}, "postgres": server,
        "databases": {"it": {"server": "main", "name": database, "roles": {
            "owner": {"name": format!("{:.57}_owner", role)},
            "app": {"name": role, "password": {"secret": "it-db", "key": "password"}, "ddl": "as-owner"}}}},
    })
}

fn refused(document: &Value) -> Vec<String> {
    match serde_json::from_value::<Document>(document.clone()) {
        Ok(document) => {
            let merged = Environment::merge([Source { file: "it.yaml".to_owned(), document }]);
            merged.problems.iter().map(ToString::to_string).collect()
        }
        Err(error) => vec![error.to_string()],
    }
}

#[test]
fn what_no_server_would_take_as_it_is_written_is_refused_with_file_and_key() {
    let server = json!({"main": {"host": "nobody", "admin": {"user": "postgres", "password": {"secret": "pg", "key": "p"}}}});
    let too_long = format!("{LONGEST}4");
    let both = [
        too_long.as_str(),
        "",
        "it's",
        "a\"b",
        "a\\b",
        "a b",
        "a;b",
        "a/b",
        "na\u{ef}ve",
        "\u{540d}",
        "a\u{0}b",
        "a\nb",
        "postgres",
        "{name}",
    ];
    let (databases, roles) =
        (["template0", "template1", "rollcall"], ["pg_monitor", "rollcall_observer_dev", "public", "none"]);
    for name in both.iter().chain(&databases) {
        let problems = refused(&document(&server, name, "it_user"));
        assert!(
            problems.iter().any(|problem| problem.starts_with("it.yaml: databases.it")),
            "{name:?}: {problems:?}"
        );
    }
    for name in both.iter().chain(&roles) {
        let problems = refused(&document(&server, "it", name));
        assert!(
            problems.iter().any(|problem| problem.starts_with("it.yaml: databases.it.roles.app")),
            "{name:?}: {problems:?}"
        );
    }
    // Two names of one folded form; neither is known to be right.
    let mut twice = document(&server, "a-b", "it_user");
    twice["databases"]["other"] = document(&server, "a_b", "other_user")["databases"]["it"].clone();
    assert!(refused(&twice).iter().any(|problem| problem.contains("a_b")), "{:?}", refused(&twice));
}

#[tokio::test]
async fn what_is_allowed_is_made_letter_by_letter() {
    for version in [14, 18] {
        let world = World::start(version).await;
        world.secret("it-db", "it's");
        let mut server = world.server_part();
        server["main"].as_object_mut().unwrap().remove("observer");
        // Words of SQL, letters that an unquoted name would lose, dots and dashes; each also as a role.
        for name in [
            LONGEST,
            "select",
            "user",
            "TABLE",
            "CamelCase",
            "a.b",
            "a-b",
            "-",
            "1",
            "current_user",
            "session_user",
        ] {
            let document = document(&server, name, name);
            assert!(refused(&document).is_empty(), "{name}: {:?}", refused(&document));
            world.settle(&document).await;
            let mut session = world.login(name, "it's", name).await.unwrap();
            let (connection, within) = session.parts();
            let asked = sqlx::query_as("SELECT current_database()::text, session_user::text");
            let found: (String, String) = within.judge(asked.fetch_one(connection)).await.unwrap();
            assert_eq!(found, (name.to_owned(), name.to_owned()));
            session.close().await;
            // One environment has one `it`; the next name is another's.
            world.run("rollcall", "DELETE FROM rollcall.owned").await;
        }
        world.stop().await;
    }
}

#[test]
fn an_environment_whose_observer_would_have_too_long_a_name_is_refused() {
    let server = json!({"main": {
        "host": "nobody", "admin": {"user": "postgres", "password": {"secret": "pg", "key": "p"}},
        "observer": {"password": {"secret": "observer", "key": "p"}}}});
    for (length, problems) in [(45, 0), (46, 1), (63, 1)] {
        let mut document = document(&server, "it", "it_user");
        document["environment"]["name"] = LONGEST[..length].into();
        let found = refused(&document);
        assert_eq!(found.len(), problems, "{length}: {found:?}");
        assert!(
            found.iter().all(|problem| problem.starts_with("it.yaml: postgres.main.observer")),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn a_password_with_any_character_of_ascii_logs_in_or_is_refused() {
    let world = World::start(18).await;
    let mut made = 0;
    for byte in 0..=127_u8 {
        let password = format!("a{}z", char::from(byte));
        let role = format!("role_{byte}");
        match scram::verifier(&password) {
            Ok(verifier) => {
                let quoted = verifier.replace('\'', "''");
                world.run("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{quoted}'")).await;
                world.login(&role, &password, "postgres").await.unwrap().close().await;
                assert_eq!(scram::matches(&verifier, &password), Some(true));
                made += 1;
            }
            Err(_) => assert!(byte.is_ascii_control(), "{byte}"),
        }
    }
    assert_eq!(made, 95, "all that can be seen, and the space");
    // Through a document, where it is refused with the Secret's name and the server is left alone.
    world.secret("registry-db", "a\u{7}z");
    let mut document = world.document("dev", &[Db::new("registry")]);
    document["postgres"]["main"].as_object_mut().unwrap().remove("observer");
    let standings = world.converge(&document).await;
    let Standing::Refused(text) = common::standing(&standings, "database/registry") else {
        panic!("{standings:?}")
    };
    assert!(text.contains("secret/dev/registry-db key `password`") && !text.contains("a\u{7}z"), "{text}");
    assert_eq!(
        world.ask("postgres", "SELECT count(*)::text FROM pg_database WHERE datname = 'registry'").await,
        "0"
    );
    world.stop().await;
}
