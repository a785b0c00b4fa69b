//! What a Vault answers, as its API documents it. An answer of another form is never quoted: it may hold values.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use chassis::SecretValue;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Place, VaultError};

/// A secret as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which version.
    pub version: Version,
    /// Its values. Whole numbers and `true` and `false` are as JSON writes them.
    pub values: BTreeMap<String, SecretValue>,
}

/// A version of a secret. A secret that was removed and made anew begins again at number 1; what differs then is when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number, from 1.
    pub number: u64,
    /// When it was written, as the server says it (RFC 3339).
    pub created: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.number, self.created)
    }
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

/// `GET /v1/<mount>/data/<path>`.
#[derive(Deserialize)]
pub(super) struct Data {
    data: BTreeMap<String, Given>,
    metadata: Written,
}

#[derive(Deserialize)]
struct Written {
    version: u64,
    created_time: String,
}

impl Data {
    pub(super) fn held(body: &[u8], url: &str, place: Place<'_>) -> Result<Held, VaultError> {
        let Data { data, metadata } = parsed(body, url, place)?;
        let value = |(key, given): (String, Given)| match given {
            Given::Value(value) => Ok((key, value)),
            Given::Other => Err(VaultError::Unfit { place: place.to_string(), key }),
        };
        Ok(Held {
            version: Version { number: metadata.version, created: metadata.created_time },
            values: data.into_iter().map(value).collect::<Result<_, _>>()?,
        })
    }
}

/// `GET /v1/<mount>/metadata/<path>`.
#[derive(Deserialize)]
pub(super) struct Metadata {
    current_version: u64,
    versions: BTreeMap<String, Fate>,
}

#[derive(Deserialize)]
struct Fate {
    created_time: String,
    /// Empty, or when it is or was deleted: a version may be written with the end of its life.
    deletion_time: String,
    destroyed: bool,
}

impl Metadata {
    /// The newest version, if it was not deleted before `now`.
    pub(super) fn current(
        body: &[u8],
        now: SystemTime,
        url: &str,
        place: Place<'_>,
    ) -> Result<Option<Version>, VaultError> {
        let Metadata { current_version: number, mut versions } = parsed(body, url, place)?;
        // Metadata may be there before any version is.
        if number == 0 {
            return Ok(None);
        }
        let unreadable = || unreadable(url, place);
        let Fate { created_time: created, deletion_time, destroyed } =
            versions.remove(&number.to_string()).ok_or_else(unreadable)?;
        let deleted = match deletion_time.as_str() {
            "" => false,
            time => humantime::parse_rfc3339(time).map_err(|_| unreadable())? <= now,
        };
        Ok((!destroyed && !deleted).then_some(Version { number, created }))
    }
}

fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8], url: &str, place: Place<'_>) -> Result<T, VaultError> {
    // The reader's own words quote what it found.
    let read: Result<Envelope<T>, _> = serde_json::from_slice(body);
    read.map(|envelope| envelope.data).map_err(|_| unreadable(url, place))
}

fn unreadable(url: &str, place: Place<'_>) -> VaultError {
    VaultError::Unreadable { url: url.to_owned(), place: place.to_string() }
}

/// A token that is lent: the answer to a login or a renewal.
pub(super) struct Lent {
    pub(super) token: Option<SecretValue>,
    /// For how long, 0 for ever.
    pub(super) seconds: u64,
    pub(super) renewable: bool,
}

impl Lent {
    pub(super) fn of(body: &[u8]) -> Option<Lent> {
        #[derive(Deserialize)]
        struct Answer {
            auth: Auth,
        }
        #[derive(Deserialize)]
        struct Auth {
            client_token: Given,
            lease_duration: u64,
            renewable: bool,
        }
        let Answer { auth } = serde_json::from_slice(body).ok()?;
        let token = match auth.client_token {
            Given::Value(value) if !value.expose().is_empty() => Some(value),
            _ => None,
        };
        Some(Lent { token, seconds: auth.lease_duration, renewable: auth.renewable })
    }
}

/// How many seconds a token lives, 0 for ever, and whether it can be renewed: `GET /v1/auth/token/lookup-self`.
pub(super) fn lifetime(body: &[u8]) -> Option<(u64, bool)> {
    #[derive(Deserialize)]
    struct Token {
        ttl: u64,
        #[serde(default)]
        renewable: bool,
    }
    let read: Envelope<Token> = serde_json::from_slice(body).ok()?;
    Some((read.data.ttl, read.data.renewable))
}

/// Whether a 404 is about the path of the API and not about a secret: then it gives errors.
pub(super) fn no_route(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<IgnoredAny>,
    }
    serde_json::from_slice::<Errors>(body).is_ok_and(|answer| !answer.errors.is_empty())
}

/// Whether an engine is KV version 2: `GET /v1/sys/internal/ui/mounts/<path>`.
pub(super) fn is_version_two(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Engine {
        r#type: String,
        options: Option<BTreeMap<String, String>>,
    }
    let read: Result<Envelope<Engine>, _> = serde_json::from_slice(body);
    read.is_ok_and(|read| {
        let version = read.data.options.as_ref().and_then(|options| options.get("version"));
        read.data.r#type == "kv" && version.is_some_and(|version| version == "2")
    })
}

/// A value that goes from the answer into memory that is wiped.
enum Given {
    Value(SecretValue),
    /// Something that no Secret can hold.
    Other,
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, value: &str) -> Result<Given, E> {
        Ok(Given::Value(SecretValue::new(value)))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Given, E> {
        Ok(Given::Value(SecretValue::new(value.to_string())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Given, E> {
        Ok(Given::Value(SecretValue::new(value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Given, E> {
        Ok(Given::Value(SecretValue::new(value.to_string())))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_unit<E>(self) -> Result<Given, E> {
        Ok(Given::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Given, A::Error> {
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Given::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Given, A::Error> {
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Given::Other)
    }
}

#[cfg(test)]
mod tests;
