//! The arguments of a psql command: what stands between it and the end of its line, or the next command.

use super::variables::{Variables, reference};

/// One argument.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) text: String,
    pub(super) secret: bool,
}

/// The arguments that begin at `at`, and where they end. `Err` says what cannot be read.
pub(super) fn arguments(
    text: &str,
    at: usize,
    variables: &Variables,
) -> Result<(Vec<Argument>, usize), String> {
    let end = line_end(text, at);
    let line = &text[..end];
    let (mut found, mut at) = (Vec::new(), at);
    loop {
        at += line[at..].len() - line[at..].trim_start().len();
        match line.as_bytes().get(at) {
            None => return Ok((found, end)),
            Some(b'\\') => {
                // `\\` only separates.
                let separator = line[at..].starts_with("\\\\");
                return Ok((found, if separator { at + 2 } else { at }));
            }
            Some(_) => {
                let (argument, next) = one(line, at, variables)?;
                found.push(argument);
                at = next;
            }
        }
    }
}

/// Where the line ends that `at` is on; its newline does not belong to it.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    text[at..].find(['\n', '\r']).map_or(text.len(), |length| at + length)
}

fn one(line: &str, at: usize, variables: &Variables) -> Result<(Argument, usize), String> {
    let (mut argument, mut at) = (Argument { text: String::new(), secret: false }, at);
    while let Some(c) = line[at..].chars().next() {
        match c {
            c if c.is_whitespace() => break,
            '\\' => break,
            '`' => return Err("backquotes run a program, which is not done here".to_owned()),
            '\'' => at = single(line, at, &mut argument.text)?,
            '"' => {
                let length = line[at + 1..].find('"').ok_or("a double quote that is never closed")?;
                argument.text.push_str(&line[at + 1..at + 1 + length]);
                at += length + 2;
            }
            ':' => {
                let found = reference(line, at).and_then(|r| Some((r.end, variables.value(r)?)));
                let (end, (value, secret)) = found.unwrap_or_else(|| (at + 1, (":".to_owned(), false)));
                argument.text.push_str(&value);
                argument.secret |= secret;
                at = end;
            }
            c => {
                argument.text.push(c);
                at += c.len_utf8();
            }
        }
    }
    Ok((argument, at))
}

/// `'…'` with the escapes of C, and a doubled quote for itself.
fn single(line: &str, at: usize, text: &mut String) -> Result<usize, String> {
    let mut chars = line[at + 1..].char_indices().peekable();
    while let Some((n, c)) = chars.next() {
        match c {
            '\'' if chars.next_if(|(_, next)| *next == '\'').is_some() => text.push('\''),
            '\'' => return Ok(at + 1 + n + 1),
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, 'r')) => text.push('\r'),
                Some((_, c)) if !c.is_ascii_digit() && c != 'x' => text.push(c),
                _ => return Err("an escape that is not read here; write the character itself".to_owned()),
            },
            c => text.push(c),
        }
    }
    Err("a quote that is never closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Result<Vec<String>, String> {
        let variables = Variables::new().with("db", "mosip").with_secret("pw", "it's");
        arguments(text, 0, &variables).map(|(found, _)| found.into_iter().map(|a| a.text).collect())
    }

    #[test]
    fn arguments_are_taken_apart_as_psql_does_it() {
        for (text, expected) in [
            ("a  b\tc\nd", &["a", "b", "c"][..]),
            (" 'a b' \"C d\" e'f'g", &["a b", "C d", "efg"]),
            (":db :'db' x:db :none a::b", &["mosip", "'mosip'", "xmosip", ":none", "a::b"]),
            ("'it''s' 'a\\'b\\n'", &["it's", "a'b\n"]),
            ("'Upgrade Queries not required.'", &["Upgrade Queries not required."]),
            ("a \\echo b", &["a"]),
            ("", &[]),
        ] {
            assert_eq!(texts(text).unwrap(), expected, "{text}");
        }
        for wrong in ["`date`", "'a", "\"a", "'\\123'"] {
            assert!(texts(wrong).is_err(), "{wrong}");
        }
        let (found, _) = arguments("x:pw y", 0, &Variables::new().with_secret("pw", "p")).ok().unwrap();
        assert!(found[0].secret && !found[1].secret);
    }
}
