//! Physical names: how a name in a document becomes a name on a server that many environments share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `PostgreSQL` truncates longer identifiers silently (NAMEDATALEN - 1), so they are refused.
pub(super) const POSTGRES_NAME_MAX: usize = 63;
/// Kafka refuses longer topic names.
pub(super) const TOPIC_NAME_MAX: usize = 249;

/// Templates for physical names. They know `{name}`, `{environment}`, `{fragment}` and `{namespace}`;
/// each must contain `{name}`. Absent ones are `{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Naming {
    /// Databases.
    pub database: String,
    /// Roles.
    pub role: String,
    /// Topics.
    pub topic: String,
}

impl Default for Naming {
    fn default() -> Self {
        let plain = "{name}".to_owned();
        Naming { database: plain.clone(), role: plain.clone(), topic: plain }
    }
}

/// Where a name stands: what the templates may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The environment's name.
    pub environment: &'a str,
    /// The fragment's name.
    pub fragment: &'a str,
    /// The fragment's namespace.
    pub namespace: &'a str,
}

/// A template or a name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamingError {
    /// The template does not contain `{name}`: all names would become one.
    #[error("the template `{0}` does not contain {{name}}, so all names would become one")]
    NoName(String),
    /// The template has a placeholder that is not known, or an unmatched brace.
    #[error(
        "the template `{0}` has an unknown placeholder; known are {{name}}, {{environment}}, {{fragment}} and {{namespace}}"
    )]
    Placeholder(String),
    /// The server would truncate or refuse the name.
    #[error("the name `{name}` is {length} bytes long, {max} are allowed; shorten it or its template")]
    TooLong {
        /// The physical name.
        name: String,
        /// Its length in bytes.
        length: usize,
        /// The server's limit.
        max: usize,
    },
    /// The name has characters the server would refuse.
    #[error("the name `{0}` may hold only letters, digits, `-`, `_` and `.`")]
    Characters(String),
    /// The name belongs to the server itself.
    #[error("the name `{0}` is reserved by the server or by Rollcall")]
    Reserved(String),
}

impl Naming {
    /// The physical name of a database called `name` in a document.
    pub fn database(&self, name: &str, place: Place<'_>) -> Result<String, NamingError> {
        let physical = fill(&self.database, name, place)?;
        if ["postgres", "template0", "template1", "rollcall"].contains(&physical.as_str()) {
            return Err(NamingError::Reserved(physical));
        }
        fits(physical, POSTGRES_NAME_MAX)
    }

    /// The physical name of a role called `name` in a document.
    pub fn role(&self, name: &str, place: Place<'_>) -> Result<String, NamingError> {
        let physical = fill(&self.role, name, place)?;
        if physical.starts_with("pg_")
            || physical.starts_with("rollcall_")
            || ["postgres", "public", "none"].contains(&physical.as_str())
        {
            return Err(NamingError::Reserved(physical));
        }
        fits(physical, POSTGRES_NAME_MAX)
    }

    /// The physical name of a topic called `name` in a document.
    pub fn topic(&self, name: &str, place: Place<'_>) -> Result<String, NamingError> {
        let physical = fill(&self.topic, name, place)?;
        if physical.starts_with("rollcall.")
            || physical.starts_with("__")
            || physical == "."
            || physical == ".."
        {
            return Err(NamingError::Reserved(physical));
        }
        fits(physical, TOPIC_NAME_MAX)
    }
}

/// The name of the role through which the hub of `environment` observes a server.
pub fn observer_role(environment: &str) -> String {
    format!("rollcall_observer_{}", environment.replace('-', "_"))
}

/// The form under which names that differ only in `-`, `_` and `.` are one. Kafka refuses `a.b` beside `a_b`
/// (KAFKA-13743), and people take `a-b` for `a_b`.
pub fn folded(name: &str) -> String {
    name.replace(['-', '.'], "_")
}

fn fill(template: &str, name: &str, place: Place<'_>) -> Result<String, NamingError> {
    if !template.contains("{name}") {
        return Err(NamingError::NoName(template.to_owned()));
    }
    let filled = template
        .replace("{name}", name)
        .replace("{environment}", place.environment)
        .replace("{fragment}", place.fragment)
        .replace("{namespace}", place.namespace);
    if filled.contains(['{', '}']) { Err(NamingError::Placeholder(template.to_owned())) } else { Ok(filled) }
}

fn fits(name: String, max: usize) -> Result<String, NamingError> {
    let length = name.len();
    if length > max {
        return Err(NamingError::TooLong { name, length, max });
    }
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err(NamingError::Characters(name));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { environment: "dev", fragment: "base", namespace: "openg2p" };

    #[test]
    fn templates_are_filled() {
        let naming = Naming {
            database: "{environment}_{name}".to_owned(),
            role: "{name}".to_owned(),
            topic: "{environment}.{namespace}.{fragment}.{name}".to_owned(),
        };
        assert_eq!(naming.database("iam", PLACE).unwrap(), "dev_iam");
        assert_eq!(naming.role("iam_user", PLACE).unwrap(), "iam_user");
        assert_eq!(naming.topic("x", PLACE).unwrap(), "dev.openg2p.base.x");
    }

    #[test]
    fn templates_that_lose_names_or_know_nothing_are_refused() {
        let naming = |database: &str| Naming { database: database.to_owned(), ..Naming::default() };
        let error = |database: &str| naming(database).database("x", PLACE).unwrap_err();
        assert!(matches!(error("{environment}"), NamingError::NoName(_)));
        assert!(matches!(error("{env}_{name}"), NamingError::Placeholder(_)));
        assert!(matches!(error("{name}}"), NamingError::Placeholder(_)));
    }

    #[test]
    fn names_the_server_would_cut_or_keep_for_itself_are_refused() {
        let naming = Naming::default();
        let at_limit = "a".repeat(63);
        assert_eq!(naming.database(&at_limit, PLACE).unwrap(), at_limit);
        assert!(matches!(
            naming.database(&"a".repeat(64), PLACE),
            Err(NamingError::TooLong { length: 64, .. })
        ));
        assert!(matches!(naming.database("rollcall", PLACE), Err(NamingError::Reserved(_))));
        assert!(matches!(naming.database("template1", PLACE), Err(NamingError::Reserved(_))));
        assert!(matches!(naming.role("pg_read_all_data", PLACE), Err(NamingError::Reserved(_))));
        assert!(matches!(naming.role("x\"; DROP", PLACE), Err(NamingError::Characters(_))));
        assert!(matches!(naming.topic("rollcall.ownership", PLACE), Err(NamingError::Reserved(_))));
    }

    #[test]
    fn folding_ignores_the_separators() {
        assert_eq!(folded("a-b.c"), folded("a_b_c"));
        assert_ne!(folded("ab"), folded("a-b"));
    }
}
