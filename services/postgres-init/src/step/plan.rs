//! Decides whether a step runs: from what the ledger says, what goes into it now, and what a person asks for. No I/O.

use lifecycle::document::OnChange;

use super::spec::StepSpec;
use crate::world::ledger::{Run, State};

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asked {
    /// Nothing: what is right is done.
    #[default]
    Nothing,
    /// That it runs, whatever is written down.
    Again,
    /// That it is taken to be done.
    Baseline,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing; says why.
    Done(String),
    /// The command runs.
    Run,
    /// It is written down as done and does not run; says why.
    Baseline(String),
    /// The evidence is asked: where it shows that the step was done, that is written down; otherwise this.
    Ask(Box<Decision>),
    /// It is refused; says why and what to do.
    Refuse(String),
}

/// What the ledger says.
#[derive(Debug, Clone, Copy)]
pub enum Written<'a> {
    /// The last run.
    Last(&'a Run),
    /// It never ran.
    Never,
    /// Nothing is known: it works on what was taken over or restored, and may have been done to that before.
    Unknown,
}

impl<'a> Written<'a> {
    /// What is said by the last run, of which there may be none, and by whether what it works on may be older than the ledger.
    pub fn of(last: Option<&'a Run>, older: bool) -> Self {
        match last {
            Some(run) => Written::Last(run),
            None if older => Written::Unknown,
            None => Written::Never,
        }
    }

    fn last(self) -> Option<&'a Run> {
        match self {
            Written::Last(run) => Some(run),
            Written::Never | Written::Unknown => None,
        }
    }
}

/// Decides. `inputs` is what goes into it now, as a hash. What a fragment ran that is there no more counts for the one that declares the
/// step now.
pub fn decide(spec: &StepSpec, written: Written<'_>, inputs: &str, asked: Asked) -> Decision {
    match (judge(spec, written, inputs, asked), written.last()) {
        (Decision::Done(why), Some(run)) if run.fragment != spec.fragment => {
            Decision::Done(format!("{why}, by fragment `{}`, which nobody declares any more", run.fragment))
        }
        (decision, _) => decision,
    }
}

fn judge(spec: &StepSpec, written: Written<'_>, inputs: &str, asked: Asked) -> Decision {
    let name = &spec.component;
    let done = |run: &Run| run.state.is_done() && run.same_database;
    match asked {
        Asked::Again => return Decision::Run,
        Asked::Baseline
            if written
                .last()
                .is_some_and(|run| done(run) && run.inputs == inputs && run.fragment == spec.fragment) => {}
        Asked::Baseline => return Decision::Baseline("a person says that it was done".to_owned()),
        Asked::Nothing => {}
    }
    let run = match written {
        Written::Last(run) => run,
        Written::Never => return ask(spec, Decision::Run),
        Written::Unknown if spec.idempotent || spec.evidence.is_some() => return ask(spec, Decision::Run),
        Written::Unknown => {
            let what = match &spec.database {
                Some(database) => format!("database `{database}` was"),
                None => "something of this environment on its server was".to_owned(),
            };
            return Decision::Refuse(format!(
                "{name} has no run in the ledger, and {what} taken over or restored: it may have been done to that before. See whether it \
                 was; then say --baseline if its work is done, or --again to run it (or give it `evidence` in its document, which is asked \
                 instead of you, or `idempotent: true`, if it may always be repeated)"
            ));
        }
    };
    if let Some(why) = anothers(spec, run) {
        return Decision::Refuse(why);
    }
    let decide = "see what it has left; then say --again to run it, or --baseline if its work is done";
    if !run.same_database {
        let text = format!(
            "{name} was done (run {}, {}) to another database than the one that is there: it was restored or made anew; {decide}",
            run.number, run.started
        );
        return ask(spec, if spec.evidence.is_some() { Decision::Run } else { Decision::Refuse(text) });
    }
    match run.state {
        State::Running | State::Failed if spec.idempotent => Decision::Run,
        State::Running => {
            let text = format!(
                "{name} was begun at {} by {} and nobody has written down how it ended; {decide} (or `idempotent: true` in its document, if it may always be repeated)",
                run.started, run.by
            );
            ask(spec, Decision::Refuse(text))
        }
        State::Failed => {
            let exit =
                run.exit.map_or_else(|| "by a signal".to_owned(), |exit| format!("with exit code {exit}"));
            Decision::Refuse(format!(
                "{name} failed {exit} (run {}, begun at {} by {}); {decide} (or `idempotent: true` in its document, if it may always be repeated)",
                run.number, run.started, run.by
            ))
        }
        // Whoever said that it was done without saying with which command meant any.
        State::Baseline if run.inputs.is_empty() => {
            Decision::Done(format!("said to be done already (run {}, {})", run.number, run.started))
        }
        State::Done | State::Baseline if run.inputs == inputs => {
            Decision::Done(format!("done already (run {}, {})", run.number, run.started))
        }
        State::Done | State::Baseline => match spec.on_change {
            OnChange::Ignore => Decision::Done(format!(
                "done already (run {}, {}), with other inputs than now: `on_change: ignore`",
                run.number, run.started
            )),
            OnChange::Rerun => Decision::Run,
            OnChange::Refuse => Decision::Refuse(format!(
                "{name} was done (run {}, {}) with another command, arguments, files or variables; say --again to run it with these, --baseline if what is there is right, or `on_change` in its document",
                run.number, run.started
            )),
        },
    }
}

/// Why the last run is no answer for this step: another fragment ran it, and that is there. None where the same did, or one that is not.
pub(crate) fn anothers(spec: &StepSpec, last: &Run) -> Option<String> {
    let stands = last.accepted || spec.others.contains(&last.fragment);
    (last.fragment != spec.fragment && stands).then(|| {
        format!(
            "{0} was run by fragment `{1}` (run {2}), which is there, and not by `{3}`; give it a name of its own or, if it moved here, have \
             whoever looks after {4} say that it is done: `postgres-init step {5} --baseline`",
            spec.component,
            last.fragment,
            last.number,
            spec.fragment,
            spec.server.component,
            spec.component.name()
        )
    })
}

fn ask(spec: &StepSpec, otherwise: Decision) -> Decision {
    if spec.evidence.is_some() { Decision::Ask(Box::new(otherwise)) } else { otherwise }
}

#[cfg(test)]
mod tests;
