//! Free ports of the loopback interface.

use std::collections::BTreeMap;
use std::io::{Error as IoError, ErrorKind};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use crate::Error;

/// Below the ports that Linux gives to outgoing connections (32768 to 60999): whoever tries again and again to reach a
/// server that is not there yet would now and then be given the server's own port, reach itself, and keep the server from
/// ever listening.
const RANGE: Range<u16> = 10_000..32_768;
/// Ports tried for each one wanted, before giving up.
const TRIES: usize = 200;

/// `count` different ports on which nothing listens now, picked at random, so that somebody else is unlikely to get one
/// before it is used; a server that finds its port taken says so and ends.
pub fn free(count: usize) -> Result<Vec<u16>, Error> {
    // Held until all are found, so that none is found twice.
    let mut listeners = BTreeMap::new();
    for _ in 0..TRIES.saturating_mul(count) {
        if listeners.len() == count {
            break;
        }
        let port = rand::random_range(RANGE);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            listeners.insert(port, listener);
        }
    }
    if listeners.len() < count {
        let source =
            IoError::new(ErrorKind::AddrInUse, format!("only {} of {count} were free", listeners.len()));
        return Err(Error::io("find free ports on", "127.0.0.1", source));
    }
    Ok(listeners.into_keys().collect())
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
}
