//! What pods run in the tests of this crate: a server that tells its name and its caller's address, and a client that
//! repeats what it was told.

use std::io::{Error, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", port] => serve(port),
        ["ask", place] => {
            ask(place, &[]);
            Ok(())
        }
        ["ask", place, question] => {
            let bytes = question.split(',').map(str::parse).collect::<Result<Vec<u8>, _>>();
            ask(place, &bytes.map_err(Error::other)?);
            Ok(())
        }
        _ => Err(Error::other("usage: sandbox-pod serve PORT | ask HOST:PORT [BYTE,BYTE,...]")),
    }
}

fn serve(port: &str) -> Result<(), Error> {
    let name = std::fs::read_to_string("/etc/hostname")?;
    for stream in TcpListener::bind(format!("0.0.0.0:{port}"))?.incoming() {
        // Whoever only looks whether the port is open is gone by now.
        let _ = stream.and_then(|mut stream| {
            let caller = stream.peer_addr()?.ip();
            writeln!(stream, "{} was asked by {caller}", name.trim())
        });
    }
    Ok(())
}

/// Succeeds either way: what it could not reach it says on standard output, for a test to read in the pod's log.
fn ask(place: &str, question: &[u8]) {
    let answer = || -> Result<String, Error> {
        let address = std::net::ToSocketAddrs::to_socket_addrs(place)?
            .next()
            .ok_or_else(|| Error::other("a name without address"))?;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
        if !question.is_empty() {
            stream.write_all(question)?;
            // There is no other question: the server need not wait for one.
            stream.shutdown(Shutdown::Write)?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    match answer() {
        Ok(text) => print!("{text}"),
        Err(error) => println!("failed: {error}"),
    }
}
