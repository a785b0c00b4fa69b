//! Checks of databases and their roles in one document: names, encodings, locales, settings.

use std::collections::BTreeMap;

use super::{Claim, Found};
use crate::component::is_name;
use crate::document::naming::POSTGRES_NAME_MAX;
use crate::document::{Database, Document, LocaleProvider, forbidden_setting, setting_items};

/// What CREATE DATABASE takes as an encoding of a server (<https://www.postgresql.org/docs/current/multibyte.html>).
const ENCODINGS: [&str; 35] = [
    "EUC_CN",
    "EUC_JP",
    "EUC_JIS_2004",
    "EUC_KR",
    "EUC_TW",
    "ISO_8859_5",
    "ISO_8859_6",
    "ISO_8859_7",
    "ISO_8859_8",
    "KOI8R",
    "KOI8U",
    "LATIN1",
    "LATIN2",
    "LATIN3",
    "LATIN4",
    "LATIN5",
    "LATIN6",
    "LATIN7",
    "LATIN8",
    "LATIN9",
    "LATIN10",
    "MULE_INTERNAL",
    "SQL_ASCII",
    "UTF8",
    "WIN866",
    "WIN874",
    "WIN1250",
    "WIN1251",
    "WIN1252",
    "WIN1253",
    "WIN1254",
    "WIN1255",
    "WIN1256",
    "WIN1257",
    "WIN1258",
];

pub(super) fn check(document: &Document, found: &mut Found) {
    let (naming, place) = (&document.naming, document.place());
    for (name, database) in &document.databases {
        let key = format!("databases.{name}");
        found.name(&key, name);
        server(document, &key, &database.server, found);
        found.physical(&key, naming.database(database.physical_base(name), place));
        for (role, base) in database.role_bases(name) {
            found.physical(&format!("{key}.roles.{role}.name"), naming.role(&base, place));
        }
        roles(&key, name, database, found);
        made_with(&key, database, found);
        inside(&key, database, found);
    }
    for (name, role) in &document.roles {
        let key = format!("roles.{name}");
        found.name(&key, name);
        server(document, &key, &role.server, found);
        found.physical(&format!("{key}.name"), naming.role(role.physical_base(name), place));
        found.secret_ref(&format!("{key}.password"), &role.password);
        settings(&format!("{key}.settings"), &role.settings, found);
        if role.reads.is_empty() {
            found.say(format!("{key}.reads"), "is empty; name at least one database");
        }
        for (i, database) in role.reads.iter().enumerate() {
            found.name(&format!("{key}.reads"), database);
            if role.reads[..i].contains(database) {
                found.say(format!("{key}.reads"), format!("`{database}` stands twice"));
            }
        }
    }
}

fn server(document: &Document, key: &str, name: &str, found: &mut Found) {
    if !document.postgres.contains_key(name) && !document.uses.postgres.contains_key(name) {
        let message = format!("`{name}` is neither under postgres nor under uses.postgres of this fragment");
        found.say(format!("{key}.server"), message);
    }
}

fn roles(key: &str, name: &str, database: &Database, found: &mut Found) {
    let key = format!("{key}.roles");
    let app = &database.roles.app;
    found.secret_ref(&format!("{key}.app.password"), &app.password);
    settings(&format!("{key}.app.settings"), &app.settings, found);
    if let Some(overlap) = &app.overlap {
        found.secret_ref(&format!("{key}.app.overlap.password"), &overlap.password);
        if overlap.password == app.password {
            let message = "is the same password as the first role's; give the second one its own, or both change at once";
            found.say(format!("{key}.app.overlap.password"), message);
        }
    }
    if let Some(migrator) = &database.roles.migrator {
        found.secret_ref(&format!("{key}.migrator.password"), &migrator.password);
        settings(&format!("{key}.migrator.settings"), &migrator.settings, found);
    }
    if app.name == database.owner_base(name) {
        found.say(key, "owner and app are the same role; nobody may log in as an owner");
    }
}

/// What a database is made with, and what is set on it from outside.
fn made_with(key: &str, database: &Database, found: &mut Found) {
    let encoding = database.encoding.as_deref().unwrap_or("UTF8");
    if !ENCODINGS.contains(&encoding) {
        let message =
            format!("`{encoding}` is no encoding of a server; write it as PostgreSQL does, for example UTF8");
        found.say(format!("{key}.encoding"), message);
    }
    if let Some(locale) = &database.locale {
        let key = format!("{key}.locale");
        for (what, text) in [("name", Some(&locale.name)), ("ctype", locale.ctype.as_ref())] {
            if text.is_some_and(|text| text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic())) {
                found.say(format!("{key}.{what}"), "is no name of a locale");
            }
        }
        if locale.ctype.is_some() && locale.provider != LocaleProvider::Libc {
            found.say(format!("{key}.ctype"), "is for provider libc only");
        }
        if locale.provider == LocaleProvider::Builtin {
            if !["C", "C.UTF-8", "PG_UNICODE_FAST"].contains(&locale.name.as_str()) {
                let message =
                    format!("`{}` is not built in; C, C.UTF-8 and PG_UNICODE_FAST are", locale.name);
                found.say(format!("{key}.name"), message);
            } else if locale.name != "C" && encoding != "UTF8" {
                found.say(&key, format!("`{}` needs encoding UTF8", locale.name));
            }
        }
    }
    settings(&format!("{key}.settings"), &database.settings, found);
    for (i, role) in database.connect_also.iter().enumerate() {
        let key = format!("{key}.connect_also");
        if role.is_empty() || role.len() > POSTGRES_NAME_MAX || role.contains('\0') || role == "public" {
            found.say(&key, format!("`{role}` is no role; write names of roles as they are on the server"));
        }
        if database.connect_also[..i].contains(role) {
            found.say(&key, format!("`{role}` stands twice"));
        }
    }
}

fn inside(key: &str, database: &Database, found: &mut Found) {
    for schema in database.schemas.keys() {
        let fits = schema.len() <= POSTGRES_NAME_MAX
            && !schema.is_empty()
            && schema.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !fits {
            let message = format!(
                "`{schema}` is no schema: use letters, digits, `-`, `_` and `.`, at most {POSTGRES_NAME_MAX} bytes"
            );
            found.say(format!("{key}.schemas"), message);
        }
        if schema.starts_with("pg_") || ["public", "information_schema"].contains(&schema.as_str()) {
            found.say(format!("{key}.schemas"), format!("`{schema}` is the server's own, or there already"));
        }
    }
    let key = format!("{key}.extensions");
    for (i, extension) in database.extensions.iter().enumerate() {
        let name = &extension.name;
        if !is_name(name) {
            found.say(&key, format!("`{name}` is no extension; write one name per entry"));
        }
        if database.extensions[..i].iter().any(|earlier| earlier.name == *name) {
            found.say(&key, format!("`{name}` stands twice"));
        }
        if extension
            .version
            .as_ref()
            .is_some_and(|v| v.is_empty() || !v.chars().all(|c| c.is_ascii_graphic()))
        {
            found.say(&key, format!("the version of `{name}` is no version"));
        }
        if let Some(schema) = &extension.schema
            && schema != "public"
            && !database.schemas.contains_key(schema)
        {
            let message = format!("schema `{schema}` of `{name}` is not under `schemas`; declare it there");
            found.say(&key, message);
        }
    }
}

fn settings(key: &str, settings: &BTreeMap<String, String>, found: &mut Found) {
    for (name, value) in settings {
        let at = format!("{key}.{name}");
        if let Some(why) = forbidden_setting(name) {
            found.say(&at, why);
        }
        if value.contains(['\0', '\n', '\r']) {
            found.say(&at, "its value has a line break or a zero byte");
        } else if setting_items(name, value).is_none() {
            found.say(&at, format!("`{value}` is no list of names; separate them by commas"));
        }
    }
}

/// The databases and roles that a document claims for itself on servers.
pub(super) fn claims(document: &Document) -> Vec<Claim> {
    let (naming, place) = (&document.naming, document.place());
    let mut claims = Vec::new();
    for (name, database) in &document.databases {
        let server = format!("postgres/{}", database.server);
        if let Ok(physical) = naming.database(database.physical_base(name), place) {
            claims.push(Claim::on("database", &server, &physical, format!("databases.{name}")));
        }
        for (role, base) in database.role_bases(name) {
            if let Ok(physical) = naming.role(&base, place) {
                claims.push(Claim::on("role", &server, &physical, format!("databases.{name}.roles.{role}")));
            }
        }
    }
    for (name, role) in &document.roles {
        if let Ok(physical) = naming.role(role.physical_base(name), place) {
            let server = format!("postgres/{}", role.server);
            claims.push(Claim::on("role", &server, &physical, format!("roles.{name}")));
        }
    }
    claims
}
