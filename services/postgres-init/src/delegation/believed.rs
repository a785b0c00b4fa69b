//! For how long a caller is believed: a token that was verified when a call began ends by itself, also while the call goes on.

use std::time::SystemTime;

use chassis::grpc::Writer;
use tokio::time::Instant;
use tonic::Status;

/// Until when a caller is believed; none for one that shows no token because it is on this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Believed(Option<Instant>);

impl Believed {
    /// Until the end of what this caller has shown.
    pub(super) fn of(writer: &Writer) -> Self {
        let left = |expires: SystemTime| expires.duration_since(SystemTime::now()).unwrap_or_default();
        // One that cannot be counted up to is beyond any call.
        Believed(writer.identity().and_then(|identity| Instant::now().checked_add(left(identity.expires))))
    }

    /// Whether it is believed still.
    ///
    /// # Errors
    /// It is not: it has to ask again with the token that it has by now.
    pub(super) fn still(self) -> Result<(), Status> {
        if self.0.is_some_and(|until| until <= Instant::now()) { Err(over()) } else { Ok(()) }
    }

    /// Ends when it is believed no more.
    pub(super) async fn ends(self) -> Status {
        match self.0 {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
        over()
    }
}

/// Not `UNAUTHENTICATED`: that is said at the door, of a token that is shown. This one was good, and whoever asks again goes on.
fn over() -> Status {
    Status::unavailable(
        "the service-account token that this call began with has expired; ask again, with the one that the kubelet has renewed",
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chassis::grpc::Identity;
    use tonic::Code;

    use super::*;

    fn believed(expires: SystemTime) -> Believed {
        let (namespace, account) = ("shop".to_owned(), "web".to_owned());
        Believed::of(&Writer::Tenant(Identity { namespace, account, pod: None, expires }))
    }

    #[tokio::test]
    async fn a_caller_is_believed_until_its_token_ends_and_whoever_is_here_always() {
        let over = believed(SystemTime::now());
        assert_eq!(over.still().unwrap_err().code(), Code::Unavailable);
        assert_eq!(over.ends().await.code(), Code::Unavailable);
        for lasting in [believed(SystemTime::now() + Duration::from_hours(1)), Believed::of(&Writer::Here)] {
            lasting.still().unwrap();
            assert!(tokio::time::timeout(Duration::ZERO, lasting.ends()).await.is_err());
        }
    }
}
