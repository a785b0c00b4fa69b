//! Indexes that are built or dropped by themselves: such a statement that was cut leaves something that can be looked at.

use super::name::{Name, name, seen};

/// Whether a statement builds the index (or drops it), and its name; none for what is no `INDEX CONCURRENTLY`, or names none.
pub(crate) fn concurrent_index(sql: &str) -> Option<(bool, Name)> {
    let tokens = seen(sql);
    let (first, mut rest) = tokens.split_first()?;
    let builds = first.is("CREATE");
    if !builds && !first.is("DROP") {
        return None;
    }
    let mut skip = |word: &str| match rest.split_first() {
        Some((token, more)) if token.is(word) => {
            rest = more;
            true
        }
        _ => false,
    };
    skip("UNIQUE");
    if !skip("INDEX") || !skip("CONCURRENTLY") {
        return None;
    }
    if skip("IF") {
        skip("NOT");
        skip("EXISTS");
    }
    if skip("ON") {
        return None;
    }
    name(rest).map(|(name, _)| (builds, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_that_is_built_or_dropped_is_found() {
        for (sql, expected) in [
            ("CREATE INDEX CONCURRENTLY a ON t (b)", Some((true, Name::bare("a")))),
            (
                "create unique index concurrently if not exists \"A\"\"b\" on t (b)",
                Some((true, Name::bare("A\"b"))),
            ),
            ("CREATE INDEX /* why */ CONCURRENTLY Idx ON t (b)", Some((true, Name::bare("idx")))),
            ("DROP INDEX CONCURRENTLY IF EXISTS s.a", Some((false, Name::qualified("s", "a")))),
            ("CREATE INDEX CONCURRENTLY ON t (b)", None),
            ("CREATE INDEX a ON t (b)", None),
            ("CREATE TABLE a (b int)", None),
        ] {
            assert_eq!(concurrent_index(sql), expected, "{sql}");
        }
    }
}
