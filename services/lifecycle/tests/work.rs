//! What is wrong with migrations and steps in documents, one row a mistake; and what they need.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use lifecycle::document::{Document, Environment, Problem, Source};
use lifecycle::{Component, Graph};
use serde_json::{Value, json};
use uuid::Uuid;

fn document(more: Value) -> Document {
    let mut whole = json!({
        "rollcall": "v1",
        "environment": {"name": "dev", "uid": Uuid::from_u128(7)},
        "fragment": {"name": "base", "namespace": "dev"},
        "postgres": {"main": {
            "host": "pg",
            "admin": {"user": "postgres", "password": {"secret": "admin", "key": "password"}},
        }},
        "kafka": {"main": {"brokers": ["kafka:9092"]}},
        "secrets": {"admin": {"external": true}, "db": {"external": true}},
    });
    merge(&mut whole, more);
    serde_json::from_value(whole).unwrap()
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn problems(documents: Vec<(&str, Document)>) -> String {
    let sources = documents.into_iter().map(|(file, document)| Source { file: file.to_owned(), document });
    let merged = Environment::merge(sources);
    let mut problems = merged.problems;
    if let Some(environment) = &merged.environment {
        problems.extend(Graph::of(environment).check(environment));
    }
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

fn database(name: &str, user: &str) -> Value {
    json!({"databases": {name: {
        "server": "main", "roles": {"app": {"name": user, "password": {"secret": "db", "key": "password"}}},
    }}})
}

/// A migration `registry` of the database of that name, with this more.
fn migration(more: &Value) -> Value {
    let mut whole = database("registry", "registry_user");
    merge(&mut whole, json!({"databases": {"registry": {"roles": {"app": {"ddl": "as-owner"}}}}}));
    merge(
        &mut whole,
        json!({"migrations": {"registry": {"database": "registry", "sources": [{"directory": "/sql"}]}}}),
    );
    merge(&mut whole, json!({"migrations": {"registry": more}}));
    whole
}

#[test]
fn migrations_that_are_sound_have_no_problems_and_need_what_they_read() {
    for dialect in [
        json!({"native": {}}),
        json!({"flyway": {"table": "registry_schema", "schemas": ["public", "pg"], "baseline_on_migrate": true}}),
        json!({"psql": {"scripts": ["ddl.sql"], "version": "1.2.0"}, "sources": [{"configmap": "sql", "below": "db"}],
               "needs": ["secret/db"]}),
    ] {
        let mut whole = migration(&dialect);
        merge(&mut whole, json!({"configmaps": {"sql": {"external": true}}}));
        merge(&mut whole, json!({"modules": {"registry": {"needs": ["migration/registry"]}}}));
        assert_eq!(problems(vec![("a.yaml", document(whole.clone()))]), "");
        let merged = Environment::merge([Source { file: "a.yaml".to_owned(), document: document(whole) }]);
        let graph = Graph::of(&merged.environment.unwrap());
        let needs = |name: &str| -> Vec<String> {
            let component: Component = name.parse().unwrap();
            graph.needs(&component).iter().map(|edge| edge.need.component.to_string()).collect()
        };
        assert!(needs("migration/registry").contains(&"database/registry".to_owned()));
        // Its waiter looks for the migration's mark with the module's own login.
        assert_eq!(needs("module/registry"), ["migration/registry", "secret/dev/db"]);
    }
}

#[test]
fn mistakes_in_migrations_and_steps_are_named() {
    let rows = [
        (json!({}), "migrations.registry: give exactly one of native, flyway, psql"),
        (json!({"native": {}, "flyway": {}}), "give exactly one of native, flyway, psql"),
        (json!({"native": {"table": ""}}), "migrations.registry.native.table: `` is no name"),
        (json!({"native": {}, "sources": []}), "name a directory or a configmap"),
        (
            json!({"native": {}, "sources": [{"directory": "/a", "configmap": "b"}]}),
            "exactly one of directory, configmap",
        ),
        (
            json!({"native": {}, "sources": [{"directory": "/a", "below": "../b"}]}),
            "`../b` is no folder of the set",
        ),
        (
            json!({"native": {}, "sources": [{"configmap": "none"}]}),
            "needs configmap/dev/none, which no fragment declares",
        ),
        (json!({"native": {}, "database": "other"}), "needs database/other, which no fragment declares"),
        (json!({"native": {}, "needs": ["topic/a"]}), "postgres-init cannot see topic/a"),
        (
            json!({"native": {}, "needs": [{"component": "secret/db", "when": "runtime"}]}),
            "of no use at runtime",
        ),
        (json!({"flyway": {"schemas": []}}), "name at least one schema"),
        (json!({"flyway": {"schemas": ["a", "a"]}}), "`a` stands twice"),
        (json!({"psql": {"scripts": [], "version": "1"}}), "psql.scripts: is empty"),
        (
            json!({"psql": {"scripts": ["a.sql"], "version": "1", "connects": ["registry"]}}),
            "names the migration's own database",
        ),
        (
            json!({"psql": {"scripts": ["a.sql"], "version": "1", "before": {"u.sql": [{"database": "x", "script": "b.sql"}]}}}),
            "`x` is neither the migration's database nor under `connects`",
        ),
        (
            json!({"psql": {"scripts": ["a.sql"], "version": "1", "variables": {"a": "b"}, "secrets": {"a": {"secret": "db", "key": "password"}}}}),
            "stands under `variables` too",
        ),
    ];
    for (more, says) in rows {
        let said = problems(vec![("a.yaml", document(migration(&more)))]);
        assert!(said.contains(says), "{more}: {said}");
    }
    let mut nobody = migration(&json!({"native": {}}));
    merge(&mut nobody, json!({"databases": {"registry": {"roles": {"app": {"ddl": "none"}}}}}));
    let said = problems(vec![("a.yaml", document(nobody))]);
    assert!(said.contains("or its app role `ddl: as-owner`"), "{said}");
    for (step, says) in [
        (json!({}), "steps.seed: give exactly one of server, database"),
        (json!({"server": "main", "database": "registry"}), "give exactly one of server, database"),
        (json!({"server": "other"}), "needs postgres/other, which no fragment declares"),
        (
            json!({"server": "main", "evidence": {"database": "x", "sql": " "}}),
            "steps.seed.evidence.sql: is empty",
        ),
        (json!({"server": "main", "needs": ["module/a"]}), "postgres-init cannot see module/a"),
    ] {
        let said = problems(vec![("a.yaml", document(json!({"steps": {"seed": step.clone()}})))]);
        assert!(said.contains(says), "{step}: {said}");
    }
    let twice = [("a.yaml", "a"), ("b.yaml", "b")].map(|(file, fragment)| {
        let step = json!({"fragment": {"name": fragment}, "steps": {"seed": {"database": "registry"}}});
        let mut document = document(step);
        if fragment == "b" {
            document.postgres.clear();
            document.kafka.clear();
            document.secrets.clear();
        }
        (file, document)
    });
    let said = problems(twice.into());
    assert!(said.contains("step/seed is declared twice"), "{said}");
}
