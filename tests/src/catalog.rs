//! What a server's catalogs say, so that "nothing changed" can be compared.

use rollcall::rehearse::Stage;
use sandbox::Postgres;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

/// Logs in to a stage's server as the sandbox's superuser.
pub async fn superuser(stage: &Stage, database: &str) -> PgConnection {
    superuser_of(stage.postgres(), database).await
}

/// Logs in to a server as the sandbox's superuser.
pub async fn superuser_of(postgres: &Postgres, database: &str) -> PgConnection {
    let options = PgConnectOptions::new_without_pgpass()
        .host(postgres.host())
        .port(postgres.port())
        .username(postgres.superuser())
        .password(postgres.password())
        .database(database)
        .ssl_mode(PgSslMode::Disable);
    options.connect().await.unwrap()
}

/// Runs a statement.
pub async fn execute(stage: &Stage, database: &str, sql: &str) {
    let mut connection = superuser(stage, database).await;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The rows of a query, as text, one line each.
pub async fn rows(stage: &Stage, database: &str, sql: &str) -> Vec<String> {
    rows_of(stage.postgres(), database, sql).await
}

/// The rows of a query of a server, as text, one line each.
pub async fn rows_of(postgres: &Postgres, database: &str, sql: &str) -> Vec<String> {
    let mut connection = superuser_of(postgres, database).await;
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT ({sql_row})::text AS line FROM ({sql}) AS q",
        sql_row = "q"
    )))
    .fetch_all(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("line")).collect()
}

/// Every row of the shared catalogs that provisioning writes, with the transaction that wrote it (`xmin`): two equal
/// answers mean that nothing was written between them. Sessions write none of these.
pub async fn shared(stage: &Stage) -> Vec<String> {
    shared_of(stage.postgres()).await
}

/// The same of a server.
pub async fn shared_of(postgres: &Postgres) -> Vec<String> {
    let mut all = Vec::new();
    for catalog in ["pg_authid", "pg_auth_members", "pg_db_role_setting", "pg_shdescription", "pg_shdepend"] {
        all.extend(
            rows_of(
                postgres,
                "postgres",
                &format!("SELECT '{catalog}', c.xmin, c.* FROM {catalog} c ORDER BY c::text"),
            )
            .await,
        );
    }
    // Autovacuum writes datfrozenxid and datminmxid, in place or not.
    let databases = "SELECT 'pg_database', datname, datdba, datacl, datallowconn, datconnlimit FROM pg_database ORDER BY datname";
    all.extend(rows_of(postgres, "postgres", databases).await);
    all
}

/// Everything of one database that provisioning writes.
pub async fn local(stage: &Stage, database: &str) -> Vec<String> {
    local_of(stage.postgres(), database).await
}

/// The same of a server's database.
pub async fn local_of(postgres: &Postgres, database: &str) -> Vec<String> {
    let mut all = Vec::new();
    for catalog in ["pg_namespace", "pg_default_acl", "pg_extension"] {
        all.extend(
            rows_of(
                postgres,
                database,
                &format!("SELECT '{catalog}', c.xmin, c.* FROM {catalog} c ORDER BY c::text"),
            )
            .await,
        );
    }
    all
}
