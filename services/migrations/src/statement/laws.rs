//! Laws of taking apart, and tables of what is what.

use proptest::prelude::*;

use super::*;

fn statements(text: &str) -> Vec<&str> {
    split(text).unwrap().statements.iter().map(|statement| statement.sql).collect()
}

/// Pieces of SQL that are complete in themselves; none holds a semicolon that ends a statement.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_]{1,8}",
        Just("SELECT 1".to_owned()),
        "'([a-z;\\\\ ]|'')*'",
        "E'([a-z; ]|''|\\\\')*'",
        "\"([a-zA-Z;]|\"\")+\"",
        Just("$$ a ; b ' $x$ $$".to_owned()),
        Just("$tag$ ; $$ ; $tag$".to_owned()),
        Just("(a; b)".to_owned()),
        Just("$1 + 2".to_owned()),
        "[äß€]{1,3}",
    ]
}

fn comment() -> impl Strategy<Value = String> {
    prop_oneof!["--[a-z;'\"$]{0,8}\n", Just("/* ; ' /* \" */ $$ */".to_owned()), "[ \t\n]{1,3}"]
}

proptest! {
    #[test]
    fn what_was_split_joins_to_the_text(text in "\\PC{0,80}") {
        if let Ok(split) = split(&text) {
            let joined: String = split.statements.iter().map(|s| s.whole).chain([split.tail]).collect();
            prop_assert_eq!(joined, text);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(split) = split(&text) {
            for statement in split.statements {
                let _ = classify(statement.sql);
            }
        }
    }

    #[test]
    fn nor_does_what_looks_like_sql(text in "[a-zE'\"$;:/*\\\\\n ().,-]{0,60}") {
        if let Ok(split) = split(&text) {
            let joined: String = split.statements.iter().map(|s| s.whole).chain([split.tail]).collect();
            prop_assert_eq!(&joined, &text);
            for statement in split.statements {
                prop_assert!(statement.whole.contains(statement.sql));
                let _ = classify(statement.sql);
            }
        }
    }

    #[test]
    fn as_many_come_out_as_went_in_whatever_comments_stand_between(
        pieces in proptest::collection::vec((comment(), proptest::collection::vec(piece(), 1..4)), 0..6),
    ) {
        let expected: Vec<String> = pieces.iter().map(|(_, words)| words.join(" ")).collect();
        let texts = pieces.iter().map(|(comment, words)| format!("{comment}{} {comment};{comment}", words.join(" ")));
        let text = texts.collect::<Vec<_>>().concat();
        prop_assert_eq!(statements(&text), expected);
    }

    #[test]
    fn the_line_is_that_of_the_first_word(blank in "\n{0,9}", comment in "(--[a-z]{0,5}\n){0,5}") {
        let text = format!("{blank}{comment}SELECT 1;");
        let line = blank.len() + comment.matches('\n').count() + 1;
        prop_assert_eq!(split(&text).unwrap().statements[0].line, line);
    }
}

#[test]
fn semicolons_that_end_nothing() {
    for one in [
        "SELECT ';'",
        "SELECT E'\\';'",
        "SELECT E'a'\n'\\';'",
        "SELECT U&'d\\0061t;'",
        "SELECT \";\"",
        "SELECT a$b$c FROM t$$",
        "DO $$ BEGIN PERFORM 1; END $$",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
        "create or replace procedure p() begin atomic insert into t values (1); end",
        "CREATE FUNCTION \"begin\"() RETURNS int AS 'SELECT 1;' LANGUAGE sql",
        "SELECT 1 /* ; /* ; */ ; */",
    ] {
        let split = split(one).unwrap();
        assert_eq!(split.statements.len(), 1, "{one}");
        let more = format!("{one};\n{one};");
        assert_eq!(super::split(&more).unwrap().statements.len(), 2, "{more}");
    }
    assert_eq!(
        statements("BEGIN; SELECT CASE WHEN a THEN b END; END;"),
        ["BEGIN", "SELECT CASE WHEN a THEN b END", "END"]
    );
    assert_eq!(statements(";;\n;SELECT 1;;"), ["SELECT 1"]);
    assert!(statements("-- nothing\n/* at all */").is_empty());
}

#[test]
fn rows_belong_to_the_copy_before_them() {
    let text = "COPY t (a, b) FROM stdin WITH (FORMAT text); -- rows\n1;\t'\n\\\\.\t2\n\\.\nSELECT 1;";
    let split = super::split(text).unwrap();
    assert_eq!(split.statements[0].data, Some("1;\t'\n\\\\.\t2\n"));
    assert_eq!(split.statements[1].sql, "SELECT 1");
    assert_eq!(split.statements[1].line, 5);
    assert_eq!(super::split("\nCOPY t FROM stdin;\n1\n"), Err(SplitError::Rows { line: 2 }));
    assert_eq!(super::split("COPY t FROM stdin"), Err(SplitError::Rows { line: 1 }));
    assert_eq!(super::split("COPY t FROM '/f';\nSELECT 1").unwrap().statements.len(), 2);
}

#[test]
fn what_is_open_at_the_end_is_named_with_its_line() {
    for (text, expected) in [
        ("SELECT 1;\n'a", "line 2: a string that is never closed; close it"),
        ("/* a /* b */", "line 1: a comment `/*` that is never closed; close it"),
        ("\n\nSELECT $x$ a $$", "line 3: a dollar-quoted string that is never closed; close it"),
        ("SELECT \"a", "line 1: a quoted identifier that is never closed; close it"),
    ] {
        assert_eq!(split(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn backslashes_escape_where_the_script_says_so() {
    let off = "SET standard_conforming_strings = off; SELECT 'a\\';b'; SET standard_conforming_strings TO 'on'; SELECT 'a\\';";
    assert_eq!(statements(off).len(), 4, "{:?}", statements(off));
    assert!(split("SELECT 'a\\';b';").is_err(), "the standard has no escapes");
}

#[test]
fn statements_that_run_alone() {
    for alone in [
        "CREATE DATABASE a",
        "drop database if exists a",
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "CREATE /* */ UNIQUE INDEX concurrently IF NOT EXISTS i ON t (a)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX (VERBOSE) DATABASE a",
        "REINDEX TABLE CONCURRENTLY t",
        "VACUUM ANALYZE t",
        "ALTER SYSTEM SET a = 1",
        "DISCARD ALL",
        "CLUSTER",
        "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
        "DROP SUBSCRIPTION s",
    ] {
        assert!(classify(alone).alone.is_some(), "{alone}");
    }
    for together in [
        "CREATE INDEX i ON t (concurrently)",
        "COMMENT ON DATABASE a IS 'CREATE DATABASE'",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "REINDEX TABLE t",
        "CLUSTER t USING i",
        "ALTER DATABASE a SET search_path = b",
        "SELECT 1 -- VACUUM",
        "ALTER TYPE t ADD VALUE 'a'",
    ] {
        assert_eq!(classify(together).alone, None, "{together}");
    }
}

#[test]
fn statements_that_control_transactions_or_copy() {
    for begins in ["BEGIN", "start transaction", "begin isolation level serializable"] {
        assert_eq!(classify(begins).controls, Some(Control::Begins), "{begins}");
    }
    for ends in ["COMMIT", "END", "ROLLBACK", "ABORT", "PREPARE TRANSACTION 'a'", "COMMIT AND CHAIN"] {
        assert_eq!(classify(ends).controls, Some(Control::Ends), "{ends}");
    }
    for other in ["SAVEPOINT a", "ROLLBACK TO SAVEPOINT a", "PREPARE a AS SELECT 1", "SELECT 'COMMIT'"] {
        assert_eq!(classify(other).controls, None, "{other}");
    }
    assert_eq!(classify("COPY t FROM STDIN").copy, Some(Copy::In));
    assert_eq!(classify("COPY (SELECT 1) TO stdout CSV").copy, Some(Copy::Out));
    assert_eq!(classify("COPY t FROM '/stdin'").copy, None);
}

#[test]
fn what_is_lost_is_named() {
    for (sql, expected) in [
        ("DROP TABLE IF EXISTS a, B.\"C\" CASCADE", "DROP TABLE of `a`, DROP TABLE of `b.C`"),
        ("TRUNCATE TABLE ONLY a.b *, c cascade", "TRUNCATE of `a.b`, TRUNCATE of `c`"),
        ("truncate t", "TRUNCATE of `t`"),
        ("DELETE FROM t", "DELETE without WHERE of `t`"),
        ("DELETE FROM t WHERE a = 1", ""),
        ("ALTER TABLE IF EXISTS ONLY t ADD a int, DROP b", "ALTER TABLE … DROP COLUMN of `t`"),
        ("ALTER TABLE t DROP COLUMN IF EXISTS b", "ALTER TABLE … DROP COLUMN of `t`"),
        ("ALTER TABLE t DROP CONSTRAINT c, ALTER a DROP NOT NULL, ALTER b DROP DEFAULT", ""),
        ("DROP DATABASE a", "DROP DATABASE of `a`"),
        ("DROP USER a", "DROP ROLE of `a`"),
        ("DROP USER MAPPING FOR a SERVER s", ""),
        ("DROP OWNED BY a", "DROP OWNED"),
        ("DROP SCHEMA a CASCADE", "DROP SCHEMA of `a`"),
        ("DROP TYPE a CASCADE", "DROP … CASCADE of `a`"),
        ("DROP VIEW v", ""),
        ("DO $$ BEGIN IF true THEN DROP TABLE t; END IF; END $$", "DROP TABLE of `t`"),
        ("WITH gone AS (DELETE FROM t RETURNING *) SELECT 1", "DELETE without WHERE of `t`"),
        ("CREATE FUNCTION f() RETURNS void AS $$ DROP TABLE t $$ LANGUAGE sql", ""),
        ("CREATE TRIGGER g BEFORE TRUNCATE ON t EXECUTE FUNCTION f()", ""),
        ("COMMENT ON TABLE t IS 'DROP TABLE t'", ""),
    ] {
        let lost: Vec<String> = classify(sql).destroys.iter().map(ToString::to_string).collect();
        assert_eq!(lost.join(", "), expected, "{sql}");
    }
}

#[test]
fn tables_that_are_made_are_named() {
    for (sql, expected) in [
        ("CREATE TABLE IF NOT EXISTS A.b (c int)", Some(Name::qualified("a", "b"))),
        ("CREATE UNLOGGED TABLE \"T\" AS SELECT 1", Some(Name::bare("T"))),
        ("CREATE TEMP TABLE t (a int)", None),
        ("CREATE INDEX ON t (a)", None),
        ("SELECT * INTO master.t_bkp FROM master.t", Some(Name::qualified("master", "t_bkp"))),
        ("SELECT * INTO TEMP t_bkp FROM t", None),
        ("SELECT (SELECT 1) FROM t", None),
    ] {
        assert_eq!(classify(sql).creates.first(), expected.as_ref(), "{sql}");
    }
}
