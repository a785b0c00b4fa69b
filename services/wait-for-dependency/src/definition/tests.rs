//! What documents make of probes: each thing in the eyes of a module, and in the hub's.

use lifecycle::Graph;
use proptest::prelude::*;

use super::*;

const HEAD: &str = "
rollcall: v1
environment: {name: dev-a, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}
naming: {database: '{environment}_{name}', role: 'r_{name}', topic: '{environment}.{name}'}
";

pub(crate) const BASE: &str = "
fragment: {name: base, namespace: infra}
postgres: {main: {host: pg, tls: {mode: verify-full, ca: {secret: pg-ca, key: ca.crt}}, admin: {user: postgres, password: {secret: pg-admin, key: password}}, observer: {password: {secret: observer, key: password}}}}
kafka: {main: {brokers: ['k:9092'], expect_brokers: 3}}
secrets: {pg-ca: {external: true}, pg-admin: {external: true}, observer: {generate: {password: {kind: password}}}, keycloak-db: {generate: {password: {kind: password}}}}
databases: {keycloak: {server: main, roles: {app: {name: keycloak, password: {secret: keycloak-db, key: password}}}}}
endpoints: {smtp: {tcp: {address: 'smtp:25'}}}
modules:
  keycloak: {needs: [database/keycloak], ready: {http: {url: 'http://keycloak/'}}}
  quiet: {}
";

pub(crate) const REGISTRY: &str = "
fragment: {name: registry, namespace: apps}
uses:
  postgres: {main: {host: pg.infra, port: 6432, tls: {mode: require}}}
  kafka: {main: {brokers: ['k.infra:9092']}}
  modules: {keycloak: {ready: {keycloak: {url: 'http://keycloak.infra', realm: staff}}}, audit: {}}
databases: {registry: {server: main, roles: {app: {name: app, password: {secret: registry-db, key: password}}}}}
secrets: {registry-db: {generate: {password: {kind: password}}}}
topics: {events: {kafka: main, partitions: 3}}
modules:
  registry:
    needs: [database/registry, topic/events, module/keycloak, endpoint/smtp, postgres/main, kafka/main, module/audit]
    ready: {http: {url: 'http://registry/health', json: {/status: UP}}}
";

pub(crate) fn environment(fragments: &[&str]) -> Environment {
    let sources = fragments.iter().enumerate().map(|(i, text)| {
        let file = format!("{i}.yaml");
        let document = chassis::documents::parse(&file, &format!("{HEAD}{text}")).unwrap();
        Source { file, document }
    });
    let merged = Environment::merge(sources);
    assert_eq!(merged.problems, []);
    merged.environment.unwrap()
}

fn waiter(environment: &Environment, component: &str) -> String {
    let module = environment.module("registry").unwrap();
    match for_waiter(environment, module.source, &component.parse().unwrap()) {
        Ok(probe) => probe.to_string(),
        Err(why) => why,
    }
}

fn hub(environment: &Environment, component: &str) -> String {
    for_hub(environment, &component.parse().unwrap()).map_or_else(|why| why, |probe| probe.to_string())
}

#[test]
fn a_role_is_proven_in_the_database_it_is_let_into_last() {
    let reads = "
fragment: {name: bi, namespace: apps}
uses: {postgres: {main: {host: pg.infra, port: 6432}}}
databases:
  bi: {server: main, roles: {app: {name: bi, password: {secret: bi, key: own}}, readers: {}}}
  a: {server: main, name: zz, roles: {app: {name: a, password: {secret: bi, key: a}}, readers: {}}}
roles: {superset: {server: main, name: superset_ro, password: {secret: bi, key: password}, reads: [bi, a]}}
secrets: {bi: {generate: {own: {kind: password}, a: {kind: password}, password: {kind: password}}}}
modules: {registry: {needs: [role/superset], ready: {http: {url: 'http://registry/'}}}}
";
    let environment = environment(&[BASE, reads]);
    assert_eq!(waiter(&environment, "role/superset"), "postgresql://r_superset_ro@pg.infra:6432/dev-a_zz");
    assert_eq!(
        hub(&environment, "role/superset"),
        hub(&environment, "database/bi").replace("database/bi", "role/superset")
    );
    let needs: Vec<String> = Graph::of(&environment)
        .start_needs(&"module/registry".parse().unwrap())
        .map(|n| n.component.to_string())
        .collect();
    assert_eq!(needs, ["role/superset", "secret/apps/bi"]);
}

#[test]
fn a_waiter_looks_with_its_modules_own_eyes() {
    let environment = environment(&[BASE, REGISTRY]);
    for (component, definition) in [
        ("database/registry", "postgresql://r_app@pg.infra:6432/dev-a_registry"),
        ("topic/events", "kafka k.infra:9092/dev-a.events"),
        ("module/keycloak", "keycloak http://keycloak.infra/realms/staff"),
        ("postgres/main", "postgresql://pg.infra:6432"),
        ("kafka/main", "kafka k.infra:9092"),
        ("endpoint/smtp", "tcp smtp:25"),
        ("secret/apps/registry-db", "secret/apps/registry-db:password"),
        ("secret/infra/pg-ca", "secret/infra/pg-ca:ca.crt"),
        (
            "module/audit",
            "wait for nobody: no fragment declares module/audit; declare it, or correct the need",
        ),
        ("module/quiet", "module/quiet does not say how to see that it is ready; add `ready` to it"),
        ("step/load", "wait for nobody: no fragment declares step/load; declare it, or correct the need"),
    ] {
        assert_eq!(waiter(&environment, component), definition, "{component}");
    }
}

#[test]
fn a_waiter_with_its_own_fragment_only_knows_what_that_says() {
    let environment = environment(&[REGISTRY]);
    assert_eq!(waiter(&environment, "database/registry"), "postgresql://r_app@pg.infra:6432/dev-a_registry");
    assert_eq!(
        waiter(&environment, "endpoint/smtp"),
        "wait for nobody: no fragment declares endpoint/smtp; declare it, or correct the need"
    );
    assert_eq!(
        waiter(&environment, "database/keycloak"),
        "wait for nobody: no fragment declares database/keycloak; declare it, or correct the need"
    );
}

#[test]
fn the_hub_looks_without_any_modules_credentials() {
    let environment = environment(&[BASE, REGISTRY]);
    for (component, definition) in [
        ("database/registry", "database/registry as the observer of dev-a at postgresql://pg:5432"),
        ("topic/events", "kafka k.infra:9092/dev-a.events"),
        ("module/keycloak", "http://keycloak/"),
        ("secret/apps/registry-db", "the hub holds no Secrets; each waiter reads its own"),
        ("module/quiet", "module/quiet does not say how to see that it is ready; add `ready` to it"),
    ] {
        assert_eq!(hub(&environment, component), definition, "{component}");
    }
    let views: Vec<String> = views(&environment).map(|(f, c, p)| format!("{f} sees {c}: {p}")).collect();
    assert_eq!(views, ["registry sees module/keycloak: keycloak http://keycloak.infra/realms/staff"]);
}

#[test]
fn tls_and_the_number_of_brokers_are_kept() {
    let environment = environment(&[BASE, REGISTRY]);
    let Ok(Probe::Server(server)) = for_hub(&environment, &"postgres/main".parse().unwrap()) else {
        panic!()
    };
    assert_eq!(server.encryption, Encryption::VerifyFull);
    assert_eq!(server.authority, Some(Authority::Secret("secret/infra/pg-ca:ca.crt".into_key())));
    let Ok(Probe::Kafka(kafka)) = for_hub(&environment, &"kafka/main".parse().unwrap()) else { panic!() };
    assert_eq!(kafka.expect_brokers, 3);
}

const STAFF: &str = "
fragment: {name: staff, namespace: infra}
keycloak: {main: {url: 'https://id/auth', tls: {ca: {secret: ca, key: ca.crt}}, login: {client: rollcall, secret: {secret: login, key: s}}}}
secrets: {ca: {external: true}, login: {external: true}}
";

const PORTAL: &str = "
fragment: {name: portal, namespace: apps}
uses: {keycloak: [main]}
clients:
  portal: {keycloak: main, realm: staff, client_id: Portal, redirect_uris: [/a]}
  page: {keycloak: main, realm: staff, public: true, redirect_uris: [/b]}
secrets: {portal-client: {copy: {from: {client: portal}, keys: {client_secret: secret}}}}
modules: {registry: {needs: [client/portal]}}
";

#[test]
fn a_client_is_looked_at_with_its_own_secret_or_it_is_said_why_not() {
    let all = environment(&[STAFF, PORTAL]);
    assert_eq!(waiter(&all, "client/portal"), "keycloak https://id/auth/realms/staff as client Portal");
    let registry = all.module("registry").unwrap();
    let Ok(Probe::Client(client)) = for_waiter(&all, registry.source, &"client/portal".parse().unwrap())
    else {
        panic!()
    };
    assert_eq!(client.secret, "secret/apps/portal-client:client_secret".into_key());
    assert_eq!(client.ca, Some("secret/infra/ca:ca.crt".into_key()));
    assert!(hub(&all, "client/portal").contains("only who holds its secret"));
    for (environment, component, says) in [
        (&all, "client/page", "no Secret in namespace apps is declared to hold it"),
        (&all, "client/nobody", "no fragment declares client/nobody"),
        (&environment(&[PORTAL]), "client/portal", "no fragment here declares keycloak/main"),
    ] {
        let why = waiter(environment, component);
        assert!(why.contains(says), "{component}: {why}");
    }
}

trait IntoKey {
    fn into_key(self) -> SecretKey;
}

impl IntoKey for &str {
    fn into_key(self) -> SecretKey {
        let (secret, key) = self.rsplit_once(':').unwrap();
        SecretKey { secret: secret.parse().unwrap(), key: key.to_owned() }
    }
}

proptest! {
    /// Whatever a module needs, it is probed or explained; nothing is left out, so nothing is released unseen.
    #[test]
    fn every_need_has_a_definition(kinds in prop::collection::vec(0..Kind::ALL.len(), 0..6), with_base: bool) {
        let fragments = if with_base { vec![BASE, REGISTRY] } else { vec![REGISTRY] };
        let environment = environment(&fragments);
        let module = environment.module("registry").unwrap();
        let graph = Graph::of(&environment);
        let needed = graph.start_needs(&module.component).map(|need| need.component.clone());
        let random = kinds.into_iter().map(|kind| Component::new(Kind::ALL[kind], "main").in_namespace("apps"));
        for component in needed.chain(random) {
            if let Err(why) = for_waiter(&environment, module.source, &component) {
                prop_assert!(why.contains(&component.to_string()), "{why}");
            }
        }
    }
}

#[test]
fn what_is_done_once_is_seen_in_its_database_by_modules_and_in_the_ledger_by_the_hub() {
    let work = "
fragment: {name: work, namespace: apps}
migrations: {registry: {database: registry, sources: [{directory: /sql}], native: {}}}
steps: {keys: {server: main}, seed: {database: registry}}
";
    let owner = REGISTRY.replace("key: password}}}}", "key: password}, ddl: as-owner}}}");
    let environment = environment(&[BASE, &owner, work]);
    assert_eq!(
        waiter(&environment, "migration/registry"),
        "migration/registry in postgresql://r_app@pg.infra:6432/dev-a_registry"
    );
    assert_eq!(
        waiter(&environment, "step/keys"),
        "only the hub sees in the ledger whether step/keys is done"
    );
    for component in ["migration/registry", "step/keys", "step/seed"] {
        let seen = format!("{component} as the observer of dev-a at postgresql://pg:5432");
        assert_eq!(hub(&environment, component), seen);
    }
    for component in ["migration/none", "step/none"] {
        assert_eq!(hub(&environment, component), nobody(&component.parse().unwrap()));
        assert_eq!(waiter(&environment, component), nobody(&component.parse().unwrap()));
    }
}
