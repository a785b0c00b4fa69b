//! Creating topics, all that are to be created at once: intent, a look at who else intends, creation, and at last the
//! record that they are made. Killed anywhere, the next run finds the intent and goes on.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use lifecycle::Component;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::client::Client;
use super::records::{self, Records};
use super::{Error, SETTLE};
use crate::plan::ownership::{self, Entry, Standing, State};
use crate::plan::{self, Action, World};
use crate::spec::{Spec, TopicSpec};

/// Metadata records that one request may ask for. KRaft refuses more than 10,000 with POLICY_VIOLATION.
const RECORDS: usize = 5_000;
/// Records of ownership on their way at once.
const WRITES: usize = 256;

/// One topic to create.
struct Creation<'a> {
    component: Component,
    topic: &'a TopicSpec,
    replication: usize,
    /// What our claim said before this run; none when there was none.
    held: Option<State>,
}

/// How each creation went.
type Outcomes = BTreeMap<Component, Result<(), Error>>;

/// Creates every topic that the plan for this world creates. Fails as a whole only before anything was created.
pub(super) async fn all(client: &Client, spec: &Spec, world: &World) -> Result<Outcomes, Error> {
    let mut creations = creations(spec, world);
    let mut outcomes = Outcomes::new();
    if creations.is_empty() {
        return Ok(outcomes);
    }
    records::ensure(client).await?;
    let records = Records::new(client)?;
    for chunk in creations.chunks(WRITES) {
        let intents = chunk.iter().map(|creation| {
            // Written even if it is there: another process of this environment must see that it is not alone.
            records.claim(&spec.environment, creation.topic, creation.held.unwrap_or(State::Intent))
        });
        join_all(intents).await.into_iter().collect::<Result<Vec<()>, Error>>()?;
    }

    let claims = ownership::fold(&records::read(client).await?);
    let mut lost = Vec::new();
    creations.retain(|creation| {
        let of_topic = claims.get(&creation.topic.name).map_or(&[][..], Vec::as_slice);
        let standing = ownership::standing(of_topic, spec.environment.uid);
        if let Standing::Theirs { withdraw: true, .. } = standing {
            lost.push(creation.topic);
        }
        let ours = matches!(standing, Standing::Ours(_));
        if !ours {
            outcomes.insert(creation.component.clone(), Err(changed(client, creation.topic)));
        }
        ours
    });
    for topic in lost {
        records.withdraw(&spec.environment, &topic.name).await?;
    }

    let mut made = Vec::new();
    for chunk in chunks(&creations) {
        for (creation, outcome) in create(client, spec, &records, chunk).await {
            match outcome {
                Ok(()) => made.push(creation),
                Err(error) => drop(outcomes.insert(creation.component.clone(), Err(error))),
            }
        }
    }
    record(client, spec, &records, &made, &mut outcomes).await;
    Ok(outcomes)
}

fn creations<'a>(spec: &'a Spec, world: &World) -> Vec<Creation<'a>> {
    let steps = plan::plan(spec, world).steps.into_iter();
    let creations = steps.filter_map(|step| {
        let Action::Create { replication, .. } = step.action else { return None };
        let topic = spec.topics.get(&step.topic).filter(|topic| !topic.report_only)?;
        let held = match plan::standing(world, &topic.name, spec.environment.uid) {
            Standing::Ours(claim) => Some(claim.state),
            _ => None,
        };
        Some(Creation { component: step.topic, topic, replication, held })
    });
    creations.collect()
}

/// Parts that one request each may ask for.
fn chunks<'a, 'b>(creations: &'b [Creation<'a>]) -> Vec<&'b [Creation<'a>]> {
    let cost = |creation: &Creation<'_>| 1 + creation.topic.partitions as usize + creation.topic.config.len();
    let mut chunks = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (i, creation) in creations.iter().enumerate() {
        if i > start && sum + cost(creation) > RECORDS {
            chunks.push(&creations[start..i]);
            (start, sum) = (i, 0);
        }
        sum += cost(creation);
    }
    chunks.extend(Some(&creations[start..]).filter(|rest| !rest.is_empty()));
    chunks
}

/// Creates the topics of one chunk.
async fn create<'a, 'b>(
    client: &Client,
    spec: &Spec,
    records: &Records<'_>,
    chunk: &'b [Creation<'a>],
) -> Vec<(&'b Creation<'a>, Result<(), Error>)> {
    let topics: Vec<NewTopic<'_>> = chunk.iter().map(new_topic).collect();
    let answers = match client.create(&topics).await {
        Ok(answers) => answers,
        Err(error) => {
            // One error for all of them: the first carries it, the others are looked at again.
            let mut first = Some(error);
            let outcome =
                |creation: &Creation<'_>| first.take().unwrap_or_else(|| changed(client, creation.topic));
            return chunk
                .iter()
                .map(outcome)
                .zip(chunk)
                .map(|(error, creation)| (creation, Err(error)))
                .collect();
        }
    };
    let codes: BTreeMap<String, RDKafkaErrorCode> = answers.into_iter().filter_map(Result::err).collect();
    let mut outcomes = Vec::new();
    for creation in chunk {
        let outcome = match codes.get(&creation.topic.name) {
            None => Ok(()),
            Some(RDKafkaErrorCode::TopicAlreadyExists) if creation.held.is_some() => Ok(()),
            Some(RDKafkaErrorCode::TopicAlreadyExists) => {
                existed(client, spec, records, creation.topic).await
            }
            Some(code) => Err(client.refused("create", &creation.topic.name, *code)),
        };
        outcomes.push((creation, outcome));
    }
    outcomes
}

fn new_topic<'a>(creation: &Creation<'a>) -> NewTopic<'a> {
    let partitions = i32::try_from(creation.topic.partitions).unwrap_or(i32::MAX);
    let replication = i32::try_from(creation.replication).unwrap_or(i32::MAX);
    let new = NewTopic::new(&creation.topic.name, partitions, TopicReplication::Fixed(replication));
    creation.topic.config.iter().fold(new, |new, (key, value)| new.set(key, value))
}

/// The topic appeared between our look and our request. Another process of this environment may have made it: then it
/// wrote a record too. Otherwise it is not ours, and our claim would only make it seem so.
async fn existed(
    client: &Client,
    spec: &Spec,
    records: &Records<'_>,
    topic: &TopicSpec,
) -> Result<(), Error> {
    let entries: Vec<Entry> = records::read(client).await?;
    let claims = ownership::fold(&entries);
    let of_topic = claims.get(&topic.name).map_or(&[][..], Vec::as_slice);
    let ours = matches!(ownership::standing(of_topic, spec.environment.uid), Standing::Ours(_));
    if ours && ownership::written(&entries, &topic.name, spec.environment.uid) > 1 {
        return Ok(());
    }
    records.withdraw(&spec.environment, &topic.name).await?;
    Err(changed(client, topic))
}

/// Records as made what has its leaders in time. What has not is recorded by a later run.
async fn record(
    client: &Client,
    spec: &Spec,
    records: &Records<'_>,
    made: &[&Creation<'_>],
    outcomes: &mut Outcomes,
) {
    let wanted =
        made.iter().map(|creation| (creation.topic.name.as_str(), creation.topic.partitions as usize));
    // The topics are there either way, so an error here says nothing about them.
    let settled = client.settled(&wanted.collect(), SETTLE).await.unwrap_or_else(|_| BTreeSet::new());
    for chunk in made.chunks(WRITES) {
        let writes = chunk.iter().map(async |creation| {
            if settled.contains(&creation.topic.name) {
                records.claim(&spec.environment, creation.topic, State::Made).await
            } else {
                Ok(())
            }
        });
        let written = join_all(writes).await;
        outcomes.extend(chunk.iter().map(|creation| creation.component.clone()).zip(written));
    }
}

fn changed(client: &Client, topic: &TopicSpec) -> Error {
    Error::Changed { cluster: client.cluster.clone(), topic: topic.name.clone() }
}

#[cfg(test)]
mod tests {
    use lifecycle::document::Replication;

    use super::*;

    #[test]
    fn a_request_asks_for_no_more_than_the_controller_takes_at_once() {
        let topic = |partitions: u32| TopicSpec {
            name: format!("t{partitions}"),
            partitions,
            replication: Replication::Auto,
            config: [("retention.ms".to_owned(), "1".to_owned())].into(),
            fragment: "f".to_owned(),
            report_only: false,
            on_delete: lifecycle::document::OnDelete::Retain,
        };
        let topics: Vec<TopicSpec> = [2_000, 2_000, 994, 1, 6_000, 1].map(topic).into();
        let creation =
            |topic| Creation { component: "topic/t".parse().unwrap(), topic, replication: 1, held: None };
        let creations: Vec<Creation<'_>> = topics.iter().map(creation).collect();
        let sizes: Vec<usize> = chunks(&creations).into_iter().map(<[_]>::len).collect();
        assert_eq!(sizes, [3, 1, 1, 1]);
        assert!(chunks(&[]).is_empty());
    }
}
