//! Looking and changing: one Secret in a store, whatever the store is made of.

mod directory;
mod mark;
mod watch;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use chassis::SecretValue;
use chassis::converge::{Fault, Reconcile};
use lifecycle::{Component, Evidence};
use rand::distr::{Alphanumeric, SampleString};

pub use directory::Directory;
pub use mark::{Claim, Mark};
pub use watch::Wakes;

use crate::plan::{self, Action, Keys, Marker, Step, Value, World};
use crate::spec::Spec;

/// Where Secrets are kept. Every change is atomic and durable: a reader sees a key whole or not at all, and so does the
/// next run after a crash.
pub trait Backend: Send + Sync {
    /// Reads a Secret; none when there is no such Secret. With a key that was created under a mark comes that mark, or a
    /// later one: otherwise what another instance of us makes at this moment would seem to be a stranger's.
    fn read(&self, secret: &Component) -> impl Future<Output = Result<Option<Contents>, Error>> + Send;

    /// Creates a key that is absent, of a Secret that is marked as ours. One that is there stays as it is, whoever made
    /// it: of two that create it at once one wins and both go on with the winner's value.
    fn create(
        &self,
        secret: &Component,
        claim: &Claim,
        key: &str,
        value: SecretValue,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Marks a Secret that is ours, absent or empty as this claim says.
    fn claim(&self, secret: &Component, claim: &Claim) -> impl Future<Output = Result<(), Error>> + Send;

    /// Writes a key of a Secret that is marked as ours, and notes it in the mark.
    fn set(
        &self,
        secret: &Component,
        claim: &Claim,
        key: &str,
        value: SecretValue,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes a key that the mark notes as written by us, and its note.
    fn remove(
        &self,
        secret: &Component,
        claim: &Claim,
        key: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Wakes whenever something in the store may have changed.
    fn watch(&self) -> Result<Wakes, Error>;
}

/// What a store holds of one Secret.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Its keys: the value, or why it cannot be used.
    pub keys: BTreeMap<String, Result<SecretValue, &'static str>>,
    /// Its mark; the text says why it cannot be read.
    pub mark: Option<Result<Mark, String>>,
    /// When its keys were changed last, in milliseconds since 1970.
    pub modified: u64,
}

/// What goes wrong with a store. Never holds a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refuses.
    #[error("{secret}: cannot {doing} {place}{}", advice(source))]
    Io {
        /// The Secret, or the store.
        secret: String,
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        place: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The key cannot be kept in such a store.
    #[error(
        "{secret}: a directory cannot keep a key named `{key}`; use letters, digits, `-`, `_` and `.`, and begin with none of the last"
    )]
    KeyName {
        /// The Secret.
        secret: Component,
        /// The key.
        key: String,
    },
    /// Something is in the place of a key.
    #[error("{secret}: {place} is in the way of key `{key}` and is no file; remove it")]
    InTheWay {
        /// The Secret.
        secret: Component,
        /// The key.
        key: String,
        /// Where.
        place: String,
    },
    /// The Secret changed hands after it was looked at.
    #[error("{0} changed while it was written, and is not ours to write; it is looked at again")]
    Changed(Component),
    /// A value to copy is not there any more.
    #[error("{from} key `{key}` went away while it was copied")]
    SourceGone {
        /// The source.
        from: Component,
        /// The key in it.
        key: String,
    },
    /// Another process is writing the same Secret and does not finish.
    #[error("{secret}: another process has held {place} locked for {seconds} s; see that it ends")]
    Locked {
        /// The Secret.
        secret: Component,
        /// Its folder.
        place: String,
        /// How long was waited.
        seconds: u64,
    },
}

impl Error {
    /// The store as a whole cannot be used.
    fn store(root: &Path, doing: &'static str, source: std::io::Error) -> Self {
        Error::Io { secret: "the store".to_owned(), doing, place: root.display().to_string(), source }
    }
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "; let this process's user read and write the store",
        ErrorKind::ReadOnlyFilesystem => "; the store must be on a file system that can be written",
        ErrorKind::StorageFull => "; free some space",
        _ => "",
    }
}

impl Fault for Error {
    fn is_transient(&self) -> bool {
        match self {
            Error::Io { source, .. } => !matches!(
                source.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::NotADirectory
                    | ErrorKind::Unsupported
                    | ErrorKind::InvalidInput
                    | ErrorKind::InvalidFilename
            ),
            Error::KeyName { .. } | Error::InTheWay { .. } => false,
            Error::Changed(_) | Error::SourceGone { .. } | Error::Locked { .. } => true,
        }
    }

    fn code(&self) -> String {
        match self {
            Error::Io { source, .. } => format!("{:?}", source.kind()),
            _ => String::new(),
        }
    }
}

/// A store whose Secrets are made to be as documents say.
#[derive(Debug, Clone)]
pub struct Target<B = Directory> {
    backend: B,
}

impl<B: Backend> Target<B> {
    /// Over a store.
    pub fn new(backend: B) -> Self {
        Target { backend }
    }

    async fn source_value(&self, from: &Component, key: &str) -> Result<SecretValue, Error> {
        let contents = self.backend.read(from).await?;
        contents
            .and_then(|mut contents| contents.keys.remove(key)?.ok())
            .ok_or_else(|| Error::SourceGone { from: from.clone(), key: key.to_owned() })
    }
}

impl<B: Backend> Reconcile for Target<B> {
    type Spec = Spec;
    type World = World;
    type Step = Step;
    type Error = Error;

    fn components(spec: &Spec) -> Vec<Component> {
        vec![spec.secret.clone()]
    }

    fn only(spec: &Spec, _: &Component) -> Spec {
        spec.clone()
    }

    fn reports_only(spec: &Spec, _: &Component) -> bool {
        spec.report_only
    }

    fn nothing(_: &Spec) -> World {
        World::default()
    }

    async fn observe(&self, spec: &Spec) -> Result<World, Error> {
        let contents = self.backend.read(&spec.secret).await?;
        let source = match spec.source() {
            Some(from) => self.backend.read(from).await?,
            None => None,
        };
        Ok(world(contents, source))
    }

    fn plan(spec: &Spec, world: &World) -> plan::Plan {
        plan::plan(spec, world)
    }

    async fn apply(&self, spec: &Spec, step: &Step) -> Result<(), Error> {
        let secret = &step.secret;
        let claim = |source: Option<&Component>| Claim { owner: spec.owner.clone(), source: source.cloned() };
        match &step.action {
            Action::Generate { key, length } => {
                self.backend.create(secret, &claim(None), key, generated(*length)).await
            }
            Action::Claim { from } => self.backend.claim(secret, &claim(from.as_ref())).await,
            Action::Copy { key, from, old, .. } => {
                let value = self.source_value(from, old).await?;
                self.backend.set(secret, &claim(Some(from)), key, value).await
            }
            Action::Remove { key } => self.backend.remove(secret, &claim(spec.source()), key).await,
        }
    }

    fn evidence(_: &Spec, world: &World, _: &Component) -> Evidence {
        // No digest, keyed or not: whoever can guess a weak password of somebody else's could test the guess.
        Evidence::level("present").with("modified", world.modified.to_string())
    }
}

/// What plan may see of what was read: fingerprints under the mark's salt, or under one that nobody keeps.
fn world(contents: Option<Contents>, source: Option<Contents>) -> World {
    let mark = contents.as_ref().and_then(|contents| contents.mark.clone());
    let fresh = Mark::scratch();
    let salted = match &mark {
        Some(Ok(mark)) => mark,
        _ => &fresh,
    };
    let keys = |contents: Contents| -> Keys {
        let seen = |(key, value): (String, Result<SecretValue, &'static str>)| match value {
            Ok(value) => (key, Value::Usable(salted.fingerprint(&value))),
            Err(why) => (key, Value::Unusable(why)),
        };
        contents.keys.into_iter().map(seen).collect()
    };
    World {
        modified: contents.as_ref().map_or(0, |contents| contents.modified),
        keys: contents.map(keys),
        source: source.map(keys),
        marker: match &mark {
            None => Marker::None,
            Some(Err(why)) => Marker::Unreadable(why.clone()),
            Some(Ok(mark)) => mark.marker(),
        },
    }
}

/// A new value: letters and digits (5.95 bits each) from the thread's generator, which is cryptographic (ChaCha) and
/// seeded by the operating system.
fn generated(length: u16) -> SecretValue {
    SecretValue::new(Alphanumeric.sample_string(&mut rand::rng(), length.into()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_values_are_letters_and_digits_of_the_length_asked_for_and_never_twice_the_same() {
        let mut seen = std::collections::BTreeSet::new();
        for length in [24, 32, 1024] {
            for _ in 0..100 {
                let value = generated(length);
                let text = value.expose_text().unwrap().to_owned();
                assert_eq!(text.len(), usize::from(length));
                assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
                assert!(seen.insert(text));
            }
        }
    }

    #[test]
    fn what_plan_sees_holds_no_value() {
        let contents = || Contents {
            keys: [("password".to_owned(), Ok(SecretValue::new("hunter2")))].into(),
            ..Contents::default()
        };
        let world = world(Some(contents()), Some(contents()));
        assert!(!format!("{world:?} {:?}", contents()).contains("hunter2"));
        assert_eq!(world.keys, world.source, "equal values have equal fingerprints");
    }

    #[test]
    fn what_trying_again_may_cure_is_told_apart() {
        let io = |kind: ErrorKind| Error::Io {
            secret: "secret/dev/x".to_owned(),
            doing: "write",
            place: "/store".to_owned(),
            source: kind.into(),
        };
        assert!(!io(ErrorKind::PermissionDenied).is_transient());
        assert!(io(ErrorKind::PermissionDenied).to_string().contains("let this process's user"));
        assert!(!io(ErrorKind::ReadOnlyFilesystem).is_transient());
        assert!(io(ErrorKind::StorageFull).is_transient());
        assert_eq!(io(ErrorKind::StorageFull).code(), "StorageFull");
    }
}
