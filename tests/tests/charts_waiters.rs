//! The Roles that chart `environment` gives to modules that wait by documents are those that `rollcall rbac --module` prints.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use acceptance::charts::{Charts, fragments};
use acceptance::rights::{of_waiter_as, said};
use acceptance::{binary, fragments::environment, openg2p, root};
use lifecycle::document::Environment;
use sandbox::{Options, Sandbox, Supervisor};
use serde_json::{Value, json};

/// Modules that need everything there is in every way.
fn shop() -> Environment {
    let base = "
postgres:
  main: {host: pg, tls: {mode: verify-full, ca: {secret: pg-ca, key: ca.crt}}, admin: {user: postgres, password: {secret: pg-admin, key: p}}, observer: {password: {secret: observer, key: p}}}
kafka: {main: {brokers: ['k:9092'], tls: {ca: {secret: kafka-ca, key: ca.crt}}}}
databases: {keycloak: {server: main, roles: {app: {name: kc, password: {secret: kc-db, key: p}}}}}
topics: {base.events: {kafka: main, partitions: 1}}
secrets: {pg-ca: {external: true}, pg-admin: {external: true}, observer: {external: true}, kafka-ca: {external: true}, kc-db: {external: true}}
modules:
  keycloak: {needs: [database/keycloak], ready: {tcp: {address: 'kc:1'}}}
  greedy: {needs: [secret/pg-admin]}
  curious: {keys: [{secret: observer, key: p}]}
";
    let shop = "
uses:
  postgres: {main: {host: pg, tls: {mode: verify-full, ca: {secret: base/pg-ca, key: ca.crt}}}}
  kafka: {main: {brokers: ['k:9093'], tls: {ca: {secret: our-ca, key: ca.crt}}}}
databases: {shop: {server: main, roles: {app: {name: shop, password: {secret: shop-db, key: p}, ddl: as-owner}}}}
migrations: {shop: {database: shop, sources: [{configmap: settings}], native: {}}}
steps: {seed: {database: shop}}
topics: {orders: {kafka: main, partitions: 3}}
secrets: {shop-db: {external: true}, our-ca: {external: true}, signing: {external: true}, pay: {external: true}}
configmaps: {settings: {external: true}}
modules:
  servers: {needs: [postgres/main, kafka/main]}
  orders: {needs: [database/shop, topic/orders], keys: [{secret: signing, key: a}, {configmap: settings, key: b}, {secret: base/kc-db, key: p}]}
  pay: {needs: [secret/pay, {component: database/shop, when: runtime}, {component: secret/signing, when: runtime}], keys: [{secret: signing, key: a}]}
  front: {needs: [module/keycloak, topic/base.events, database/keycloak, secret/base/kc-db]}
  pods: {keys: referenced, workloads: [deployment/pods], needs: [configmap/settings]}
  idle: {}
  migrated: {needs: [migration/shop, step/seed]}
";
    let plain = "
uses: {postgres: {main: {host: pg}}, kafka: {main: {brokers: ['k:9092']}}}
databases: {plain: {server: main, roles: {app: {name: plain, password: {secret: base/kc-db, key: q}}}}}
modules:
  plain: {needs: [database/plain, database/keycloak, topic/orders]}
";
    let seeing_nothing = "
modules:
  elsewhere: {needs: [migration/shop]}
  far: {needs: [database/keycloak, {component: topic/orders, on_restart: report}, database/plain, kafka/main]}
";
    environment(3, &[("base", base), ("shop", shop), ("plain", plain), ("far", seeing_nothing)])
}

#[tokio::test]
async fn a_waiter_is_given_the_rights_that_rbac_prints_and_no_others() {
    let sandbox =
        Sandbox::start(Options::new(Supervisor::command(binary(), ["sandbox-supervisor"]))).await.unwrap();
    let charts = Charts::of(&sandbox).await;
    let load = |path| chassis::documents::load_complete(&[path]).unwrap();
    let mut refused = BTreeSet::new();
    let mut compared = 0;
    for environment in [load(openg2p()), load(root().join("charts/environments/mosip")), shop()] {
        let documents = fragments(&environment);
        let (mut waiters, mut printed) = (BTreeMap::new(), BTreeMap::new());
        for module in environment.modules() {
            let (name, namespace) = (module.component.name(), module.namespace());
            let account = format!("{name}-account");
            if let Some(manifests) = of_waiter_as(name, &environment, (namespace, &account)) {
                printed.extend(said(&manifests));
                waiters.insert(name.to_owned(), account);
            } else {
                let values = json!({"fragments": documents, "waiters": {name: account}});
                let output = charts.template("environment", &values);
                let why = String::from_utf8_lossy(&output.stderr);
                assert!(!output.status.success() && why.contains(&format!("waiters.{name}: ")), "{why}");
                refused.insert(name.to_owned());
            }
        }
        let manifests = charts.render("environment", &json!({"fragments": documents, "waiters": waiters}));
        let is_waiters = |manifest: &&Value| {
            manifest["metadata"]["name"].as_str().unwrap().starts_with("rollcall-waiter-")
        };
        let given: Vec<Value> = manifests.iter().filter(is_waiters).cloned().collect();
        compared += printed.len();
        assert_eq!(said(&given), printed);
    }
    assert_eq!(refused, BTreeSet::from(["curious".to_owned(), "greedy".to_owned()]));
    assert!(compared > 30, "{compared}");

    for (waiters, words) in [
        (json!({"nobody": "a"}), "waiters.nobody: no document declares module/nobody"),
        (json!({"orders": {"name": "a"}}), "/waiters/orders"),
    ] {
        let output =
            charts.template("environment", &json!({"fragments": fragments(&shop()), "waiters": waiters}));
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && why.contains(words), "{why}");
    }
    sandbox.stop().await.unwrap();
}
