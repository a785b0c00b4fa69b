//! Indexes that are built or dropped by themselves, on a server: what a statement that was cut has left of them is looked at.

use sqlx::AssertSqlSafe;

use super::answered;
use super::session::Session;
use crate::Error;
use crate::quote::identifier;
use crate::statement::{ConcurrentIndex, Name, concurrent_index};

/// What an earlier attempt at an `INDEX CONCURRENTLY` has left: an index that it left half built is in the way and is
/// dropped; one that is as the statement would make it needs no more, if that attempt may have made it.
pub(super) async fn is_done_already(session: &mut Session, sql: &str, again: bool) -> Result<bool, Error> {
    let quoted = |name: &Name| {
        name.schema.iter().chain([&name.name]).map(|part| identifier(part)).collect::<Vec<_>>().join(".")
    };
    let (builds, looked_for, asked) = match concurrent_index(sql) {
        None => return Ok(false),
        Some(ConcurrentIndex::Dropped(name)) => {
            (false, [quoted(&name), String::new()], "pg_catalog.to_regclass($1)")
        }
        Some(ConcurrentIndex::Built { name, table }) => (
            true,
            [name, quoted(&table)],
            "(SELECT k.oid FROM pg_catalog.pg_class t, pg_catalog.pg_class k \
             WHERE t.oid = pg_catalog.to_regclass($2) AND k.relnamespace = t.relnamespace AND k.relname = $1)",
        ),
    };
    let asked = format!(
        "SELECT i.indisvalid, n.nspname::text, c.relname::text FROM pg_catalog.pg_index i \
         JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = {asked} AND $2 IS NOT NULL"
    );
    let [index, table] = &looked_for;
    let asked = sqlx::query_as(AssertSqlSafe(asked)).bind(index).bind(table).persistent(false);
    let found: Option<(bool, String, String)> = answered(asked.fetch_optional(session.connection()))
        .await
        .map_err(Error::server(format!("looking for the index `{index}`")))?;
    match found {
        Some((false, schema, name)) if builds => {
            tracing::warn!("the index {schema}.{name} was left half built; it is dropped and built again");
            let quoted = format!("{}.{}", identifier(&schema), identifier(&name));
            let drop = format!("DROP INDEX CONCURRENTLY {quoted}");
            session.own(drop, &format!("dropping the half-built index {quoted}")).await?;
            Ok(false)
        }
        Some((true, ..)) => Ok(again && builds),
        Some(_) => Ok(false),
        None => Ok(again && !builds),
    }
}
