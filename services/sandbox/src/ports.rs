//! Free ports of the loopback interface.

use std::net::{Ipv4Addr, TcpListener};

use crate::Error;

/// `count` different ports on which nothing listens now. The kernel hands them out in turn, so that somebody else is
/// unlikely to get one before it is used; a server that finds its port taken says so and ends.
pub fn free(count: usize) -> Result<Vec<u16>, Error> {
    let listeners: Result<Vec<TcpListener>, _> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    let ports = listeners.and_then(|all| all.iter().map(|one| Ok(one.local_addr()?.port())).collect());
    ports.map_err(|source| Error::io("find a free port on", "127.0.0.1", source))
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
    fn ports_are_different_and_free() {
        let ports = super::free(20).expect("ports");
        let different: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(different.len(), 20);
    }
}
