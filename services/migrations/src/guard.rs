//! What may be destroyed: what was made in the same run, what is not there, and what a person has allowed.

use std::collections::{BTreeMap, BTreeSet};

use crate::problem::Problem;
use crate::statement::{Class, Destroys, Destruction, Name};

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

/// What of a statement is never run, whoever allows it, in the words of a refusal: databases and roles belong to the server.
pub(crate) fn never(class: &Class) -> impl Iterator<Item = String> {
    let never =
        |lost: &&Destruction| matches!(lost.what, Destroys::Database | Destroys::Role | Destroys::Owned);
    class
        .destroys
        .iter()
        .filter(never)
        .map(|lost| format!("{lost}: scripts that drop databases and roles are never run"))
}

/// What was in each database before a script ran, for scripts that go from one to another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Before {
    /// By the database's name.
    pub databases: BTreeMap<String, Present>,
    /// The script may destroy.
    pub allowed: bool,
}

impl Before {
    /// What of a statement's destruction in `database` would hit something that was there. Where names without a schema are
    /// looked up is the database's and the script's to change: they are taken to be in any schema that has one.
    pub fn refuses(&self, database: &str, class: &Class, file: &str, line: usize) -> Vec<Problem> {
        if self.allowed {
            return Vec::new();
        }
        let nothing = Present::default();
        let present = self.databases.get(database).unwrap_or(&nothing);
        let anywhere: BTreeSet<String> =
            present.tables.iter().filter_map(|table| table.schema.clone()).collect();
        present.refuses(class, &anywhere.into_iter().collect::<Vec<_>>(), file, line)
    }

    /// Why a statement that a query has answered with is not run.
    pub fn refuses_generated(&self, database: &str, class: &Class, file: &str, line: usize) -> Vec<Problem> {
        let controls = class.controls.map(|_| "begins or ends a transaction".to_owned());
        let copies = class.copy.map(|_| "COPY from or to the client".to_owned());
        let mut refused: Vec<Problem> = never(class)
            .chain(controls)
            .chain(copies)
            .map(|text| Problem::refused(file, Some(line), format!("{text}, in what `\\gexec` would run")))
            .collect();
        if refused.is_empty() {
            refused = self.refuses(database, class, file, line);
        }
        refused
    }

    /// Takes out a table that an earlier run has made. One whose schema is not said is it only where no other has its name.
    pub fn forget(&mut self, database: &str, made: &Name) {
        let Some(present) = self.databases.get_mut(database) else { return };
        let is = |table: &&Name| *table == made || (made.schema.is_none() && table.name == made.name);
        let mut found = present.tables.iter().filter(is);
        if let (Some(table), None) = (found.next().cloned(), found.next()) {
            present.tables.remove(&table);
        }
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

    #[test]
    fn in_doubt_a_name_is_that_of_what_was_there() {
        let table = |schema: &str, name: &str| Name::qualified(schema, name);
        let there = Present {
            tables: [table("a", "t"), table("b", "t"), table("b", "u")].into(),
            ..Present::default()
        };
        let mut before = Before { databases: [("other".to_owned(), there)].into(), allowed: false };
        let of = |before: &Before, database: &str, sql: &str| {
            let refused = before.refuses_generated(database, &classify(sql), "a.sql", 1);
            refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert!(of(&before, "other", "TRUNCATE u").contains("TRUNCATE of `u`, which was there before"));
        assert_eq!(of(&before, "elsewhere", "TRUNCATE u"), "");
        before.forget("other", &Name::bare("u"));
        before.forget("other", &Name::bare("t"));
        assert_eq!(of(&before, "other", "TRUNCATE u"), "");
        assert!(of(&before, "other", "TRUNCATE t").contains("TRUNCATE of `t`"));
        before.allowed = true;
        assert_eq!(of(&before, "other", "TRUNCATE t"), "");
        for sql in ["DROP DATABASE a", "DROP ROLE a", "COMMIT", "COPY t FROM STDIN"] {
            assert!(of(&before, "other", sql).ends_with("in what `\\gexec` would run"), "{sql}");
        }
    }
}
