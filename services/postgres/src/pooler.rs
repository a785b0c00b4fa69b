//! Whether a session is one: a pooler that lends its connections by the transaction or the statement gives what one session
//! sets, and the locks it takes, to others.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::{Error, ErrorKind, Session};

/// How often both sessions are asked in turn. A pooler that has others to serve at the same time may hide for one turn.
const TURNS: usize = 3;
/// Sets what lasts as long as a session, to what nobody else has.
const MARK: &str =
    "SELECT pg_catalog.set_config('rollcall.session', pg_catalog.gen_random_uuid()::pg_catalog.text, false)";
/// What the session was marked with; NULL or empty in one that never was.
const MARKED: &str = "SELECT pg_catalog.current_setting('rollcall.session', true)";

impl Session {
    /// Proves that what this session sets and locks stays its own, for which `other` is asked beside it: a second login of the
    /// same role to the same database, from the same place. A pooler in mode `session` passes.
    ///
    /// While two sessions are open a server never lets one see what the other has set, so a server itself is never taken for a
    /// pooler. A pooler that lends by the transaction has one of two ways: it gives the connection that was marked to whoever asks
    /// next, who then sees the mark, or another one, and the mark is gone.
    ///
    /// # Errors
    /// Of kind [`ErrorKind::Pooled`] where it does not stay its own; anything else when one of the two cannot be asked.
    pub async fn proves_own(&mut self, other: &mut Session) -> Result<(), Error> {
        let mark = self.tell(MARK).await?;
        for _ in 0..TURNS {
            if self.tell(MARKED).await? != mark || other.tell(MARKED).await? == mark {
                let said = "what answers there is a pooler that lends its connections by the transaction or the statement: locks \
                            and settings of one session would be another's";
                return Err(Error::new(ErrorKind::Pooled, self.place(), said));
            }
        }
        Ok(())
    }

    /// One text, asked in the simple protocol: a pooler may not know prepared statements.
    async fn tell(&mut self, sql: &'static str) -> Result<Option<String>, Error> {
        let (connection, within) = self.parts();
        within.judge(ask(connection, sql)).await
    }
}

async fn ask(connection: &mut PgConnection, sql: &'static str) -> Result<Option<String>, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await?.try_get(0)
}
