//! From documents to probes: how each thing is observed, by a module's waiter with the module's own credentials, and by
//! the hub with none. Pure: documents in, definitions out.

use std::collections::BTreeSet;

use lifecycle::document::{self, Document, Environment, KafkaTls, Ready, SecretKey, Source};
use lifecycle::{Component, Kind};
use postgres::done::Asked;

use crate::probe::{
    Authority, Client, Encryption, Grpc, Http, Kafka, Keycloak, Login, Migrated, Observed, Password, Probe,
    Secret, Server, Tcp,
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
        Kind::Role => reader(environment, own, component),
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
        Kind::Client => client(environment, own, component),
        Kind::Migration => migrated(environment, own, component),
        Kind::Step => {
            recorded(environment, component)?;
            Err(format!("only the hub sees in the ledger whether {component} is done"))
        }
        Kind::Group => Err(nobody(component)),
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
        Kind::Database | Kind::Role => observed(environment, component),
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
        Kind::Client => {
            Err(format!("only who holds its secret can look at {component}; each waiter that needs it does"))
        }
        Kind::Migration | Kind::Step => recorded(environment, component).map(Probe::Observed),
        Kind::Group => Err(nobody(component)),
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

/// A client by its own secret, which a Secret of the module's namespace holds.
fn client(environment: &Environment, own: &Document, component: &Component) -> Definition {
    let declared =
        environment.clients().find(|c| c.component == *component).ok_or_else(|| nobody(component))?;
    let (spec, namespace) = (declared.spec, &own.fragment.namespace);
    let secret = environment.credential(component, namespace).ok_or_else(|| {
        format!(
            "{component} can be looked at only with its secret, and no Secret in namespace {namespace} is declared to hold it; need the module that is its Keycloak instead, or declare one: copy: {{from: {{client: {}}}}}",
            component.name()
        )
    })?;
    let (source, server) = environment.keycloak(&spec.keycloak).ok_or_else(|| {
        format!(
            "no fragment here declares keycloak/{}, where {component} is; give the one that does",
            spec.keycloak
        )
    })?;
    let of = &source.document.fragment.namespace;
    Ok(Probe::Client(Client {
        url: server.url.clone(),
        ca: server.tls.ca.as_ref().map(|ca| SecretKey::of(ca, of)),
        realm: spec.realm.clone(),
        id: spec.id(component.name()).to_owned(),
        secret,
    }))
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
    let server = reached(environment, viewer, document, &spec.server)?;
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

/// A server as `viewer` reaches it, else as `own`, which declares what is on it, does.
fn reached(
    environment: &Environment,
    viewer: &Document,
    own: &Document,
    name: &str,
) -> Result<Server, String> {
    let used = viewer.uses.postgres.get(name).or_else(|| viewer.postgres.get(name));
    if let Some(server) = used {
        return Ok(server_of(server, viewer));
    }
    let view = seen_by(own, environment, name, |d| &d.uses.postgres, |d| &d.postgres);
    let (document, server) = view.ok_or_else(|| nobody(&Component::new(Kind::Postgres, name)))?;
    Ok(server_of(server, document))
}

/// The login of a role that reads several databases, in the one that it is let into last: the last by their names on the server.
fn reader(environment: &Environment, viewer: &Document, component: &Component) -> Definition {
    let role = environment.roles().find(|r| r.component == *component).ok_or_else(|| nobody(component))?;
    let (document, spec) = (&role.source.document, role.spec);
    let mut databases = Vec::new();
    for key in &spec.reads {
        let read = Component::new(Kind::Database, key);
        let database = environment.databases().find(|d| d.component == read).ok_or_else(|| nobody(&read))?;
        let place = database.source.document.place();
        let name = document.naming.database(database.spec.physical_base(key), place);
        databases.push(name.map_err(|e| e.to_string())?);
    }
    let role = document.naming.role(spec.physical_base(component.name()), document.place());
    Ok(Probe::Login(Login {
        server: reached(environment, viewer, document, &spec.server)?,
        database: databases.into_iter().max().ok_or_else(|| format!("{component} reads no database"))?,
        role: role.map_err(|e| e.to_string())?,
        password: Password::Secret(SecretKey::of(&spec.password, &document.fragment.namespace)),
    }))
}

/// A migration by its mark in its database, over the login of that one's module.
fn migrated(environment: &Environment, viewer: &Document, component: &Component) -> Definition {
    let declared =
        environment.migrations().find(|m| m.component == *component).ok_or_else(|| nobody(component))?;
    let database = Component::new(Kind::Database, &declared.spec.database);
    match login(environment, viewer, &database)? {
        Probe::Login(login) => {
            Ok(Probe::Migrated(Migrated { login, migration: component.clone(), hash: declared.spec.hash() }))
        }
        other => Ok(other),
    }
}

/// What is done once, by the ledger of the server that it is written down on.
fn recorded(environment: &Environment, component: &Component) -> Result<Observed, String> {
    let (place, asked) = if component.kind() == Kind::Migration {
        let declared = environment.migrations().find(|m| m.component == *component);
        let spec = declared.ok_or_else(|| nobody(component))?.spec;
        (
            Component::new(Kind::Database, &spec.database),
            Asked { hash: spec.hash(), fragment: None, declared: BTreeSet::new() },
        )
    } else {
        let declared = environment.steps().find(|s| s.component == *component);
        let declared = declared.ok_or_else(|| nobody(component))?;
        // Where a step of another fragment has its name, that one's runs are not its own.
        let fragment = Some(declared.source.document.fragment.name.clone());
        let names = environment.sources().map(|source| source.document.fragment.name.clone()).collect();
        let asked = Asked { hash: declared.spec.hash(), fragment, declared: names };
        (declared.spec.place().ok_or_else(|| nobody(component))?, asked)
    };
    let server = if place.kind() == Kind::Database {
        let database = environment.databases().find(|d| d.component == place);
        Component::new(Kind::Postgres, &database.ok_or_else(|| nobody(&place))?.spec.server)
    } else {
        place
    };
    let observed = on_server(environment, &server, component)?;
    Ok(Observed { asked: Some(asked), ..observed })
}

/// A database, or a role that reads several, through the observer of its environment.
fn observed(environment: &Environment, component: &Component) -> Definition {
    let databases = environment.databases().map(|database| (database.component, &database.spec.server));
    let roles = environment.roles().map(|role| (role.component, &role.spec.server));
    let mut all = databases.chain(roles);
    let (_, server) = all.find(|(one, _)| one == component).ok_or_else(|| nobody(component))?;
    let server = Component::new(Kind::Postgres, server);
    on_server(environment, &server, component).map(Probe::Observed)
}

/// Something on a server through the observer of its environment.
fn on_server(
    environment: &Environment,
    server: &Component,
    component: &Component,
) -> Result<Observed, String> {
    let declared = environment.postgres().find(|s| s.component == *server).ok_or_else(|| nobody(server))?;
    let observer = declared.spec.observer.as_ref().ok_or_else(|| {
        format!("{server} declares no observer, so the hub cannot look into it; each waiter logs in itself")
    })?;
    let document = &declared.source.document;
    Ok(Observed {
        server: server_of(declared.spec, document),
        environment: environment.identity().name.clone(),
        component: component.clone(),
        password: Password::Secret(SecretKey::of(&observer.password, &document.fragment.namespace)),
        asked: None,
    })
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
pub(crate) mod tests;
