//! What was done on a server, by whom and when: kept in database `rollcall`, for whoever asks later.

use std::collections::BTreeSet;

use chassis::provision::Change;
use lifecycle::{Component, Moment};
use postgres::Session;

use super::Error;
use crate::spec::ServerSpec;

/// The table. So many changes are kept of all environments together; the oldest goes first.
pub(super) const SETUP: &str = "
CREATE TABLE IF NOT EXISTS rollcall.history (
  change bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  environment_uid uuid NOT NULL,
  component text NOT NULL,
  step text NOT NULL,
  error text,
  code text NOT NULL,
  by text NOT NULL,
  made_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS history_environment ON rollcall.history (environment_uid, made_at);
";

/// $1 the environment, $2 the component, $3 by whom; for each change $4 the step, $5 its error, $6 the error's code, $7 when, in
/// milliseconds since 1970.
const WRITE: &str = "
WITH written AS (
  INSERT INTO rollcall.history (environment_uid, component, step, error, code, by, made_at)
  SELECT $1::text::uuid, $2, each.step, nullif(each.error, ''), each.code, $3, to_timestamp(each.at / 1000.0)
  FROM unnest($4::text[], $5::text[], $6::text[], $7::int8[]) AS each(step, error, code, at) RETURNING change
)
DELETE FROM rollcall.history WHERE change <= (SELECT max(change) FROM written) - 100000";

/// $1 the environment, $2 the components, or none for all, $3 how many.
const READ: &str = "
SELECT (extract(epoch FROM made_at) * 1000)::int8, component, step, error, code, by FROM rollcall.history
WHERE environment_uid = $1::text::uuid AND (cardinality($2::text[]) = 0 OR component = ANY($2)) ORDER BY made_at DESC, change DESC LIMIT $3";

/// Writes down changes to one component.
pub(super) async fn write(
    session: &mut Session,
    spec: &ServerSpec,
    by: &str,
    changes: &[Change],
) -> Result<(), Error> {
    let Some(first) = changes.first() else { return Ok(()) };
    let texts = |text: fn(&Change) -> &str| changes.iter().map(text).collect::<Vec<_>>();
    let times: Vec<i64> =
        changes.iter().map(|change| i64::try_from(change.time.0).unwrap_or(i64::MAX)).collect();
    let (connection, within) = session.parts();
    let written = sqlx::query(WRITE)
        .bind(spec.environment.uid.to_string())
        .bind(first.component.to_string())
        .bind(by)
        .bind(texts(|change| &change.step))
        .bind(texts(|change| change.error.as_deref().unwrap_or_default()))
        .bind(texts(|change| &change.code))
        .bind(times);
    within.judge(written.execute(connection)).await?;
    Ok(())
}

/// The latest changes of an environment, by whomever, the latest first.
pub(super) async fn read(
    session: &mut Session,
    spec: &ServerSpec,
    components: &BTreeSet<Component>,
    limit: usize,
) -> Result<Vec<Change>, Error> {
    let names: Vec<String> = components.iter().map(ToString::to_string).collect();
    let (connection, within) = session.parts();
    let asked = sqlx::query_as::<_, (i64, String, String, Option<String>, String, String)>(READ)
        .bind(spec.environment.uid.to_string())
        .bind(names)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = within.judge(asked.fetch_all(connection)).await?;
    let change = |(time, component, step, error, code, source): (i64, String, String, _, String, String)| {
        let component = component.parse().map_err(|why: lifecycle::ComponentError| Error::Facts {
            what: "the history",
            said: why.to_string(),
        })?;
        Ok(Change { time: Moment(time.unsigned_abs()), component, step, error, code, source })
    };
    rows.into_iter().map(change).collect()
}
