//! From documents to probes: how each thing is observed, by a module's waiter with the module's own credentials, and by
//! the hub with none. Pure: documents in, definitions out.

use std::collections::BTreeSet;

use lifecycle::document::{self, Document, Environment, KafkaTls, Ready, SecretKey, Source};
use lifecycle::{Component, Kind};

use crate::probe::{
    Authority, Encryption, Grpc, Http, Kafka, Keycloak, Login, Observed, Password, Probe, Secret, Server, Tcp,
};

/// How something is observed from here: by a probe, or why not.
pub type Definition = Result<Probe, String>;

/// How the waiter of a module declared in `source` observes what the module needs.
pub fn for_waiter(environment: &Environment, source: &Source, component: &Component) -> Definition {
    let (own, name) = (&source.document, component.name());
    match component.kind() {
        Kind::Postgres => {
            let server = seen_by(own, environment, name, |d| &d.uses.postgres, |d| &d.postgres);
            let (document, spec) = server.ok_or_else(|| nobody(component))?;
            Ok(Probe::Server(server_of(spec, document)))
        }
        Kind::Kafka => {
            let cluster = seen_by(own, environment, name, |d| &d.uses.kafka, |d| &d.kafka);
            let (document, spec) = cluster.ok_or_else(|| nobody(component))?;
            Ok(Probe::Kafka(kafka_of(spec, document, None)))
        }
        Kind::Database => login(environment, own, component),
        Kind::Topic => topic(environment, own, component),
        Kind::Secret | Kind::ConfigMap => {
            Ok(Probe::Secret(Secret { secret: component.clone(), keys: keys(environment, component) }))
        }
        Kind::Module => {
            let own_view = own.uses.modules.get(name).and_then(|used| used.ready.as_ref());
            let declared = environment.module(name);
            match own_view.or_else(|| declared.as_ref().and_then(|module| module.spec.ready.as_ref())) {
                Some(ready) => ready_probe(ready).ok_or_else(|| says_nothing(component)),
                None if declared.is_some() => Err(says_nothing(component)),
                None => Err(nobody(component)),
            }
        }
        Kind::Endpoint => endpoint(environment, component),
        Kind::Client => Err(unseen(component)),
        Kind::Migration | Kind::Group | Kind::Step => Err(nobody(component)),
    }
}

/// How the hub observes a component. It holds no module's credentials; what it may not see is unobservable.
pub fn for_hub(environment: &Environment, component: &Component) -> Definition {
    let name = component.name();
    match component.kind() {
        Kind::Postgres => {
            let server = environment
                .postgres()
                .find(|s| s.component == *component)
                .ok_or_else(|| nobody(component))?;
            Ok(Probe::Server(server_of(server.spec, &server.source.document)))
        }
        Kind::Kafka => {
            let cluster =
                environment.kafka().find(|c| c.component == *component).ok_or_else(|| nobody(component))?;
            Ok(Probe::Kafka(kafka_of(cluster.spec, &cluster.source.document, None)))
        }
        Kind::Database => observed(environment, component),
        Kind::Topic => {
            let declared =
                environment.topics().find(|t| t.component == *component).ok_or_else(|| nobody(component))?;
            topic(environment, &declared.source.document, component)
        }
        Kind::Secret | Kind::ConfigMap => {
            Err("the hub holds no Secrets; each waiter reads its own".to_owned())
        }
        Kind::Module => {
            let module = environment.module(name).ok_or_else(|| nobody(component))?;
            module.spec.ready.as_ref().and_then(ready_probe).ok_or_else(|| says_nothing(component))
        }
        Kind::Endpoint => endpoint(environment, component),
        Kind::Client => Err(unseen(component)),
        Kind::Migration | Kind::Group | Kind::Step => Err(nobody(component)),
    }
}

/// How fragments look at modules of others, where they say so themselves: (fragment, module, probe).
pub fn views(environment: &Environment) -> impl Iterator<Item = (&str, Component, Probe)> {
    environment.sources().flat_map(|source| {
        let fragment = source.document.fragment.name.as_str();
        source.document.uses.modules.iter().filter_map(move |(name, used)| {
            let probe = used.ready.as_ref().and_then(ready_probe)?;
            Some((fragment, Component::new(Kind::Module, name), probe))
        })
    })
}

/// What is said about something that no document declares.
pub fn nobody(component: &Component) -> String {
    format!("wait for nobody: no fragment declares {component}; declare it, or correct the need")
}

fn unseen(component: &Component) -> String {
    format!(
        "only who makes {component} can look at it; need the Secret that holds its secret, and the module it is in"
    )
}

fn says_nothing(component: &Component) -> String {
    format!("{component} does not say how to see that it is ready; add `ready` to it")
}

fn ready_probe(ready: &Ready) -> Option<Probe> {
    match ready {
        Ready { http: Some(http), .. } => Some(Probe::Http(Http::from(http))),
        Ready { grpc: Some(grpc), .. } => Some(Probe::Grpc(Grpc::from(grpc))),
        Ready { keycloak: Some(keycloak), .. } => Some(Probe::Keycloak(Keycloak::from(keycloak))),
        Ready { tcp: Some(tcp), .. } => Some(Probe::Tcp(Tcp { address: tcp.address.clone() })),
        _ => None,
    }
}

fn endpoint(environment: &Environment, component: &Component) -> Definition {
    let endpoint =
        environment.endpoints().find(|e| e.component == *component).ok_or_else(|| nobody(component))?;
    ready_probe(endpoint.spec).ok_or_else(|| says_nothing(component))
}

/// A server as a fragment sees it: as it says itself, or else as whoever declares it does.
fn seen_by<'a, T>(
    own: &'a Document,
    environment: &'a Environment,
    name: &str,
    used: impl Fn(&'a Document) -> &'a std::collections::BTreeMap<String, T>,
    declared: impl Fn(&'a Document) -> &'a std::collections::BTreeMap<String, T>,
) -> Option<(&'a Document, &'a T)> {
    let own_view = used(own).get(name).or_else(|| declared(own).get(name)).map(|spec| (own, spec));
    own_view.or_else(|| {
        environment.sources().find_map(|s| declared(&s.document).get(name).map(|spec| (&s.document, spec)))
    })
}

fn server_of(spec: &document::Postgres, document: &Document) -> Server {
    let authority =
        spec.tls.ca.as_ref().map(|ca| Authority::Secret(SecretKey::of(ca, &document.fragment.namespace)));
    Server {
        host: spec.host.clone(),
        port: spec.port,
        encryption: Encryption::from(spec.tls.mode),
        authority,
    }
}

fn kafka_of(spec: &document::Kafka, document: &Document, topic: Option<String>) -> Kafka {
    let authority = |tls: &KafkaTls| {
        tls.ca.as_ref().map(|ca| Authority::Secret(SecretKey::of(ca, &document.fragment.namespace)))
    };
    Kafka {
        brokers: spec.brokers.clone(),
        expect_brokers: spec.expect_brokers,
        tls: spec.tls.as_ref().map(authority),
        topic,
    }
}

/// The login of a database's app role, at the server as `viewer` sees it, under the names that its own fragment gives.
fn login(environment: &Environment, viewer: &Document, component: &Component) -> Definition {
    let database =
        environment.databases().find(|d| d.component == *component).ok_or_else(|| nobody(component))?;
    let (document, spec) = (&database.source.document, database.spec);
    let used = viewer.uses.postgres.get(&spec.server).or_else(|| viewer.postgres.get(&spec.server));
    let server = if let Some(server) = used {
        server_of(server, viewer)
    } else {
        let view = seen_by(document, environment, &spec.server, |d| &d.uses.postgres, |d| &d.postgres);
        let (document, server) = view.ok_or_else(|| nobody(&Component::new(Kind::Postgres, &spec.server)))?;
        server_of(server, document)
    };
    let place = document.place();
    let app = &spec.roles.app;
    Ok(Probe::Login(Login {
        server,
        database: document
            .naming
            .database(spec.physical_base(component.name()), place)
            .map_err(|e| e.to_string())?,
        role: document.naming.role(&app.name, place).map_err(|e| e.to_string())?,
        password: Password::Secret(SecretKey::of(&app.password, place.namespace)),
    }))
}

/// A database through the observer of its environment.
fn observed(environment: &Environment, component: &Component) -> Definition {
    let database =
        environment.databases().find(|d| d.component == *component).ok_or_else(|| nobody(component))?;
    let server = Component::new(Kind::Postgres, &database.spec.server);
    let declared = environment.postgres().find(|s| s.component == server).ok_or_else(|| nobody(&server))?;
    let observer = declared.spec.observer.as_ref().ok_or_else(|| {
        format!("{server} declares no observer, so the hub cannot look into it; each waiter logs in itself")
    })?;
    let document = &declared.source.document;
    Ok(Probe::Observed(Observed {
        server: server_of(declared.spec, document),
        environment: environment.identity().name.clone(),
        component: component.clone(),
        password: Password::Secret(SecretKey::of(&observer.password, &document.fragment.namespace)),
    }))
}

fn topic(environment: &Environment, viewer: &Document, component: &Component) -> Definition {
    let topic = environment.topics().find(|t| t.component == *component).ok_or_else(|| nobody(component))?;
    let (document, spec) = (&topic.source.document, topic.spec);
    let used =
        viewer.uses.kafka.get(&spec.kafka).or_else(|| viewer.kafka.get(&spec.kafka)).map(|c| (viewer, c));
    let view = used.or_else(|| seen_by(document, environment, &spec.kafka, |d| &d.uses.kafka, |d| &d.kafka));
    let (seen_in, cluster) = view.ok_or_else(|| nobody(&Component::new(Kind::Kafka, &spec.kafka)))?;
    let base = spec.name.as_deref().unwrap_or_else(|| component.name());
    let name = document.naming.topic(base, document.place()).map_err(|e| e.to_string())?;
    // The topic's own leaders are what counts; how many brokers there are is `kafka/…`'s affair.
    Ok(Probe::Kafka(Kafka { expect_brokers: 1, ..kafka_of(cluster, seen_in, Some(name)) }))
}

/// The keys a Secret or ConfigMap must hold: those it is made with, and those some document refers to.
fn keys(environment: &Environment, component: &Component) -> Vec<String> {
    let secrets = environment.secrets().filter(|s| s.component == *component);
    let configmaps = environment.configmaps().filter(|c| c.component == *component);
    let made = secrets.filter_map(|s| s.spec.made()).chain(configmaps.filter_map(|c| c.spec.made()));
    let mut keys: BTreeSet<String> = made.flatten().map(str::to_owned).collect();
    let referred = environment.references().into_iter().filter(|(secret, _)| secret == component);
    keys.extend(referred.map(|(_, key)| key));
    keys.into_iter().collect()
}

#[cfg(test)]
pub(crate) mod tests {
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
        assert_eq!(
            waiter(&environment, "database/registry"),
            "postgresql://r_app@pg.infra:6432/dev-a_registry"
        );
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
}
