//! The Roles that `rollcall rbac` prints for each process: a bring-up works with them alone, each process reads every object
//! that they name, and they allow nothing else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use acceptance::cluster::{Cluster, User, folder, secret};
use acceptance::rights::{asked, named, printed};
use acceptance::running::Running;
use acceptance::{PATIENCE, openg2p, rollcall, root, text, until};
use lifecycle::document::Environment;
use sandbox::{KafkaOptions, Postgres, ports};
use serde_json::json;

fn base(postgres: u16, kafka: u16) -> String {
    format!(
        "
postgres: {{main: {{host: localhost, port: {postgres}, tls: {{mode: verify-full, ca: {{secret: pg-ca, key: ca.crt}}}}, admin: {{user: postgres, password: {{secret: pg-admin, key: password}}}}, observer: {{password: {{secret: observer, key: password}}}}}}}}
kafka: {{main: {{brokers: ['127.0.0.1:{kafka}'], tls: {{ca: {{secret: kafka-ca, key: ca.crt}}}}}}}}
secrets:
  pg-admin: {{external: true}}
  observer: {{generate: {{password: {{kind: password}}}}}}
  authority: {{generate: {{ca.crt: {{kind: ca, common_name: dev, private: ca.key}}}}}}
  servers: {{type: kubernetes.io/tls, generate: {{tls.crt: {{kind: certificate, ca: {{secret: authority}}, names: [localhost, 127.0.0.1], private: tls.key}}}}}}
  pg-ca: {{copy: {{from: authority, keys: {{ca.crt: ca.crt}}}}}}
  kafka-ca: {{copy: {{from: authority, keys: {{ca.crt: ca.crt}}}}}}"
    )
}

fn shop(postgres: u16, kafka: u16) -> String {
    format!(
        "
uses:
  postgres: {{main: {{host: localhost, port: {postgres}, tls: {{mode: verify-full, ca: {{secret: base/pg-ca, key: ca.crt}}}}}}}}
  kafka: {{main: {{brokers: ['127.0.0.1:{kafka}'], tls: {{ca: {{secret: kafka-ca, key: ca.crt}}}}}}}}
databases: {{shop: {{server: main, roles: {{app: {{name: shop_user, password: {{secret: shop-db, key: password}}}}}}}}}}
topics: {{orders: {{kafka: main, partitions: 1}}}}
secrets:
  shop-db: {{generate: {{password: {{kind: password}}}}}}
  kafka-ca: {{copy: {{from: base/kafka-ca}}}}
  signing: {{external: true}}
  other: {{external: true}}
configmaps: {{settings: {{external: true}}, other: {{external: true}}}}
modules:
  web: {{needs: [database/shop, topic/orders], keys: [{{secret: signing, key: key}}, {{configmap: settings, key: url}}]}}
  other: {{needs: [secret/other, configmap/other]}}"
    )
}

/// A process, the account it runs as, and what it may read.
struct Who {
    user: User,
    reads: BTreeSet<String>,
    /// The namespaces in which it writes Events.
    tells: &'static [&'static str],
}

impl Who {
    async fn new(cluster: &Cluster, documents: &Path, name: &str, args: &[&str], reads: &[&str]) -> Who {
        let (user, printed) = cluster.printed(documents, ("base", name), args).await;
        let expected: BTreeSet<String> = reads.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(printed, expected, "{name}");
        Who { user, reads: expected, tells: if name == "hub" { &["shop"] } else { &[] } }
    }

    /// It asked for each of them, and for nothing else: a right to spare would not be noticed otherwise.
    fn asked_for_all(&self, said: &str) -> bool {
        asked(said) == self.reads.iter().map(|name| ("get".to_owned(), name.clone())).collect()
    }

    /// By what the API server says of its rights, in every namespace there is.
    async fn may_do_nothing_else(&self) {
        let mut rights = BTreeSet::new();
        for namespace in ["base", "shop", "rollcall", "default", "kube-system"] {
            rights.extend(self.user.rights(namespace).await);
        }
        let reads = self.reads.iter().map(|name| ("get".to_owned(), name.clone()));
        let tells = self.tells.iter().map(|namespace| ("create".to_owned(), format!("event/{namespace}/*")));
        assert_eq!(rights, reads.chain(tells).collect());
    }
}

#[tokio::test]
async fn a_bring_up_works_with_the_printed_roles_and_they_allow_nothing_else() {
    let cluster = Cluster::start(&[]).await;
    for namespace in ["base", "shop"] {
        cluster.namespace(namespace).await;
    }
    let postgres = cluster.postgres().await;
    let [plain, controller, tls] = ports::free(3).unwrap()[..] else { panic!("no ports") };
    let (base, shop) = (base(postgres.port(), tls), shop(postgres.port(), tls));
    let documents = folder(&cluster.dir().join("documents"), 11, &[("base", &base), ("shop", &shop)]);
    let at = documents.to_str().unwrap();
    cluster.secret("base", "pg-admin", &[("password", postgres.password())]).await;
    cluster.secret("shop", "signing", &[("key", "PLANTEDa8rQzLw3")]).await;
    cluster.secret("shop", "other", &[("key", "PLANTEDb8rQzLw3")]).await;
    cluster.configmap("shop", "settings", &[("url", "http://shop.example")]).await;
    cluster.configmap("shop", "other", &[("url", "http://other.example")]).await;

    // Who makes Secrets makes them, certificates of the servers too.
    let syncer = cluster.printed(&documents, ("base", "secret-syncer"), &[]).await.0;
    let apply = ["secret-syncer", "apply", at];
    Running::start(&cluster, "syncer", &syncer.kubeconfig, &apply).ends(0, "").await;
    let made = cluster.keys("secret/base/servers").await.unwrap();
    encrypt(&postgres, &made["tls.crt"], &made["tls.key"]).await;
    let keys = format!("{}{}", made["tls.key"], made["tls.crt"]);
    let _kafka = cluster.kafka(encrypted(cluster.dir(), &keys, plain, controller, tls)).await;

    // Everybody else only reads.
    let who =
        async |name, args: &[&str], reads: &[&str]| Who::new(&cluster, &documents, name, args, reads).await;
    let provisioner = who(
        "postgres-init",
        &["--service", "postgres-init"],
        &["secret/base/observer", "secret/base/pg-admin", "secret/base/pg-ca", "secret/shop/shop-db"],
    )
    .await;
    let topics = who("topics", &["--service", "topic-provisioner"], &["secret/shop/kafka-ca"]).await;
    let hub = who(
        "hub",
        &["--service", "hub"],
        &["secret/base/observer", "secret/base/pg-ca", "secret/base/kafka-ca", "secret/shop/kafka-ca"],
    )
    .await;
    let web = who(
        "web",
        &["--module", "web"],
        &[
            "secret/base/pg-ca",
            "secret/shop/kafka-ca",
            "secret/shop/shop-db",
            "secret/shop/signing",
            "configmap/shop/settings",
        ],
    )
    .await;
    let other = who("other", &["--module", "other"], &["secret/shop/other", "configmap/shop/other"]).await;

    let traced = [("ROLLCALL_LOG", "trace"), ("ROLLCALL_LOG_FORMAT", "text")];
    let serve = ["wait-for-dependency", "serve"];
    let serving = cluster.serve_by(acceptance::binary(), &serve, &hub.user, &documents, "hub", &traced).await;
    for (name, who, args, says) in [
        ("postgres-init", &provisioner, &["postgres-init", "apply", at][..], ""),
        ("topics", &topics, &["topic-provisioner", "apply", at], ""),
        ("topics-plan", &topics, &["topic-provisioner", "plan", at], ""),
        ("web", &web, &["wait-for-dependency", "wait", "--module", "web", at], "released: database/shop"),
        (
            "other",
            &other,
            &["wait-for-dependency", "wait", "--module", "other", at],
            "released: secret/shop/other",
        ),
    ] {
        let said = Running::start(&cluster, name, &who.user.kubeconfig, args).ends(0, says).await;
        assert!(who.asked_for_all(&said), "{name} asked for {:?}, may read {:?}", asked(&said), who.reads);
    }
    let address = format!("http://127.0.0.1:{}", serving.grpc);
    for component in ["postgres/main", "kafka/main", "database/shop", "topic/orders"] {
        until(component, async || {
            let said = text(&rollcall(&["status", component, "--hub", &address], &[]));
            said.lines().any(|line| line.starts_with("ready") && line.ends_with(component))
        })
        .await;
    }
    let said = std::fs::read_to_string(&serving.log).unwrap();
    assert!(hub.asked_for_all(&said), "the hub asked for {:?}, may read {:?}", asked(&said), hub.reads);

    for who in [&provisioner, &topics, &hub, &web, &other] {
        who.may_do_nothing_else().await;
    }
    the_waiter_is_denied(&web.user).await;
    serving.handle.stop(PATIENCE).await.unwrap();
    cluster.stop().await;
}

/// Not only by what is said of rights: the deeds.
async fn the_waiter_is_denied(waiter: &User) {
    waiter.call("GET", "/api/v1/namespaces/shop/secrets/shop-db", None).await.unwrap();
    let own = secret("shop", "shop-db", &[("password", "x")]);
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    for (method, path, body) in [
        ("GET", "/api/v1/namespaces/base/secrets/pg-admin", None),
        ("GET", "/api/v1/namespaces/base/secrets/observer", None),
        ("GET", "/api/v1/namespaces/base/secrets/authority", None),
        ("GET", "/api/v1/namespaces/shop/secrets/other", None),
        ("GET", "/api/v1/namespaces/shop/configmaps/other", None),
        ("GET", "/api/v1/namespaces/shop/secrets", None),
        ("GET", "/api/v1/secrets", None),
        ("GET", "/api/v1/namespaces/shop/secrets?fieldSelector=metadata.name%3Dshop-db", None),
        ("GET", "/api/v1/namespaces/shop/secrets?watch=true&fieldSelector=metadata.name%3Dshop-db", None),
        ("POST", "/api/v1/namespaces/shop/secrets", Some(own.clone())),
        ("PUT", "/api/v1/namespaces/shop/secrets/shop-db", Some(own)),
        ("DELETE", "/api/v1/namespaces/shop/secrets/shop-db", None),
        ("DELETE", "/api/v1/namespaces/shop/secrets", None),
        ("GET", "/api/v1/namespaces/shop/pods", None),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles", None),
        ("POST", "/api/v1/namespaces/base/serviceaccounts/postgres-init/token", Some(token)),
    ] {
        let error = waiter.call(method, path, body).await.unwrap_err();
        assert!(
            matches!(&error, kube::Error::Api(status) if status.code == 403),
            "{method} {path}: {error:?}"
        );
    }
}

/// Gives the server a certificate.
async fn encrypt(postgres: &Postgres, certificate: &str, key: &str) {
    let data = postgres.data_dir();
    let owner = std::fs::metadata(data).unwrap();
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        let file = data.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    postgres.stop().await.unwrap();
    let file = data.join("postgresql.auto.conf");
    let settings = std::fs::read_to_string(&file).unwrap_or_default();
    std::fs::write(&file, format!("{settings}ssl = on\n")).unwrap();
    postgres.start().await.unwrap();
    postgres.ready(PATIENCE).await.unwrap();
}

/// Brokers that speak TLS on a port of its own.
fn encrypted(dir: &Path, keys: &str, plain: u16, controller: u16, tls: u16) -> KafkaOptions {
    let file = dir.join("kafka.pem");
    std::fs::write(&file, keys).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let at = |name: &str, port: u16| format!("{name}://127.0.0.1:{port}");
    let listeners = [at("PLAINTEXT", plain), at("CONTROLLER", controller), at("SSL", tls)].join(",");
    let settings = [
        ("listeners", listeners),
        ("advertised.listeners", [at("PLAINTEXT", plain), at("SSL", tls)].join(",")),
        ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL".to_owned()),
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", file.display().to_string()),
    ];
    let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    KafkaOptions { port: Some(plain), settings, ..KafkaOptions::default() }
}

/// The reference environments: every module's waiter gets its Roles, and nobody but postgres-init the administrator's password.
#[test]
fn every_module_of_the_reference_environments_has_roles_without_an_administrators_password() {
    for folder in [openg2p(), root().join("charts/environments/mosip")] {
        let environment = chassis::documents::load_complete(std::slice::from_ref(&folder)).unwrap();
        let admins = admins(&environment);
        let services = ["postgres-init", "topic-provisioner", "hub"].map(|name| ["--service", name]);
        let modules: Vec<String> = environment.modules().map(|m| m.component.name().to_owned()).collect();
        let modules = modules.iter().map(|module| ["--module", module.as_str()]);
        for args in services.into_iter().chain(modules) {
            let printed = printed(&folder, ("default", "someone"), &args);
            let read: BTreeSet<String> = named(&printed).intersection(&admins).cloned().collect();
            let expected = if args[1] == "postgres-init" { admins.clone() } else { BTreeSet::new() };
            assert_eq!(read, expected, "{args:?}");
            for rule in printed.iter().flat_map(|object| object["rules"].as_array().into_iter().flatten()) {
                let tells = args[1] == "hub" && rule["resources"] == json!(["events"]);
                let verbs = if tells { json!(["create"]) } else { json!(["get"]) };
                assert_eq!(rule["verbs"], verbs, "{args:?}");
            }
        }
    }
}

fn admins(environment: &Environment) -> BTreeSet<String> {
    let admins = environment.postgres().filter_map(|server| {
        let admin = server.spec.admin.as_ref()?;
        Some(server.secret(&admin.password.secret).to_string())
    });
    admins.collect()
}

#[test]
fn who_asks_wrongly_is_told_and_gets_no_role() {
    let dir = tempfile::tempdir().unwrap();
    let document = "
postgres: {main: {host: pg, admin: {user: postgres, password: {secret: pg, key: password}}}}
secrets: {pg: {external: true}}
modules: {greedy: {needs: [secret/pg]}, frugal: {}}";
    let documents = folder(dir.path(), 12, &[("shop", document)]);
    let ask = |args: &[&str]| {
        let all = [&["rbac", documents.to_str().unwrap(), "--account", "shop/a"], args].concat();
        let output = rollcall(&all, &[]);
        (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap(), text(&output))
    };
    for (args, code, says) in [
        (
            &["--module", "greedy"][..],
            65,
            "the waiter of module/greedy would read secret/shop/pg, which holds",
        ),
        (&["--module", "nobody"], 2, "no document declares module/nobody; declared are: frugal, greedy"),
        (&["--module", "frugal", "--service", "hub"], 2, "cannot be used with"),
        (&["--service", "telemetry-exporter"], 2, "possible values: secret-syncer"),
        (&["--module", "frugal"], 0, "waiter-frugal needs no Role: it reads no Secret or ConfigMap"),
        (
            &["--service", "postgres-init", "--namespace", "web"],
            0,
            "reads no Secret or ConfigMap of namespace web",
        ),
    ] {
        let (exit, stdout, all) = ask(args);
        assert_eq!((exit, stdout.trim()), (Some(code), ""), "{args:?}: {all}");
        assert!(all.contains(says), "{args:?}: {all}");
    }
    assert_eq!(
        ask(&[]).1,
        ask(&["--service", "secret-syncer"]).1,
        "what nobody is named for is secret-syncer's"
    );
}
