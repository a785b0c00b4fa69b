//! The records of the lifecycle topic: events, registered fragments, bring-ups.

use lifecycle::document::{Document, Identity};
use lifecycle::{Event, Moment, sha256_hex};
use prost::Message as _;
use rollcall_proto::lifecycle::v1 as pb;

use super::{WireError, environment, environment_from, event, event_from, moment, timestamp};

/// The `content-type` header of every record of the lifecycle topic.
pub fn content_type() -> &'static str {
    "application/x-protobuf; proto=rollcall.lifecycle.v1.Record"
}

/// A fragment as it travels: its text is not read before somebody asks, so that one nobody here can read (a newer
/// schema) is still known by name and hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Which environment it belongs to.
    pub environment: Identity,
    /// Its name, unique in the environment.
    pub name: String,
    /// The schema it is written in, for example `v1`.
    pub schema: String,
    /// The document as canonical JSON.
    pub text: String,
    /// SHA-256 of `text`.
    pub hash: String,
    /// The release whose hub read it from its own files; nobody who registers one can say so.
    pub mounted_by: Option<String>,
}

impl Fragment {
    /// Reads the document, and checks that it is the one the envelope speaks of.
    pub fn document(&self) -> Result<Document, WireError> {
        if self.schema != "v1" {
            return Err(WireError::Schema(self.schema.clone()));
        }
        let document: Document =
            serde_json::from_str(&self.text).map_err(|error| WireError::Document(error.to_string()))?;
        if document.environment.uid != self.environment.uid || document.fragment.name != self.name {
            return Err(WireError::Document(format!(
                "it says fragment `{}` of environment {}, its envelope says `{}` of {}",
                document.fragment.name, document.environment.uid, self.name, self.environment.uid
            )));
        }
        Ok(document)
    }
}

impl TryFrom<&Document> for Fragment {
    type Error = WireError;

    fn try_from(document: &Document) -> Result<Fragment, WireError> {
        let text = document.canonical_json().map_err(|error| WireError::Document(error.to_string()))?;
        Ok(Fragment {
            environment: document.environment.clone(),
            name: document.fragment.name.clone(),
            schema: "v1".to_owned(),
            hash: sha256_hex(&[&text]),
            text,
            mounted_by: None,
        })
    }
}

impl From<&Fragment> for pb::Fragment {
    fn from(fragment: &Fragment) -> pb::Fragment {
        pb::Fragment {
            environment: Some(environment(&fragment.environment)),
            name: fragment.name.clone(),
            schema: fragment.schema.clone(),
            document: fragment.text.clone(),
            hash: fragment.hash.clone(),
            mounted: fragment.mounted_by.is_some(),
            mounted_by: fragment.mounted_by.clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::Fragment> for Fragment {
    type Error = WireError;

    fn try_from(wire: pb::Fragment) -> Result<Fragment, WireError> {
        if wire.name.is_empty() {
            return Err(WireError::Missing("name"));
        }
        if sha256_hex(&[&wire.document]) != wire.hash {
            return Err(WireError::Hash);
        }
        Ok(Fragment {
            environment: environment_from(wire.environment.as_ref())?,
            name: wire.name,
            schema: wire.schema,
            text: wire.document,
            hash: wire.hash,
            mounted_by: (!wire.mounted_by.is_empty()).then_some(wire.mounted_by),
        })
    }
}

/// A fragment that was mounted and is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// Which environment it belonged to.
    pub environment: Identity,
    /// Its name.
    pub name: String,
    /// SHA-256 of its text.
    pub hash: String,
    /// The release whose hub had mounted it.
    pub mounted_by: String,
}

impl From<&Forgotten> for pb::Forgotten {
    fn from(forgotten: &Forgotten) -> pb::Forgotten {
        pb::Forgotten {
            environment: Some(environment(&forgotten.environment)),
            name: forgotten.name.clone(),
            hash: forgotten.hash.clone(),
            mounted_by: forgotten.mounted_by.clone(),
        }
    }
}

impl TryFrom<pb::Forgotten> for Forgotten {
    type Error = WireError;

    fn try_from(wire: pb::Forgotten) -> Result<Forgotten, WireError> {
        Ok(Forgotten {
            environment: environment_from(wire.environment.as_ref())?,
            name: wire.name,
            hash: wire.hash,
            mounted_by: wire.mounted_by,
        })
    }
}

/// The beginning of a bring-up: one generation of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BringUp {
    /// Which environment.
    pub environment: Identity,
    /// Its generation.
    pub generation: u64,
    /// When it began.
    pub started: Moment,
    /// SHA-256 over the fragments' names and hashes.
    pub fragments_hash: String,
}

impl From<&BringUp> for pb::BringUp {
    fn from(bring_up: &BringUp) -> pb::BringUp {
        pb::BringUp {
            environment: Some(environment(&bring_up.environment)),
            generation: bring_up.generation,
            started: Some(timestamp(bring_up.started)),
            fragments_hash: bring_up.fragments_hash.clone(),
        }
    }
}

impl TryFrom<pb::BringUp> for BringUp {
    type Error = WireError;

    fn try_from(wire: pb::BringUp) -> Result<BringUp, WireError> {
        Ok(BringUp {
            environment: environment_from(wire.environment.as_ref())?,
            generation: wire.generation,
            started: moment(wire.started.as_ref(), "started")?,
            fragments_hash: wire.fragments_hash,
        })
    }
}

/// One record of the lifecycle topic, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A component reached a phase.
    Event(Event),
    /// A fragment was registered.
    Fragment(Fragment),
    /// A bring-up began.
    BringUp(BringUp),
    /// A fragment is mounted no more.
    Forgotten(Forgotten),
}

impl News {
    /// The record key this stands under.
    pub fn key(&self) -> String {
        match self {
            News::Event(event) => event.key(),
            News::Fragment(fragment) => fragment_key(&fragment.name),
            News::BringUp(bring_up) => format!("bring-up/{}", bring_up.generation),
            News::Forgotten(forgotten) => forgotten_key(&forgotten.name),
        }
    }

    /// The record on the wire, in the environment of this name.
    pub fn record(&self, environment_name: &str) -> pb::Record {
        let record = match self {
            News::Event(news) => pb::record::Record::Event(event(news, environment_name)),
            News::Fragment(fragment) => pb::record::Record::Fragment(fragment.into()),
            News::BringUp(bring_up) => pb::record::Record::BringUp(bring_up.into()),
            News::Forgotten(forgotten) => pb::record::Record::Forgotten(forgotten.into()),
        };
        pb::Record { record: Some(record) }
    }

    /// Reads the record that stands under `key`.
    pub fn read(key: &str, value: &[u8]) -> Result<News, WireError> {
        let record = pb::Record::decode(value).map_err(|error| WireError::Decode(error.to_string()))?;
        let news = match record.record.ok_or(WireError::Kind)? {
            pb::record::Record::Event(event) => News::Event(event_from(event)?),
            pb::record::Record::Fragment(fragment) => News::Fragment(fragment.try_into()?),
            pb::record::Record::BringUp(bring_up) => News::BringUp(bring_up.try_into()?),
            pb::record::Record::Forgotten(forgotten) => News::Forgotten(forgotten.try_into()?),
        };
        let expected = news.key();
        if expected == key { Ok(news) } else { Err(WireError::Key { found: key.to_owned(), expected }) }
    }
}

/// The record key of a fragment.
pub fn fragment_key(name: &str) -> String {
    format!("fragment/{name}")
}

/// The record key of what is known of a fragment that was forgotten. It is another than the fragment's, which is deleted, so that
/// a release that knows no such records sees that it is gone.
pub fn forgotten_key(name: &str) -> String {
    format!("forgotten/{name}")
}

/// The environment's uid that a record's bytes speak of, without understanding the rest. None when it names none.
pub fn record_uid(value: &[u8]) -> Option<uuid::Uuid> {
    let environment = match pb::Record::decode(value).ok()?.record? {
        pb::record::Record::Event(event) => event.environment,
        pb::record::Record::Fragment(fragment) => fragment.environment,
        pb::record::Record::BringUp(bring_up) => bring_up.environment,
        pb::record::Record::Forgotten(forgotten) => forgotten.environment,
    };
    environment?.uid.parse().ok()
}
