//! Scripts, and what they would do.

use proptest::prelude::*;

use super::*;
use crate::Sources;

fn of(files: &[(&str, &str)]) -> Sources {
    Sources::of(files.iter().map(|(path, text)| (*path, *text)))
}

fn steps(text: &str) -> Vec<String> {
    said(&[("db/a.sql", text)]).unwrap()
}

fn said(files: &[(&str, &str)]) -> Result<Vec<String>, Vec<String>> {
    let variables = Variables::new()
        .with("schema", "master")
        .with("user", "o'neil")
        .with("two", "1; SELECT 2")
        .with("again", ":schema")
        .with("loop", ":loop")
        .with_secret_literal("pw", "it's; \\ secret");
    let script = interpret(&of(files), "db/a.sql", "db", &variables);
    let texts = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
    script.map(|script| script.steps.iter().map(ToString::to_string).collect()).map_err(texts)
}

fn refused(text: &str) -> String {
    said(&[("db/a.sql", text)]).unwrap_err().join("\n")
}

#[test]
fn statements_and_commands_in_their_order() {
    let text = "\\echo 'it begins'\nCREATE DATABASE mosip TEMPLATE template0;\n\\c mosip postgres\n\
                -- a comment; with a semicolon\nSELECT ';' AS \"a;b\" ; SELECT 2\n";
    assert_eq!(
        steps(text),
        [
            "say it begins",
            "CREATE DATABASE mosip TEMPLATE template0",
            "connect to mosip as postgres",
            "SELECT ';' AS \"a;b\"",
            "SELECT 2"
        ]
    );
    assert_eq!(
        steps("\\c\n\\connect - app\n"),
        ["connect to the same database as the same role", "connect to the same database as app"]
    );
    assert_eq!(
        steps("SELECT 1 \\g\nSELECT 'CREATE DATABASE a' \\gexec\nSELECT 3;\\q\nSELECT 4;"),
        ["SELECT 1", "run what this answers: SELECT 'CREATE DATABASE a'", "SELECT 3"]
    );
    assert_eq!(steps("CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;\nDO $$ BEGIN \\x; END $$;").len(), 2);
}

#[test]
fn variables_stand_where_psql_puts_them() {
    assert_eq!(
        steps(
            "SELECT :'user', :\"user\", ':user', a::text, x[1:2], :{?user}, :{?none} FROM :schema.t_:schema;"
        ),
        ["SELECT 'o''neil', \"o'neil\", ':user', a::text, x[1:2], TRUE, FALSE FROM master.t_master"]
    );
    assert_eq!(steps("SELECT :two;"), ["SELECT 1", "SELECT 2"]);
    assert_eq!(steps("SELECT :again;"), ["SELECT master"]);
    assert_eq!(
        steps("\\set a 'x y' z\n\\set b :a :'a'\nSELECT :'b';\\unset b\nSELECT :b"),
        ["SELECT 'x yz''x yz'''", "SELECT :b"]
    );
    assert!(refused("SELECT :loop;").contains("names itself"));
    assert_eq!(steps("SELECT :none, :'none';"), ["SELECT :none, :'none'"]);
}

#[test]
fn a_secret_is_shown_nowhere() {
    let text = "CREATE ROLE a LOGIN PASSWORD :pw;\n\\set copy :pw\nALTER ROLE a PASSWORD :copy;";
    let variables = Variables::new().with_secret_literal("pw", "it's; \\ secret");
    let script = interpret(&of(&[("a.sql", text)]), "a.sql", "", &variables).unwrap();
    assert!(
        !format!("{script:?} {variables:?}").contains("secret;") && !format!("{script:?}").contains("it''s")
    );
    assert!(script.steps.iter().all(|placed| placed.secret));
    let Step::Execute { sql, .. } = &script.steps[0].step else { panic!("{:?}", script.steps) };
    assert_eq!(sql, "CREATE ROLE a LOGIN PASSWORD  E'it''s; \\\\ secret'");
    assert!(refused("\\echo :pw\n").contains("would show a secret"));
}

#[test]
fn branches_are_taken_as_psql_takes_them() {
    for (text, expected) in [
        ("\\if true\nSELECT 1;\n\\else\nSELECT 2;\n\\endif", &["SELECT 1"][..]),
        (
            "\\if off\nSELECT 1;\n\\elif 1\nSELECT 2;\n\\elif 1\nSELECT 3;\n\\else\nSELECT 4;\n\\endif",
            &["SELECT 2"],
        ),
        (
            "\\if no\n\\nonsense `x`\n\\if yes\nSELECT 1;\n\\else\nSELECT 2;\n\\endif\n\\endif ignored\nSELECT 3;",
            &["SELECT 3"],
        ),
        ("\\if :{?schema}\nSELECT 1;\n\\endif", &["SELECT 1"]),
        ("SELECT\n\\if yes\n1\n\\else\n2\n\\endif\n+ 3;", &["SELECT\n\n1\n\n+ 3"]),
    ] {
        assert_eq!(steps(text), expected, "{text}");
    }
    assert!(refused("\\if yes\nSELECT 1;").starts_with("db/a.sql:1: `\\if` without `\\endif`"));
    assert!(refused("\\endif").contains("without `\\if`"));
    assert!(refused("\\if maybe\n\\endif").contains("needs true or false"));
    assert!(refused("\\if no\n\\else\n\\elif yes\n\\endif").contains("after `\\else`"));
}

#[test]
fn files_are_looked_up_where_psql_looks_them_up() {
    let files = [
        (
            "db/a.sql",
            "\\ir ddl/b.sql\n\\i ddl/b.sql\n\\COPY t (a) FROM './dml/t.csv' delimiter ',' HEADER csv;\n",
        ),
        ("db/ddl/b.sql", "\\ir c.sql\n\\copy t from dml/t.csv\n"),
        ("db/ddl/c.sql", "SELECT 'c'"),
        ("db/dml/t.csv", "a\n1\n"),
    ];
    assert_eq!(
        said(&files).unwrap(),
        [
            "SELECT 'c'",
            "COPY t FROM STDIN < db/dml/t.csv",
            "SELECT 'c'",
            "COPY t FROM STDIN < db/dml/t.csv",
            "COPY t (a) FROM STDIN delimiter ',' HEADER csv < db/dml/t.csv"
        ]
    );
    let export = "\\copy (select 1) TO 'dml/x.csv' csv\n\\copy t FROM dml/x.csv csv\n";
    assert_eq!(steps(export)[1], "COPY t FROM STDIN csv < db/dml/x.csv");
    let rows = "\\copy t from stdin\n1\n\\.\nCOPY t FROM STDIN;\n2;\n\\.\nSELECT 3;";
    assert_eq!(steps(rows), ["COPY t FROM STDIN", "COPY t FROM STDIN", "SELECT 3"]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_file_and_line() {
    let files = [
        (
            "db/a.sql",
            "\\ir b.sql\n\\! rm -rf /\nSELECT 1 \\watch 5\n;\\i /etc/passwd\n\\ir ../../x.sql\n\\copy t from none.csv\n\\set ON_ERROR_STOP off\n\\o out\nDROP ROLE a;\n\\c 'host=x'\n\\;\nCOPY t TO STDOUT;",
        ),
        ("db/b.sql", "\n\\unknown\n\\ir none.sql\nSELECT 'open"),
    ];
    let said = said(&files).unwrap_err();
    for expected in [
        "db/b.sql:2: `\\unknown` is not a command that is run here",
        "db/b.sql:3: `db/none.sql` is not in the sources",
        "db/b.sql:4: a string that is never closed",
        "db/a.sql:2: `\\!` is not a command",
        "db/a.sql:3: `\\watch` is not a command",
        "db/a.sql:4: `/etc/passwd` leads out of the sources",
        "db/a.sql:5: `../../x.sql` leads out",
        "db/a.sql:6: `db/none.csv` is neither in the sources nor written before",
        "db/a.sql:7: `\\set ON_ERROR_STOP`",
        "db/a.sql:8: `\\o` is not a command",
        "db/a.sql:9: DROP ROLE of `a`: scripts that drop databases and roles are never run",
        "db/a.sql:10: `\\c` with a connection string",
        "db/a.sql:11: `\\;` is not a command",
        "db/a.sql:12: COPY … TO STDOUT",
    ] {
        assert!(said.iter().any(|said| said.starts_with(expected)), "{expected} in {said:#?}");
    }
    assert_eq!(said.len(), 14, "{said:#?}");
}

#[test]
fn a_file_that_includes_itself_ends() {
    assert!(refused("\\ir a.sql").contains("included too deeply"));
}

proptest! {
    #[test]
    fn no_script_makes_it_panic(text in "[a-z'\"$;:\\\\\n (){}?/*.-]{0,80}") {
        let _ = said(&[("db/a.sql", &text)]);
    }

    #[test]
    fn nor_do_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = interpret(&Sources::of([("a", bytes)]), "a", "", &Variables::new());
    }

    #[test]
    fn without_commands_it_is_what_splitting_gives(text in "[a-z'\"$;\n (),/*-]{0,80}") {
        if let Ok(split) = crate::statement::split(&text)
            && let Ok(steps) = said(&[("db/a.sql", &text)])
        {
            let expected: Vec<&str> = split.statements.iter().map(|statement| statement.sql).collect();
            prop_assert_eq!(steps, expected);
        }
    }
}
