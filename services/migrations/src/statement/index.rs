//! Indexes that are built or dropped by themselves: such a statement that was cut leaves something that can be looked at.

use super::name::{Name, name, seen};

/// An `INDEX CONCURRENTLY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConcurrentIndex {
    /// One that is built. It is in its table's schema, wherever names are looked up.
    Built {
        /// Its name.
        name: String,
        /// Its table.
        table: Name,
    },
    /// One that is dropped.
    Dropped(Name),
}

/// What a statement does to an index; none for what is no `INDEX CONCURRENTLY`, or names none.
pub(crate) fn concurrent_index(sql: &str) -> Option<ConcurrentIndex> {
    let tokens = seen(sql);
    let (first, mut rest) = tokens.split_first()?;
    let builds = first.is("CREATE");
    if !builds && !first.is("DROP") {
        return None;
    }
    let mut skip = |words: &[&str]| match rest.split_first() {
        Some((token, more)) if words.iter().any(|word| token.is(word)) => {
            rest = more;
            true
        }
        _ => false,
    };
    skip(&["UNIQUE"]);
    if !skip(&["INDEX"]) || !skip(&["CONCURRENTLY"]) {
        return None;
    }
    if skip(&["IF"]) {
        skip(&["NOT"]);
        skip(&["EXISTS"]);
    }
    if skip(&["ON"]) {
        return None;
    }
    let (index, rest) = name(rest)?;
    if !builds {
        return Some(ConcurrentIndex::Dropped(index));
    }
    let (_, rest) = rest.split_first().filter(|(token, _)| token.is("ON"))?;
    let rest = rest.split_first().filter(|(token, _)| token.is("ONLY")).map_or(rest, |(_, rest)| rest);
    let (table, _) = name(rest)?;
    Some(ConcurrentIndex::Built { name: index.name, table })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_that_is_built_or_dropped_is_found() {
        let built = |name: &str, table| Some(ConcurrentIndex::Built { name: name.to_owned(), table });
        for (sql, expected) in [
            ("CREATE INDEX CONCURRENTLY a ON t (b)", built("a", Name::bare("t"))),
            (
                "create unique index concurrently if not exists \"A\"\"b\" on only s.t (b)",
                built("A\"b", Name::qualified("s", "t")),
            ),
            ("CREATE INDEX /* why */ CONCURRENTLY Idx ON t (b)", built("idx", Name::bare("t"))),
            (
                "DROP INDEX CONCURRENTLY IF EXISTS s.a",
                Some(ConcurrentIndex::Dropped(Name::qualified("s", "a"))),
            ),
            ("CREATE INDEX CONCURRENTLY ON t (b)", None),
            ("CREATE INDEX a ON t (b)", None),
            ("CREATE TABLE a (b int)", None),
        ] {
            assert_eq!(concurrent_index(sql), expected, "{sql}");
        }
    }
}
