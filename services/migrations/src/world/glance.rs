//! What a run would do and what would be refused, seen without the lock and without changing anything; and a mark of what is in
//! a database, by which it is noticed that somebody changed it.

use sqlx::PgConnection;

use super::session::Session;
use super::{Connect, Journal, Limits, answered, flyway, native, psql};
use crate::source::Sources;
use crate::{Error, Problem};

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Glance {
    /// What would be done, in this order.
    pub steps: Vec<String>,
    /// Why nothing would be done, if there is any; and what is worth knowing.
    pub problems: Vec<Problem>,
}

/// What [`super::migrate_flyway`] would do.
pub async fn glance_flyway(
    to: &impl Connect,
    database: &str,
    sources: &Sources,
    settings: &crate::flyway::Settings,
    limits: Limits,
) -> Result<Glance, Error> {
    let mut glance = Glance { problems: crate::flyway::check(sources, settings), ..Glance::default() };
    if glance.is_refused() {
        return Ok(glance);
    }
    for schema in &settings.schemas {
        let plan = flyway::seen(to, database, sources, settings, limits, schema).await?;
        glance.steps.extend(plan.steps.iter().map(|step| format!("{schema}: {step}")));
        glance.problems.extend(plan.problems);
    }
    Ok(glance)
}

/// What [`super::migrate_native`] would do.
pub async fn glance_native(
    to: &impl Connect,
    database: &str,
    migration: &str,
    sources: &Sources,
    settings: &crate::native::Settings,
    limits: Limits,
) -> Result<Glance, Error> {
    let mut glance = Glance { problems: crate::native::check(sources, settings), ..Glance::default() };
    if glance.is_refused() {
        return Ok(glance);
    }
    let journal = Journal {
        schema: settings.schema.clone(),
        table: settings.table.clone(),
        migration: migration.to_owned(),
    };
    let migrations = crate::native::resolve(sources, settings).map_err(Error::Refused)?;
    let mut session = Session::open(to, database, None, limits.statement).await?;
    let mut records = super::connect(to, database, None).await?;
    let plan = native::decide(&mut session, &journal, &mut records, &migrations, settings).await?;
    session.close().await;
    goodbye(records).await;
    glance.steps.extend(plan.steps.iter().map(ToString::to_string));
    glance.problems.extend(plan.problems);
    Ok(glance)
}

/// What [`super::migrate_psql`] would do.
pub async fn glance_psql(
    to: &impl Connect,
    journal_in: &str,
    journal: &Journal,
    sources: &Sources,
    settings: &crate::psql::Settings,
    limits: Limits,
) -> Result<Glance, Error> {
    let mut glance = Glance { problems: crate::psql::check(sources, settings), ..Glance::default() };
    if glance.is_refused() {
        return Ok(glance);
    }
    let mut records = super::connect(to, journal_in, None).await?;
    let plan = psql::decide(to, journal, sources, settings, limits, &mut records).await?;
    goodbye(records).await;
    glance.steps.extend(plan.actions.iter().map(ToString::to_string));
    glance.problems.extend(plan.problems);
    glance.problems.sort();
    glance.problems.dedup();
    Ok(glance)
}

impl Glance {
    /// Whether nothing may be done.
    pub fn is_refused(&self) -> bool {
        self.problems.iter().any(Problem::refuses)
    }
}

/// Every row of the catalog that says what is in the database, by the transaction that wrote it. What is analyzed or vacuumed
/// stays what it was, and so does a table whose rows change.
const CATALOG: &str = "
SELECT md5(coalesce(string_agg(row, ',' ORDER BY row), '')) || ' ' || (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
FROM (
  SELECT 'class ' || c.oid || ' ' || c.xmin AS row FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  UNION ALL SELECT 'attribute ' || a.attrelid || ' ' || a.attnum || ' ' || a.xmin FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  UNION ALL SELECT 'constraint ' || oid || ' ' || xmin FROM pg_catalog.pg_constraint
  UNION ALL SELECT 'routine ' || oid || ' ' || xmin FROM pg_catalog.pg_proc WHERE pronamespace <> 'pg_catalog'::regnamespace
  UNION ALL SELECT 'type ' || t.oid || ' ' || t.xmin FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  UNION ALL SELECT 'schema ' || oid || ' ' || xmin FROM pg_catalog.pg_namespace WHERE nspname NOT LIKE 'pg\\_t%'
  UNION ALL SELECT 'extension ' || oid || ' ' || xmin FROM pg_catalog.pg_extension
  UNION ALL SELECT 'default ' || oid || ' ' || xmin FROM pg_catalog.pg_default_acl
) facts";

/// A mark of what is in a database: another one when somebody has changed its schema since, or made it anew.
pub async fn catalog(to: &impl Connect, database: &str) -> Result<String, Error> {
    let mut connection = super::connect(to, database, None).await?;
    let asked = sqlx::query_scalar(CATALOG).persistent(false);
    let mark = answered(asked.fetch_one(&mut connection)).await;
    let mark = mark.map_err(Error::server(format!("looking at the catalog of database `{database}`")))?;
    goodbye(connection).await;
    Ok(mark)
}

async fn goodbye(connection: PgConnection) {
    // A server that hears no goodbye notices all the same.
    let _ = sqlx::Connection::close(connection).await;
}
