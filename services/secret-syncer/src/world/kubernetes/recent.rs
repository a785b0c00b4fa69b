//! What was read a moment ago: a source that a thousand objects follow is read once, not a thousand times.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubernetes::{Name, Object};
use tokio::time::Instant;

/// What was read holds for so long, unless it is known sooner to have changed. Values are not kept longer either.
const HOLDS: Duration = Duration::from_secs(1);

type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Object)>>>;

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
    /// An object as it was read at most [`HOLDS`] ago, or else as it is read now. That there is none is never remembered.
    pub(super) async fn get<E>(
        &self,
        name: &Name,
        read: impl Future<Output = Result<Option<Object>, E>>,
    ) -> Result<Option<Object>, E> {
        let slot = Arc::clone(self.slots().slots.entry(name.clone()).or_default());
        self.sweep();
        let mut held = slot.lock().await;
        if let Some((at, object)) = &*held
            && at.elapsed() < HOLDS
        {
            return Ok(Some(object.clone()));
        }
        let found = read.await?;
        *held = found.clone().map(|object| (Instant::now(), object));
        Ok(found)
    }

    /// Remembers an object as the server has just shown it.
    pub(super) fn put(&self, name: &Name, object: Object) {
        let slot = Arc::new(tokio::sync::Mutex::new(Some((Instant::now(), object))));
        self.slots().slots.insert(name.clone(), slot);
        self.sweep();
    }

    /// Forgets an object: whoever asks from now on gets it as it is read then.
    pub(super) fn forget(&self, name: &Name) {
        self.slots().slots.remove(name);
    }

    /// Whether an object is remembered in this version.
    pub(super) fn is(&self, name: &Name, version: &str) -> bool {
        let slot = self.slots().slots.get(name).cloned();
        slot.is_some_and(|slot| {
            slot.try_lock()
                .is_ok_and(|held| held.as_ref().is_some_and(|(_, object)| object.version == version))
        })
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
                    let expired = |held: &Option<(Instant, Object)>| {
                        held.as_ref().is_none_or(|(at, _)| at.elapsed() >= HOLDS)
                    };
                    Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|held| !expired(&held))
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
        let all = futures_util::future::join_all((0..100).map(|_| recent.get(&name, read()))).await;
        assert!(all.iter().all(|found| found.as_ref().unwrap().as_ref().unwrap().version == "0"));
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        recent.forget(&name);
        assert_eq!(recent.get(&name, read()).await.unwrap().unwrap().version, "1");
        recent.put(&name, object("put"));
        assert_eq!(recent.get(&name, read()).await.unwrap().unwrap().version, "put");
        tokio::time::sleep(HOLDS * 3).await;
        assert!(recent.slots().slots.is_empty());
        assert_eq!(recent.get(&name, read()).await.unwrap().unwrap().version, "2");
    }

    #[tokio::test(start_paused = true)]
    async fn that_there_is_none_is_not_remembered() {
        let recent = Recent::default();
        let none = async { Ok::<_, Infallible>(None) };
        assert!(recent.get(&name(), none).await.unwrap().is_none());
        let some = async { Ok::<_, Infallible>(Some(object("1"))) };
        assert!(recent.get(&name(), some).await.unwrap().is_some());
    }
}
