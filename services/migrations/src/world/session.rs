//! A connection on which migrations run: one statement at a time, and afterwards as it was before.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::{Connect, answered, connect};
use crate::Error;
use crate::error::{Failed, Said, lines_below};
use crate::quote::{identifier, literal};

/// A connection, and who and where it was when it was made.
pub(crate) struct Session {
    connection: PgConnection,
    pub(crate) database: String,
    pub(crate) user: String,
    /// Who was named to be connected as.
    pub(crate) named: Option<String>,
    path: String,
    within: Duration,
}

/// Where a statement stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) file: &'a str,
    pub(crate) line: usize,
    pub(crate) number: usize,
    /// It holds a secret: neither it nor what the server says about it is shown.
    pub(crate) secret: bool,
}

impl Session {
    pub(crate) async fn open(
        to: &impl Connect,
        database: &str,
        user: Option<&str>,
        within: Duration,
    ) -> Result<Session, Error> {
        let mut connection = connect(to, database, user).await?;
        let facts = "SELECT current_database()::text, current_user::text, current_setting('search_path'), \
                     set_config('standard_conforming_strings', 'on', false), set_config('client_encoding', 'UTF8', false)";
        let facts = answered(sqlx::query(facts).persistent(false).fetch_one(&mut connection)).await;
        let facts = facts.map_err(Error::server("looking at the new connection"))?;
        let get = |n: usize| facts.try_get(n).map_err(Error::server("looking at the new connection"));
        let named = user.map(str::to_owned);
        let (database, user, path) = (get(0)?, get(1)?, get(2)?);
        Ok(Session { connection, database, user, named, path, within })
    }

    /// Looks names up in `schema` alone, or in it first, as Flyway does it.
    pub(crate) async fn enter(&mut self, schema: &str, alone: bool) -> Result<(), Error> {
        let original = self.path.clone();
        if alone {
            self.path = identifier(schema);
        } else if original != schema && !original.starts_with(&format!("{schema},")) {
            let own = identifier(schema);
            self.path = if original.is_empty() { own } else { format!("{own},{original}") };
        }
        self.restore().await
    }

    /// Makes it be who and where it was: scripts may have changed both.
    pub(crate) async fn restore(&mut self) -> Result<(), Error> {
        let sql = format!(
            "RESET SESSION AUTHORIZATION; SET ROLE {}; SET standard_conforming_strings = on; SET client_encoding = 'UTF8'; \
             SELECT pg_catalog.set_config('search_path', {}, false)",
            identifier(&self.user),
            literal(&self.path)
        );
        self.own(sql, "restoring the connection after a script").await
    }

    /// Runs statements of our own; several are one transaction.
    pub(crate) async fn own(&mut self, sql: impl Into<String>, doing: &str) -> Result<(), Error> {
        let ran = sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(&mut self.connection);
        let late = || Error::Server {
            doing: doing.to_owned(),
            said: Said::words(format!("no answer within {:?}", self.within)),
        };
        let ran = tokio::time::timeout(self.within, ran).await.map_err(|_| late())?;
        ran.map(drop).map_err(Error::server(doing))
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Runs one statement of a script, with its rows if it copies some.
    pub(crate) async fn run(&mut self, at: At<'_>, sql: &str, rows: Option<&[u8]>) -> Result<(), Error> {
        let ran = tokio::time::timeout(self.within, execute(&mut self.connection, sql, rows)).await;
        let (below, said) = match ran {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => (lines_below(&error, sql), Said::of(&error)),
            Err(_) => (0, Said::words(format!("no answer within {:?}", self.within))),
        };
        Err(failed(at, below, said))
    }

    /// Runs a query of a script and gives the texts it answers with, row by row.
    pub(crate) async fn texts(&mut self, at: At<'_>, sql: &str) -> Result<Vec<String>, Error> {
        use sqlx::ValueRef;
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.connection);
        let rows = match tokio::time::timeout(self.within, query).await {
            Ok(rows) => rows.map_err(|error| failed(at, lines_below(&error, sql), Said::of(&error)))?,
            Err(_) => return Err(failed(at, 0, Said::words(format!("no answer within {:?}", self.within)))),
        };
        let mut texts = Vec::new();
        for row in rows {
            for column in 0..row.len() {
                let value = row.try_get_raw(column).map_err(|error| failed(at, 0, Said::of(&error)))?;
                if !value.is_null() {
                    // The simple protocol answers in text.
                    texts.push(
                        value
                            .as_str()
                            .map_err(|error| failed(at, 0, Said::words(error.to_string())))?
                            .to_owned(),
                    );
                }
            }
        }
        Ok(texts)
    }

    /// Runs a `COPY … TO STDOUT` and gives what it wrote, up to `most` bytes.
    pub(crate) async fn copy_out(&mut self, at: At<'_>, sql: &str, most: usize) -> Result<Vec<u8>, Error> {
        use futures_util::TryStreamExt;
        let copied = async {
            let mut stream = self.connection.copy_out_raw(sql).await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.try_next().await? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > most {
                    return Ok(None);
                }
            }
            Ok(Some(bytes))
        };
        match tokio::time::timeout(self.within, copied).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            Ok(Ok(None)) => Err(failed(at, 0, Said::words(format!("writes more than {most} bytes")))),
            Ok(Err(error)) => Err(failed(at, lines_below(&error, sql), Said::of(&error))),
            Err(_) => Err(failed(at, 0, Said::words(format!("no answer within {:?}", self.within)))),
        }
    }

    /// Asks the server to write the next statements into no log and no statistics, as far as this role may ask that.
    pub(crate) async fn hush(&mut self) -> Result<(), Error> {
        let sql = "DO $$ BEGIN
             PERFORM set_config('log_statement', 'none', false), set_config('log_min_duration_statement', '-1', false),
                     set_config('log_min_error_statement', 'panic', false);
             EXCEPTION WHEN insufficient_privilege THEN NULL; END $$;
             DO $$ BEGIN
             PERFORM set_config('pg_stat_statements.track_utility', 'off', false);
             EXCEPTION WHEN insufficient_privilege OR undefined_object THEN NULL; END $$";
        self.own(sql, "keeping a secret out of the server's log").await
    }

    pub(crate) async fn close(self) {
        // A server that hears no goodbye notices all the same.
        let _ = self.connection.close().await;
    }
}

fn failed(at: At<'_>, below: usize, said: Said) -> Error {
    let said = if at.secret { said.without_words() } else { said };
    Error::Statement(Box::new(Failed {
        file: at.file.to_owned(),
        line: at.line + below,
        number: at.number,
        said,
    }))
}

/// What is sent of rows at once; a message of the protocol may carry 1 GiB, but is held in memory on both sides.
const CHUNK: usize = 64 * 1024;

async fn execute(connection: &mut PgConnection, sql: &str, rows: Option<&[u8]>) -> Result<(), sqlx::Error> {
    let Some(rows) = rows else {
        return sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(drop);
    };
    let mut copy = connection.copy_in_raw(sql).await?;
    for chunk in rows.chunks(CHUNK) {
        copy.send(chunk).await?;
    }
    copy.finish().await.map(drop)
}
