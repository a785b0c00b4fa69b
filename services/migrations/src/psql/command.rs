//! psql's commands, one at a time.

use super::arguments::{Argument, arguments, line_end};
use super::copy;
use super::interpret::{Branch, Interpreter, Reading};
use super::{Script, Step};
use crate::problem::Problem;
use crate::source::{folder, resolve};
use crate::statement::copied;

/// How a result is shown, which nobody sees here.
const SHOWN: [&str; 12] =
    ["timing", "pset", "x", "t", "a", "f", "H", "C", "T", "html", "conninfo", "errverbose"];
/// Variables that change what psql does with statements; the values that leave it as it is here.
const FIXED: [(&str, &[&str]); 6] = [
    ("ON_ERROR_STOP", &["on", "1", "true", "yes"]),
    ("AUTOCOMMIT", &["on", "1", "true", "yes"]),
    ("ON_ERROR_ROLLBACK", &["off", "0", "false", "no"]),
    ("SINGLELINE", &["off", "0", "false", "no"]),
    ("SINGLESTEP", &["off", "0", "false", "no"]),
    ("FETCH_COUNT", &["0"]),
];

impl Interpreter<'_> {
    /// The command whose backslash is at `at`. Where to read on.
    pub(super) fn command(&mut self, reading: &mut Reading<'_>, at: usize, line: usize) -> usize {
        let text = reading.text;
        let rest = &text[at + 1..];
        let length = rest.find(|c: char| c.is_whitespace() || c == '\\').unwrap_or(rest.len());
        // `\;` and `\:` are no commands; their name is one character.
        let length = if length == 0 { rest.chars().next().map_or(0, char::len_utf8) } else { length };
        let (name, behind) = (&rest[..length], at + 1 + length);
        if name.eq_ignore_ascii_case("copy") {
            let end = line_end(text, behind);
            return if self.active() { self.copy(reading, behind, end, line) } else { end };
        }
        let (found, end) = match arguments(text, behind, &self.variables) {
            Ok(found) => found,
            Err(_) if !self.active() => return line_end(text, behind),
            Err(said) => {
                self.refuse(reading.file, line, format_args!("`\\{name}`: {said}"));
                return line_end(text, behind);
            }
        };
        let most = match name {
            "else" | "endif" | "q" | "quit" => 0,
            "i" | "include" | "ir" | "include_relative" | "if" | "elif" | "encoding" => 1,
            "c" | "connect" => 4,
            _ => usize::MAX,
        };
        if found.len() > most && self.active() {
            let text = format!("`\\{name}` leaves out what follows it on its line, as psql does");
            self.script.warnings.push(Problem::warned(reading.file, Some(line), text));
        }
        match (name, self.active()) {
            ("if" | "elif" | "else" | "endif", _) => {
                if let Err(said) = self.branch(name, found.first(), line) {
                    self.refuse(reading.file, line, said);
                }
                end
            }
            (_, false) => end,
            ("g" | "gexec", true) => self.go(reading, name, &found, end, line),
            _ => {
                if let Err(said) = self.plain(reading, name, &found, line) {
                    self.refuse(reading.file, line, said);
                }
                end
            }
        }
    }

    /// Commands that neither branch nor end the statement.
    fn plain(
        &mut self,
        reading: &mut Reading<'_>,
        name: &str,
        found: &[Argument],
        line: usize,
    ) -> Result<(), String> {
        if let Some(key) = &self.restricted
            && name != "unrestrict"
        {
            return Err(format!("`\\{name}` after `\\restrict`, before `\\unrestrict {key}`"));
        }
        let midway =
            matches!(name, "c" | "connect" | "i" | "include" | "ir" | "include_relative" | "q" | "quit");
        if midway && !reading.statement.is_empty() {
            return Err(format!(
                "`\\{name}` in the middle of the statement of line {}; end that with a semicolon",
                reading.statement.line
            ));
        }
        match name {
            "c" | "connect" => {
                let step = connect(found)?;
                self.note(reading.file, line, step, false);
            }
            "i" | "include" | "ir" | "include_relative" => {
                let from = if name.starts_with("ir") || name == "include_relative" {
                    folder(reading.file)
                } else {
                    self.cwd
                };
                let path = found.first().ok_or_else(|| format!("`\\{name}` without a file"))?;
                let path = inside(from, &path.text)?;
                if self.sources.get(&path).is_none() {
                    return Err(format!("`{path}` is not in the sources; add it, or correct the path"));
                }
                self.file(&path);
            }
            "echo" | "qecho" | "warn" => {
                let (texts, secret): (Vec<&str>, Vec<bool>) =
                    found.iter().map(|argument| (argument.text.as_str(), argument.secret)).unzip();
                if secret.contains(&true) {
                    return Err(format!("`\\{name}` would show a secret"));
                }
                let texts = texts.strip_prefix(&["-n"]).unwrap_or(&texts);
                self.note(reading.file, line, Step::Echo(texts.join(" ")), false);
            }
            "set" => self.set(found)?,
            "unset" => {
                for argument in found {
                    self.variables.unset(&argument.text);
                }
            }
            "q" | "quit" => reading.ended = true,
            "encoding" => {
                let encoding = found.first().map(|argument| argument.text.to_ascii_uppercase());
                if !matches!(encoding.as_deref(), Some("UTF8" | "UTF-8" | "UNICODE")) {
                    return Err("`\\encoding`: files are UTF-8 here".to_owned());
                }
            }
            "restrict" => self.restricted = found.first().map(|argument| argument.text.clone()),
            "unrestrict" => {
                if self.restricted.take() != found.first().map(|argument| argument.text.clone()) {
                    return Err("`\\unrestrict` with another key than `\\restrict`".to_owned());
                }
            }
            name if SHOWN.contains(&name) => {}
            name => {
                return Err(format!(
                    "`\\{name}` is not a command that is run here; write it in SQL, or with \\c \\i \\ir \\copy \\echo \\set \\unset \\if \\g \\gexec \\q"
                ));
            }
        }
        Ok(())
    }

    fn set(&mut self, found: &[Argument]) -> Result<(), String> {
        let (name, values) =
            found.split_first().ok_or("`\\set` without a variable only shows all; take it away")?;
        let named = |c: char| c.is_alphanumeric() || c == '_';
        if name.text.is_empty() || !name.text.chars().all(named) {
            return Err(
                "`\\set`: the name of a variable is made of letters, digits and underscores".to_owned()
            );
        }
        let value: String = values.iter().map(|argument| argument.text.as_str()).collect();
        if let Some((fixed, may)) = FIXED.iter().find(|(fixed, _)| *fixed == name.text)
            && !may.contains(&value.to_ascii_lowercase().as_str())
        {
            return Err(format!(
                "`\\set {fixed}`: every script is run statement by statement and stops at the first error"
            ));
        }
        self.variables.set(&name.text, &value, values.iter().any(|argument| argument.secret));
        Ok(())
    }

    /// `\g` and `\gexec`: they end the statement.
    fn go(
        &mut self,
        reading: &mut Reading<'_>,
        name: &str,
        found: &[Argument],
        end: usize,
        line: usize,
    ) -> usize {
        if !found.is_empty() {
            self.refuse(
                reading.file,
                line,
                format_args!("`\\{name}` with a file or options is not run here"),
            );
        } else if reading.statement.is_empty() {
            self.refuse(reading.file, line, format_args!("`\\{name}` without a statement before it"));
        } else if name == "gexec" {
            self.generate(reading);
        } else {
            return self.semicolon(reading, end, line);
        }
        end
    }

    /// `\copy`, whose arguments are its whole line, up to `end`. Where to read on.
    fn copy(&mut self, reading: &mut Reading<'_>, behind: usize, end: usize, line: usize) -> usize {
        let (file, text) = (reading.file, reading.text);
        if !reading.statement.is_empty() {
            self.refuse(file, line, "`\\copy` in the middle of a statement; end that with a semicolon");
            return end;
        }
        let copy = match copy::parse(&text[behind..end]) {
            Ok(copy) => copy,
            Err(said) => {
                self.refuse(file, line, format_args!("`\\copy`: {said}"));
                return end;
            }
        };
        let Some(path) = copy.path else {
            let Some((rows, end)) = copied(text, end) else {
                self.refuse(file, line, "the rows of this `\\copy` have no end; write `\\.` after them");
                return text.len();
            };
            let step = Step::Execute { sql: copy.sql, rows: Some(rows.to_owned()) };
            self.note(file, line, step, false);
            return end;
        };
        match inside(self.cwd, &path) {
            Err(said) => self.refuse(file, line, said),
            Ok(path) if copy.from => {
                if self.sources.get(&path).is_some() {
                    self.script.files.insert(path.clone());
                } else if !self.exports.contains(&path) {
                    let text = "is neither in the sources nor written before; it is looked up from where the script is started";
                    self.refuse(file, line, format_args!("`{path}` {text}"));
                }
                self.note(file, line, Step::CopyFrom { sql: copy.sql, path }, false);
            }
            Ok(path) => {
                self.exports.insert(path.clone());
                self.note(file, line, Step::CopyTo { sql: copy.sql, path }, false);
            }
        }
        end
    }

    fn branch(&mut self, name: &str, found: Option<&Argument>, line: usize) -> Result<(), String> {
        let above = self.branches.len().checked_sub(2).is_none_or(|n| self.branches[n].active);
        if name == "if" {
            let outer = self.active();
            let truth = if outer { truth(name, found) } else { Ok(false) };
            let active = *truth.as_ref().unwrap_or(&false);
            self.branches.push(Branch { active, settled: active || !outer, last: false, line });
            return truth.map(drop);
        }
        let open = self.branches.last_mut().ok_or_else(|| format!("`\\{name}` without `\\if`"))?;
        match name {
            "endif" => {
                self.branches.pop();
            }
            _ if open.last => return Err(format!("`\\{name}` after `\\else`")),
            "else" => {
                open.active = above && !open.settled;
                (open.settled, open.last) = (true, true);
            }
            _ => {
                open.active = false;
                if above && !open.settled {
                    open.active = truth(name, found)?;
                    open.settled = open.active;
                }
            }
        }
        Ok(())
    }
}

/// What psql takes for true and false: also the beginnings of the words.
fn truth(name: &str, found: Option<&Argument>) -> Result<bool, String> {
    let text = found.map(|argument| argument.text.to_ascii_lowercase()).unwrap_or_default();
    let begins = |word: &str| !text.is_empty() && word.starts_with(&text);
    if begins("true") || begins("yes") || text == "on" || text == "1" {
        Ok(true)
    } else if begins("false") || begins("no") || matches!(text.as_str(), "off" | "of" | "0") {
        Ok(false)
    } else {
        Err(format!("`\\{name}` needs true or false, on or off, yes or no, 1 or 0"))
    }
}

/// Where a path leads that is looked up from a folder of the sources.
fn inside(from: &str, path: &str) -> Result<String, String> {
    let outside = || format!("`{path}` leads out of the sources; name a file in them");
    if path.starts_with(['/', '~', '|']) { Err(outside()) } else { resolve(from, path).ok_or_else(outside) }
}

/// `\c database user`: a hyphen keeps what is.
fn connect(found: &[Argument]) -> Result<Step, String> {
    let given = |n: usize| found.get(n).map(|argument| argument.text.as_str()).filter(|text| *text != "-");
    if given(0).is_some_and(|database| {
        database.contains('=') || database.contains("://") || database.starts_with('-')
    }) {
        return Err("`\\c` with a connection string; name the database, and where needed the role".to_owned());
    }
    if given(2).or_else(|| given(3)).is_some() {
        return Err("`\\c` with a host or port: scripts stay on one server".to_owned());
    }
    Ok(Step::Connect { database: given(0).map(str::to_owned), user: given(1).map(str::to_owned) })
}

impl Script {
    /// The databases that it connects to.
    pub fn databases(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|placed| match &placed.step {
            Step::Connect { database, .. } => database.as_deref(),
            _ => None,
        })
    }
}
