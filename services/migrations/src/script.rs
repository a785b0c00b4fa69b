//! One SQL file ready to be run: its statements, whether they fit into one transaction, and what is wrong with it.

use crate::problem::Problem;
use crate::statement::token::{self, Kind};
use crate::statement::{Class, Control, Copy, Statement, classify, split};

/// How the statements of a file are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// All in one transaction, with the record that they ran.
    Together,
    /// Each by itself, because one of them cannot run in a transaction, or because the file begins and ends its own.
    Each,
}

/// A statement and what it would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known<'a> {
    /// The statement.
    pub statement: Statement<'a>,
    /// What it would do.
    pub class: Class,
}

/// The statements of a file, or everything that is wrong with them.
pub fn known<'a>(file: &str, text: &'a str) -> Result<Vec<Known<'a>>, Vec<Problem>> {
    let split =
        split(text).map_err(|error| vec![Problem::refused(file, Some(error.line()), unlined(&error))])?;
    let known: Vec<Known<'a>> = split
        .statements
        .into_iter()
        .map(|statement| Known { statement, class: classify(statement.sql) })
        .collect();
    let mut problems: Vec<Problem> = known.iter().filter_map(|known| wrong(file, known)).collect();
    let control = known.iter().rev().find(|known| known.class.controls.is_some());
    if let Some(begun) = control.filter(|known| known.class.controls == Some(Control::Begins)) {
        let text = "begins a transaction that the file never ends; write COMMIT after it";
        problems.push(Problem::refused(file, Some(begun.statement.line), text));
    }
    if problems.is_empty() { Ok(known) } else { Err(problems) }
}

/// How these statements are run.
pub fn manner(statements: &[Known<'_>]) -> Manner {
    let each = statements.iter().any(|known| known.class.alone.is_some() || known.class.controls.is_some());
    if each { Manner::Each } else { Manner::Together }
}

/// What a file runs in a transaction of its own that is all of it: between a plain `BEGIN` and a plain `COMMIT`. Otherwise all of it.
pub fn within<'k, 'a>(statements: &'k [Known<'a>]) -> &'k [Known<'a>] {
    let says = |known: &Known<'_>, verbs: &[&str]| {
        let words: Vec<String> =
            known.statement.sql.split_whitespace().map(str::to_ascii_uppercase).collect();
        let [verb, rest @ ..] = &words[..] else { return false };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        verbs.contains(&verb.as_str()) && matches!(rest[..], [] | ["WORK" | "TRANSACTION"])
    };
    match statements {
        [begin, inner @ .., end]
            if says(begin, &["BEGIN"])
                && says(end, &["COMMIT", "END"])
                && inner.iter().all(|known| known.class.controls.is_none()) =>
        {
            inner
        }
        all => all,
    }
}

/// The line of the first statement that cannot run in a transaction, where others can.
pub fn mixed(statements: &[Known<'_>]) -> Option<usize> {
    let alone = statements.iter().find(|known| known.class.alone.is_some())?;
    let others = statements.iter().any(|known| known.class.alone.is_none());
    others.then_some(alone.statement.line)
}

fn wrong(file: &str, known: &Known<'_>) -> Option<Problem> {
    let refused = |text| Some(Problem::refused(file, Some(known.statement.line), text));
    if known.class.copy == Some(Copy::Out) {
        return refused("COPY … TO STDOUT has nowhere to write to; take it away");
    }
    if has_meta_command(known.statement.sql) {
        return refused("a backslash outside of quotes: commands of psql are run in the dialect `psql` only");
    }
    None
}

fn has_meta_command(sql: &str) -> bool {
    let mut at = 0;
    while let Ok(Some((kind, end))) = token::next(sql, at, false) {
        if kind == Kind::Sign(b'\\') {
            return true;
        }
        at = end;
    }
    false
}

/// The message of an error without the line that a problem says by itself.
fn unlined(error: &crate::statement::SplitError) -> String {
    let text = error.to_string();
    text.split_once(": ").map_or_else(|| text.clone(), |(_, rest)| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_is_said_with_its_line() {
        let said =
            |text| known("a.sql", text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(said("SELECT 1;\nSELECT 'a"), ["a.sql:2: a string that is never closed; close it"]);
        let two = said("\\c other\nSELECT 1;\nCOPY t TO STDOUT;\n");
        assert!(two[0].starts_with("a.sql:1: a backslash outside of quotes"), "{two:?}");
        assert!(two[1].starts_with("a.sql:3: COPY … TO STDOUT"), "{two:?}");
        assert!(said("BEGIN;\nCOMMIT;\nBEGIN;\nSELECT 1;")[0].starts_with("a.sql:3: begins a transaction"));
    }

    #[test]
    fn one_statement_that_runs_alone_makes_all_run_by_themselves() {
        let of = |text| manner(&known("a.sql", text).unwrap());
        assert_eq!(of("CREATE TABLE t (a int); INSERT INTO t VALUES (1);"), Manner::Together);
        assert_eq!(of("CREATE TABLE t (a int); CREATE INDEX CONCURRENTLY i ON t (a);"), Manner::Each);
        assert_eq!(of("BEGIN; SELECT 1; COMMIT;"), Manner::Each);
        let of = |text| manner(within(&known("a.sql", text).unwrap()));
        for own in [
            "BEGIN; SELECT 1; COMMIT;",
            "begin work;\nSELECT 1;\nSELECT 2;\nend transaction;",
            "BEGIN; COMMIT",
        ] {
            assert_eq!(of(own), Manner::Together, "{own}");
        }
        for other in [
            "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; COMMIT;",
            "BEGIN; SELECT 1; ROLLBACK;",
            "BEGIN; SELECT 1; COMMIT; SELECT 2;",
            "SELECT 1; BEGIN; SELECT 1; COMMIT;",
            "BEGIN; SELECT 1; COMMIT; BEGIN; SELECT 1; COMMIT;",
            "BEGIN; SELECT 1; COMMIT AND CHAIN;",
            "BEGIN; CREATE INDEX CONCURRENTLY i ON t (a); COMMIT;",
        ] {
            assert_eq!(of(other), Manner::Each, "{other}");
        }
        let of = |text| mixed(&known("a.sql", text).unwrap());
        assert_eq!(of("SELECT 1;\nVACUUM;\nVACUUM;"), Some(2));
        assert_eq!(of("VACUUM;\nVACUUM;"), None);
        assert_eq!(of("BEGIN; SELECT 1; COMMIT;"), None);
    }
}
