//! Runs through a script as psql would, and notes what it would do.

use std::collections::BTreeSet;

use super::variables::{How, Variables, reference};
use super::{Placed, Script, Step};
use crate::guard::never;
use crate::problem::Problem;
use crate::source::{Sources, text};
use crate::statement::token::{self, Kind};
use crate::statement::{Copy, Tracker, classify, copied, escapes_after};

/// Scripts in scripts; more is one that includes itself.
const DEPTH: usize = 16;
/// Variables in variables; more is one that holds itself.
const NESTED: usize = 8;

/// What the script `entry` would do, started in folder `cwd` of the sources. `Err` is everything that is wrong, in it and in
/// all that it includes.
pub fn interpret(
    sources: &Sources,
    entry: &str,
    cwd: &str,
    variables: &Variables,
) -> Result<Script, Vec<Problem>> {
    several(sources, &[(None, entry)], cwd, variables)
}

/// What several scripts would do that are one: each begins in its own database, and finds the files that those before it wrote.
pub(super) fn several(
    sources: &Sources,
    scripts: &[(Option<&str>, &str)],
    cwd: &str,
    variables: &Variables,
) -> Result<Script, Vec<Problem>> {
    let mut interpreter = Interpreter {
        sources,
        cwd,
        variables: variables.clone(),
        script: Script::default(),
        problems: Vec::new(),
        exports: BTreeSet::new(),
        branches: Vec::new(),
        escapes: false,
        restricted: None,
        depth: 0,
    };
    for (database, script) in scripts {
        if let Some(database) = database {
            let step = Step::Connect { database: Some((*database).to_owned()), user: None };
            interpreter.note(script, 1, step, false);
        }
        interpreter.file(script);
    }
    let Interpreter { script, problems, .. } = interpreter;
    if problems.is_empty() { Ok(script) } else { Err(problems) }
}

pub(super) struct Interpreter<'a> {
    pub(super) sources: &'a Sources,
    /// Where `\i` and `\copy` look files up.
    pub(super) cwd: &'a str,
    pub(super) variables: Variables,
    pub(super) script: Script,
    pub(super) problems: Vec<Problem>,
    /// What `\copy … to` has written so far.
    pub(super) exports: BTreeSet<String>,
    pub(super) branches: Vec<Branch>,
    escapes: bool,
    /// The key that ends `\restrict`.
    pub(super) restricted: Option<String>,
    depth: usize,
}

/// An `\if` that is open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Branch {
    /// What stands here is done.
    pub(super) active: bool,
    /// Some branch was done, or none may be because all of it stands in what is left out.
    pub(super) settled: bool,
    /// `\else` has come.
    pub(super) last: bool,
    pub(super) line: usize,
}

/// A script that is being read.
pub(super) struct Reading<'t> {
    pub(super) file: &'t str,
    pub(super) text: &'t str,
    pub(super) statement: Pending,
    /// `\q` has come.
    pub(super) ended: bool,
}

/// A statement that is not yet at its end.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) sql: String,
    pub(super) line: usize,
    /// Up to here; what follows are blanks and comments.
    end: usize,
    secret: bool,
    tracker: Tracker,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    fn push(&mut self, kind: Kind, text: &str, line: usize, secret: bool) {
        if self.sql.is_empty() {
            if kind.is_trivia() {
                return;
            }
            self.line = line;
        }
        self.sql.push_str(text);
        self.secret |= secret;
        if !kind.is_trivia() {
            self.tracker.see(kind, text);
            self.end = self.sql.len();
        }
    }

    /// What is sent.
    fn sql(&self) -> &str {
        &self.sql[..self.end]
    }
}

impl Interpreter<'_> {
    /// Whether what stands here is done.
    pub(super) fn active(&self) -> bool {
        self.branches.last().is_none_or(|branch| branch.active)
    }

    pub(super) fn refuse(&mut self, file: &str, line: usize, said: impl std::fmt::Display) {
        self.problems.push(Problem::refused(file, Some(line), said));
    }

    /// Reads one file to its end.
    pub(super) fn file(&mut self, path: &str) {
        let Some(bytes) = self.sources.get(path) else {
            self.problems.push(Problem::refused(
                path,
                None,
                "no such file in the sources; add it, or correct the path",
            ));
            return;
        };
        self.script.files.insert(path.to_owned());
        let text = match text(bytes) {
            Ok(text) => text,
            Err(error) => return self.refuse(path, error.line, "not UTF-8; save the file as UTF-8"),
        };
        if self.depth == DEPTH {
            return self.refuse(path, 1, "included too deeply; does a file include itself?");
        }
        self.depth += 1;
        let outer = self.branches.len();
        let mut reading = Reading { file: path, text, statement: Pending::default(), ended: false };
        self.read(&mut reading);
        if reading.ended {
            self.branches.truncate(outer);
        } else {
            // What is left without a semicolon is sent all the same.
            self.send(&mut reading, None);
            if let Some(open) = self.branches.get(outer) {
                let line = open.line;
                self.refuse(path, line, "`\\if` without `\\endif`");
                self.branches.truncate(outer);
            }
        }
        self.depth -= 1;
    }

    fn read(&mut self, reading: &mut Reading<'_>) {
        let (text, mut at, mut lines) = (reading.text, 0, Lines { at: 0, line: 1 });
        while !reading.ended {
            let (kind, end) = match token::next(text, at, self.escapes) {
                Ok(Some(token)) => token,
                Ok(None) => return,
                Err(open) => {
                    let line = lines.of(text, at);
                    reading.statement = Pending::default();
                    return self.refuse(reading.file, line, format_args!("{open}; close it"));
                }
            };
            let line = lines.of(text, at);
            at = match kind {
                Kind::Sign(b'\\') => self.command(reading, at, line),
                _ if !self.active() => end,
                Kind::Sign(b':') => self.colon(reading, at, line),
                Kind::Sign(b';') if reading.statement.tracker.may_end() => self.semicolon(reading, end, line),
                _ => {
                    reading.statement.push(kind, &text[at..end], line, false);
                    end
                }
            };
        }
    }

    /// A statement ends at `end`; rows may follow. Where to read on.
    pub(super) fn semicolon(&mut self, reading: &mut Reading<'_>, end: usize, line: usize) -> usize {
        if !reading.statement.tracker.copies_in() {
            self.send(reading, None);
            return end;
        }
        let Some((rows, end)) = copied(reading.text, end) else {
            reading.statement = Pending::default();
            let text = "the rows of this COPY … FROM STDIN have no end; write `\\.` after them";
            self.refuse(reading.file, line, text);
            return reading.text.len();
        };
        self.send(reading, Some(rows.to_owned()));
        end
    }

    /// Notes the statement that is at its end.
    fn send(&mut self, reading: &mut Reading<'_>, rows: Option<String>) {
        let pending = std::mem::take(&mut reading.statement);
        let sql = pending.sql();
        if sql.is_empty() {
            return;
        }
        self.escapes = escapes_after(sql, self.escapes);
        let step = Step::Execute { sql: sql.to_owned(), rows };
        self.note(reading.file, pending.line, step, pending.secret);
    }

    /// `\gexec`: notes the statement as a query whose answers are run.
    pub(super) fn generate(&mut self, reading: &mut Reading<'_>) {
        let pending = std::mem::take(&mut reading.statement);
        self.note(
            reading.file,
            pending.line,
            Step::Generate { sql: pending.sql().to_owned() },
            pending.secret,
        );
    }

    pub(super) fn note(&mut self, file: &str, line: usize, step: Step, secret: bool) {
        if let Step::Execute { sql, rows } = &step {
            let class = classify(sql);
            if class.copy == Some(Copy::Out) {
                self.refuse(file, line, "COPY … TO STDOUT has nowhere to write to; use `\\copy … to 'file'`");
            }
            if class.copy == Some(Copy::In) && rows.is_none() {
                self.refuse(file, line, "COPY … FROM STDIN without rows after it");
            }
            for text in never(&class) {
                self.refuse(file, line, text);
            }
        }
        self.script.steps.push(Placed { step, file: file.to_owned(), line, secret });
    }

    /// `:name` and its like, a cast, or just a colon. Where to read on.
    fn colon(&mut self, reading: &mut Reading<'_>, at: usize, line: usize) -> usize {
        let text = reading.text;
        let after = text.as_bytes().get(at + 1);
        if matches!(after, Some(b':' | b'=')) {
            reading.statement.push(Kind::Sign(b':'), &text[at..at + 2], line, false);
            return at + 2;
        }
        if let Some(reference) = reference(text, at) {
            if let Some((value, secret)) = self.variables.value(reference) {
                if reference.how == How::Bare {
                    self.insert(reading, &value, secret, line, NESTED);
                } else {
                    reading.statement.push(Kind::Text, &value, line, secret);
                }
                return reference.end;
            }
            if matches!(reference.how, How::Literal | How::Identifier) {
                let said = format!(
                    "the variable `{}` has no value, so this is sent as it is written",
                    reference.name
                );
                self.script.warnings.push(Problem::warned(reading.file, Some(line), said));
            }
        }
        reading.statement.push(Kind::Sign(b':'), ":", line, false);
        at + 1
    }

    /// Reads a variable's value as if it stood in the script: it may end statements and name other variables.
    fn insert(&mut self, reading: &mut Reading<'_>, value: &str, secret: bool, line: usize, nested: usize) {
        let mut at = 0;
        loop {
            let (kind, end) = match token::next(value, at, self.escapes) {
                Ok(Some(token)) => token,
                Ok(None) => return,
                // The value itself may be a secret.
                Err(_) => {
                    return self.refuse(
                        reading.file,
                        line,
                        "the variable's value opens a quote or comment that it does not close",
                    );
                }
            };
            let begin = std::mem::replace(&mut at, end);
            match kind {
                Kind::Sign(b'\\') => {
                    return self.refuse(
                        reading.file,
                        line,
                        "the variable's value holds a backslash outside of quotes",
                    );
                }
                Kind::Sign(b';') if reading.statement.tracker.may_end() => self.send(reading, None),
                Kind::Sign(b':') => {
                    let found = reference(value, begin).and_then(|r| Some((r, self.variables.value(r)?)));
                    match found {
                        Some(_) if nested == 0 => {
                            return self.refuse(reading.file, line, "the variable's value names itself");
                        }
                        Some((reference, (inner, also))) => {
                            self.insert(reading, &inner, secret || also, line, nested - 1);
                            at = reference.end;
                        }
                        None => reading.statement.push(kind, ":", line, secret),
                    }
                }
                _ => reading.statement.push(kind, &value[begin..end], line, secret),
            }
        }
    }
}

/// Counts lines once, however often it is asked.
struct Lines {
    at: usize,
    line: usize,
}

impl Lines {
    fn of(&mut self, text: &str, at: usize) -> usize {
        self.line += text[self.at..at].matches('\n').count();
        self.at = at;
        self.line
    }
}
