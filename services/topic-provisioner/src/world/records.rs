//! The records of ownership, on the wire: who made which topic, in the compacted topic `rollcall.ownership`.

use std::time::Duration;

use chassis::bus::{BusError, Kept, OWNERSHIP_TOPIC, Writer, ensure_topic, read_to_end};
use chassis::wire;
use lifecycle::document::Identity;
use prost::Message;
use rollcall_proto::lifecycle::v1::{OwnershipState, TopicOwnership};

use super::Error;
use super::client::Client;
use crate::plan::ownership::{Claim, Entry, State};
use crate::spec::TopicSpec;

/// How long reading all records, or making their topic, may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Writes records.
pub(super) struct Records<'a> {
    client: &'a Client,
    writer: Writer,
}

fn failed(client: &Client) -> impl Fn(BusError) -> Error {
    let cluster = client.cluster.clone();
    move |source| Error::Records { cluster: cluster.clone(), source: Box::new(source) }
}

/// Makes the topic of records where it is absent.
pub(super) async fn ensure(client: &Client) -> Result<(), Error> {
    ensure_topic(&client.bus, OWNERSHIP_TOPIC, DEADLINE).await.map_err(failed(client))
}

/// Every record, to the end.
pub(super) async fn read(client: &Client) -> Result<Vec<Entry>, Error> {
    let kept = read_to_end(&client.bus, OWNERSHIP_TOPIC, DEADLINE).await.map_err(failed(client))?;
    Ok(kept.iter().filter_map(entry).collect())
}

impl<'a> Records<'a> {
    pub(super) fn new(client: &'a Client) -> Result<Self, Error> {
        Ok(Records { client, writer: client.writer().map_err(failed(client))? })
    }

    /// Writes an environment's claim; it is there when this returns.
    pub(super) async fn claim(
        &self,
        environment: &Identity,
        topic: &TopicSpec,
        state: State,
    ) -> Result<(), Error> {
        let state = if state == State::Made { OwnershipState::Made } else { OwnershipState::Intent };
        let record = TopicOwnership {
            environment: Some(wire::environment(environment)),
            topic: topic.name.clone(),
            fragment: topic.fragment.clone(),
            spec_hash: topic.hash(),
            state: state.into(),
            // librdkafka's metadata does not tell it.
            topic_id: String::new(),
        };
        self.put(environment, &topic.name, Some(&record.encode_to_vec())).await
    }

    /// Takes an environment's claim back.
    pub(super) async fn withdraw(&self, environment: &Identity, topic: &str) -> Result<(), Error> {
        self.put(environment, topic, None).await
    }

    async fn put(&self, environment: &Identity, topic: &str, value: Option<&[u8]>) -> Result<(), Error> {
        let key = format!("{topic}@{}", environment.uid);
        self.writer.put(OWNERSHIP_TOPIC, &key, value, &[]).await.map_err(failed(self.client))
    }
}

/// A record as the rules see it; none when not even its key says whose and of what it is.
fn entry(kept: &Kept) -> Option<Entry> {
    let (topic, uid) = kept.key.rsplit_once('@')?;
    let environment = uid.parse().ok()?;
    let unreadable = || Claim {
        environment,
        name: String::new(),
        fragment: String::new(),
        hash: String::new(),
        state: State::Unreadable,
        offset: kept.offset,
    };
    let claim = kept.value.as_ref().map(|value| {
        let Ok(record) = TopicOwnership::decode(value.as_slice()) else { return unreadable() };
        let identity = wire::environment_from(record.environment.as_ref());
        let Ok(identity) = identity else { return unreadable() };
        let state = match record.state() {
            OwnershipState::Intent => State::Intent,
            OwnershipState::Made => State::Made,
            OwnershipState::Unspecified => State::Unreadable,
        };
        if identity.uid != environment || record.topic != topic {
            return unreadable();
        }
        let (fragment, hash) = (record.fragment, record.spec_hash);
        Claim { environment, name: identity.name, fragment, hash, state, offset: kept.offset }
    });
    Some(Entry { topic: topic.to_owned(), environment, claim })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06";

    fn record(key: &str, state: i32) -> Kept {
        let environment =
            Some(rollcall_proto::lifecycle::v1::Environment { name: "dev".to_owned(), uid: UID.to_owned() });
        let value =
            TopicOwnership { environment, topic: "dev.x".to_owned(), state, ..TopicOwnership::default() };
        Kept { key: key.to_owned(), value: Some(value.encode_to_vec()), offset: 7 }
    }

    fn state(kept: &Kept) -> Option<State> {
        entry(kept)?.claim.map(|claim| claim.state)
    }

    #[test]
    fn what_cannot_be_read_still_counts_as_somebodys() {
        let key = format!("dev.x@{UID}");
        assert_eq!(state(&record(&key, 1)), Some(State::Intent));
        assert_eq!(state(&record(&key, 2)), Some(State::Made));
        assert_eq!(state(&record(&key, 0)), Some(State::Unreadable));
        assert_eq!(state(&record(&key, 77)), Some(State::Unreadable), "a state of a newer version");
        assert_eq!(
            state(&record(&format!("dev.y@{UID}"), 2)),
            Some(State::Unreadable),
            "another topic's record"
        );
        let garbage = Kept { value: Some(b"\xff\xff".to_vec()), ..record(&key, 2) };
        assert_eq!(state(&garbage), Some(State::Unreadable));
        let deleted = Kept { value: None, ..record(&key, 2) };
        assert_eq!(entry(&deleted).unwrap().claim, None);
        assert_eq!(entry(&record("nonsense", 2)), None);
    }
}
