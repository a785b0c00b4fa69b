//! The charts: they lint, they say what is wrong with values, and they give the rights that `rollcall rbac` prints.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use acceptance::charts::matrix::cases;
use acceptance::charts::{Charts, fragments};
use acceptance::rights::{of_service_as, said as rights};
use acceptance::{binary, fragments::environment, openg2p, root, sample};
use lifecycle::document::Environment;
use rollcall::command::rbac::Service;
use sandbox::{Helm, Options, Sandbox, Supervisor};
use serde_json::{Value, json};

async fn sandbox() -> Sandbox {
    Sandbox::start(Options::new(Supervisor::command(binary(), ["sandbox-supervisor"]))).await.unwrap()
}

/// What the sample does not have: every other way in which an object is read.
fn unusual() -> Environment {
    environment(
        9,
        &[(
            "odd",
            "
policy: {on_delete: delete}
vault:
  main: {url: 'https://vault:8200', tls: {ca: {secret: vault-ca, key: ca.crt}}, login: {approle: {role_id: r, secret_id: {secret: login, key: id}}}}
  other: {url: 'https://other:8200', login: {token: {secret: elsewhere/token, key: token}}}
keycloak:
  main: {url: 'https://keycloak', tls: {ca: {secret: keycloak-ca, key: ca.crt}}, login: {client: rollcall, secret: {secret: keycloak-login, key: secret}}}
clients:
  portal: {keycloak: main, realm: staff, truth: cluster, secret: {secret: portal, key: secret}}
secrets:
  vault-ca: {external: true}
  from-vault: {copy: {from: {vault: main, path: a/b}, to: [one, two]}}
  from-sops: {copy: {from: {sops: x.yaml}}}
  far/generated: {generate: {p: {kind: password}}}
  portal: {generate: {secret: {kind: password}}}
  both: {copy: {from: vault-ca, source_gone: delete}, restart: {workloads: [deployment/a, statefulset/b]}}
  spread: {copy: {from: vault-ca, to: [one, two]}, restart: {workloads: [deployment/one/x, daemonset/two/y], mode: announce}}
  far/seen: {external: true, restart: {workloads: [deployment/far/z, deployment/far/w]}}
  mute: {external: true, restart: {workloads: [deployment/a, deployment/c], mode: announce}}
modules:
  a: {keys: referenced, workloads: [deployment/a, deployment/elsewhere/d], ready: {tcp: {address: 'a:1'}}}
configmaps:
  settings: {external: true, restart: {workloads: [statefulset/b]}}
",
        )],
    )
}

/// Servers as documents may have them: looked after here or elsewhere, with authorities or without, used and unused.
fn servers() -> Environment {
    let secrets = "pg-admin: {external: true}, observer: {external: true}, pg-ca: {external: true}, kafka-ca: {external: true}";
    let base = format!(
        "
secrets: {{{secrets}, idle: {{external: true}}}}
postgres:
  main: {{host: pg, tls: {{mode: verify-full, ca: {{secret: pg-ca, key: ca.crt}}}}, admin: {{user: postgres, password: {{secret: pg-admin, key: p}}}}, observer: {{password: {{secret: observer, key: p}}}}}}
  idle: {{host: idle, admin: {{user: postgres, password: {{secret: idle, key: p}}}}, observer: {{password: {{secret: idle, key: o}}}}}}
  theirs: {{host: theirs, observer: {{password: {{secret: observer, key: q}}}}}}
kafka:
  main: {{brokers: ['k:9092'], tls: {{ca: {{secret: kafka-ca, key: ca.crt}}}}}}
  plain: {{brokers: ['p:9092']}}
topics:
  base.events: {{kafka: main, partitions: 1}}
  base.plain: {{kafka: plain, partitions: 1}}
"
    );
    let web = "
secrets: {web-db: {external: true}, their-db: {external: true}, web-ca: {external: true}, our-ca: {external: true}}
uses:
  postgres: {main: {host: pg, tls: {ca: {secret: our-ca, key: ca.crt}}}, theirs: {host: theirs}}
  kafka: {main: {brokers: ['k:9092'], tls: {ca: {secret: web-ca, key: ca.crt}}}, plain: {brokers: ['p:9092']}}
databases:
  web: {server: main, roles: {app: {name: web, password: {secret: web-db, key: p}, ddl: as-owner}}}
  far: {server: main, roles: {app: {name: far, password: {secret: base/idle, key: far}, ddl: as-owner}}}
  their: {server: theirs, roles: {app: {name: their, password: {secret: their-db, key: p}, ddl: as-owner}}}
migrations:
  web: {database: web, sources: [{configmap: sql}, {configmap: base/more, below: more}, {directory: /sql}], flyway: {}, needs: [secret/web-db, {component: configmap/flags}]}
  far: {database: far, sources: [{directory: /sql}], needs: [migration/web, postgres/main],
        psql: {scripts: [a.sql], version: '1', connects: [web], secrets: {word: {secret: our-ca, key: word}}}}
  their: {database: their, sources: [{directory: /sql}], native: {}}
steps: {keys: {server: idle}, seed: {database: web}}
configmaps: {sql: {external: true}, base/more: {external: true}, flags: {external: true}}
topics:
  web.events: {kafka: main, partitions: 1}
";
    environment(5, &[("base", &base), ("web", web)])
}

#[tokio::test]
async fn a_chart_gives_the_rights_that_rbac_prints_and_no_others() {
    let sandbox = sandbox().await;
    let charts = Charts::of(&sandbox).await;
    let mosip = chassis::documents::load_complete(&[root().join("charts/environments/mosip")]).unwrap();
    let openg2p = chassis::documents::load_complete(&[openg2p()]).unwrap();
    let mut with_rights = BTreeSet::new();
    for environment in [openg2p, mosip, sample::dev(), unusual(), servers()] {
        let values = json!({"fragments": fragments(&environment)});
        let mut each = BTreeMap::new();
        for (service, chart, part) in [
            (Service::SecretSyncer, "secret-syncer", "secret-syncer"),
            (Service::PostgresInit, "postgres-init", "postgres-init"),
            (Service::TopicProvisioner, "topic-provisioner", "topic-provisioner"),
            (Service::Hub, "wait-for-dependency", "hub"),
        ] {
            let rendered = rights(&charts.render(chart, &values));
            let account = format!("syncer-{chart}");
            let printed = rights(&of_service_as(service, &environment, ("rollcall", &account)));
            assert_eq!(rendered, printed, "{chart}");
            with_rights.extend((!rendered.is_empty()).then_some(chart));
            let account = format!("syncer-environment-{part}");
            each.extend(rights(&of_service_as(service, &environment, ("rollcall", &account))));

            // What is left out is for the owner of the namespace.
            let theirs = environment.sources().next().unwrap().document.fragment.namespace.clone();
            let values = json!({"fragments": fragments(&environment), "roles": {"namespaces": [theirs]}});
            let some = rights(&charts.render(chart, &values));
            let prefix = |name: &&String| name.contains(&format!(" \"{theirs}\"/"));
            assert_eq!(
                some.keys().collect::<Vec<_>>(),
                rendered.keys().filter(prefix).collect::<Vec<_>>(),
                "{chart}"
            );
        }
        assert_eq!(rights(&charts.render("environment", &values)), each);
        assert!(!each.is_empty());
        let down = json!({"fragments": fragments(&environment), "down": {"run": "plan"}});
        let printed = of_service_as(Service::Down, &environment, ("rollcall", "syncer-environment-down"));
        assert_eq!(rights(&charts.render("environment", &down)), rights(&printed));
        let none = json!({"fragments": fragments(&environment), "roles": {"create": false}});
        assert!(rights(&charts.render("environment", &none)).is_empty());
    }
    assert_eq!(with_rights.len(), 4, "{with_rights:?}");
    sandbox.stop().await.unwrap();
}

/// Values with good documents, and one more.
fn with(key: &str, value: &Value) -> Value {
    json!({"fragments": fragments(&sample::dev()), key: value})
}

/// Documents in which one key of one thing is written wrong.
fn misspelt(section: &str, name: &str, key: &str) -> Value {
    let mut fragments = fragments(&sample::dev());
    fragments["app"][section] = json!({name: {key: 1}});
    fragments
}

#[tokio::test]
async fn charts_lint_and_say_what_is_wrong_with_values() {
    let sandbox = sandbox().await;
    for helm in Helm::ALL {
        lint_and_say(&Charts::with(&sandbox, helm).await);
    }
    sandbox.stop().await.unwrap();
}

fn lint_and_say(charts: &Charts) {
    for name in charts.names() {
        let linted = charts.run(&["lint", "--strict", &name]);
        let said = String::from_utf8_lossy(&linted.stdout);
        assert!(linted.status.success(), "{said}");
    }
    for case in cases() {
        let values = charts.values("linted", &case.values);
        let linted = charts.run(&["lint", "--strict", case.chart, "--values", &values]);
        let said = String::from_utf8_lossy(&linted.stdout);
        assert!(linted.status.success(), "{} with {}: {said}", case.chart, case.what);
    }
    let mut two = fragments(&sample::dev());
    two["odd"] = fragments(&unusual())["odd"].clone();
    let chosen = environment(
        7,
        &[(
            "base",
            "secrets: {a: {external: true}, b: {copy: {from: a, namespace_selector: {match_labels: {x: y}}}}}",
        )],
    );
    for (chart, values, words) in [
        ("secret-syncer", json!({"fragment": {}}), "fragment"),
        ("secret-syncer", json!({"fragments": {"a": "text"}}), "fragments"),
        ("secret-syncer", json!({}), "fragments: give at least one"),
        (
            "secret-syncer",
            json!({"fragments": fragments(&sample::dev()), "serviceAccount": {"create": false}}),
            "serviceAccount.name: give the account",
        ),
        ("secret-syncer", json!({"fragments": {"a/b": fragments(&sample::dev())["app"]}}), "a/b"),
        (
            "secret-syncer",
            json!({"fragments": fragments(&sample::dev()), "settings": {"ROLLCALL_DOCUMENTS": "/x"}}),
            "ROLLCALL_DOCUMENTS",
        ),
        ("secret-syncer", json!({"fragments": two}), "several environments"),
        ("secret-syncer", json!({"fragments": fragments(&chosen)}), "under `to`"),
        ("cluster", json!({"fragments": fragments(&chosen)}), "set central.enabled"),
        ("cluster", json!({"policy": {"account": []}}), "account"),
        ("environment", json!({}), "fragments: give at least one"),
        ("environment", with("hub", &json!({"replcas": 2})), "'replcas'"),
        ("environment", with("down", &json!({"run": "yes"})), "'/down/run'"),
        ("environment", with("down", &json!({"run": "delete"})), "which environment is meant: dev"),
        (
            "environment",
            with("down", &json!({"run": "delete", "environment": "prod"})),
            "which environment is meant: dev",
        ),
        ("environment", with("hub", &json!({"replicas": 2})), "'/hub/replicas'"),
        ("environment", with("bus", &json!({"brokers": ["kafka"]})), "'/bus/brokers/0'"),
        ("environment", with("settings", &json!({"ROLLCALL_BROKER": "k:1"})), "'ROLLCALL_BROKER'"),
        ("environment", with("topicProvisioner", &json!({"run": "once"})), "'/topicProvisioner/run'"),
        ("environment", with("image", &json!({"pullPolicy": "always"})), "'/image/pullPolicy'"),
        (
            "environment",
            with("namespaces", &json!({"web": {"pullSecrets": ["regcred"]}})),
            "'/namespaces/web/pullSecrets/0'",
        ),
        ("environment", json!({"fragments": misspelt("modules", "web", "redy")}), "'redy'"),
        ("environment", json!({"fragments": misspelt("topics", "events", "partitons")}), "'partitons'"),
        ("postgres-init", json!({"fragments": misspelt("databases", "web", "extension")}), "'extension'"),
        ("wait-for-dependency", with("run", &json!("apply")), "'run'"),
        ("telemetry-exporter", with("replicas", &json!(1)), "settings.ROLLCALL_BROKERS"),
        ("cluster", json!({"central": {"enabled": true}}), "fragments: give at least one"),
    ] {
        let output = charts.template(chart, &values);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{chart} {values}: {said}");
    }
}

/// Which Kubernetes a Helm takes a cluster for that it does not ask is its own affair.
#[tokio::test]
async fn both_helms_render_the_same() {
    let sandbox = sandbox().await;
    let [third, fourth] = Helm::ALL;
    let (third, fourth) = (Charts::with(&sandbox, third).await, Charts::with(&sandbox, fourth).await);
    for case in cases() {
        let by = |charts: &Charts| {
            let mut manifests =
                charts.render_as("syncer", case.chart, &case.values, &["--kube-version", "1.34.4"]);
            // Neither promises an order of objects.
            manifests.sort_by_key(Value::to_string);
            manifests
        };
        assert_eq!(by(&third), by(&fourth), "{} with {}", case.chart, case.what);
    }
    sandbox.stop().await.unwrap();
}
