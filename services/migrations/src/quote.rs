//! Names and texts as SQL writes them.

/// Quotes an identifier, as psql's `:"name"` and Flyway do.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text. Sessions have `standard_conforming_strings = on`.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
