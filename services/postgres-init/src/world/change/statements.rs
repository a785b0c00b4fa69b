//! Statements that are put together from what a document says. Pure.

use std::collections::BTreeMap;

use lifecycle::document::{LocaleProvider, setting_items};

use crate::ident::{Ident, IdentError, Literal};
use crate::spec::DatabaseSpec;

/// CREATE DATABASE for a server of this version. Nobody may connect before it is sealed. From `template0`, which alone lets
/// encoding and locale be others than its own.
pub(super) fn create_database(database: &DatabaseSpec, version: u32) -> Result<String, IdentError> {
    let locale = match &database.locale {
        None => String::new(),
        Some(locale) => {
            let (name, ctype) = (Literal::new(&locale.name)?, locale.ctype.as_ref().unwrap_or(&locale.name));
            match locale.provider {
                LocaleProvider::Icu => format!(" LOCALE_PROVIDER icu ICU_LOCALE {name}"),
                LocaleProvider::Builtin => format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {name}"),
                LocaleProvider::Libc => {
                    // Before version 15 there was no other.
                    let provider = if version < 150_000 { "" } else { " LOCALE_PROVIDER libc" };
                    format!("{provider} LC_COLLATE {name} LC_CTYPE {}", Literal::new(ctype)?)
                }
            }
        }
    };
    Ok(format!(
        "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} ALLOW_CONNECTIONS false{locale}",
        Ident::new(&database.name)?,
        Ident::new(&database.owner)?,
        Literal::new(&database.encoding)?,
    ))
}

/// ALTER … SET for each setting, `on` being `ROLE …` or `DATABASE …`, quoted.
pub(super) fn set(on: &str, settings: &BTreeMap<String, String>) -> Result<String, IdentError> {
    let mut statements = Vec::new();
    for (name, value) in settings {
        // A setting's name is a list of identifiers.
        let parts: Result<Vec<String>, IdentError> =
            name.split('.').map(|part| Ident::new(part).map(|part| part.to_string())).collect();
        let mut items = Vec::new();
        for item in setting_items(name, value).unwrap_or_else(|| vec![value.clone()]) {
            items.push(Literal::new(&item)?.to_string());
        }
        let value = if items.is_empty() { "''".to_owned() } else { items.join(", ") };
        statements.push(format!("ALTER {on} SET {} = {value}", parts?.join(".")));
    }
    Ok(statements.join("; "))
}

#[cfg(test)]
mod tests {
    use lifecycle::document::{Ddl, Locale, SecretKey};
    use lifecycle::{Component, Kind};

    use super::*;
    use crate::spec::Login;

    #[test]
    fn a_database_is_made_with_what_its_version_knows() {
        let component = Component::new(Kind::Database, "x");
        let secret = Component::namespaced(Kind::Secret, "dev", "x");
        let app = Login { role: "u".to_owned(), password: SecretKey { secret, key: "k".to_owned() } };
        let plain =
            DatabaseSpec::new(component, "base".to_owned(), "x".to_owned(), "o".to_owned(), app, Ddl::None);
        let made = |provider, name: &str, version| {
            let locale = Some(Locale { provider, name: name.to_owned(), ctype: None });
            create_database(&DatabaseSpec { locale, ..plain.clone() }, version).unwrap()
        };
        let begin =
            "CREATE DATABASE \"x\" OWNER \"o\" TEMPLATE template0 ENCODING 'UTF8' ALLOW_CONNECTIONS false";
        assert_eq!(create_database(&plain, 180_000).unwrap(), begin);
        for (statement, rest) in [
            (made(LocaleProvider::Libc, "C", 140_000), " LC_COLLATE 'C' LC_CTYPE 'C'"),
            (made(LocaleProvider::Libc, "C", 150_000), " LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"),
            (made(LocaleProvider::Icu, "en-US", 150_000), " LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"),
            (
                made(LocaleProvider::Builtin, "C.UTF-8", 170_000),
                " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
            ),
        ] {
            assert_eq!(statement, format!("{begin}{rest}"));
        }
    }

    #[test]
    fn a_list_is_set_as_a_list_and_all_else_as_one_value() {
        let settings = [("search_path", "\"$user\", public"), ("work_mem", "it's"), ("app.tenant", "a, b")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(
            set("ROLE \"x\"", &settings).unwrap(),
            "ALTER ROLE \"x\" SET \"app\".\"tenant\" = 'a, b'; ALTER ROLE \"x\" SET \"search_path\" = '$user', 'public'; \
             ALTER ROLE \"x\" SET \"work_mem\" = 'it''s'"
        );
    }
}
