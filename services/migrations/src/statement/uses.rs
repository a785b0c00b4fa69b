//! Which tables a statement uses, and which relations it makes: what one set of files needs of another.

use super::name::{Name, Seen, name, seen};
use super::token::{self, Kind};

/// Functions whose arguments are written with `FROM`.
const WITH_FROM: [&str; 5] = ["extract", "substring", "trim", "overlay", "position"];

/// The tables that a statement reads, changes or refers to, as far as its words tell. The code of `DO` blocks and functions is
/// looked at too.
pub fn uses(sql: &str) -> Vec<Name> {
    let mut found = Vec::new();
    of(&seen(sql), &mut found);
    found.sort();
    found.dedup();
    found
}

/// The tables and views that a statement makes, or gives a name.
pub fn makes(sql: &str) -> Vec<Name> {
    let tokens = seen(sql);
    let mut made = super::classify(sql).creates;
    if tokens.first().is_some_and(|t| t.is("CREATE")) {
        let kind = tokens.iter().take(5).position(|t| t.is("VIEW") || t.is("TABLE"));
        if let Some(at) = kind {
            let mut rest = &tokens[at + 1..];
            while let [word, more @ ..] = rest
                && ["IF", "NOT", "EXISTS"].iter().any(|skip| word.is(skip))
            {
                rest = more;
            }
            made.extend(name(rest).map(|(name, _)| name));
        }
    }
    if let Some(at) = tokens.windows(2).position(|pair| pair[0].is("RENAME") && pair[1].is("TO")) {
        made.extend(name(&tokens[at + 2..]).map(|(name, _)| name));
    }
    made
}

fn of(tokens: &[Seen<'_>], found: &mut Vec<Name>) {
    let mut own: Vec<String> = Vec::new();
    // For each open bracket whether FROM in it means something else.
    let mut brackets: Vec<bool> = Vec::new();
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is(word));
    let before = |at: usize, word: &str| at > 0 && is(at - 1, word);
    for (at, token) in tokens.iter().enumerate() {
        if token.is_sign(b'(') {
            let function = at.checked_sub(1).and_then(|before| tokens[before].identifier());
            brackets.push(function.is_some_and(|name| WITH_FROM.contains(&name.as_str())));
        } else if token.is_sign(b')') {
            brackets.pop();
        } else if matches!(token.kind, Kind::Dollar) {
            // Code, or a text that looks like nothing.
            if let Some(code) = token::inner(token.kind, token.text) {
                of(&seen(&code), found);
            }
        } else if token.is("AS") && tokens.get(at + 1).is_some_and(|t| t.is_sign(b'(')) {
            // `WITH name AS (`.
            own.extend(at.checked_sub(1).and_then(|before| tokens[before].identifier()));
        }
        let table_follows = match () {
            () if token.is("FROM") => !brackets.last().unwrap_or(&false) && !before(at, "DISTINCT"),
            () if token.is("UPDATE") => {
                !before(at, "FOR") && !before(at, "DO") && !before(at, "KEY") && !before(at, "ON")
            }
            () if token.is("JOIN") || token.is("REFERENCES") => true,
            () if token.is("INTO") => before(at, "INSERT") || before(at, "MERGE"),
            () if token.is("TABLE") => before(at, "ALTER") || before(at, "TRUNCATE") || before(at, "LOCK"),
            () if token.is("ON") => (0..at).any(|n| is(n, "INDEX") || is(n, "TRIGGER")) && is(0, "CREATE"),
            () => false,
        };
        if table_follows {
            let mut rest = &tokens[at + 1..];
            while let [word, more @ ..] = rest
                && ["ONLY", "LATERAL", "IF", "EXISTS"].iter().any(|skip| word.is(skip))
            {
                rest = more;
            }
            if let Some((name, rest)) = name(rest) {
                let called = rest.first().is_some_and(|next| next.is_sign(b'('))
                    && (token.is("FROM") || token.is("JOIN"));
                let keyword = ["select", "stdin", "set", "values", "unnest"].contains(&name.name.as_str());
                let named_here = name.schema.is_none() && own.contains(&name.name);
                if !(called || keyword || named_here) {
                    found.push(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[Name]) -> String {
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_tables_of_others_are_found() {
        for (sql, expected) in [
            ("INSERT INTO a SELECT x FROM b.c JOIN d ON d.x = c.x", "a, d, b.c"),
            (
                "UPDATE eg_userrole_v1 SET code = 'x' WHERE id IN (SELECT id FROM eg_role)",
                "eg_role, eg_userrole_v1",
            ),
            ("DELETE FROM ONLY a USING b", "a"),
            (
                "ALTER TABLE IF EXISTS a ADD FOREIGN KEY (x) REFERENCES b (x) ON DELETE CASCADE ON UPDATE NO ACTION",
                "a, b",
            ),
            ("CREATE INDEX i ON a (x)", "a"),
            ("WITH w AS (SELECT 1 FROM a) SELECT * FROM w, generate_series(1, 2)", "a"),
            (
                "SELECT extract(year FROM t), substring(x FROM 2) FROM a WHERE x IS DISTINCT FROM y FOR UPDATE",
                "a",
            ),
            ("INSERT INTO a VALUES (1) ON CONFLICT DO UPDATE SET x = 1", "a"),
            ("CREATE FUNCTION f() RETURNS void AS $$ DELETE FROM a $$ LANGUAGE sql", "a"),
            ("COPY a FROM STDIN", ""),
            ("COMMENT ON TABLE a IS 'FROM b'", ""),
        ] {
            assert_eq!(texts(&uses(sql)), expected, "{sql}");
        }
        for (sql, expected) in [
            ("CREATE OR REPLACE VIEW v AS SELECT 1", "v"),
            ("CREATE MATERIALIZED VIEW IF NOT EXISTS a.v AS SELECT 1", "a.v"),
            ("CREATE TEMP TABLE t (x int)", "t"),
            ("ALTER TABLE a RENAME TO b", "b"),
            ("CREATE INDEX i ON a (x)", ""),
        ] {
            assert_eq!(texts(&makes(sql)), expected, "{sql}");
        }
    }
}
