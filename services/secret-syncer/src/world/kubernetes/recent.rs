//! What was read a moment ago: a source that a thousand objects follow is read once to see that nothing is to be done, not a
//! thousand times; and, where something is to be written, often enough that nobody writes back what another has overtaken.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubernetes::{Name, Object};
use tokio::time::Instant;

/// What was read holds for so long, unless it is known sooner to have changed. Values are not kept longer either.
const HOLDS: Duration = Duration::from_secs(1);

type Slot = Arc<tokio::sync::Mutex<Option<Held>>>;

/// One answer of the server.
struct Held {
    /// It shows the object as it was then, or later.
    asked: Instant,
    /// And as it was by then.
    told: Instant,
    /// None when there was none.
    object: Option<Object>,
}

impl Held {
    fn is_fresh(&self) -> bool {
        self.told.elapsed() < HOLDS
    }
}

/// Objects as they were read. Whoever asks for one that is being read waits for that answer.
#[derive(Clone, Default)]
pub(super) struct Recent(Arc<Mutex<Slots>>);

#[derive(Default)]
struct Slots {
    slots: HashMap<Name, Slot>,
    is_swept: bool,
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recent")
    }
}

impl Recent {
    /// An object as it was read at most [`HOLDS`] ago, and asked for no sooner than `since` where that is given; or else as it
    /// is read now. That there is none is never answered from memory.
    pub(super) async fn get<E>(
        &self,
        name: &Name,
        since: Option<Instant>,
        read: impl Future<Output = Result<Option<Object>, E>>,
    ) -> Result<Option<Object>, E> {
        let slot = Arc::clone(self.slots().slots.entry(name.clone()).or_default());
        self.sweep();
        let mut held = slot.lock().await;
        if let Some(known) = held.as_ref().filter(|held| held.is_fresh())
            && known.object.is_some()
            && since.is_none_or(|since| known.asked >= since)
        {
            return Ok(known.object.clone());
        }
        let asked = Instant::now();
        let object = read.await?;
        *held = Some(Held { asked, told: Instant::now(), object: object.clone() });
        Ok(object)
    }

    /// Remembers an object as the server has just shown it to whoever asked then.
    pub(super) fn put(&self, name: &Name, asked: Instant, object: Object) {
        let held = Held { asked, told: Instant::now(), object: Some(object) };
        let slot = Arc::new(tokio::sync::Mutex::new(Some(held)));
        self.slots().slots.insert(name.clone(), slot);
        self.sweep();
    }

    /// Forgets an object: whoever asks from now on gets it as it is read then.
    pub(super) fn forget(&self, name: &Name) {
        self.slots().slots.remove(name);
    }

    /// When it was told at the latest that an object is in this version, or that there is none; none when that is not remembered.
    pub(super) fn told(&self, name: &Name, version: Option<&str>) -> Option<Instant> {
        let slot = self.slots().slots.get(name).cloned()?;
        let held = slot.try_lock().ok()?;
        let is = |held: &&Held| held.object.as_ref().map(|object| object.version.as_str()) == version;
        held.as_ref().filter(is).map(|held| held.told)
    }

    /// Drops what has expired, for as long as there is anything.
    fn sweep(&self) {
        if std::mem::replace(&mut self.slots().is_swept, true) {
            return;
        }
        let recent = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(HOLDS).await;
                let mut slots = recent.slots();
                // One that is being read, or about to be, is left.
                slots.slots.retain(|_, slot| {
                    let is_fresh = |held: &Option<Held>| held.as_ref().is_some_and(Held::is_fresh);
                    Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|held| is_fresh(&held))
                });
                if slots.slots.is_empty() {
                    slots.slots.shrink_to_fit();
                    slots.is_swept = false;
                    return;
                }
            }
        });
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kubernetes::Resource;

    use super::*;

    fn name() -> Name {
        Name { resource: Resource::Secret, namespace: "dev".to_owned(), name: "x".to_owned() }
    }

    fn object(version: &str) -> Object {
        Object { version: version.to_owned(), ..Object::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_are_one_read_and_nothing_is_kept_for_long() {
        let (recent, reads) = (Recent::default(), AtomicUsize::new(0));
        let read = || async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, Infallible>(Some(object(&reads.fetch_add(1, Ordering::Relaxed).to_string())))
        };
        let name = name();
        let all = futures_util::future::join_all((0..100).map(|_| recent.get(&name, None, read()))).await;
        assert!(all.iter().all(|found| found.as_ref().unwrap().as_ref().unwrap().version == "0"));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        recent.forget(&name);
        assert_eq!(recent.get(&name, None, read()).await.unwrap().unwrap().version, "1");
        recent.put(&name, Instant::now(), object("put"));
        assert_eq!(recent.get(&name, None, read()).await.unwrap().unwrap().version, "put");
        tokio::time::sleep(HOLDS * 3).await;
        assert!(recent.slots().slots.is_empty());
        assert_eq!(recent.get(&name, None, read()).await.unwrap().unwrap().version, "2");
    }

    #[tokio::test(start_paused = true)]
    async fn that_there_is_none_is_not_remembered() {
        let recent = Recent::default();
        let none = async { Ok::<_, Infallible>(None) };
        assert!(recent.get(&name(), None, none).await.unwrap().is_none());
        let some = async { Ok::<_, Infallible>(Some(object("1"))) };
        assert!(recent.get(&name(), None, some).await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_to_write_gets_nothing_that_was_asked_for_before_and_shares_what_was_asked_for_since() {
        let (recent, reads) = (Recent::default(), AtomicUsize::new(0));
        let read = || async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, Infallible>(Some(object(&reads.fetch_add(1, Ordering::Relaxed).to_string())))
        };
        let name = name();
        let version = async |since| recent.get(&name, since, read()).await.unwrap().unwrap().version;
        let begun = Instant::now();
        assert_eq!(version(None).await, "0");
        assert_eq!(version(Some(begun)).await, "0");
        // Asked for before, although told since.
        let meanwhile = begun + Duration::from_millis(1);
        let all = futures_util::future::join_all((0..100).map(|_| version(Some(meanwhile)))).await;
        assert!(all.iter().all(|version| version == "1"), "{all:?}");
        assert_eq!(version(None).await, "1");
    }

    #[tokio::test(start_paused = true)]
    async fn when_it_was_told_that_there_is_none_is_known_and_that_there_is_one_by_its_version() {
        let (recent, name) = (Recent::default(), name());
        assert_eq!(recent.told(&name, None), None);
        let begun = Instant::now();
        let none = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok::<_, Infallible>(None)
        };
        assert!(recent.get(&name, None, none).await.unwrap().is_none());
        assert_eq!(recent.told(&name, None), Some(begun + Duration::from_millis(50)));
        assert_eq!(recent.told(&name, Some("1")), None);
        recent.put(&name, begun, object("1"));
        assert_eq!(recent.told(&name, Some("1")), Some(Instant::now()));
        assert_eq!(recent.told(&name, None), None);
        recent.forget(&name);
        assert_eq!(recent.told(&name, Some("1")), None);
    }
}
