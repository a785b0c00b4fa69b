//! Clients of the bus's cluster: one place for every setting (design §7), and librdkafka's own words kept quiet.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, FutureProducer, ProducerContext};

/// The environment's lifecycle topic.
pub fn lifecycle_topic(environment_name: &str) -> String {
    format!("rollcall.{environment_name}.lifecycle")
}

/// Who made which topic; belongs to no environment.
pub const OWNERSHIP_TOPIC: &str = "rollcall.ownership";

/// What every client begins with.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "rollcall"),
    ("socket.keepalive.enable", "true"),
    ("socket.timeout.ms", "10000"),
    ("socket.connection.setup.timeout.ms", "5000"),
    ("reconnect.backoff.ms", "100"),
    ("reconnect.backoff.max.ms", "2000"),
    // How long a topic may be missing before librdkafka believes it: it decides how soon a wiped broker is noticed.
    ("topic.metadata.propagation.max.ms", "5000"),
    ("topic.metadata.refresh.interval.ms", "30000"),
];

/// How to reach a cluster: its brokers, and what else a client must be told (TLS, SASL) in librdkafka's own names.
#[derive(Clone, PartialEq, Eq)]
pub struct Cluster {
    brokers: String,
    properties: BTreeMap<String, String>,
}

impl Cluster {
    /// The cluster with these bootstrap brokers, `host:port`, comma-separated.
    pub fn new(brokers: impl Into<String>) -> Self {
        Cluster { brokers: brokers.into(), properties: BTreeMap::new() }
    }

    /// The same cluster with one more client property, for example `security.protocol`.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// The bootstrap brokers.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// `defaults` may be changed by properties, what this sets itself may not.
    fn config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        let properties = self.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in DEFAULTS.iter().chain(defaults).copied().chain(properties) {
            config.set(key, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("allow.auto.create.topics", "false")
            // Client metrics pushed to brokers are of no use to anybody here.
            .set("enable.metrics.push", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    pub(super) fn admin(&self, context: &QuietContext) -> Result<AdminClient<QuietContext>, KafkaError> {
        self.config(&[]).create_with_context(context.clone())
    }

    pub(super) fn producer(
        &self,
        context: &QuietContext,
    ) -> Result<FutureProducer<QuietContext>, KafkaError> {
        self.config(&[("linger.ms", "0"), ("message.timeout.ms", "10000")])
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .create_with_context(context.clone())
    }

    /// A client that only asks. Without a group it is let go of at once, where a consumer takes a tenth of a second.
    pub(super) fn asker(&self, context: &QuietContext) -> Result<BaseConsumer<QuietContext>, KafkaError> {
        self.config(&[]).create_with_context(context.clone())
    }

    pub(super) fn consumer(
        &self,
        context: &QuietContext,
    ) -> Result<StreamConsumer<QuietContext>, KafkaError> {
        let defaults = [
            ("fetch.min.bytes", "1"),
            // A long poll: it returns at once when there is news, and an idle reader costs a request in five seconds.
            ("fetch.wait.max.ms", "5000"),
            ("fetch.error.backoff.ms", "200"),
            ("queued.max.messages.kbytes", "4096"),
        ];
        self.config(&defaults)
            // librdkafka hands out no messages without a group name. The group is never joined: partitions are assigned,
            // nothing is committed.
            .set("group.id", "rollcall")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .create_with_context(context.clone())
    }
}

// Properties may hold a password.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("brokers", &self.brokers)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl From<&str> for Cluster {
    fn from(brokers: &str) -> Self {
        Cluster::new(brokers)
    }
}

impl From<&[String]> for Cluster {
    fn from(brokers: &[String]) -> Self {
        Cluster::new(brokers.join(","))
    }
}

/// Keeps librdkafka's words at debug level: it repeats itself for as long as a broker is away, and we report that once.
/// The last error is kept, because an operation that fails afterwards says less than it.
#[derive(Debug, Clone, Default)]
pub struct QuietContext {
    last: Arc<Mutex<Option<String>>>,
}

impl QuietContext {
    /// The last error since the last time somebody asked, in librdkafka's words.
    pub fn take_last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for QuietContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // "All brokers are down" follows what says why.
        if last.is_none() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *last = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for QuietContext {}

impl ProducerContext for QuietContext {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}
