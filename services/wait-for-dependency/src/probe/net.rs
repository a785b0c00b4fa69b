//! What the network says, as states. Errors are judged by their kind, never by their text.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};

use super::{NotYet, State};

/// The addresses of `host:port`.
pub(super) async fn resolve(address: &str) -> Result<Vec<SocketAddr>, NotYet> {
    let found: Vec<SocketAddr> =
        lookup_host(address).await.map_err(|error| NotYet::new(State::Unresolved, error))?.collect();
    if found.is_empty() {
        return Err(NotYet::new(State::Unresolved, format!("{address} has no address")));
    }
    Ok(found)
}

/// A connection to the first address of `host:port` that accepts one.
pub(super) async fn connect(address: &str) -> Result<TcpStream, NotYet> {
    let mut last = NotYet::new(State::Unresolved, format!("{address} has no address"));
    for address in resolve(address).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = NotYet::new(state(&error), format!("{address}: {error}")),
        }
    }
    Err(last)
}

/// The state an I/O error stands for.
pub(super) fn state(error: &io::Error) -> State {
    match error.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable => State::Refused,
        ErrorKind::TimedOut => State::TimedOut,
        ErrorKind::PermissionDenied => State::Denied,
        _ => State::Rejecting,
    }
}

/// The state an error of a client library stands for: that of the I/O error it wraps. Where there is none, or one that
/// says nothing, the name is looked up again to tell "no such host" from "answers nonsense".
pub(super) fn judge<'a>(
    error: &(dyn Error + 'static),
    address: &'a str,
) -> impl Future<Output = NotYet> + Send + use<'a> {
    let text = innermost(error);
    let wrapped = find::<io::Error>(error).map(|error| (state(error), error.raw_os_error().is_some()));
    async move {
        match wrapped {
            Some((state, true) | (state @ (State::TimedOut | State::Refused), false)) => {
                NotYet::new(state, text)
            }
            _ => match resolve(address).await {
                Err(unresolved) => unresolved,
                Ok(_) => NotYet::new(State::Rejecting, text),
            },
        }
    }
}

/// The first error of type `E` in the chain of causes. I/O errors may wrap others without naming them as their source.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The last cause: what the peer or the system said, without the library's wrapping.
fn innermost(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    text
}
