//! What may be destroyed: what was made in the same run, what is not there, and what a person has allowed.

use std::collections::BTreeSet;

use crate::problem::Problem;
use crate::statement::{Class, Destroys, Name};

/// Which files may destroy what is there already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Allow {
    /// None.
    #[default]
    Nothing,
    /// These files, by the names their histories have.
    Files(BTreeSet<String>),
    /// All.
    Everything,
}

impl Allow {
    /// Whether this file may.
    pub fn allows(&self, file: &str) -> bool {
        match self {
            Allow::Nothing => false,
            Allow::Files(files) => files.contains(file),
            Allow::Everything => true,
        }
    }
}

/// What was in a database before anything ran.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Present {
    /// Its tables, each with its schema.
    pub tables: BTreeSet<Name>,
    /// Its schemas.
    pub schemas: BTreeSet<String>,
}

impl Present {
    /// What was there before an earlier run began that had already made these tables.
    #[must_use]
    pub fn without<'n>(&self, made: impl IntoIterator<Item = &'n Name>, path: &[String]) -> Present {
        let mut before = self.clone();
        for name in made {
            match &name.schema {
                Some(_) => before.tables.remove(name),
                None => path.first().is_some_and(|schema| before.tables.remove(&name.or_in(schema))),
            };
        }
        before
    }

    /// What of a statement's destruction would hit something that is there, in the words of a refusal. Names without a schema
    /// are looked up in `path`, as the server does.
    pub fn refuses(&self, class: &Class, path: &[String], file: &str, line: usize) -> Vec<Problem> {
        let hit = |of: Option<&Name>, what: Destroys| match (what, of) {
            (Destroys::Table | Destroys::Column | Destroys::Rows | Destroys::AllRows, Some(name)) => {
                match &name.schema {
                    Some(_) => self.tables.contains(name),
                    None => path.iter().any(|schema| self.tables.contains(&name.or_in(schema))),
                }
            }
            (Destroys::Schema, Some(name)) => self.schemas.contains(&name.name),
            // Roles and databases belong to the server: what is there is not this run's.
            _ => true,
        };
        class
            .destroys
            .iter()
            .filter(|lost| hit(lost.of.as_ref(), lost.what))
            .map(|lost| {
                Problem::refused(
                    file,
                    Some(line),
                    format!("{lost}, which was there before this run; if its data may go, allow this file to destroy"),
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::classify;

    #[test]
    fn only_what_was_there_before_is_guarded() {
        let present = Present {
            tables: [Name::qualified("public", "keys"), Name::qualified("other", "t")].into(),
            schemas: ["public".to_owned()].into(),
        };
        let path = ["tenant".to_owned(), "public".to_owned()];
        for (sql, refused) in [
            ("DROP TABLE IF EXISTS keys", true),
            ("DROP TABLE IF EXISTS mine", false),
            ("DROP TABLE t", false),
            ("DROP TABLE other.t", true),
            ("TRUNCATE other.t, keys", true),
            ("DROP SCHEMA public", true),
            ("DROP SCHEMA IF EXISTS mine", false),
            ("DROP ROLE a", true),
            ("ALTER TABLE keys DROP COLUMN a", true),
            ("DELETE FROM keys WHERE id = 1", false),
        ] {
            let refusals = present.refuses(&classify(sql), &path, "V1__a.sql", 3);
            assert_eq!(!refusals.is_empty(), refused, "{sql}");
        }
        let made = present.without(&[Name::bare("keys")], &["public".to_owned()]);
        assert!(made.refuses(&classify("DROP TABLE keys"), &path, "V1__a.sql", 3).is_empty());
        let said = present.refuses(&classify("DROP TABLE keys"), &path, "V1__a.sql", 3)[0].to_string();
        assert!(
            said.starts_with("V1__a.sql:3: DROP TABLE of `keys`, which was there before this run;"),
            "{said}"
        );
    }
}
