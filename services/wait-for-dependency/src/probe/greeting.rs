//! The first words of PostgreSQL's protocol, as far as they say whether a server takes connections. No login, no password.

use lifecycle::Evidence;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{NotYet, State};

/// No error message of a server is longer; what is beyond is not read.
const ERROR_MAX: usize = 8 * 1024;

/// Opens the protocol (version 3.0) and reads how the server begins. A server checks whether it takes connections
/// before it looks who asks, so no credentials are needed, and no password is ever sent here.
pub(super) async fn greet(stream: &mut TcpStream) -> Result<Evidence, NotYet> {
    let mut startup = vec![0, 0, 0, 0, 0, 3, 0, 0];
    startup.extend_from_slice(b"user\0rollcall\0database\0rollcall\0application_name\0rollcall probe\0\0");
    let length = u32::try_from(startup.len()).unwrap_or_default().to_be_bytes();
    startup[..4].copy_from_slice(&length);

    let mut head = [0; 5];
    exchange(stream, &startup, &mut head).await?;
    let length =
        usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]])).unwrap_or(usize::MAX);
    match head[0] {
        // It asks us to authenticate: it takes connections. An authentication request is short.
        b'R' if (8..=ERROR_MAX).contains(&length) => Ok(Evidence::level("accepting")),
        b'E' if (5..=ERROR_MAX).contains(&length) => {
            let mut body = vec![0; length - 4];
            stream.read_exact(&mut body).await.map_err(|error| broken(&error))?;
            refusal(&body)
        }
        _ => Err(stranger()),
    }
}

/// What an `ErrorResponse` says about the server: is it the server that is not there yet, or is it only us it does not
/// want? 57P03 is "starting up" and "in recovery, not accepting"; 53300 is full, and so ready.
fn refusal(body: &[u8]) -> Result<Evidence, NotYet> {
    let field = |letter: u8| {
        body.split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&letter))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    };
    match field(b'C') {
        Some(code) if code.starts_with("57P") => {
            Err(NotYet::new(State::Rejecting, field(b'M').unwrap_or_default()).code(code))
        }
        Some(code) => Ok(Evidence::level("accepting").with("refused_us_with", code)),
        None => Err(stranger()),
    }
}

async fn exchange(stream: &mut TcpStream, request: &[u8], answer: &mut [u8]) -> Result<(), NotYet> {
    stream.write_all(request).await.map_err(|error| broken(&error))?;
    stream.read_exact(answer).await.map(drop).map_err(|error| broken(&error))
}

fn broken(error: &std::io::Error) -> NotYet {
    NotYet::new(State::Rejecting, format!("the connection broke: {error}"))
}

fn stranger() -> NotYet {
    NotYet::new(State::Rejecting, "does not speak PostgreSQL's protocol")
}

#[cfg(test)]
mod tests {
    use super::super::faults::{self, Fault};
    use super::super::{Encryption, Probe, Server};
    use super::*;

    async fn look(address: &str) -> Result<Evidence, NotYet> {
        let (host, port) = address.rsplit_once(':').unwrap();
        let server = Server {
            host: host.to_owned(),
            port: port.parse().unwrap(),
            encryption: Encryption::Disable,
            authority: None,
        };
        faults::look(Probe::Server(server)).await
    }

    async fn against(bytes: &[u8]) -> Result<Evidence, NotYet> {
        let peer = faults::serve(Fault::Bytes(bytes.to_vec())).await;
        look(&peer.address).await
    }

    fn error(code: &str, message: &str) -> Vec<u8> {
        let body = format!("SFATAL\0C{code}\0M{message}\0\0");
        let mut bytes = vec![b'E'];
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }

    #[tokio::test]
    async fn a_server_that_asks_who_we_are_takes_connections() {
        let scram = [b"R\0\0\0\x17\0\0\0\x0a".as_slice(), b"SCRAM-SHA-256\0\0"].concat();
        assert_eq!(against(&scram).await.unwrap().level, "accepting");
        assert_eq!(against(&error("28000", "no pg_hba.conf entry")).await.unwrap().level, "accepting");
        assert_eq!(against(&error("53300", "too many clients")).await.unwrap().level, "accepting");
    }

    #[tokio::test]
    async fn a_server_that_starts_is_not_ready_although_its_port_is_open() {
        let starting = against(&error("57P03", "the database system is starting up")).await.unwrap_err();
        assert_eq!((starting.state, starting.code.as_str()), (State::Rejecting, "57P03"));
        assert_eq!(starting.error, "the database system is starting up");
    }

    #[tokio::test]
    async fn another_protocol_a_broken_one_and_a_closed_connection_do_not_pass() {
        for bytes in [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
            b"R\xff\xff\xff\xff",
            b"E\0\0\0\x05\0",
            b"R\0",
            b"",
        ] {
            assert_eq!(against(bytes).await.unwrap_err().state, State::Rejecting, "{bytes:?}");
        }
        assert_eq!(look(&faults::closed_port().await).await.unwrap_err().state, State::Refused);
        assert_eq!(look("no-such-host.invalid:5432").await.unwrap_err().state, State::Unresolved);
    }
}
