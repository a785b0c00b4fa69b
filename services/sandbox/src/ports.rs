//! Free ports of the loopback interface.

use std::collections::BTreeMap;
use std::io::{Error as IoError, ErrorKind};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::Error;

/// Below the ports that Linux gives to outgoing connections (32768 to 60999): whoever tries again and again to reach a
/// server that is not there yet would now and then be given the server's own port, reach itself, and keep the server from
/// ever listening.
const RANGE: Range<u16> = 10_000..32_768;
/// Ports tried for each one wanted, before giving up.
const TRIES: usize = 200;

/// The UDP ports of the same numbers, which nobody uses: whoever holds one has spoken for the TCP port. Held until this
/// process ends, however it ends: what is to listen may be killed and started again at any time.
static SPOKEN_FOR: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// `count` different ports on which nothing listens now, and which no other sandbox of this machine gets while this
/// process lives; a server that finds its port taken all the same says so and ends.
pub fn free(count: usize) -> Result<Vec<u16>, Error> {
    // Listened on until all are found, so that none is found twice.
    let mut found = BTreeMap::new();
    for _ in 0..TRIES.saturating_mul(count) {
        if found.len() == count {
            break;
        }
        let port = rand::random_range(RANGE);
        let place = (Ipv4Addr::LOCALHOST, port);
        if let (Ok(claim), Ok(listener)) = (UdpSocket::bind(place), TcpListener::bind(place)) {
            found.insert(port, (claim, listener));
        }
    }
    if found.len() < count {
        let source = IoError::new(ErrorKind::AddrInUse, format!("only {} of {count} were free", found.len()));
        return Err(Error::io("find free ports on", "127.0.0.1", source));
    }
    let ports = found.keys().copied().collect();
    let claims = found.into_values().map(|(claim, _)| claim);
    SPOKEN_FOR.lock().unwrap_or_else(PoisonError::into_inner).extend(claims);
    Ok(ports)
}

/// Whether nothing listens on this loopback port now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The asked port, or a free one.
pub(crate) fn or_free(asked: Option<u16>) -> Result<u16, Error> {
    match asked {
        Some(port) => Ok(port),
        None => Ok(free(1)?[0]),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_are_different_free_and_never_given_to_outgoing_connections() {
        let ports = super::free(20).expect("ports");
        let different: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(different.len(), 20);
        assert!(ports.iter().all(|port| super::is_free(*port) && super::RANGE.contains(port)));
    }
    #[test]
    fn a_port_is_spoken_for_even_while_nothing_listens_on_it() {
        let port = super::free(1).expect("a port")[0];
        assert!(super::is_free(port));
        assert!(std::net::UdpSocket::bind(("127.0.0.1", port)).is_err());
    }
}
