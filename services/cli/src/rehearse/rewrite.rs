//! The documents that rehearsed processes get: the same environment, at the sandbox's addresses.
//!
//! Only hosts, ports, brokers, URLs and TLS are replaced. Everything else, names above all, stays as it is.

use std::collections::BTreeMap;

use lifecycle::document::{
    Document, Environment, Kafka, KeycloakTls, KeycloakTlsMode, Postgres, Ready, Tls, TlsMode,
};
use url::Url;

/// Where the sandbox runs what documents speak of. Everything is on 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The port of the one Postgres server that stands for all of them.
    pub postgres: u16,
    /// The one Kafka that stands for all of them: `host:port`.
    pub brokers: String,
    /// The port of each module's and each endpoint's stand-in, by component name, for example `module/registry`.
    pub stand_ins: BTreeMap<String, u16>,
}

/// Host of everything in the sandbox.
const LOOPBACK: &str = "127.0.0.1";
/// The port of what has no place in the sandbox: nobody serves it, and nothing beyond this machine is asked instead.
const NOBODY: u16 = 9;

/// The environment's documents at the sandbox's addresses, in the order of their fragments' names.
pub fn rewrite(environment: &Environment, addresses: &Addresses) -> Vec<Document> {
    environment.sources().map(|source| document(source.document.clone(), addresses)).collect()
}

/// The names of everything that needs a stand-in: modules and endpoints that say how they are seen to be ready.
pub fn stand_ins(environment: &Environment) -> Vec<String> {
    let modules = environment.modules().filter(|m| m.spec.ready.is_some()).map(|m| m.component.to_string());
    modules.chain(environment.endpoints().map(|e| e.component.to_string())).collect()
}

fn document(mut document: Document, addresses: &Addresses) -> Document {
    for server in document.postgres.values_mut().chain(document.uses.postgres.values_mut()) {
        postgres(server, addresses);
    }
    for cluster in document.kafka.values_mut().chain(document.uses.kafka.values_mut()) {
        kafka(cluster, addresses);
    }
    for server in document.keycloak.values_mut() {
        let module = server.module.as_ref().map(|name| format!("module/{name}"));
        let port = module.and_then(|module| addresses.stand_ins.get(&module)).copied();
        at(&mut server.url, port.unwrap_or(NOBODY));
        server.tls = KeycloakTls { mode: KeycloakTlsMode::Disable, ca: None };
    }
    for vault in document.vault.values_mut() {
        // Documents speak to a Vault over https only.
        let _ = vault.url.set_host(Some(LOOPBACK));
        let _ = vault.url.set_port(Some(NOBODY));
    }
    for (name, module) in &mut document.modules {
        if let Some(ready) = &mut module.ready {
            redirect(ready, &format!("module/{name}"), addresses);
        }
    }
    for (name, used) in &mut document.uses.modules {
        if let Some(ready) = &mut used.ready {
            redirect(ready, &format!("module/{name}"), addresses);
        }
    }
    for (name, ready) in &mut document.endpoints {
        redirect(ready, &format!("endpoint/{name}"), addresses);
    }
    document
}

fn postgres(server: &mut Postgres, addresses: &Addresses) {
    LOOPBACK.clone_into(&mut server.host);
    server.port = addresses.postgres;
    server.tls = Tls { mode: TlsMode::Disable, ca: None };
}

fn kafka(cluster: &mut Kafka, addresses: &Addresses) {
    cluster.brokers = vec![addresses.brokers.clone()];
    cluster.expect_brokers = 1;
    cluster.tls = None;
}

fn redirect(ready: &mut Ready, component: &str, addresses: &Addresses) {
    let Some(port) = addresses.stand_ins.get(component) else { return };
    if let Some(tcp) = &mut ready.tcp {
        tcp.address = format!("{LOOPBACK}:{port}");
    }
    for url in [
        ready.http.as_mut().map(|http| &mut http.url),
        ready.grpc.as_mut().map(|grpc| &mut grpc.url),
        ready.keycloak.as_mut().map(|keycloak| &mut keycloak.url),
    ]
    .into_iter()
    .flatten()
    {
        at(url, *port);
    }
    if let Some(keycloak) = &mut ready.keycloak {
        // A stand-in has no management interface.
        keycloak.management = None;
    }
}

fn at(url: &mut Url, port: u16) {
    // None of these can fail for the http and https addresses that documents hold.
    let _ = url.set_scheme("http");
    let _ = url.set_host(Some(LOOPBACK));
    let _ = url.set_port(Some(port));
}

#[cfg(test)]
mod tests {
    use lifecycle::document::Source;

    use super::*;

    const TEXT: &str = r#"
rollcall: v1
environment: {name: dev, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}
fragment: {name: base, namespace: dev}
postgres: {main: {host: commons-postgresql, tls: {mode: verify-full, ca: {secret: pg-ca, key: ca.crt}}}}
kafka: {main: {brokers: ["a:9092", "b:9092"], expect_brokers: 3, tls: {}}}
keycloak:
  main: {url: "https://id/auth", module: web, tls: {ca: {secret: pg-ca, key: ca.crt}}, login: {client: a, secret: {secret: pg-ca, key: a}}}
  far: {url: "https://id.example", login: {client: a, secret: {secret: pg-ca, key: a}}}
vault: {main: {url: "https://vault.example:8200", login: {kubernetes: {role: a}}}}
secrets: {pg-ca: {external: true}}
endpoints: {smtp: {tcp: {address: "mail:25"}}}
modules:
  web: {ready: {http: {url: "https://web/health?deep=1", json: {/status: UP}}}}
  worker: {}
"#;

    fn environment() -> Environment {
        let document = chassis::documents::parse("base.yaml", TEXT).unwrap();
        Environment::merge([Source { file: "base.yaml".to_owned(), document }]).environment.unwrap()
    }

    #[test]
    fn only_addresses_change() {
        let stand_ins = [("module/web".to_owned(), 1001), ("endpoint/smtp".to_owned(), 1002)].into();
        let addresses = Addresses { postgres: 5433, brokers: "127.0.0.1:9093".to_owned(), stand_ins };
        let rewritten = rewrite(&environment(), &addresses).remove(0);
        let expected = TEXT
            .replace(
                "host: commons-postgresql, tls: {mode: verify-full, ca: {secret: pg-ca, key: ca.crt}}",
                "host: 127.0.0.1, port: 5433, tls: {mode: disable}",
            )
            .replace(
                r#"brokers: ["a:9092", "b:9092"], expect_brokers: 3, tls: {}"#,
                r#"brokers: ["127.0.0.1:9093"]"#,
            )
            .replace("mail:25", "127.0.0.1:1002")
            .replace("https://web/", "http://127.0.0.1:1001/")
            .replace(
                r#""https://id/auth", module: web, tls: {ca: {secret: pg-ca, key: ca.crt}}"#,
                r#""http://127.0.0.1:1001/auth", module: web, tls: {mode: disable}"#,
            )
            .replace(r#""https://id.example""#, r#""http://127.0.0.1:9", tls: {mode: disable}"#)
            .replace("vault.example:8200", "127.0.0.1:9");
        assert!(!expected.contains("example"), "nothing beyond this machine: {expected}");
        assert_eq!(rewritten, chassis::documents::parse("base.yaml", &expected).unwrap());
    }

    #[test]
    fn whatever_can_be_seen_to_be_ready_gets_a_stand_in() {
        assert_eq!(stand_ins(&environment()), ["module/web", "endpoint/smtp"]);
    }
}
