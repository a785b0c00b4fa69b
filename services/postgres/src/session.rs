//! A connection that knows where it is: every statement is bounded in time and its errors say where they came from.

use std::time::Duration;

use chassis::SecretValue;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::error::During;
use crate::{Error, ErrorKind, Place, Server, connect};

/// A connection with the place it leads to and the time a statement may take.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    place: Place,
    within: Duration,
}

/// The half of a [`Session`] that bounds and judges while the other half, the connection, works.
#[derive(Debug)]
pub struct Within<'a> {
    place: &'a Place,
    within: Duration,
}

impl Session {
    /// Logs in within `within`, which also bounds each later statement.
    pub async fn open(
        server: &Server,
        user: &str,
        password: Option<&SecretValue>,
        database: &str,
        application_name: &str,
        within: Duration,
    ) -> Result<Session, Error> {
        let connection = connect(server, user, password, database, application_name, within).await?;
        Ok(Session { connection, place: server.place(user, database), within })
    }

    /// Changes how long a statement may take.
    #[must_use]
    pub fn within(self, within: Duration) -> Self {
        Session { within, ..self }
    }

    /// Where it leads.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The connection, and what bounds and judges a statement on it.
    pub fn parts(&mut self) -> (&mut PgConnection, Within<'_>) {
        (&mut self.connection, Within { place: &self.place, within: self.within })
    }

    /// Runs one or more statements; several are one transaction. The caller has quoted what stands in them.
    pub async fn execute(&mut self, sql: impl Into<String>) -> Result<(), Error> {
        let (connection, within) = self.parts();
        within.judge(sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(connection)).await.map(drop)
    }

    /// Says goodbye.
    pub async fn close(self) {
        // Whoever closes has done its work; a server that hears no goodbye notices all the same.
        let _ = tokio::time::timeout(self.within, self.connection.close()).await;
    }
}

impl Within<'_> {
    /// Bounds a statement in time and judges its error.
    pub async fn judge<T>(self, statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.within, statement).await {
            Ok(result) => result.map_err(|error| Error::judge(&error, self.place, During::Statement)),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                self.place,
                format!("no answer within {} ms", self.within.as_millis()),
            )),
        }
    }
}
