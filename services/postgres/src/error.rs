//! What can go wrong with a server, judged by SQLSTATE and never by a message's words.

use std::fmt;
use std::io;

use chassis::converge::Fault;
use sqlx::postgres::PgDatabaseError;

/// Where something went wrong: which server, as whom, in which database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The server: component, host and port.
    pub server: String,
    /// The role.
    pub role: String,
    /// The database.
    pub database: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, role `{}`, database `{}`", self.server, self.role, self.database)
    }
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The host's name does not resolve.
    Unresolved,
    /// Nobody listens there.
    Refused,
    /// There is no way there, or the connection broke.
    Unreachable,
    /// The connection was lost in the middle of a session.
    Lost,
    /// No answer in time.
    Timeout,
    /// The encrypted connection could not be made.
    Tls,
    /// The server is starting or stopping (57P01 to 57P03).
    Starting,
    /// The server is in recovery: a standby, or not yet promoted.
    Recovering,
    /// There are no connections left (53300): ready but saturated.
    Saturated,
    /// The server's disk is full (53100).
    DiskFull,
    /// The role may not log in: wrong password, or it does not exist yet (28P01, 28000).
    Login,
    /// There is no such database (3D000).
    NoDatabase,
    /// The role may not connect to the database (42501 while connecting).
    NoConnect,
    /// The database takes no connections (55000 while connecting).
    Closed,
    /// The role may not do this (42501 in a statement).
    Denied,
    /// The server takes no writes (25006).
    ReadOnly,
    /// Somebody else changed or holds the same thing; look again and retry.
    Concurrent,
    /// A pooler answers that gives the connections behind it to others between two transactions or statements.
    Pooled,
    /// What postgres-init makes is not there yet or not finished.
    NotProvisioned,
    /// Anything else; the code says what.
    Other,
}

impl ErrorKind {
    fn advice(self) -> &'static str {
        match self {
            ErrorKind::Unresolved => "check `host`, or wait until its Service exists",
            ErrorKind::Refused => "wait until the server runs, or check `host` and `port`",
            ErrorKind::Unreachable => "check the network, its policies and that the server runs",
            ErrorKind::Lost => {
                "if that happens again, see the server's log: did it die, of a full disk for one, or did somebody end the session?"
            }
            ErrorKind::Timeout => "the server or the way to it is overloaded or blocked; check both",
            ErrorKind::Tls => {
                "check `tls` in the document, its CA and the server's certificate; a server without TLS needs `tls: {mode: disable}`"
            }
            ErrorKind::Starting => "wait until the server has started",
            ErrorKind::Recovering => "wait until it is promoted, or point `host` to the primary",
            ErrorKind::DiskFull => {
                "free space on the server's disk, or enlarge it; then it goes on by itself"
            }
            ErrorKind::Saturated => "wait, or raise max_connections or the role's connection limit",
            ErrorKind::Login => {
                "make the Secret and the role's password equal, or wait until postgres-init has made the role"
            }
            ErrorKind::NoDatabase => "wait until postgres-init has made it, or check the name",
            ErrorKind::NoConnect => "grant CONNECT on the database to the role",
            ErrorKind::Closed => "wait until it is finished, or ALTER DATABASE … ALLOW_CONNECTIONS true",
            ErrorKind::Denied => "give the role this right, or use one that has it",
            ErrorKind::ReadOnly => "wait until the server takes writes, or point `host` to the primary",
            ErrorKind::Concurrent => "somebody else is changing it; try again",
            ErrorKind::Pooled => {
                "point `host` and `port` to the server itself; only a pooler in mode `session` may stand between"
            }
            ErrorKind::NotProvisioned => "see what postgres-init says about it",
            ErrorKind::Other => "see the server's log",
        }
    }
}

/// An error of a server, or on the way to it. Holds the peer's own words, never a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {said}{}; {}", coded(.code), .kind.advice())]
pub struct Error {
    /// What kind of thing went wrong.
    pub kind: ErrorKind,
    /// Where.
    pub place: Box<Place>,
    /// The SQLSTATE; empty when the server did not speak.
    pub code: String,
    /// The peer's own words.
    pub said: String,
}

fn coded(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" (SQLSTATE {code})") }
}

/// The SQLSTATE (protocol violation) that PgBouncer gives, at a login, to all that the server behind it refuses: that a database is
/// not there or closed, or a role. A server itself gives it to nobody who speaks as we do.
pub const UNTOLD: &str = "08P01";

/// In which phase an error came: 42501 means another thing while connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum During {
    Connecting,
    Statement,
}

impl Error {
    /// An error that the caller found out itself.
    pub fn new(kind: ErrorKind, place: &Place, said: impl Into<String>) -> Self {
        Error { kind, place: Box::new(place.clone()), code: String::new(), said: said.into() }
    }

    pub(crate) fn judge(error: &sqlx::Error, place: &Place, during: During) -> Self {
        match error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
                Some(error) => Error {
                    kind: judge_state(error.code(), error.routine(), error.schema(), during),
                    place: Box::new(place.clone()),
                    code: error.code().to_owned(),
                    said: match error.detail() {
                        Some(detail) => format!("{} ({detail})", error.message()),
                        None => error.message().to_owned(),
                    },
                },
                None => Error::new(ErrorKind::Other, place, error.message()),
            },
            // What a server that dies still says to its sessions (57P02) is no error but a warning, after which it is gone.
            sqlx::Error::Io(error) if during == During::Statement && is_lost(error) => {
                Error::new(ErrorKind::Lost, place, format!("the connection was lost: {error}"))
            }
            sqlx::Error::Io(error) => Error::new(judge_io(error), place, error.to_string()),
            sqlx::Error::Tls(error) => Error::new(ErrorKind::Tls, place, format!("TLS: {error}")),
            // Mostly a proxy that has nobody behind it, or a server short of processes, which closes instead of answering. A peer
            // that will never speak otherwise has no code of its own, and is not given up on a guess.
            sqlx::Error::Protocol(said) if during == During::Connecting => Error::new(
                ErrorKind::Unreachable,
                place,
                format!("what answers there closed, or does not speak as a PostgreSQL server does: {said}"),
            ),
            // Its text may quote a character of the password that SASLprep forbids.
            sqlx::Error::Configuration(_) => {
                Error::new(ErrorKind::Other, place, "the client library refuses the role's name or password")
            }
            other => Error::new(ErrorKind::Other, place, other.to_string()),
        }
    }

    /// Whether trying again may help without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self.kind {
            ErrorKind::Tls
            | ErrorKind::Login
            | ErrorKind::NoDatabase
            | ErrorKind::NoConnect
            | ErrorKind::Denied
            | ErrorKind::Pooled => false,
            // Insufficient resources, operator intervention, and connection exceptions pass.
            ErrorKind::Other => ["08", "53", "57"].iter().any(|class| self.code.starts_with(class)),
            _ => true,
        }
    }

    /// The SQLSTATE; empty when the server did not speak.
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl Fault for Error {
    fn is_transient(&self) -> bool {
        Error::is_transient(self)
    }

    fn code(&self) -> String {
        self.code.clone()
    }
}

fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn judge_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorKind::Refused,
        io::ErrorKind::TimedOut => ErrorKind::Timeout,
        // rustls reports a certificate it does not accept as invalid data.
        io::ErrorKind::InvalidData => ErrorKind::Tls,
        _ => ErrorKind::Unreachable,
    }
}

/// SQLSTATEs: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn judge_state(code: &str, routine: Option<&str>, schema: Option<&str>, during: During) -> ErrorKind {
    match (code, during) {
        ("57P01" | "57P02" | "57P03", _) => ErrorKind::Starting,
        ("57014", _) => ErrorKind::Timeout,
        ("53300", _) => ErrorKind::Saturated,
        ("53100", _) => ErrorKind::DiskFull,
        ("28P01" | "28000", _) => ErrorKind::Login,
        ("3D000", During::Connecting) => ErrorKind::NoDatabase,
        ("42501", During::Connecting) => ErrorKind::NoConnect,
        ("55000", During::Connecting) => ErrorKind::Closed,
        ("42501", During::Statement) => ErrorKind::Denied,
        ("25006", _) => ErrorKind::ReadOnly,
        // Made meanwhile by somebody else; held by somebody else; serialisation failure; deadlock.
        ("42P04" | "42710" | "55006" | "55P03" | "40001" | "40P01", _) => ErrorKind::Concurrent,
        // The same, found by a catalog's unique index before the friendly check.
        ("23505", _) if schema == Some("pg_catalog") => ErrorKind::Concurrent,
        // "tuple concurrently updated" and "… deleted", and of a role that another drops at the same time "could not find tuple for
        // role", have no code of their own, but these routines raise nothing else that has none.
        ("XX000", _) if matches!(routine, Some("simple_heap_update" | "simple_heap_delete" | "DropRole")) => {
            ErrorKind::Concurrent
        }
        _ if code.starts_with("08") => ErrorKind::Unreachable,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encryption, Server};

    #[test]
    fn the_same_code_means_another_thing_while_connecting() {
        assert_eq!(judge_state("42501", None, None, During::Connecting), ErrorKind::NoConnect);
        assert_eq!(judge_state("42501", None, None, During::Statement), ErrorKind::Denied);
    }

    #[test]
    fn races_are_known_by_code_and_routine() {
        let kind = |code, routine, schema| judge_state(code, routine, schema, During::Statement);
        assert_eq!(kind("XX000", Some("simple_heap_update"), None), ErrorKind::Concurrent);
        assert_eq!(kind("XX000", Some("DropRole"), None), ErrorKind::Concurrent);
        assert_eq!(kind("2BP01", Some("DropRole"), None), ErrorKind::Other);
        assert_eq!(kind("XX000", Some("ReadBuffer_common"), None), ErrorKind::Other);
        assert_eq!(kind("23505", None, Some("pg_catalog")), ErrorKind::Concurrent);
        assert_eq!(kind("23505", None, Some("public")), ErrorKind::Other);
        assert_eq!(kind("42P04", None, None), ErrorKind::Concurrent);
    }

    #[test]
    fn messages_name_where_what_and_what_to_do() {
        let place = Place {
            server: "postgres/main (db:5432)".into(),
            role: "app".into(),
            database: "registry".into(),
        };
        let error = Error {
            kind: ErrorKind::Login,
            place: Box::new(place),
            code: "28P01".into(),
            said: "password authentication failed".into(),
        };
        assert_eq!(
            error.to_string(),
            "postgres/main (db:5432), role `app`, database `registry`: password authentication failed (SQLSTATE 28P01); make the Secret and \
             the role's password equal, or wait until postgres-init has made the role"
        );
        assert!(!error.is_transient());
    }

    #[test]
    fn a_full_disk_and_a_lost_connection_pass() {
        let place = Place { server: String::new(), role: String::new(), database: String::new() };
        let error = |code: &str| Error {
            kind: judge_state(code, None, None, During::Statement),
            place: Box::new(place.clone()),
            code: code.into(),
            said: String::new(),
        };
        for (code, transient) in
            [("53100", true), ("08006", true), ("57P03", true), ("42601", false), ("42501", false)]
        {
            assert_eq!(error(code).is_transient(), transient, "{code}");
        }
    }

    #[tokio::test]
    async fn who_accepts_and_closes_may_answer_later() {
        use tokio::io::AsyncReadExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let closes = async {
            loop {
                let (mut peer, _) = listener.accept().await.unwrap();
                // What was asked is read, so that closing is an orderly end and no reset.
                let _ = peer.read(&mut [0; 512]).await;
            }
        };
        let judge = async {
            for tls in [Encryption::Prefer, Encryption::Require, Encryption::Disable] {
                let server = Server {
                    component: "postgres/main".parse().unwrap(),
                    host: "127.0.0.1".to_owned(),
                    port,
                    tls,
                    ca: None,
                };
                let within = std::time::Duration::from_secs(30);
                let error =
                    crate::connect(&server, "app", None, "registry", "test", within).await.unwrap_err();
                assert_eq!(error.kind, ErrorKind::Unreachable, "{tls:?}: {error}");
                assert!(error.is_transient(), "{tls:?}: {error}");
            }
        };
        tokio::select! {
            () = judge => {}
            () = closes => {}
        }
    }
}
