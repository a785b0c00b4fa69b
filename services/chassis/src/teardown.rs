//! What every teardown is told and says: nothing without a typed confirmation; what went, what stays and why.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use lifecycle::document::{Environment, Problem};
use lifecycle::{Component, Kind};
use serde_json::{Value, json};

use crate::converge::Note;
use crate::documents;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// What a teardown is told on the command line.
#[derive(Debug, Clone, Args)]
pub struct Confirmation {
    /// Documents, or folders of documents.
    #[arg(value_name = "DOCUMENTS", env = "ROLLCALL_DOCUMENTS", value_delimiter = ':', required = true)]
    pub documents: Vec<PathBuf>,
    /// Do it; without this it is only said what would be done. Needs --environment
    #[arg(long)]
    pub yes: bool,
    /// The name of the environment that is to go, typed once more
    #[arg(long, value_name = "NAME")]
    pub environment: Option<String>,
    /// Delete this too, which carries the environment's mark and which none of these documents declares, where the fragment that
    /// declares its server says `on_delete: delete`; may be repeated. What a document that is not given declares looks the same
    #[arg(long, value_name = "COMPONENT")]
    pub orphan: Vec<Component>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

impl Confirmation {
    /// Reads the documents; all of them must be right, for what a wrong one declares would look like nobody's.
    ///
    /// # Errors
    /// A document that is wrong, or a confirmation that is not about these documents: exit code 2.
    pub fn environment(&self) -> Result<Environment, Failure> {
        let (environment, problems) = documents::load_partial(&self.documents)?;
        self.check(&environment, &problems)?;
        Ok(environment)
    }

    /// That none of the orphans of these kinds is declared as a whole.
    ///
    /// # Errors
    /// One that is: exit code 2.
    pub fn undeclared(&self, environment: &Environment, kinds: &[Kind]) -> Result<(), Failure> {
        let declared =
            |one: &&Component| kinds.contains(&one.kind()) && environment.namespace_of(one).is_some();
        match self.orphan.iter().find(declared) {
            None => Ok(()),
            Some(one) => Err(Failure::usage(format!(
                "--orphan {one}: a document declares it, so its `on_delete` decides"
            ))),
        }
    }

    fn check(&self, environment: &Environment, problems: &[Problem]) -> Result<(), Failure> {
        if !problems.is_empty() {
            return Err(documents::refusal(problems));
        }
        let name = &environment.identity().name;
        match &self.environment {
            None if self.yes => Err(Failure::usage(format!(
                "--yes deletes for good; say which environment is meant: --yes --environment {name}"
            ))),
            Some(typed) if typed != name => Err(Failure::usage(format!(
                "--environment {typed}: these documents are of environment `{name}`; nothing was done"
            ))),
            _ => Ok(()),
        }
    }
}

/// What a teardown did, or would do. Every line names its component.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// It was done; else it is only said.
    pub done: bool,
    /// What went, or would go.
    pub removed: Vec<Note>,
    /// What stays as its document says, or as it is used elsewhere.
    pub retained: Vec<Note>,
    /// What will not be deleted, why, and what to do.
    pub refused: Vec<Note>,
    /// What is this environment's and no document declares.
    pub orphans: Vec<Note>,
    /// What else is to be known.
    pub told: Vec<Note>,
    /// What could not be looked at, or failed midway; running it again goes on.
    pub failed: Vec<(Component, Failure)>,
}

impl Report {
    /// A report of what is done, or only said.
    pub fn new(done: bool) -> Self {
        Report { done, ..Report::default() }
    }

    /// Adds what another says.
    pub fn add(&mut self, other: Report) {
        self.removed.extend(other.removed);
        self.retained.extend(other.retained);
        self.refused.extend(other.refused);
        self.orphans.extend(other.orphans);
        self.told.extend(other.told);
        self.failed.extend(other.failed);
    }

    /// The components of which something stays.
    pub fn staying(&self) -> BTreeSet<Component> {
        let notes = self.retained.iter().chain(&self.refused).chain(&self.orphans);
        let failed = self.failed.iter().map(|(component, _)| component);
        notes.map(|note| &note.component).chain(failed).cloned().collect()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let notes = |notes: &[Note]| -> Vec<Value> {
            let one = |note: &Note| json!({"component": note.component.to_string(), "text": note.text});
            notes.iter().map(one).collect()
        };
        let failed: Vec<Value> = self
            .failed
            .iter()
            .map(|(component, failure)| {
                json!({"component": component.to_string(), "text": failure.message, "exit": failure.exit as u8})
            })
            .collect();
        json!({
            "done": self.done, "removed": notes(&self.removed), "retained": notes(&self.retained),
            "refused": notes(&self.refused), "orphans": notes(&self.orphans), "told": notes(&self.told), "failed": failed,
        })
    }

    /// How the run ends: what will never work outweighs what may work later.
    ///
    /// # Errors
    /// 65 where something is refused; what failed with its own code.
    pub fn outcome(&self) -> Result<(), Failure> {
        let refused = self
            .refused
            .iter()
            .map(|note| Failure::new(Exit::NeverWorks, format!("{}: {}", note.component, note.text)));
        let failures: Vec<Failure> =
            refused.chain(self.failed.iter().map(|(_, failure)| failure.clone())).collect();
        let texts: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
        match failures.iter().map(|failure| failure.exit).min_by_key(|exit| *exit as u8) {
            None => Ok(()),
            Some(exit) => Err(Failure::new(exit, texts.join("\n"))),
        }
    }

    /// Prints it, and ends as it says.
    ///
    /// # Errors
    /// As [`outcome`](Self::outcome).
    pub fn print(&self, output: Output) -> Result<(), Failure> {
        let text = match output {
            Output::Text => self.to_string(),
            Output::Json => serde_json::to_string_pretty(&self.json()).map_err(Failure::internal)?,
        };
        match writeln!(std::io::stdout(), "{}", text.trim_end()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other.map_err(Failure::internal)?,
        }
        self.outcome()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sections: [(char, &[Note]); 5] = [
            ('~', &self.told),
            ('-', &self.removed),
            ('=', &self.retained),
            ('!', &self.refused),
            ('*', &self.orphans),
        ];
        let mut text = String::new();
        for (mark, notes) in sections {
            for note in notes {
                writeln!(text, "{mark} {}: {}", note.component, note.text)?;
            }
        }
        for (_, failure) in &self.failed {
            writeln!(text, "? {failure}")?;
        }
        f.write_str(&text)?;
        let count = |notes: &[Note]| notes.len();
        let (gone, stays) = (count(&self.removed), count(&self.retained));
        let (refused, orphans) = (count(&self.refused), count(&self.orphans));
        let verb = if self.done { "removed" } else { "to be removed" };
        writeln!(
            f,
            "= {gone} {verb}, {stays} retained, {refused} refused, {orphans} orphaned, {} failed",
            self.failed.len()
        )?;
        if !self.done && gone > 0 {
            writeln!(f, "= nothing was done: --yes --environment NAME does it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lifecycle::document::Source;

    use super::*;

    fn environment() -> Environment {
        let document = "rollcall: v1\nenvironment: {name: dev, uid: 6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06}\n\
                        fragment: {name: base, namespace: dev}\n";
        let document = documents::parse("a.yaml", document).unwrap();
        Environment::merge([Source { file: "a.yaml".to_owned(), document }]).environment.unwrap()
    }

    fn typed(yes: bool, environment: Option<&str>) -> Confirmation {
        let environment = environment.map(str::to_owned);
        Confirmation { documents: Vec::new(), yes, environment, orphan: Vec::new(), output: Output::Text }
    }

    #[test]
    fn nothing_is_deleted_without_the_name_of_the_environment() {
        let check = |yes, name| typed(yes, name).check(&environment(), &[]).map_err(|failure| failure.exit);
        assert_eq!(check(false, None), Ok(()));
        assert_eq!(check(true, None), Err(Exit::Usage));
        assert_eq!(check(true, Some("prod")), Err(Exit::Usage));
        assert_eq!(check(false, Some("prod")), Err(Exit::Usage));
        assert_eq!(check(true, Some("dev")), Ok(()));
    }

    #[test]
    fn what_is_refused_outweighs_what_may_work_later() {
        let one: Component = "database/a".parse().unwrap();
        let mut report = Report::new(true);
        assert!(report.outcome().is_ok());
        report.failed.push((one.clone(), Failure::new(Exit::TryAgain, "away")));
        assert_eq!(report.outcome().unwrap_err().exit, Exit::TryAgain);
        report.refused.push(Note::new(&one, "has a slot"));
        let failure = report.outcome().unwrap_err();
        assert!(failure.exit == Exit::NeverWorks && failure.message.contains("away"), "{failure}");
        assert_eq!(report.staying(), [one].into());
        assert!(report.to_string().contains("! database/a: has a slot"), "{report}");
    }
}
