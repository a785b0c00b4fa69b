//! How hard the API server is asked: not too much at once, and nothing before the time that it gave itself.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubernetes::{Error, Name};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// So many calls are begun at once: enough to be quick, few enough to leave the API server to others.
const AT_ONCE: usize = 32;
/// A call that takes longer gives its place to another: what hangs, such as a webhook of one namespace, must not hold up
/// what does not.
const SLOW: Duration = Duration::from_secs(1);
/// The longest that an object is left alone because the server wants it.
const PATIENCE: Duration = Duration::from_mins(1);

/// When calls are made.
#[derive(Debug)]
pub(super) struct Pace {
    places: Semaphore,
    rests: Mutex<HashMap<Name, Instant>>,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { places: Semaphore::new(AT_ONCE), rests: Mutex::default() }
    }
}

impl Pace {
    /// Makes a call about an object in its turn.
    pub(super) async fn call<T>(
        &self,
        name: &Name,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let rests = self.rests().get(name).copied();
        if let Some(until) = rests {
            tokio::time::sleep_until(until).await;
        }
        // Never closed.
        let place = self.places.acquire().await.ok();
        let mut call = pin!(call);
        let answer = if let Ok(answer) = tokio::time::timeout(SLOW, &mut call).await {
            answer
        } else {
            drop(place);
            call.await
        };
        match &answer {
            Err(Error::Busy { after: Some(after), .. }) => {
                self.rests().insert(name.clone(), Instant::now() + PATIENCE.min(*after));
            }
            _ => drop(self.rests().remove(name)),
        }
        answer
    }

    fn rests(&self) -> MutexGuard<'_, HashMap<Name, Instant>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kubernetes::Resource;

    use super::*;

    fn name(name: &str) -> Name {
        Name { resource: Resource::Secret, namespace: "dev".to_owned(), name: name.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_holds_nothing_up_for_long() {
        let (pace, slow, quick) = (Pace::default(), name("slow"), name("quick"));
        let hang = || pace.call(&slow, std::future::pending::<Result<(), Error>>());
        let hanging = futures_util::future::join_all((0..2 * AT_ONCE).map(|_| hang()));
        let begun = Instant::now();
        tokio::select! {
            _ = hanging => {}
            answer = pace.call(&quick, async { Ok(()) }) => answer.unwrap(),
        }
        assert!(begun.elapsed() <= 3 * SLOW, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_rests_for_as_long_as_the_server_wants_and_no_other_does() {
        let (pace, after) = (Pace::default(), Some(Duration::from_secs(7)));
        let busy = async { Err::<(), _>(Error::Busy { what: String::new(), code: 429, after }) };
        pace.call(&name("one"), busy).await.unwrap_err();
        let begun = Instant::now();
        pace.call(&name("other"), async { Ok(()) }).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        pace.call(&name("one"), async { Ok(()) }).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(7));
        pace.call(&name("one"), async { Ok(()) }).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(7), "once");
    }
}
