//! PostgreSQL and Kafka of this machine, found by the pods of a namespace where documents say that they are.

use sandbox::{Kafka, KafkaOptions, Postgres, PostgresOptions};
use serde_json::{Value, json};

use super::{Place, READY};

/// What the reference documents call them.
const POSTGRES: &str = "commons-postgresql";
const KAFKA: &str = "commons-kafka";

/// The servers that environments share.
pub struct Servers {
    /// PostgreSQL.
    pub postgres: Postgres,
    /// Kafka.
    pub kafka: Kafka,
    host: String,
}

impl Servers {
    /// Starts them where pods reach them.
    pub async fn new(place: &Place) -> Servers {
        let host = place.node.host().unwrap();
        let also = Some(host);
        // Every module of several environments has a connection now and then.
        let settings = vec![("max_connections".to_owned(), "300".to_owned())];
        let options = PostgresOptions { also, settings, ..PostgresOptions::default() };
        let postgres = place.sandbox.postgres(options).await.unwrap();
        let kafka = place.sandbox.kafka(KafkaOptions { also, ..KafkaOptions::default() }).await.unwrap();
        postgres.ready(READY).await.unwrap();
        kafka.ready(READY).await.unwrap();
        Servers { postgres, kafka, host: host.to_string() }
    }

    /// Makes a namespace in which they have the names of the reference documents, with the administrator's Secret.
    pub fn found_in(&self, place: &Place, namespace: &str) {
        let kafka = self.kafka.brokers_also().unwrap();
        let kafka = kafka.rsplit(':').next().unwrap().parse().unwrap();
        let mut items =
            vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})];
        items.extend(self.service(namespace, POSTGRES, 5432, self.postgres.port()));
        items.extend(self.service(namespace, KAFKA, 9092, kafka));
        items.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": POSTGRES, "namespace": namespace},
            "stringData": {"postgres-password": self.postgres.password()},
        }));
        place.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}));
    }

    /// A Service without a selector, and where it leads.
    fn service(&self, namespace: &str, name: &str, port: u16, real: u16) -> [Value; 2] {
        let labels = json!({"kubernetes.io/service-name": name});
        [
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
                "spec": {"ports": [{"port": port, "targetPort": real}]},
            }),
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "ports": [{"port": real}], "endpoints": [{"addresses": [self.host]}],
            }),
        ]
    }
}
