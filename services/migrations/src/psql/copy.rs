//! `\copy`: a `COPY` whose file is on this side. Neither variables nor backquotes are looked at in its line.

use crate::statement::token::{self, Kind};

/// A `\copy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    /// `COPY … FROM STDIN …` or `COPY … TO STDOUT …`.
    pub(super) sql: String,
    /// Rows come from there, or go there.
    pub(super) from: bool,
    /// The file; none for rows that follow in the script.
    pub(super) path: Option<String>,
}

/// Reads what stands behind `\copy` on its line.
pub(super) fn parse(line: &str) -> Result<Copy, String> {
    let line = line.trim();
    let (target, from, rest) = direction(line)?;
    if !from && changes_rows(target) {
        return Err("it would change rows while it copies them; do that in a statement of its own".to_owned());
    }
    if rest.starts_with('\'') {
        let end = token::next(rest, 0, false).ok().flatten().map(|(_, end)| end);
        let (file, options) = rest.split_at(end.ok_or("a file's name that is never closed")?);
        let path =
            token::inner(Kind::Text, file).filter(|path| !path.is_empty()).ok_or("no file is named")?;
        return Ok(Copy { sql: sql(target, from, options), from, path: Some(path) });
    }
    let (word, options) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    let word = word.trim_end_matches(';');
    let path = match word.to_ascii_lowercase().as_str() {
        "" => return Err("no file is named".to_owned()),
        "program" => return Err("PROGRAM runs a program, which is not done here".to_owned()),
        "pstdin" | "pstdout" => return Err(format!("`{word}` is not there; name a file")),
        "stdin" if from => None,
        "stdin" | "stdout" => return Err(format!("`{word}` leads nowhere; name a file")),
        _ => Some(word.to_owned()),
    };
    Ok(Copy { sql: sql(target, from, options), from, path })
}

/// `(DELETE FROM t RETURNING *)`: a query that is not only read, and must not run twice.
fn changes_rows(target: &str) -> bool {
    let changing = ["insert", "update", "delete", "merge"];
    let mut words = target.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default().to_ascii_lowercase();
    let is = |word: &str| changing.iter().any(|changing| word.eq_ignore_ascii_case(changing));
    target.trim_start().starts_with('(') && (is(&first) || (first == "with" && words.any(is)))
}

fn sql(target: &str, from: bool, options: &str) -> String {
    let direction = if from { "FROM STDIN" } else { "TO STDOUT" };
    let options = options.trim().trim_end_matches(';').trim_end();
    format!("COPY {} {direction} {options}", target.trim()).trim_end().to_owned()
}

/// What is copied, whether into it, and what stands behind `FROM` or `TO`.
fn direction(line: &str) -> Result<(&str, bool, &str), String> {
    let (mut at, mut brackets) = (0, 0usize);
    while let Some((kind, end)) = token::next(line, at, false).map_err(|open| open.to_string())? {
        let text = &line[at..end];
        match kind {
            Kind::Sign(b'(') => brackets += 1,
            Kind::Sign(b')') => brackets = brackets.saturating_sub(1),
            Kind::Word if brackets == 0 && at > 0 => {
                let from = text.eq_ignore_ascii_case("from");
                if from || text.eq_ignore_ascii_case("to") {
                    return Ok((&line[..at], from, line[end..].trim_start()));
                }
            }
            _ => {}
        }
        at = end;
        // A file's name need not be made of tokens.
        if at == line.len() {
            break;
        }
    }
    Err("neither FROM nor TO; write `\\copy table from 'file'`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_read_as_psql_reads_them() {
        for (line, expected, path) in [
            (
                "master.t (a,b) FROM './dml/t.csv' delimiter ',' HEADER  csv;",
                "COPY master.t (a,b) FROM STDIN delimiter ',' HEADER  csv",
                Some("./dml/t.csv"),
            ),
            (
                "(select a from t where b = 'to x') TO 'dml/it''s.csv' WITH (FORMAT CSV, HEADER)",
                "COPY (select a from t where b = 'to x') TO STDOUT WITH (FORMAT CSV, HEADER)",
                Some("dml/it's.csv"),
            ),
            ("t from t.csv csv", "COPY t FROM STDIN csv", Some("t.csv")),
            ("t from t.csv;", "COPY t FROM STDIN", Some("t.csv")),
            ("\"from\" from stdin", "COPY \"from\" FROM STDIN", None),
        ] {
            let copy = parse(line).unwrap();
            assert_eq!((copy.sql.as_str(), copy.path.as_deref()), (expected, path), "{line}");
        }
        for wrong in [
            "t",
            "t from",
            "t from program 'x'",
            "t to stdout",
            "t from 'x",
            "t from pstdin",
            "t from '",
            "(delete from t returning *) to x.csv",
            "(with a as (update t set b = 1 returning b) table a) to x.csv",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
