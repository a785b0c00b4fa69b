//! Documents for scenarios: an environment small enough to come up in seconds, with every kind of thing in it.

/// A fragment that declares the servers, one database, one topic, their Secrets, and three modules: `web` needs the
/// database, `worker` the topic, `portal` needs `web`.
pub fn small(environment: &str, uid: u128, naming: &str) -> String {
    let uid = uid_text(uid);
    format!(
        r#"
rollcall: v1
environment: {{name: {environment}, uid: {uid}}}
fragment: {{name: base, namespace: {environment}}}
naming: {naming}
postgres:
  main:
    host: postgresql
    admin: {{user: postgres, password: {{secret: postgresql, key: postgres-password}}}}
    observer: {{password: {{secret: observer, key: password}}}}
kafka: {{main: {{brokers: ["kafka:9092"]}}}}
databases:
  shop:
    server: main
    roles: {{app: {{name: shop_user, password: {{secret: shop-db, key: password}}, ddl: as-owner}}}}
    extensions: [pg_trgm]
secrets:
  postgresql: {{external: true}}
  observer: {{generate: {{password: {{kind: password}}}}}}
  shop-db: {{generate: {{password: {{kind: password}}}}}}
  web-db: {{copy: {{from: shop-db, keys: {{db-password: password}}}}}}
topics:
  shop.orders: {{kafka: main, partitions: 3, config: {{retention.ms: "3600000"}}}}
modules:
  web:
    needs: [database/shop, secret/web-db]
    ready: {{http: {{url: "http://web/health", json: {{/status: UP}}}}}}
  worker:
    needs: [topic/shop.orders]
    ready: {{tcp: {{address: "worker:7000"}}}}
  portal:
    needs: [module/web]
    ready: {{grpc: {{url: "http://portal:50051"}}}}
"#
    )
}

/// The small environment with plain names.
pub fn plain() -> String {
    small("shop", 0x5109, PLAIN)
}

/// Physical names as in the documents.
pub const PLAIN: &str = r#"{database: "{name}", role: "{name}", topic: "{name}"}"#;
/// Physical names that carry the environment's.
pub const TEMPLATES: &str =
    r#"{database: "{environment}_{name}", role: "{environment}_{name}", topic: "{environment}.{name}"}"#;

/// A uid from a number.
pub fn uid_text(uid: u128) -> String {
    let hex = format!("{uid:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// One more fragment of [`plain`]'s environment, which declares `body`.
pub fn fragment(name: &str, body: &str) -> String {
    let uid = uid_text(0x5109);
    format!(
        "rollcall: v1\nenvironment: {{name: shop, uid: {uid}}}\nfragment: {{name: {name}, namespace: shop}}\nnaming: {PLAIN}\n{body}"
    )
}
