//! What is in a database before anything runs.

use sqlx::Row;

use super::answered;
use super::session::Session;
use crate::Error;
use crate::guard::Present;
use crate::statement::Name;

/// Every schema, and in those that are not the server's own every table; a schema without one has a row of its own.
const PRESENT: &str = "
SELECT n.nspname::text, c.relname::text
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'f')
  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";

/// Looks at the database that the session is in.
pub(super) async fn present(session: &mut Session) -> Result<Present, Error> {
    let failed = || Error::server("looking at the tables that are there");
    let rows = answered(sqlx::query(PRESENT).persistent(false).fetch_all(session.connection()))
        .await
        .map_err(failed())?;
    let mut present = Present::default();
    for row in rows {
        let schema: String = row.try_get(0).map_err(failed())?;
        if let Some(table) = row.try_get::<Option<String>, _>(1).map_err(failed())? {
            present.tables.insert(Name::qualified(&schema, table));
        }
        present.schemas.insert(schema);
    }
    Ok(present)
}
