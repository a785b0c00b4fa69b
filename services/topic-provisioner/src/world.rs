//! Looking at a cluster and changing it: topics, their settings, and the records of who made them.

mod client;
mod create;
mod records;
mod teardown;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chassis::bus::{BusError, OWNERSHIP_TOPIC};
use chassis::converge::{Fault, Reconcile};
use chassis::secret::{SecretError, SecretStore};
use lifecycle::{Component, Evidence};
use rdkafka::admin::NewPartitions;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::plan::ownership::{State, fold};
use crate::plan::{self, Action, Step, World};
use crate::spec::{Connection, Spec};
use client::Client;
use records::Records;

/// One request to the cluster takes at most this long.
const REQUEST: Duration = Duration::from_secs(5);
/// How long a topic just made may take to have leaders before the next look takes over.
const SETTLE: Duration = Duration::from_secs(5);
/// How long what was seen after creating many is taken for what is.
const BATCH: Duration = Duration::from_secs(5);

/// What goes wrong with a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No broker answers, or not in time.
    #[error("{cluster} at {brokers} cannot be reached: {reason}")]
    Unreachable {
        /// The cluster.
        cluster: Component,
        /// The brokers that were asked.
        brokers: String,
        /// The last that was heard, in librdkafka's words.
        reason: String,
        /// The error's code.
        code: RDKafkaErrorCode,
    },
    /// The cluster refuses something.
    #[error("{cluster}: {action}{}: {code}{}", of_topic(topic), advice(*code))]
    Refused {
        /// The cluster.
        cluster: Component,
        /// What was tried.
        action: &'static str,
        /// The topic; empty when it was about none.
        topic: String,
        /// The answer.
        code: RDKafkaErrorCode,
    },
    /// The certificates to trust cannot be read.
    #[error("the certificate authority of {cluster}")]
    Authority {
        /// The cluster.
        cluster: Component,
        /// Why.
        source: Box<SecretError>,
    },
    /// The records of ownership cannot be read or written.
    #[error("the records of ownership on {cluster}")]
    Records {
        /// The cluster.
        cluster: Component,
        /// Why.
        source: Box<BusError>,
    },
    /// The topic's ownership changed after it was looked at.
    #[error(
        "topic `{topic}` of {cluster} was claimed or created by somebody else at the same moment; it is looked at again"
    )]
    Changed {
        /// The cluster.
        cluster: Component,
        /// The topic.
        topic: String,
    },
}

fn of_topic(topic: &str) -> String {
    if topic.is_empty() { String::new() } else { format!(" topic `{topic}`") }
}

/// What to do about an answer that does not explain itself.
fn advice(code: RDKafkaErrorCode) -> &'static str {
    use RDKafkaErrorCode as Code;
    match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            "; allow this client Create, Alter, Describe and DescribeConfigs (for a teardown Delete too, and Describe on groups) on the \
             environment's topics, and Read and Write on rollcall.ownership"
        }
        Code::PolicyViolation => "; the cluster's own policy forbids it: ask who runs it, or ask for less",
        Code::TopicDeletionDisabled => {
            "; the cluster deletes no topics: set delete.topic.enable on its brokers"
        }
        Code::InvalidConfig => "; correct the topic's `config`",
        Code::InvalidTopic => "; the name is not allowed, or `.` and `_` make it the same as another's",
        Code::InvalidReplicationFactor => "; ask for fewer replicas, or add brokers",
        _ => "",
    }
}

impl Fault for Error {
    fn is_transient(&self) -> bool {
        use RDKafkaErrorCode as Code;
        match self {
            Error::Unreachable { .. } | Error::Changed { .. } => true,
            Error::Authority { source, .. } => source.is_transient(),
            Error::Records { source, .. } => source.is_transient(),
            Error::Refused { code, .. } => !matches!(
                code,
                Code::TopicAuthorizationFailed
                    | Code::ClusterAuthorizationFailed
                    | Code::GroupAuthorizationFailed
                    | Code::TopicDeletionDisabled
                    | Code::PolicyViolation
                    | Code::InvalidConfig
                    | Code::InvalidTopic
                    | Code::InvalidPartitions
                    | Code::InvalidReplicationFactor
                    | Code::InvalidRequest
                    | Code::UnsupportedVersion
                    | Code::UnsupportedFeature
                    | Code::InvalidArgument
            ),
        }
    }

    fn code(&self) -> String {
        let code = match self {
            Error::Unreachable { code, .. } | Error::Refused { code, .. } => code,
            Error::Records { source, .. } => match &**source {
                BusError::Kafka { code, .. } => code,
                _ => return String::new(),
            },
            Error::Authority { .. } | Error::Changed { .. } => return String::new(),
        };
        format!("{code:?}")
    }
}

/// What was created together with the first topic that asked for it.
#[derive(Default)]
struct Batch {
    /// When; what nobody asked for soon is forgotten.
    at: Option<Instant>,
    /// How each creation went.
    outcomes: BTreeMap<Component, Result<(), Error>>,
    /// What a look afterwards saw of each.
    seen: BTreeMap<Component, World>,
}

impl Batch {
    fn fresh(&mut self) -> &mut Self {
        if self.at.is_none_or(|at| at.elapsed() > BATCH) {
            *self = Batch::default();
        }
        self
    }
}

/// A cluster whose topics are made to be as documents say.
pub struct KafkaTarget {
    cluster: Component,
    connection: Connection,
    secrets: SecretStore,
    /// Kept from look to look: a client is two threads and a handful of connections.
    client: Mutex<Option<Arc<Client>>>,
    /// The topics created together, until each was asked for.
    batch: Mutex<Batch>,
}

impl KafkaTarget {
    /// The cluster of a spec; its certificate authority is read from `secrets`.
    pub fn new(spec: &Spec, secrets: SecretStore) -> Self {
        KafkaTarget {
            cluster: spec.cluster.clone(),
            connection: spec.connection.clone(),
            secrets,
            client: Mutex::new(None),
            batch: Mutex::new(Batch::default()),
        }
    }

    async fn client(&self) -> Result<Arc<Client>, Error> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(Client::new(&self.cluster, &self.connection, &self.secrets).await?);
        *kept = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Looks, and gives the client up when nobody answers: a certificate or an address may have changed.
    async fn look(&self, spec: &Spec) -> Result<World, Error> {
        let client = self.client().await?;
        let looked = look(&client, spec).await;
        if let Err(Error::Unreachable { .. } | Error::Records { .. }) = &looked {
            *self.client.lock().await = None;
        }
        looked
    }

    /// Makes every topic that a fresh look says is to be created, with the first step that asks for one, and looks once
    /// for all of them afterwards.
    async fn create(&self, spec: &Spec, step: &Step) -> Result<(), Error> {
        let mut batch = self.batch.lock().await;
        if let Some(outcome) = batch.fresh().outcomes.remove(&step.topic) {
            return outcome;
        }
        let world = self.look(spec).await?;
        let mut outcomes = create::all(&*self.client().await?, spec, &world).await?;
        // What is not to be created any more was made by somebody else; a look at it judges by whom.
        let outcome = outcomes.remove(&step.topic).unwrap_or(Ok(()));
        let world = self.look(spec).await?;
        let seen = spec.topics.iter().map(|(component, topic)| (component.clone(), world.only(&topic.name)));
        *batch = Batch { at: Some(Instant::now()), outcomes, seen: seen.collect() };
        outcome
    }

    async fn add_partitions(&self, spec: &Spec, step: &Step, to: u32) -> Result<(), Error> {
        let client = self.client().await?;
        let answer = client.add_partitions(&NewPartitions::new(&step.name, to as usize)).await;
        match answer {
            // It has them already: somebody else added them. Whether there are enough, the next look judges.
            Err(Error::Refused { code: RDKafkaErrorCode::InvalidPartitions, .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        let grown = [(step.name.as_str(), to as usize)].into();
        if client.settled(&grown, SETTLE).await?.contains(&step.name) {
            return self.record(spec, step, &client).await;
        }
        Ok(())
    }

    async fn record(&self, spec: &Spec, step: &Step, client: &Client) -> Result<(), Error> {
        let Some(topic) = spec.topics.get(&step.topic) else { return Ok(()) };
        Records::new(client)?.claim(&spec.environment, topic, State::Made).await
    }
}

async fn look(client: &Client, spec: &Spec) -> Result<World, Error> {
    let mut world = client.topics().await?;
    let wanted = spec.topics.values().map(|topic| topic.name.clone());
    let there: Vec<String> = wanted.filter(|name| world.topics.contains_key(name)).collect();
    for (name, settings) in client.settings(&there).await? {
        if let Some(topic) = world.topics.get_mut(&name) {
            topic.settings = Some(settings);
        }
    }
    if world.topics.contains_key(OWNERSHIP_TOPIC) {
        world.claims = fold(&records::read(client).await?);
    }
    Ok(world)
}

impl Reconcile for KafkaTarget {
    type Spec = Spec;
    type World = World;
    type Step = Step;
    type Error = Error;

    fn components(spec: &Spec) -> Vec<Component> {
        spec.topics.keys().cloned().collect()
    }

    fn only(spec: &Spec, component: &Component) -> Spec {
        spec.only(component)
    }

    fn reports_only(spec: &Spec, component: &Component) -> bool {
        spec.topics.get(component).is_some_and(|topic| topic.report_only)
    }

    fn nothing(spec: &Spec) -> World {
        // As many brokers as are expected, and as the topics need.
        let needs = spec.topics.values().filter_map(|topic| match topic.replication {
            lifecycle::document::Replication::Auto => topic.min_insync(),
            lifecycle::document::Replication::Factor(factor) => Some(factor.into()),
        });
        let expected = usize::from(spec.connection.expect_brokers).max(1);
        World { brokers: needs.fold(expected, usize::max), ..World::default() }
    }

    async fn observe(&self, spec: &Spec) -> Result<World, Error> {
        let seen = match spec.topics.first_key_value() {
            Some((component, _)) if spec.topics.len() == 1 => {
                self.batch.lock().await.fresh().seen.remove(component)
            }
            _ => None,
        };
        match seen {
            Some(world) => Ok(world),
            None => self.look(spec).await,
        }
    }

    fn plan(spec: &Spec, world: &World) -> plan::Plan {
        plan::plan(spec, world)
    }

    async fn apply(&self, spec: &Spec, step: &Step) -> Result<(), Error> {
        match &step.action {
            Action::Create { .. } => self.create(spec, step).await,
            Action::AddPartitions { to, .. } => self.add_partitions(spec, step, *to).await,
            Action::Record => self.record(spec, step, &*self.client().await?).await,
            Action::Withdraw { .. } => {
                let client = self.client().await?;
                Records::new(&client)?.withdraw(&spec.environment, &step.name).await
            }
        }
    }

    fn evidence(spec: &Spec, world: &World, component: &Component) -> Evidence {
        let topic = spec.topics.get(component).and_then(|topic| world.topics.get(&topic.name));
        let partitions = topic.map_or(0, |topic| topic.partitions.len());
        Evidence::level("leaders")
            .with("cluster_id", world.cluster_id.clone())
            .with("partitions", partitions.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_trying_again_may_cure_is_told_apart_by_code() {
        let refused = |code| Error::Refused {
            cluster: "kafka/main".parse().unwrap(),
            action: "create",
            topic: "dev.x".to_owned(),
            code,
        };
        for code in [
            RDKafkaErrorCode::NotController,
            RDKafkaErrorCode::RequestTimedOut,
            RDKafkaErrorCode::TopicAlreadyExists,
        ] {
            assert!(refused(code).is_transient(), "{code:?}");
        }
        for code in [
            RDKafkaErrorCode::PolicyViolation,
            RDKafkaErrorCode::InvalidConfig,
            RDKafkaErrorCode::TopicAuthorizationFailed,
        ] {
            let error = refused(code);
            let text = error.to_string();
            assert!(!error.is_transient() && !error.code().is_empty(), "{code:?}");
            assert!(text.contains("kafka/main") && text.contains("`dev.x`") && text.contains(';'), "{text}");
        }
    }
}
