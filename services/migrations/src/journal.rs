//! What the dialects `native` and `psql` write down of what they ran: enough to go on at the statement where a run ended.
//! Pure; where it is kept is in [`crate::world`].

use sha2::{Digest, Sha256};

use crate::problem::Problem;
use crate::statement::{Class, classify};

/// How a script stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It ran to its end.
    Done,
    /// It was taken to be there already, and did not run.
    Baseline,
    /// It has begun.
    Running,
    /// A statement failed. What came before it is done.
    Failed,
}

impl State {
    /// As it is written down.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Done => "done",
            State::Baseline => "baseline",
            State::Running => "running",
            State::Failed => "failed",
        }
    }

    /// As it was written down.
    pub fn parse(text: &str) -> Option<State> {
        [State::Done, State::Baseline, State::Running, State::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// One run of one script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which run; later ones have higher numbers.
    pub id: i64,
    /// The script.
    pub script: String,
    /// The version that is there once it is done.
    pub version: Option<String>,
    /// SHA-256 of what it consists of.
    pub checksum: String,
    /// How it stands.
    pub state: State,
    /// How many of its units are done.
    pub done: usize,
    /// SHA-256 of those.
    pub prefix: String,
    /// A unit that was begun and of which it is not written down how it ended.
    pub begun: Option<Begun>,
}

impl Entry {
    /// Whether it still has to be brought to its end.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Running | State::Failed)
    }
}

/// A unit that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Which, from 1.
    pub unit: usize,
    /// Its transaction, where it has one; the server knows what became of that.
    pub transaction: Option<String>,
}

/// One thing that a script does, in the terms of the journal.
#[derive(Clone, PartialEq, Eq)]
pub struct Unit {
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// What it is hashed by: never a secret.
    pub identity: String,
    /// What is known of the statement; none for what sends none.
    pub class: Option<Class>,
}

impl Unit {
    /// A statement.
    pub fn statement(file: &str, line: usize, sql: &str, rows: Option<&str>, secret: bool) -> Unit {
        let identity = if secret {
            format!("a secret in {file}:{line}")
        } else {
            [sql, "\0", rows.unwrap_or_default()].concat()
        };
        Unit { file: file.to_owned(), line, identity, class: Some(classify(sql)) }
    }
}

/// SHA-256 of texts, each with its length, in hexadecimal digits.
pub fn sha256<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    digest.finalize().iter().fold(String::new(), |mut digits, byte| {
        use std::fmt::Write;
        // Writing to a text cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// SHA-256 of these units.
pub fn prefix(units: &[Unit]) -> String {
    sha256(units.iter().map(|unit| unit.identity.as_bytes()))
}

/// What became of a transaction, or of a statement without one as a person has found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was committed.
    Committed,
    /// It was rolled back.
    Aborted,
    /// It still runs.
    Running,
    /// The server no longer knows.
    Forgotten,
}

/// Where a script goes on, of which an earlier run was written down: how many of its units are done. `Err` says why that
/// cannot be decided.
pub fn resume(entry: &Entry, units: &[Unit], fate: Option<Fate>) -> Result<usize, Problem> {
    let about =
        |n: usize| units.get(n.saturating_sub(1)).map_or(("", 0), |unit| (unit.file.as_str(), unit.line));
    if entry.done > units.len() || prefix(&units[..entry.done]) != entry.prefix {
        let (file, line) = about(entry.done);
        return Err(Problem::refused(
            if file.is_empty() { &entry.script } else { file },
            Some(line).filter(|line| *line > 0),
            format!(
                "its first {} statements have run and are not what they were: restore them, and change only what comes after",
                entry.done
            ),
        ));
    }
    let Some(begun) = &entry.begun else { return Ok(entry.done) };
    let (file, line) = about(begun.unit);
    let refused =
        |text: &str| Err(Problem::refused(file, Some(line), format!("statement {}: {text}", begun.unit)));
    let Some(unit) = begun.unit.checked_sub(1).and_then(|n| units.get(n)) else {
        return refused("was begun, and is not there any more: restore the file");
    };
    match (&begun.transaction, fate) {
        (_, Some(Fate::Committed)) => Ok(begun.unit),
        (_, Some(Fate::Aborted)) => Ok(entry.done),
        (Some(_), Some(Fate::Running)) => {
            refused("still runs in a session that was left; wait until it has ended, or end it")
        }
        (Some(_), None | Some(Fate::Forgotten)) => {
            refused("the server no longer knows whether it was committed: look, and say whether it is done")
        }
        (None, _) if unit.class.as_ref().is_some_and(may_repeat) => Ok(entry.done),
        (None, _) => refused(
            "a run ended in the middle of it, and it cannot run in a transaction: see what it has left, and say whether it is done",
        ),
    }
}

/// Whether a statement without a transaction that may have run may run again: it does the same twice as once, or what it has
/// left is looked at.
pub(crate) fn may_repeat(class: &Class) -> bool {
    let again =
        ["VACUUM", "REINDEX", "CLUSTER of everything", "ALTER SYSTEM", "DISCARD ALL", "INDEX CONCURRENTLY"];
    class.alone.is_some_and(|alone| again.contains(&alone))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units(statements: &[&str]) -> Vec<Unit> {
        (1..).zip(statements).map(|(line, sql)| Unit::statement("a.sql", line, sql, None, false)).collect()
    }

    fn entry(done: usize, units: &[Unit], begun: Option<(usize, bool)>) -> Entry {
        Entry {
            id: 1,
            script: "a.sql".to_owned(),
            version: None,
            checksum: String::new(),
            state: State::Running,
            done,
            prefix: prefix(&units[..done]),
            begun: begun.map(|(unit, in_one)| Begun { unit, transaction: in_one.then(|| "7".to_owned()) }),
        }
    }

    #[test]
    fn a_script_goes_on_where_it_ended() {
        let units = units(&["CREATE TABLE a (x int)", "CREATE DATABASE b", "VACUUM"]);
        assert_eq!(resume(&entry(1, &units, None), &units, None), Ok(1));
        assert_eq!(resume(&entry(0, &units, Some((1, true))), &units, Some(Fate::Committed)), Ok(1));
        assert_eq!(resume(&entry(0, &units, Some((1, true))), &units, Some(Fate::Aborted)), Ok(0));
        assert!(resume(&entry(0, &units, Some((1, true))), &units, Some(Fate::Running)).is_err());
        assert!(resume(&entry(0, &units, Some((1, true))), &units, Some(Fate::Forgotten)).is_err());
        assert_eq!(resume(&entry(2, &units, Some((3, false))), &units, None), Ok(2));
        // A procedure that commits by itself, and that was called without a transaction for that.
        assert!(resume(&entry(0, &units, Some((1, false))), &units, None).is_err());
        let said = resume(&entry(1, &units, Some((2, false))), &units, None).unwrap_err().to_string();
        assert!(said.starts_with("a.sql:2: statement 2: a run ended in the middle of it"), "{said}");
    }

    proptest! {
        #[test]
        fn only_what_has_not_run_may_change(done in 0usize..4, changed in 0usize..4) {
            let before = units(&["SELECT 1", "SELECT 2", "SELECT 3", "SELECT 4"]);
            let mut after = before.clone();
            after[changed].identity.push('x');
            prop_assert_eq!(resume(&entry(done, &before, None), &after, None).is_ok(), changed >= done);
        }
    }

    #[test]
    fn a_secret_is_no_part_of_a_hash() {
        let with = |sql| Unit::statement("a.sql", 1, sql, None, true).identity;
        assert_eq!(with("ALTER ROLE a PASSWORD 'x'"), with("ALTER ROLE a PASSWORD 'y'"));
    }
}
