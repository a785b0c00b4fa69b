//! Which Secrets and ConfigMaps are read: by the waiter of a module for the module's start needs, and by the hub. Both lists
//! come from the probes that do the reading. And where the hub tells pods why they wait.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::Environment;
use lifecycle::{Component, Graph};

use crate::hub::state::sights;
use crate::wait::gate::items;

/// Why a waiter is given nothing to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such module.
    #[error("no document declares module/{module}; declared are: {known}")]
    Nobody {
        /// What was asked for.
        module: String,
        /// The modules there are.
        known: String,
    },
    /// It would read what no module may.
    #[error(
        "the waiter of {module} would read {secret}, which holds {what}; a Role allows whole Secrets, so put what the module needs into a Secret of its own and let the module need that one"
    )]
    Credential {
        /// The module.
        module: Component,
        /// The Secret.
        secret: Component,
        /// Whose credential it holds.
        what: String,
    },
}

/// What the waiter of a module reads. Never the credential of an administrator or an observer: where documents would have it
/// so, nothing is given.
pub fn of_waiter(environment: &Environment, module: &str) -> Result<BTreeSet<Component>, Error> {
    let Some(declared) = environment.module(module) else {
        let known: Vec<String> = environment.modules().map(|m| m.component.name().to_owned()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Error::Nobody { module: module.to_owned(), known });
    };
    let probes = items(environment, &declared).into_iter().filter_map(|item| item.definition.ok());
    let reads: BTreeSet<Component> = probes.flat_map(|probe| probe.reads()).collect();
    match credentials(environment).into_iter().find(|(secret, _)| reads.contains(secret)) {
        Some((secret, what)) => Err(Error::Credential { module: declared.component, secret, what }),
        None => Ok(reads),
    }
}

/// What the hub of the environment reads.
pub fn of_hub(environment: &Environment) -> BTreeSet<Component> {
    let sights = sights(environment, &Graph::of(environment));
    sights.into_values().filter_map(Result::ok).flat_map(|probe| probe.reads()).collect()
}

/// The namespaces in which pods wait and are told why: where fragments with modules live.
pub fn told(environment: &Environment) -> BTreeSet<String> {
    let documents = environment.sources().map(|source| &source.document);
    let waiting = documents.filter(|document| !document.modules.is_empty());
    waiting.map(|document| document.fragment.namespace.clone()).collect()
}

/// The Secrets with which servers are looked after and observed, and what each holds.
fn credentials(environment: &Environment) -> BTreeMap<Component, String> {
    let mut found = BTreeMap::new();
    for server in environment.postgres() {
        if let Some(observer) = &server.spec.observer {
            let what = format!("the password of the observer of {}", server.component);
            found.insert(server.secret(&observer.password.secret), what);
        }
        if let Some(admin) = &server.spec.admin {
            let what = format!("the password of the administrator of {}", server.component);
            found.insert(server.secret(&admin.password.secret), what);
        }
    }
    for source in environment.sources() {
        let (document, namespace) = (&source.document, &source.document.fragment.namespace);
        for (name, keycloak) in &document.keycloak {
            let what = format!("the secret with which clients of keycloak `{name}` are looked after");
            found.insert(keycloak.login.secret.secret.secret(namespace), what);
        }
        for (name, vault) in &document.vault {
            for reference in vault.login.references() {
                let what = format!("the login to vault `{name}`");
                found.insert(reference.secret.secret(namespace), what);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::tests::{BASE, REGISTRY, environment};

    const SHOP: &str = "
fragment: {name: shop, namespace: shop}
uses:
  postgres: {main: {host: pg.infra, tls: {mode: verify-full, ca: {secret: infra/pg-ca, key: ca.crt}}}}
  kafka: {main: {brokers: ['k.infra:9093'], tls: {ca: {secret: kafka-ca, key: ca.crt}}}}
databases: {shop: {server: main, roles: {app: {name: shop, password: {secret: shop-db, key: password}}}}}
topics: {orders: {kafka: main, partitions: 3}}
secrets: {shop-db: {external: true}, kafka-ca: {external: true}, signing: {external: true}, pay: {external: true}}
configmaps: {settings: {external: true}}
modules:
  servers: {needs: [postgres/main, kafka/main]}
  orders: {needs: [database/shop, topic/orders], keys: [{secret: signing, key: a}, {configmap: settings, key: b}]}
  pay: {needs: [secret/pay, {component: database/shop, when: runtime}]}
  front: {needs: [module/keycloak, {component: secret/signing, when: runtime}]}
";

    fn names(reads: &BTreeSet<Component>) -> Vec<String> {
        reads.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_waiter_reads_what_its_modules_start_needs_are_looked_at_with() {
        let environment = environment(&[BASE, REGISTRY, SHOP]);
        for (module, expected) in [
            ("servers", &["secret/shop/kafka-ca"][..]),
            (
                "orders",
                &[
                    "secret/infra/pg-ca",
                    "secret/shop/kafka-ca",
                    "secret/shop/shop-db",
                    "secret/shop/signing",
                    "configmap/shop/settings",
                ],
            ),
            // What is only called later is not waited for, so it is not read either.
            ("pay", &["secret/shop/pay"]),
            ("front", &[]),
            // Its own fragment says how it reaches the server, and names no authority.
            ("registry", &["secret/apps/registry-db"]),
            ("keycloak", &["secret/infra/keycloak-db", "secret/infra/pg-ca"]),
        ] {
            assert_eq!(names(&of_waiter(&environment, module).unwrap()), expected, "{module}");
        }
        let error = of_waiter(&environment, "nobody").unwrap_err().to_string();
        assert!(error.contains("no document declares module/nobody") && error.contains("orders"), "{error}");
    }

    #[test]
    fn no_waiter_is_given_an_administrators_or_an_observers_credential() {
        for (module, secret, whose) in [
            ("{needs: [secret/infra/pg-admin]}", "secret/infra/pg-admin", "administrator"),
            ("{keys: [{secret: infra/observer, key: password}]}", "secret/infra/observer", "observer"),
        ] {
            let shop = format!("fragment: {{name: shop, namespace: shop}}\nmodules: {{greedy: {module}}}");
            let environment = environment(&[BASE, &shop]);
            let error = of_waiter(&environment, "greedy").unwrap_err().to_string();
            let says = format!(
                "module/greedy would read {secret}, which holds the password of the {whose} of postgres/main"
            );
            assert!(error.contains(&says), "{error}");
        }
        // Nor where a module's own password lies beside it: rights know no keys.
        let beside = BASE.replace("secret: keycloak-db, key: password", "secret: pg-admin, key: app");
        let error = of_waiter(&environment(&[&beside]), "keycloak").unwrap_err();
        assert!(matches!(&error, Error::Credential { secret, .. } if secret.name() == "pg-admin"), "{error}");
    }

    #[test]
    fn the_hub_reads_observers_and_authorities_only() {
        let environment = environment(&[BASE, REGISTRY, SHOP]);
        let expected = ["secret/infra/observer", "secret/infra/pg-ca", "secret/shop/kafka-ca"];
        assert_eq!(names(&of_hub(&environment)), expected);
        let quiet = crate::definition::tests::environment(&[REGISTRY]);
        assert_eq!(of_hub(&quiet), BTreeSet::new());
    }
}
