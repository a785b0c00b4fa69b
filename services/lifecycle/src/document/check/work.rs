//! Checks of the migrations and steps of one document.

use super::Found;
use crate::component::is_name;
use crate::document::naming::POSTGRES_NAME_MAX;
use crate::document::{Document, FileSource, Migration, PsqlMigration, Step};
use crate::{Kind, Need, When};

/// What postgres-init can see, so that what it runs may need it.
const SEEN: [Kind; 6] =
    [Kind::Postgres, Kind::Database, Kind::Migration, Kind::Step, Kind::Secret, Kind::ConfigMap];

pub(super) fn check(document: &Document, found: &mut Found) {
    for (name, migration) in &document.migrations {
        let key = format!("migrations.{name}");
        found.name(&key, name);
        dialect(&key, migration, found);
        sources(&format!("{key}.sources"), &migration.sources, found);
        needs(&format!("{key}.needs"), &migration.needs, found);
        if let Some(database) = document.databases.get(&migration.database)
            && database.migrates().is_none()
        {
            found.say(
                format!("{key}.database"),
                format!(
                    "nobody who logs in to database `{}` acts as its owner, so nothing could be migrated; give it a `migrator`, or its app role `ddl: as-owner`",
                    migration.database
                ),
            );
        }
    }
    for (name, step) in &document.steps {
        let key = format!("steps.{name}");
        found.name(&key, name);
        self::step(&key, step, found);
    }
}

fn dialect(key: &str, migration: &Migration, found: &mut Found) {
    let given = [migration.native.is_some(), migration.flyway.is_some(), migration.psql.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        found.say(key, "give exactly one of native, flyway, psql");
    }
    if let Some(native) = &migration.native {
        physical(&format!("{key}.native.schema"), &native.schema, found);
        physical(&format!("{key}.native.table"), &native.table, found);
    }
    if let Some(flyway) = &migration.flyway {
        physical(&format!("{key}.flyway.table"), &flyway.table, found);
        let at = format!("{key}.flyway.schemas");
        if flyway.schemas.is_empty() {
            found.say(&at, "is empty; name at least one schema");
        }
        for (i, schema) in flyway.schemas.iter().enumerate() {
            physical(&at, schema, found);
            if flyway.schemas[..i].contains(schema) {
                found.say(&at, format!("`{schema}` stands twice"));
            }
        }
    }
    if let Some(psql) = &migration.psql {
        scripts(&format!("{key}.psql"), migration, psql, found);
    }
}

fn scripts(key: &str, migration: &Migration, psql: &PsqlMigration, found: &mut Found) {
    physical(&format!("{key}.schema"), &psql.schema, found);
    if psql.scripts.is_empty() {
        found.say(format!("{key}.scripts"), "is empty; name at least one script");
    }
    if psql.version.is_empty() {
        found.say(format!("{key}.version"), "is empty; say which version the scripts make");
    }
    if psql.connects.contains(&migration.database) {
        found.say(format!("{key}.connects"), "names the migration's own database; leave it out");
    }
    for (script, preparations) in &psql.before {
        for one in preparations {
            if one.database != migration.database && !psql.connects.contains(&one.database) {
                found.say(
                    format!("{key}.before.{script}"),
                    format!("`{}` is neither the migration's database nor under `connects`", one.database),
                );
            }
        }
    }
    for (name, reference) in &psql.secrets {
        found.secret_ref(&format!("{key}.secrets.{name}"), reference);
        if psql.variables.contains_key(name) {
            found.say(format!("{key}.secrets.{name}"), "stands under `variables` too; keep one");
        }
    }
}

fn sources(key: &str, sources: &[FileSource], found: &mut Found) {
    if sources.is_empty() {
        found.say(key, "is empty; name a directory or a configmap");
    }
    for (i, source) in sources.iter().enumerate() {
        if source.directory.is_some() == source.configmap.is_some() {
            found.say(key, "give exactly one of directory, configmap in each entry");
        }
        if source.directory.as_deref() == Some("") {
            found.say(key, "names a directory without a name");
        }
        if let Some(below) = &source.below
            && below.split('/').any(|part| matches!(part, "" | "." | ".."))
        {
            found.say(key, format!("`{below}` is no folder of the set; write it as a/b"));
        }
        if sources[..i].contains(source) {
            found.say(key, "has one entry twice");
        }
    }
}

fn step(key: &str, step: &Step, found: &mut Found) {
    if step.place().is_none() {
        found.say(key, "give exactly one of server, database: whose ledger it is written down in");
    }
    if let Some(evidence) = &step.evidence
        && evidence.sql.trim().is_empty()
    {
        found.say(format!("{key}.evidence.sql"), "is empty; give a query of one boolean");
    }
    needs(&format!("{key}.needs"), &step.needs, found);
}

fn needs(key: &str, needs: &[Need], found: &mut Found) {
    for (i, need) in needs.iter().enumerate() {
        let component = &need.component;
        if !SEEN.contains(&component.kind()) {
            let seen: Vec<&str> = SEEN.iter().map(|kind| kind.as_str()).collect();
            found.say(
                key,
                format!(
                    "postgres-init cannot see {component}; it sees {}, and what needs both is a module's affair",
                    seen.join(", ")
                ),
            );
        }
        if need.when == When::Runtime {
            found.say(key, format!("{component} is of no use at runtime: what runs once ends"));
        }
        if needs[..i].iter().any(|earlier| earlier.component == *component) {
            found.say(key, format!("{component} stands twice"));
        }
    }
}

/// A name on the server as it is: no naming template applies to what is inside of a database.
fn physical(key: &str, name: &str, found: &mut Found) {
    if name.is_empty() || name.len() > POSTGRES_NAME_MAX || name.contains('\0') {
        found.say(key, format!("`{name}` is no name of 1 to {POSTGRES_NAME_MAX} bytes"));
    } else if name.starts_with("pg_") || (!is_name(name) && name.chars().any(char::is_control)) {
        found.say(key, format!("`{name}` is the server's own or holds control characters"));
    }
}
