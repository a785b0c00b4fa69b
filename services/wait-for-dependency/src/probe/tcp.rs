//! A TCP connection is accepted. It says little: the kernel accepts connections for a process that never will.

use std::fmt;

use lifecycle::Evidence;

use super::{NotYet, net};

/// Ready when `host:port` accepts a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tcp {
    /// `host:port`.
    pub address: String,
}

impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp {}", self.address)
    }
}

impl Tcp {
    pub(super) async fn look(&self) -> Result<Evidence, NotYet> {
        // The connection is closed at once, before it could count against the peer's limits.
        net::connect(&self.address).await.map(|_| Evidence::level("open"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::{self, Fault};
    use super::super::{Probe, State};
    use super::*;

    async fn look(address: String) -> Result<Evidence, NotYet> {
        faults::look(Probe::Tcp(Tcp { address })).await
    }

    #[tokio::test]
    async fn an_open_port_is_open_and_no_more() {
        for fault in [Fault::NeverAccept, Fault::AcceptAndClose] {
            let peer = faults::serve(fault).await;
            assert_eq!(look(peer.address.clone()).await.unwrap().level, "open");
        }
    }

    #[tokio::test]
    async fn refused_and_unresolved_are_told_apart() {
        let closed = faults::closed_port().await;
        assert_eq!(look(closed).await.unwrap_err().state, State::Refused);
        assert_eq!(look("no-such-host.invalid:80".to_owned()).await.unwrap_err().state, State::Unresolved);
    }
}
