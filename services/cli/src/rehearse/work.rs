//! What a stand-in does with what it needs: it writes a table in each database with its own role, and produces to and
//! reads from each topic.

use std::time::Duration;

use chassis::secret::SecretStore;
use chassis::{Exit, Failure};
use lifecycle::document::{Database, Declared, Environment, Topic};
use lifecycle::{Component, Kind};
use postgres::{Server, Session};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use tracing::info;

use super::stand_in::needs_of;

/// How long a module's work in one database or topic may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Works in every database and topic the module needs. Any failure is a failure of the rehearsal: what the module needs
/// was promised to work.
pub(super) async fn at(
    environment: &Environment,
    module: &str,
    secrets: &SecretStore,
) -> Result<(), Failure> {
    let broken = |component: &Component, error: &dyn std::fmt::Display| {
        Failure::new(Exit::DependencyFailed, format!("module/{module} cannot work with {component}: {error}"))
    };
    for component in needs_of(environment, module, Kind::Database) {
        if let Some(database) = environment.databases().find(|d| d.component == component) {
            write_table(environment, &database, module, secrets).await.map_err(|e| broken(&component, &e))?;
            info!(%component, "wrote a table");
        }
    }
    for component in needs_of(environment, module, Kind::Topic) {
        if let Some(topic) = environment.topics().find(|t| t.component == component) {
            let (brokers, name) = whereabouts(environment, &topic).map_err(|e| broken(&component, &e))?;
            echo(&brokers, &name, module).await.map_err(|e| broken(&component, &e))?;
            info!(%component, "produced and read a record");
        }
    }
    Ok(())
}

async fn write_table(
    environment: &Environment,
    database: &Declared<'_, Database>,
    module: &str,
    secrets: &SecretStore,
) -> Result<(), String> {
    let document = &database.source.document;
    let spec = document
        .postgres
        .get(&database.spec.server)
        .or_else(|| document.uses.postgres.get(&database.spec.server))
        .ok_or("its server is not declared")?;
    let component = Component::new(Kind::Postgres, &database.spec.server);
    let server =
        Server::resolve(&component, spec, &document.fragment.namespace, secrets).await.map_err(text)?;
    let app = &database.spec.roles.app;
    let password =
        secrets.password(&database.secret(&app.password.secret), &app.password.key).await.map_err(text)?;
    let (naming, place) = (environment.naming(), document.place());
    let user = naming.role(&app.name, place).map_err(text)?;
    let name =
        naming.database(database.spec.physical_base(database.component.name()), place).map_err(text)?;
    let mut session =
        Session::open(&server, &user, Some(&password), &name, &format!("module/{module}"), WITHIN)
            .await
            .map_err(text)?;
    let table = format!("rehearsal_{}", module.replace('-', "_"));
    let wrote = async {
        session.execute(format!("CREATE TABLE IF NOT EXISTS {table} (started timestamptz NOT NULL)")).await?;
        session.execute(format!("INSERT INTO {table} VALUES (now())")).await
    }
    .await;
    session.close().await;
    wrote.map_err(text)
}

/// The brokers and the physical name of a topic.
fn whereabouts(environment: &Environment, topic: &Declared<'_, Topic>) -> Result<(String, String), String> {
    let document = &topic.source.document;
    let cluster = document
        .kafka
        .get(&topic.spec.kafka)
        .or_else(|| document.uses.kafka.get(&topic.spec.kafka))
        .ok_or("its Kafka is not declared")?;
    let base = topic.spec.name.as_deref().unwrap_or_else(|| topic.component.name());
    let name = environment.naming().topic(base, document.place()).map_err(text)?;
    Ok((cluster.brokers.join(","), name))
}

/// Produces a record and reads it back from where it was written.
async fn echo(brokers: &str, topic: &str, module: &str) -> Result<(), String> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("allow.auto.create.topics", "false");
    let producer: FutureProducer = config
        .clone()
        .set("acks", "all")
        .set("message.timeout.ms", WITHIN.as_millis().to_string())
        .create()
        .map_err(text)?;
    let record = FutureRecord::to(topic).key(module).payload(module);
    let delivery = producer.send(record, WITHIN).await.map_err(|(error, _)| text(error))?;
    let (partition, offset, topic, module) =
        (delivery.partition, delivery.offset, topic.to_owned(), module.to_owned());
    let read = move || {
        let consumer: BaseConsumer = config.set("group.id", "rehearsal").create().map_err(text)?;
        let mut at = TopicPartitionList::new();
        at.add_partition_offset(&topic, partition, Offset::Offset(offset)).map_err(text)?;
        consumer.assign(&at).map_err(text)?;
        match consumer.poll(WITHIN) {
            Some(Ok(message)) if message.payload() == Some(module.as_bytes()) => Ok(()),
            Some(Ok(_)) => Err("read another record than the one produced".to_owned()),
            Some(Err(error)) => Err(text(error)),
            None => Err(format!("the record produced was not to be read within {} s", WITHIN.as_secs())),
        }
    };
    tokio::task::spawn_blocking(read).await.map_err(text)?
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
