//! What is wrong with documents, one row a mistake: each is named with file and key, and says what to do.

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

/// Database `x` of which this is said too.
fn with(more: Value) -> Value {
    let mut whole = database("x", "u");
    merge(&mut whole["databases"]["x"], more);
    whole
}

/// Database `x`, and a role that reads these.
fn reader(reads: &Value) -> Value {
    let mut whole = database("x", "u");
    whole["roles"] =
        json!({"bi": {"server": "main", "password": {"secret": "db", "key": "bi"}, "reads": reads}});
    whole
}

#[test]
fn mistakes_in_databases_are_named() {
    for (more, says) in [
        (with(json!({"encoding": "utf-8"})), "databases.x.encoding: `utf-8` is no encoding"),
        (
            with(json!({"locale": {"provider": "icu", "name": "en", "ctype": "C"}})),
            "locale.ctype: is for provider libc",
        ),
        (with(json!({"locale": {"provider": "builtin", "name": "en"}})), "locale.name: `en` is not built in"),
        (
            with(json!({"encoding": "LATIN1", "locale": {"provider": "builtin", "name": "C.UTF-8"}})),
            "databases.x.locale: `C.UTF-8` needs encoding UTF8",
        ),
        (with(json!({"settings": {"role": "postgres"}})), "settings.role: decides as whom a session acts"),
        (with(json!({"settings": {"search_path": "a b"}})), "settings.search_path: `a b` is no list"),
        (with(json!({"settings": {"work_mem": "1\n2"}})), "settings.work_mem: its value has a line break"),
        (with(json!({"connect_also": ["public"]})), "connect_also: `public` is no role"),
        (with(json!({"schemas": {"public": {}}})), "schemas: `public` is the server's own, or there already"),
        (with(json!({"schemas": {"a b": {}}})), "`a b` is no schema"),
        (
            with(json!({"extensions": [{"name": "pg_trgm", "schema": "s"}]})),
            "schema `s` of `pg_trgm` is not under",
        ),
        (
            with(json!({"extensions": ["pg_trgm", {"name": "pg_trgm", "version": "1.6"}]})),
            "`pg_trgm` stands twice",
        ),
        (
            with(json!({"roles": {"migrator": {"name": "u", "password": {"secret": "db", "key": "m"}}}})),
            "databases.x.roles.migrator: role `u` on postgres/main is declared twice",
        ),
        (with(json!({"roles": {"readers": {"name": "x_owner"}}})), "is declared twice"),
        (
            with(
                json!({"roles": {"app": {"overlap": {"name": "v", "password": {"secret": "db", "key": "password"}}}}}),
            ),
            "overlap.password: is the same password",
        ),
        (reader(&json!([])), "roles.bi.reads: is empty"),
        (reader(&json!(["x"])), "roles.bi.reads: database/x: it has no readers"),
        (reader(&json!(["y"])), "roles.bi.reads: database/y: no fragment declares it"),
    ] {
        let problems = problems(vec![("base.yaml", document(more.clone()))]);
        assert!(problems.contains(says), "{more}\nsays `{problems}` instead of `{says}`");
    }
}

#[test]
fn no_document_gives_power_over_roles_or_over_the_server() {
    for key in ["superuser", "create_role"] {
        let mut whole = serde_json::to_value(document(database("x", "u"))).unwrap();
        whole["databases"]["x"]["roles"]["app"][key] = json!(true);
        let error = serde_json::from_value::<Document>(whole).unwrap_err().to_string();
        assert!(error.contains(&format!("unknown field `{key}`")), "{error}");
    }
}

#[test]
fn a_role_that_reads_needs_the_databases_that_agree() {
    let mut whole = with(json!({"roles": {"readers": {}}}));
    merge(&mut whole, reader(&json!(["x"])));
    let source = Source { file: "base.yaml".to_owned(), document: document(whole) };
    let environment = Environment::merge([source]).environment.unwrap();
    let graph = Graph::of(&environment);
    assert_eq!(graph.check(&environment), []);
    let needs: Vec<String> =
        graph.needs(&"role/bi".parse().unwrap()).iter().map(|edge| edge.need.component.to_string()).collect();
    assert_eq!(needs, ["postgres/main", "secret/dev/db", "database/x", "secret/dev/admin"]);
}

#[test]
fn a_sound_document_has_no_problems() {
    assert_eq!(problems(vec![("base.yaml", document(database("registry", "registry_user")))]), "");
}

#[test]
fn mistakes_within_one_document_are_named() {
    let long = "a".repeat(64);
    for (more, says) in [
        (json!({"environment": {"name": "Dev"}}), "base.yaml: environment.name: `Dev` is not a DNS label"),
        (json!({"environment": {"uid": Uuid::nil()}}), "environment.uid: is all zeros"),
        (json!({"postgres": {"main": {"host": ""}}}), "postgres.main.host: is empty"),
        (
            json!({"uses": {"postgres": {"main": {"host": "x"}}}}),
            "uses.postgres.main: is declared in this fragment itself",
        ),
        (
            json!({"uses": {"postgres": {"other": {"host": "x", "admin": {"user": "a", "password": {"secret": "s", "key": "k"}}}}}}),
            "uses.postgres.other.admin",
        ),
        (json!({"kafka": {"main": {"brokers": []}}}), "kafka.main.brokers: is empty"),
        (json!({"kafka": {"main": {"brokers": ["kafka"]}}}), "`kafka` is not host:port"),
        (database(&long, "u"), "databases.aaaa"),
        (database("x", &long), "roles.app.name: the name"),
        (database("x", "x_owner"), "owner and app are the same role"),
        (database("postgres", "u"), "is reserved"),
        (
            json!({"databases": {"x": {"server": "other", "roles": {"app": {"name": "u", "password": {"secret": "db", "key": "p"}}}}}}),
            "databases.x.server: `other` is neither",
        ),
        (json!({"topics": {"t": {"kafka": "other", "partitions": 1}}}), "topics.t.kafka: `other` is neither"),
        (json!({"topics": {"t": {"kafka": "main", "partitions": 0}}}), "topics.t.partitions: 0"),
        (
            json!({"topics": {"t": {"kafka": "main", "partitions": 1, "replication": 0}}}),
            "topics.t.replication",
        ),
        (
            json!({"topics": {"t": {"kafka": "main", "partitions": 1, "replication": 1, "config": {"min.insync.replicas": "2"}}}}),
            "nothing could ever be written",
        ),
        (
            json!({"topics": {"a.b": {"kafka": "main", "partitions": 1}, "a_b": {"kafka": "main", "partitions": 1}}}),
            "is declared twice",
        ),
        (
            json!({"secrets": {"admin": {"external": true, "generate": {"p": {"kind": "password"}}}}}),
            "exactly one of external",
        ),
        (
            json!({"secrets": {"s": {"generate": {"p": {"kind": "password", "length": 8}}}}}),
            "8 is not between 24",
        ),
        (json!({"secrets": {"s": {"copy": {"from": "s"}}}}), "is this Secret itself"),
        (
            json!({"secrets": {"s": {"copy": {"from": "db", "namespace_selector": {"match_labels": {}}}}}}),
            "secrets.s.copy.namespace_selector.match_labels: chooses every namespace",
        ),
        (
            json!({"secrets": {"a/s": {"copy": {"from": "db", "namespace_selector": {"match_labels": {"a": "b"}}}}}}),
            "secrets.a/s: has a namespace in its name",
        ),
        (
            json!({"secrets": {"db": {"restart": {"workloads": []}}}}),
            "secrets.db.restart.workloads: is empty",
        ),
        (
            json!({"secrets": {"db": {"restart": {"workloads": ["deployment/a", "deployment/dev/a"]}}}}),
            "deployment/dev/a stands twice",
        ),
        (
            json!({"secrets": {"db": {"restart": {"workloads": ["deployment/other/a"]}}}}),
            "the object does not stand in namespace other",
        ),
        (
            json!({"secrets": {"c": {"copy": {"from": "db", "to": ["a", "b"]}, "restart": {"workloads": ["deployment/x"]}}}}),
            "secrets.c.restart.workloads: deployment/x: the object stands in several namespaces; write deployment/namespace/x",
        ),
        (
            json!({"configmaps": {"c": {"external": true, "restart": {"workloads": ["deployment/x"], "window": "2days"}}}}),
            "configmaps.c.restart.window: is not between 1ms and 24h",
        ),
        (json!({"modules": {"m": {"keys": "referenced"}}}), "modules.m.workloads: is empty"),
        (json!({"modules": {"m": {"workloads": ["deployment/m"]}}}), "with `keys: referenced` only"),
        (
            json!({"modules": {"m": {"keys": "referenced", "workloads": ["deployment/kube-system/dns"]}}}),
            "in a namespace of Kubernetes itself",
        ),
        (json!({"modules": {"m": {"ready": {}}}}), "modules.m.ready: says nothing"),
        (
            json!({"modules": {"m": {"ready": {"tcp": {"address": "h:1"}, "http": {"url": "http://h"}}}}}),
            "exactly one",
        ),
        (json!({"modules": {"m": {"ready": {"tcp": {"address": "h"}}}}}), "is not host:port"),
        (json!({"modules": {"m": {"ready": {"http": {"url": "ftp://h"}}}}}), "is not an http"),
        (json!({"modules": {"m": {"ready": {"http": {"url": "http://u:p@h"}}}}}), "holds credentials"),
        (json!({"modules": {"m": {"needs": ["secret/db", "secret/db"]}}}), "secret/db stands twice"),
        (
            json!({"naming": {"database": "{environment}"}, "databases": database("x", "u")["databases"]}),
            "does not contain {name}",
        ),
    ] {
        let found = problems(vec![("base.yaml", document(more.clone()))]);
        assert!(found.contains(says), "{more}\n{found}");
    }
}

#[test]
fn mistakes_about_rotation_are_named() {
    for (more, says) in [
        (
            json!({"secrets": {"s": {"generate": {"ca.crt": {"kind": "ca", "common_name": "a", "private": "ca.key", "keep": 9}}}}}),
            "secrets.s.generate.ca.crt.keep: 9 is not between 0 and 8",
        ),
        (
            json!({"secrets": {"s": {"generate": {"a": {"kind": "password"}}, "rotate": {"serial": 1, "previous": {"b": "c"}}}}}),
            "secrets.s.rotate.previous.b: `b` is not generated",
        ),
        (
            json!({"secrets": {"s": {"generate": {"a": {"kind": "password"}}, "rotate": {"serial": 1, "previous": {"a": "a"}}}}}),
            "`a` is no key of its own for an old value",
        ),
        (
            json!({"secrets": {"s": {"external": true, "rotate": {"serial": 1}}}}),
            "only what is generated can be rotated",
        ),
    ] {
        let found = problems(vec![("base.yaml", document(more.clone()))]);
        assert!(found.contains(says), "{more}\n{found}");
    }
}

#[test]
fn a_name_declared_in_two_files_names_both() {
    let mut other = document(database("registry", "other_user"));
    other.fragment.name = "other".to_owned();
    other.postgres.clear();
    other.kafka.clear();
    other.secrets.clear();
    other.uses.postgres.insert("main".to_owned(), serde_json::from_value(json!({"host": "pg"})).unwrap());
    let found = problems(vec![("a.yaml", document(database("registry", "u"))), ("b.yaml", other)]);
    assert!(
        found.contains("a.yaml: databases.registry: database/registry is declared twice, also in b.yaml"),
        "{found}"
    );
    assert!(
        found.contains("b.yaml: databases.registry: database/registry is declared twice, also in a.yaml"),
        "{found}"
    );
}

#[test]
fn fragments_that_disagree_on_the_environment_are_refused_together() {
    let mut other = document(json!({}));
    other.fragment.name = "other".to_owned();
    other.environment.uid = Uuid::from_u128(8);
    (other.postgres, other.kafka, other.secrets) = <_>::default();
    let found = problems(vec![("a.yaml", document(json!({}))), ("b.yaml", other)]);
    assert!(found.contains("a.yaml: environment: differs from b.yaml"), "{found}");
    assert!(found.contains("b.yaml: environment: differs from a.yaml"), "{found}");
}

#[test]
fn mistakes_of_the_union_are_named() {
    let module = |needs: Value| json!({"needs": needs, "ready": {"tcp": {"address": "h:1"}}});
    for (more, says) in [
        (
            json!({"modules": {"m": module(json!(["module/nobody"]))}}),
            "base.yaml: module/m: needs module/nobody, which no fragment declares",
        ),
        (
            json!({"modules": {"a": module(json!(["module/b"])), "b": module(json!(["module/a"]))}}),
            "module/a → module/b → module/a need each other",
        ),
        (
            json!({"modules": {"a": module(json!(["module/b"])), "b": {}}}),
            "module/a needs it to start, but it does not say how",
        ),
        (
            json!({"postgres": {"main": {"observer": {"password": {"secret": "watch", "key": "password"}}}}}),
            "base.yaml: secret/dev/watch: is referred to, and no fragment declares it",
        ),
        (
            json!({"secrets": {"admin": {"external": false, "generate": {"pasword": {"kind": "password"}}}}}),
            "its key `password` is referred to, and it is made with pasword only",
        ),
        (json!({"uses": {"modules": {"iem": {}}}}), "base.yaml: uses.modules.iem: no fragment declares it"),
        (
            json!({
                "postgres": {"spare": {"host": "pg2"}},
                "databases": {"x": {
                    "server": "spare",
                    "roles": {"app": {"name": "u", "password": {"secret": "db", "key": "password"}}},
                }},
            }),
            "base.yaml: postgres.spare: databases or roles are declared on it, and it has no `admin`",
        ),
        (
            json!({"secrets": {"c": {"copy": {"from": "elsewhere/s"}}}}),
            "needs secret/elsewhere/s, which no fragment declares",
        ),
    ] {
        let found = problems(vec![("base.yaml", document(more.clone()))]);
        assert!(found.contains(says), "{more}\n{found}");
    }
}

#[test]
fn implied_needs_are_derived() {
    let mut more = database("registry", "u");
    merge(
        &mut more,
        json!({
            "topics": {"t": {"kafka": "main", "partitions": 1}},
            "modules": {"web": {"needs": ["database/registry", {"component": "topic/t", "when": "runtime"}]}},
        }),
    );
    let merged = Environment::merge([Source { file: "a".to_owned(), document: document(more) }]);
    let graph = Graph::of(&merged.environment.unwrap());
    let needs = |text: &str| -> Vec<String> {
        let component: Component = text.parse().unwrap();
        graph
            .needs(&component)
            .iter()
            .map(|e| format!("{}{}", e.need.component, if e.implied { "*" } else { "" }))
            .collect()
    };
    assert_eq!(needs("database/registry"), ["postgres/main*", "secret/dev/db*", "secret/dev/admin*"]);
    assert_eq!(needs("topic/t"), ["kafka/main*"]);
    assert_eq!(needs("module/web"), ["database/registry", "topic/t", "secret/dev/db*"]);
}

#[test]
fn one_stray_fragment_refuses_itself_and_not_the_others() {
    let fragment = |name: &str, uid: u128| {
        let mut fragment = document(json!({}));
        name.clone_into(&mut fragment.fragment.name);
        fragment.environment.uid = Uuid::from_u128(uid);
        (fragment.postgres, fragment.kafka, fragment.secrets) = <_>::default();
        Source { file: format!("{name}.yaml"), document: fragment }
    };
    // First by name, and still in the wrong.
    let merged = Environment::merge([fragment("a", 8), fragment("b", 7), fragment("c", 7)]);
    assert_eq!(merged.environment.unwrap().sources().count(), 2);
    let problems: Vec<String> = merged.problems.iter().map(Problem::to_string).collect();
    assert_eq!(
        problems,
        ["a.yaml: environment: differs from b.yaml; it must be the same in all fragments of an environment"]
    );
}
