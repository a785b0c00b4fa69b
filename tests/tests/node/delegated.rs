//! A module whose namespace has no credential of the server: its database is made because its service account asks, and its step is
//! written down in the same way. Whom no rule names is told so.

use acceptance::node::{Place, Shop, images};
use acceptance::{catalog, root, text};
use sandbox::image::Image;
use serde_json::{Value, json};

/// An image without a C library, a shell, or anything else that runs.
const EMPTY: &str = "example.org/empty:1";
/// What the step runs in it: the only program there is.
const VERSION: [&str; 5] = [
    "/run/rollcall/bin/ld.so",
    "--library-path",
    "/run/rollcall/bin",
    "/run/rollcall/bin/postgres-init",
    "--version",
];
const NAMESPACES: [&str; 2] = ["tenant", "stranger"];

/// The server's document names the one; both ask.
pub(crate) async fn provision(place: &Place, shop: &Shop) {
    let mut environment = shop.environment.clone();
    environment["fragments"]["base"]["postgres"]["main"]["delegate"] =
        json!([{"namespaces": [NAMESPACES[0]], "databases": 1}]);
    place.install(&["upgrade", "env", "environment", "--namespace", "base"], &environment);
    place.node.load(&[Image::bare(EMPTY, &root().join("README.md"), "/README.md").unwrap()]).await.unwrap();
    for namespace in NAMESPACES {
        place.kubectl(&["create", "namespace", namespace]);
        place.kubectl(&["create", "serviceaccount", "own-own", "-n", namespace]);
        let password = "--from-literal=password=their own";
        place.kubectl(&["create", "secret", "generic", "ledger-db", "-n", namespace, password]);
        place.install(&["upgrade", "own", "own", "--namespace", namespace], &values(shop, namespace));
    }
    let [tenant, stranger] = NAMESPACES;
    place.until("its own password opens its database", async || place.is_ready(tenant, "app=own")).await;
    let sql = format!(
        "SELECT environment_name || '/' || fragment FROM rollcall.owned WHERE name = '{tenant}_ledger' AND kind = 'database'"
    );
    assert_eq!(catalog::rows_of(&shop.postgres, "rollcall", &sql).await, [format!("(dev/{tenant})")]);
    let ran = "SELECT component, state, exit FROM rollcall.ledger";
    assert_eq!(catalog::rows_of(&shop.postgres, "rollcall", ran).await, ["(step/seed,done,0)"]);

    place
        .until("the stranger is told why not", async || {
            let log = ["logs", "-n", stranger, "-l", "app=own", "-c", "rollcall-provision", "--tail=-1"];
            let said = text(&place.node.kubectl().args(log).output().unwrap());
            said.contains("delegate") && said.contains(stranger)
        })
        .await;
    assert!(!place.is_ready(stranger, "app=own"));
    let made = format!("SELECT datname FROM pg_database WHERE datname ~ '{stranger}'");
    assert_eq!(catalog::rows_of(&shop.postgres, "postgres", &made).await, Vec::<String>::new());
    // The administrator's password is in one namespace.
    let list = place.json(&["get", "secrets", "--all-namespaces", "--field-selector=metadata.name=pg-admin"]);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list:#}");
}

/// A chart of somebody's own that asks for its database, waits until it may log in, and runs a step.
fn values(shop: &Shop, namespace: &str) -> Value {
    let (host, port) = shop.address.rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    let name = format!("{namespace}_ledger");
    let password = json!({"secret": "ledger-db", "key": "password"});
    let document = json!({
        "rollcall": "v1", "environment": shop.environment["fragments"]["base"]["environment"],
        "fragment": {"name": namespace, "namespace": namespace},
        "uses": {"postgres": {"main": {"host": host, "port": port, "tls": {"mode": "disable"}}}},
        "databases": {&name: {"server": "main", "roles": {"app": {"name": &name, "password": password}}}},
        "steps": {"seed": {"database": &name}},
    });
    json!({
        "image": "localhost/rollcall/wait-for-dependency:1",
        "args": ["serve", "--environment=none", format!("--uid={}", uuid::Uuid::from_u128(1))],
        "steps": [{"name": "seed", "image": EMPTY, "command": VERSION}],
        "rollcall": {
            "image": images(), "secrets": "files", "fragments": {namespace: document},
            "postgresInit": "http://env-environment-postgres-init.base:7070",
            "needs": [{"postgres": {"host": host, "port": port, "database": &name, "user": &name, "sslmode": "disable",
                "password": password}}],
        },
    })
}
