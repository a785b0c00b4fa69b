//! A real server, databases on it, and connections as anybody.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

pub mod flyway;

use std::time::Duration;

use migrations::Connect;
use sandbox::{Options, PostgresOptions, Sandbox, Supervisor};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

/// A server, and what runs beside it.
pub struct World {
    pub sandbox: Sandbox,
    pub server: sandbox::Postgres,
}

impl World {
    pub async fn start(version: u16) -> World {
        let options = Options::new(Supervisor::of_this_test("supervises"));
        let sandbox = Sandbox::start(options).await.expect("a sandbox starts");
        let options = PostgresOptions { version, ..PostgresOptions::default() };
        let server = sandbox.postgres(options).await.expect("a server is made");
        server.ready(Duration::from_mins(1)).await.expect("it is ready");
        World { sandbox, server }
    }

    pub async fn stop(self) {
        self.sandbox.stop().await.expect("it stops");
    }

    pub async fn database(&self, name: &str) {
        self.run("postgres", &format!("CREATE DATABASE {name}")).await;
    }

    pub async fn login(&self, database: &str) -> PgConnection {
        self.connect(database, None).await.expect("a login")
    }

    /// Runs statements as the superuser.
    pub async fn run(&self, database: &str, sql: &str) {
        let mut connection = self.login(database).await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
        connection.close().await.expect("goodbye");
    }

    /// The rows of a query whose columns are all texts; `-` for none.
    pub async fn ask(&self, database: &str, sql: &str) -> Vec<String> {
        let mut connection = self.login(database).await;
        let rows = sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.expect(sql);
        connection.close().await.expect("goodbye");
        let text = |row: &sqlx::postgres::PgRow, n| {
            row.try_get::<Option<String>, _>(n).expect("a text").unwrap_or_else(|| "-".to_owned())
        };
        rows.iter().map(|row| (0..row.len()).map(|n| text(row, n)).collect::<Vec<_>>().join("|")).collect()
    }

    /// Everything that is in a database but histories: columns, constraints, indexes, routines, comments, rights, rows.
    pub async fn catalog(&self, database: &str) -> Vec<String> {
        let mut found = self
            .ask(
                database,
                "SELECT n.nspname || '.' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' '
                   || a.attnotnull || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
                 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                 LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
                 WHERE a.attnum > 0 AND NOT a.attisdropped AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                 UNION ALL
                 SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0
                 UNION ALL
                 SELECT indexdef FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog', 'pg_toast')
                 UNION ALL
                 SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
                 UNION ALL
                 SELECT 'comment ' || objoid::regclass || ' ' || objsubid || ' ' || description FROM pg_description
                 WHERE classoid = 'pg_class'::regclass AND objoid::regclass::text NOT LIKE 'pg\\_%'
                 UNION ALL
                 SELECT 'acl ' || c.oid::regclass || ' ' || coalesce(c.relacl::text, '') || ' ' || pg_get_userbyid(c.relowner)
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                 UNION ALL
                 SELECT 'schema ' || nspname || ' ' || coalesce(nspacl::text, '') || ' ' || pg_get_userbyid(nspowner) FROM pg_namespace
                 UNION ALL
                 SELECT 'default ' || coalesce(n.nspname, '') || ' ' || d.defaclobjtype::text || ' ' || d.defaclacl::text
                 FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
                 ORDER BY 1",
            )
            .await;
        let tables = self
            .ask(
                database,
                "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                   AND c.relname NOT LIKE '%history%' ORDER BY 1",
            )
            .await;
        for table in tables {
            let rows = format!("SELECT '{table} ' || t::text FROM {table} t ORDER BY 1");
            found.extend(self.ask(database, &rows).await);
        }
        found
    }
}

impl Connect for World {
    async fn connect(&self, database: &str, user: Option<&str>) -> Result<PgConnection, sqlx::Error> {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.server.port())
            .username(user.unwrap_or_else(|| self.server.superuser()))
            .password(self.server.password())
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .disable_statement_logging()
            .connect()
            .await
    }
}
