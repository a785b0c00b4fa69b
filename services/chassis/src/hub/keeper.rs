//! Sends what is wished until it arrives.

use std::sync::{Arc, Weak};

use rollcall_proto::diagnostics::v1 as pb;
use tokio::sync::Notify;
use tonic::{Code, Request, Status};

use super::{Announcement, Inner, Registration, announced, describe};
use crate::backoff::Backoff;
use crate::wire::Fragment;

/// Sends for as long as somebody holds the client.
pub(super) async fn keep(client: Weak<Inner>, wake: Arc<Notify>) {
    let mut backoff = Backoff::reconnecting();
    let mut trouble = Trouble::default();
    loop {
        let Some(inner) = client.upgrade() else { return };
        match inner.send_due().await {
            Ok(true) => {
                trouble = Trouble::default();
                backoff.reset();
            }
            Ok(false) => {
                drop(inner);
                wake.notified().await;
            }
            Err(status) => {
                drop(inner);
                let error = describe(&status);
                match trouble.news(status.code()) {
                    None => {}
                    Some(News::Away) => tracing::info!(error, "hub: not reached, it will be tried again"),
                    Some(News::Unknown) => tracing::warn!(
                        error,
                        "hub: it does not know who this is and is told nothing until it does; it will be tried again"
                    ),
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// What was said since something last arrived: each kind of news once.
#[derive(Debug, Default)]
struct Trouble {
    away: bool,
    unknown: bool,
}

/// Why nothing arrives.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// Most likely this passes by itself.
    Away,
    /// The token is not believed: somebody has to mend that.
    Unknown,
}

impl Trouble {
    fn news(&mut self, code: Code) -> Option<News> {
        let (said, news) = match code {
            Code::Unauthenticated => (&mut self.unknown, News::Unknown),
            _ => (&mut self.away, News::Away),
        };
        (!std::mem::replace(said, true)).then_some(news)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // So that the keeper sees that nobody is left.
        self.wake.notify_one();
    }
}

impl Inner {
    /// Sends one thing that is due, and says whether there was one.
    async fn send_due(&self) -> Result<bool, Status> {
        let fragments = self.take_fragments();
        if let Some(fragments) = fragments {
            let result = self.given_up("registration", self.register_now(&fragments).await);
            if result.is_err() {
                self.lock().register = true;
            }
            self.count(&self.lock());
            return result.map(|()| true);
        }
        let Some(announcement) = self.take_announcement() else { return Ok(false) };
        let result =
            self.given_up(&announcement.component.to_string(), self.announce_now(&announcement).await);
        if result.is_err() {
            self.lock().announce.insert(announcement.component);
        }
        self.count(&self.lock());
        result.map(|()| true)
    }

    /// What the hub calls wrong in itself, or denies to whom it knows, is not sent again: it would stand before everything else
    /// for ever. That it is denied is said when it begins, and not for every word.
    fn given_up(&self, what: &str, result: Result<(), Status>) -> Result<(), Status> {
        match result {
            Err(status) if status.code() == Code::InvalidArgument => {
                tracing::warn!(what, error = describe(&status), "hub: not taken");
                Ok(())
            }
            Err(status) if status.code() == Code::PermissionDenied => {
                if self.lock().denied.insert(what.to_owned()) {
                    tracing::warn!(
                        what,
                        error = describe(&status),
                        "hub: it denies this and is not told; all else goes on"
                    );
                }
                Ok(())
            }
            Ok(()) => {
                self.lock().denied.remove(what);
                Ok(())
            }
            result => result,
        }
    }

    fn take_fragments(&self) -> Option<Vec<Fragment>> {
        let mut wishes = self.lock();
        std::mem::take(&mut wishes.register).then(|| wishes.fragments.clone())
    }

    fn take_announcement(&self) -> Option<Announcement> {
        let mut wishes = self.lock();
        let component = wishes.announce.pop_first()?;
        wishes.announcements.get(&component).cloned()
    }

    async fn register_now(&self, fragments: &[Fragment]) -> Result<(), Status> {
        let message = pb::RegisterRequest {
            fragments: fragments.iter().map(Into::into).collect(),
            source: self.link.source.clone(),
        };
        let request: Request<_> = self.link.request(message).await;
        let answer = self.link.stub().register(request).await?.into_inner();
        for rejected in &answer.rejected {
            tracing::warn!(fragment = rejected.name, reason = rejected.reason, "hub: fragment not taken");
        }
        let wishes = self.lock();
        // Fragments wished meanwhile get an answer of their own.
        if !wishes.register {
            self.registration.send_replace(Some(Registration {
                generation: answer.generation,
                rejected: answer.rejected.into_iter().map(|r| (r.name, r.reason)).collect(),
            }));
        }
        drop(wishes);
        self.heard_generation(answer.generation);
        Ok(())
    }

    async fn announce_now(&self, announcement: &Announcement) -> Result<(), Status> {
        let request = self.link.request(announced(announcement, &self.link.source)).await;
        let answer = self.link.stub().announce(request).await?.into_inner();
        self.heard_generation(answer.generation);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_not_believed_is_news_of_its_own_and_each_is_told_once() {
        let mut trouble = Trouble::default();
        let codes = [Code::Unavailable, Code::Unauthenticated, Code::Unavailable, Code::Unauthenticated];
        let told = codes.map(|code| trouble.news(code));
        assert_eq!(told, [Some(News::Away), Some(News::Unknown), None, None]);
    }
}
