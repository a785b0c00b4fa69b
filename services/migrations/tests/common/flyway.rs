//! Flyway itself, of the versions that DIGIT's images hold.

use std::path::Path;

use super::World;

/// The two versions.
pub const VERSIONS: [&str; 2] = ["4.1.2", "10.7.1"];

impl World {
    /// Lets Flyway do `goal` in a database, with the files of a folder.
    pub async fn flyway(
        &self,
        version: &str,
        goal: &str,
        database: &str,
        folder: &Path,
        settings: &[(&str, &str)],
    ) -> Result<(), sandbox::Error> {
        let url = format!("jdbc:postgresql://127.0.0.1:{}/{database}", self.server.port());
        let locations = format!("filesystem:{}", folder.display());
        let ours = [
            ("flyway.url", url.as_str()),
            ("flyway.user", self.server.superuser()),
            ("flyway.password", self.server.password()),
            ("flyway.locations", &locations),
        ];
        let goal = format!("org.flywaydb:flyway-maven-plugin:{version}:{goal}");
        let profile = format!("flyway-{version}");
        self.sandbox.maven(include_str!("flyway.pom.xml"), &profile, &[&ours, settings].concat(), &goal).await
    }
}

/// Files in the shape of DIGIT's: timestamps, a short one, one with day and month exchanged, seeds, repeatable views, byte order
/// marks, ends of lines of Windows, functions, rows by COPY, and an index that is built by itself. Flyway does not understand a CASE in an atomic body.
/// A small `v` is no migration.
pub const FILES: [(&str, &str); 10] = [
    ("main/v20220527262609__eg_driver_ddl.sql", "this is no SQL"),
    (
        "main/V20180607185601__eg_enc.sql",
        "DROP TABLE IF EXISTS eg_enc_keys;\r\nCREATE TABLE eg_enc_keys (\r\n  id serial PRIMARY KEY,\r\n  key text NOT NULL DEFAULT ';'\r\n);\r\n",
    ),
    (
        "main/V20180607185602__functions_of_it.sql",
        "CREATE FUNCTION twice(n int) RETURNS int AS $$ BEGIN RETURN n; END; $$ LANGUAGE plpgsql; -- a comment;\n/* and ; /* another */ */\nDO $do$ BEGIN PERFORM twice(1); END $do$;\nCREATE FUNCTION atomic_of(n int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT n; END;\n",
    ),
    (
        "main/V20180701000000__rows.sql",
        "\u{feff}CREATE TABLE eg_role (code varchar(50), name text);\nCOPY eg_role (code, name) FROM stdin;\nCITIZEN\tBürger; 'in'\nEMPLOYEE\t\\N\n\\.\nINSERT INTO eg_role VALUES ('SUPERUSER', E'it\\'s; $$');\n",
    ),
    ("main/V201810171130331__longer.sql", "ALTER TABLE eg_role ADD COLUMN longer int DEFAULT 15;"),
    ("main/V202205020500__shorter.sql", "CREATE TABLE eg_short (a int)"),
    (
        "main/V20202412090311.1__fsm_initial.sql",
        "CREATE TABLE eg_fsm (a int, b numeric(12,2));\nCREATE INDEX eg_fsm_a ON eg_fsm (a);\n",
    ),
    ("main/V20230101000000__alone.sql", "CREATE INDEX CONCURRENTLY IF NOT EXISTS eg_fsm_b ON eg_fsm (b);\n"),
    (
        "seed/V20190101000000__seed___of_roles.sql",
        "INSERT INTO eg_role (code) SELECT 'S' || n FROM generate_series(1, 3) n;\n",
    ),
    ("seed/R__all_views.sql", "CREATE OR REPLACE VIEW eg_codes AS SELECT code FROM eg_role;\n"),
];

/// Writes files into a folder.
pub fn write(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }
}
