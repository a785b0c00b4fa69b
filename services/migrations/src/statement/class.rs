//! What a statement would do, as far as its words tell: whether it must run alone, copies rows, or destroys data.

use std::fmt;

use super::name::{Name, Seen, name, names, seen};
use super::token::{self, Kind};

/// What is known of a statement without asking a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Class {
    /// It cannot run in a transaction block; these words of it say why.
    pub alone: Option<&'static str>,
    /// It begins or ends a transaction itself.
    pub controls: Option<Control>,
    /// Whether it copies rows between the server and its client.
    pub copy: Option<Copy>,
    /// What it destroys.
    pub destroys: Vec<Destruction>,
    /// The tables it makes.
    pub creates: Vec<Name>,
}

/// What a statement does to the transaction it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Begins one.
    Begins,
    /// Ends it.
    Ends,
}

/// Which way rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// `COPY … FROM STDIN`.
    In,
    /// `COPY … TO STDOUT`.
    Out,
}

/// Something that is lost when a statement runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destruction {
    /// What kind of loss.
    pub what: Destroys,
    /// Of what; none where the words do not tell.
    pub of: Option<Name>,
}

/// A kind of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destroys {
    /// `DROP TABLE`.
    Table,
    /// `ALTER TABLE … DROP COLUMN`.
    Column,
    /// `TRUNCATE`.
    Rows,
    /// `DELETE` without `WHERE`.
    AllRows,
    /// `DROP SCHEMA`.
    Schema,
    /// `DROP … CASCADE` of something that tables may use.
    Dependents,
    /// `DROP OWNED`.
    Owned,
    /// `DROP ROLE`, `DROP USER`, `DROP GROUP`.
    Role,
    /// `DROP DATABASE`.
    Database,
}

impl fmt::Display for Destroys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Destroys::Table => "DROP TABLE",
            Destroys::Column => "ALTER TABLE … DROP COLUMN",
            Destroys::Rows => "TRUNCATE",
            Destroys::AllRows => "DELETE without WHERE",
            Destroys::Schema => "DROP SCHEMA",
            Destroys::Dependents => "DROP … CASCADE",
            Destroys::Owned => "DROP OWNED",
            Destroys::Role => "DROP ROLE",
            Destroys::Database => "DROP DATABASE",
        })
    }
}

impl fmt::Display for Destruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            Some(name) => write!(f, "{} of `{name}`", self.what),
            None => write!(f, "{}", self.what),
        }
    }
}

/// Classifies one statement. The code in a `DO` block is looked at too; what a function that is only made here would do is not.
pub fn classify(sql: &str) -> Class {
    let tokens = seen(sql);
    let mut class = Class {
        alone: alone(&tokens),
        controls: controls(&tokens),
        copy: copies(&tokens),
        ..Class::default()
    };
    if tokens.first().is_some_and(|t| t.is("DO")) {
        for body in
            tokens.iter().filter_map(|t| token::inner(t.kind, t.text).filter(|_| t.kind != Kind::Quoted))
        {
            anywhere(&seen(&body), &mut class);
        }
    } else {
        changes(&tokens, &mut class);
        // `WITH gone AS (DELETE FROM t RETURNING *) …` deletes as well.
        if tokens.first().is_some_and(|t| t.is("WITH") || t.is("EXPLAIN")) {
            anywhere(&tokens, &mut class);
        }
    }
    class
}

/// Whether the statement begins with these words; `|` separates choices, `?` after a word makes it optional.
fn begins<'t, 'a>(tokens: &'t [Seen<'a>], words: &str) -> Option<&'t [Seen<'a>]> {
    let mut rest = tokens;
    for word in words.split(' ') {
        let (word, optional) = word.strip_suffix('?').map_or((word, false), |word| (word, true));
        match rest.split_first() {
            Some((token, more)) if word.split('|').any(|choice| token.is(choice)) => rest = more,
            _ if optional => {}
            _ => return None,
        }
    }
    Some(rest)
}

fn has(tokens: &[Seen<'_>], words: &[&str]) -> bool {
    tokens.windows(words.len()).any(|window| window.iter().zip(words).all(|(token, word)| token.is(word)))
}

/// What the server calls `PreventInTransactionBlock`: the list of Flyway's parser for PostgreSQL, and what has been added
/// to PostgreSQL since (`REINDEX … CONCURRENTLY`, `DETACH PARTITION … CONCURRENTLY`).
fn alone(tokens: &[Seen<'_>]) -> Option<&'static str> {
    let is = |words| begins(tokens, words).is_some();
    if is("CREATE|DROP DATABASE") {
        Some("CREATE or DROP DATABASE")
    } else if is("CREATE|DROP TABLESPACE") {
        Some("CREATE or DROP TABLESPACE")
    } else if is("CREATE|DROP SUBSCRIPTION") || (is("ALTER SUBSCRIPTION") && has(tokens, &["REFRESH"])) {
        Some("SUBSCRIPTION")
    } else if is("ALTER SYSTEM") {
        Some("ALTER SYSTEM")
    } else if is("CREATE UNIQUE? INDEX CONCURRENTLY") || is("DROP INDEX CONCURRENTLY") {
        Some("INDEX CONCURRENTLY")
    } else if is("REINDEX")
        && (has(tokens, &["CONCURRENTLY"])
            || ["SCHEMA", "DATABASE", "SYSTEM"].iter().any(|what| has(tokens, &[what])))
    {
        Some("REINDEX")
    } else if is("VACUUM") {
        Some("VACUUM")
    } else if is("CLUSTER") && tokens.iter().filter(|t| !t.is("VERBOSE")).count() == 1 {
        Some("CLUSTER of everything")
    } else if is("DISCARD ALL") {
        Some("DISCARD ALL")
    } else if is("ALTER DATABASE") && has(tokens, &["SET", "TABLESPACE"]) {
        Some("ALTER DATABASE … SET TABLESPACE")
    } else if is("ALTER TABLE") && has(tokens, &["DETACH", "PARTITION"]) && has(tokens, &["CONCURRENTLY"]) {
        Some("DETACH PARTITION … CONCURRENTLY")
    } else if is("COMMIT|ROLLBACK PREPARED") {
        Some("PREPARED")
    } else {
        None
    }
}

fn controls(tokens: &[Seen<'_>]) -> Option<Control> {
    let is = |words| begins(tokens, words).is_some();
    if is("BEGIN") || is("START TRANSACTION") {
        Some(Control::Begins)
    } else if is("COMMIT|END|ABORT") || is("PREPARE TRANSACTION") || (is("ROLLBACK") && !has(tokens, &["TO"]))
    {
        Some(Control::Ends)
    } else {
        None
    }
}

fn copies(tokens: &[Seen<'_>]) -> Option<Copy> {
    begins(tokens, "COPY")?;
    if has(tokens, &["FROM", "STDIN"]) {
        Some(Copy::In)
    } else {
        has(tokens, &["TO", "STDOUT"]).then_some(Copy::Out)
    }
}

/// Looks for changes that may begin at any token.
fn anywhere(tokens: &[Seen<'_>], class: &mut Class) {
    for at in 0..tokens.len() {
        if !at.checked_sub(1).is_some_and(|before| tokens[before].is("ON") || tokens[before].is("FOR")) {
            let end = tokens[at..].iter().position(|t| t.is_sign(b';')).map_or(tokens.len(), |n| at + n);
            changes(&tokens[at..end], class);
        }
    }
}

/// What the statement that these tokens are makes and destroys.
fn changes(tokens: &[Seen<'_>], class: &mut Class) {
    let mut lost = |what, names: Vec<Name>| {
        if names.is_empty() {
            class.destroys.push(Destruction { what, of: None });
        }
        class.destroys.extend(names.into_iter().map(|name| Destruction { what, of: Some(name) }));
    };
    let existing = |rest| names(begins(rest, "IF EXISTS").unwrap_or(rest));
    if let Some(rest) = begins(tokens, "DROP FOREIGN? TABLE") {
        lost(Destroys::Table, existing(rest));
    } else if let Some(rest) = begins(tokens, "DROP SCHEMA") {
        lost(Destroys::Schema, existing(rest));
    } else if let Some(rest) = begins(tokens, "DROP DATABASE") {
        lost(Destroys::Database, existing(rest));
    } else if begins(tokens, "DROP OWNED").is_some() {
        lost(Destroys::Owned, Vec::new());
    } else if let Some(rest) = begins(tokens, "DROP ROLE|USER|GROUP") {
        // A user mapping is no role.
        if begins(rest, "MAPPING").is_none() {
            lost(Destroys::Role, existing(rest));
        }
    } else if let Some(rest) =
        begins(tokens, "DROP TYPE|DOMAIN|EXTENSION|FUNCTION|SEQUENCE|COLLATION|OPERATOR")
    {
        if has(rest, &["CASCADE"]) {
            lost(Destroys::Dependents, existing(rest));
        }
    } else if let Some(rest) = begins(tokens, "TRUNCATE TABLE?") {
        lost(Destroys::Rows, names(rest));
    } else if let Some(rest) = begins(tokens, "DELETE FROM ONLY?") {
        if !has(rest, &["WHERE"]) {
            lost(Destroys::AllRows, names(rest));
        }
    } else if let Some(rest) = begins(tokens, "ALTER FOREIGN? TABLE") {
        let rest = begins(rest, "IF EXISTS").unwrap_or(rest);
        if drops_column(rest) {
            lost(Destroys::Column, names(begins(rest, "ONLY").unwrap_or(rest)).into_iter().take(1).collect());
        }
    } else if begins(tokens, "SELECT").is_some() {
        class.creates.extend(selected_into(tokens));
    } else if let Some(rest) = begins(tokens, "CREATE FOREIGN|UNLOGGED? TABLE") {
        let rest = begins(rest, "IF NOT EXISTS").unwrap_or(rest);
        class.creates.extend(name(rest).map(|(name, _)| name));
    }
}

/// The table that `SELECT … INTO` makes.
fn selected_into(tokens: &[Seen<'_>]) -> Option<Name> {
    let mut brackets = 0usize;
    for (n, token) in tokens.iter().enumerate() {
        if token.is_sign(b'(') {
            brackets += 1;
        } else if token.is_sign(b')') {
            brackets = brackets.saturating_sub(1);
        } else if brackets == 0 && token.is("INTO") {
            let rest = begins(&tokens[n + 1..], "UNLOGGED? TABLE?")?;
            return name(rest).map(|(name, _)| name).filter(|_| begins(rest, "TEMP|TEMPORARY").is_none());
        }
    }
    None
}

/// `DROP [COLUMN] name`, but not `DROP CONSTRAINT`, `DROP DEFAULT`, `DROP NOT NULL`, `DROP IDENTITY`, `DROP EXPRESSION`.
fn drops_column(tokens: &[Seen<'_>]) -> bool {
    tokens.windows(2).any(|pair| {
        pair[0].is("DROP")
            && pair[1].identifier().is_some()
            && !["CONSTRAINT", "DEFAULT", "NOT", "IDENTITY", "EXPRESSION"].iter().any(|word| pair[1].is(word))
    })
}
