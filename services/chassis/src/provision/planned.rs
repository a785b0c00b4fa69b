//! What would be done with targets, for people and for programs.

use std::fmt;
use std::io::Write;

use lifecycle::Component;
use serde_json::json;

use super::{Target, account};
use crate::converge::{Fault, Plan, Reconcile, Step, decide};
use crate::exit::{Exit, Failure, chain};
use crate::output::Output;

/// The plan for one target, printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What is looked at: a server, a cluster, a Secret.
    pub target: Component,
    /// Nothing would be done, and nothing is refused or undecided.
    pub settled: bool,
    /// What is refused, or why the target could not be looked at.
    pub failure: Option<Failure>,
    /// The plan for people.
    pub text: String,
    /// The plan for programs.
    pub json: serde_json::Value,
}

impl Planned {
    /// A plan for a target as people and programs read it. What is refused is a failure that stays.
    pub fn of<S: Step>(target: &Component, plan: &Plan<S>) -> Self {
        let refused: Vec<String> =
            plan.refusals.iter().map(|note| format!("{}: {}", note.component, note.text)).collect();
        Planned {
            target: target.clone(),
            settled: plan.is_settled(),
            failure: (!refused.is_empty()).then(|| Failure::new(Exit::NeverWorks, refused.join("\n"))),
            text: plan.to_string(),
            json: account::json(target, plan),
        }
    }

    /// What came of a target that could not be asked, or failed on the way.
    pub fn failed(target: &Component, failure: Failure) -> Self {
        let json = json!({"target": target, "error": failure.message});
        let text = format!("? {failure}\n");
        Planned { target: target.clone(), settled: false, text, json, failure: Some(failure) }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.target, self.text)
    }
}

/// What would be done with each target: against the world, or `offline` against nothing. One that cannot be looked at hides
/// no other.
pub async fn plans<R: Reconcile>(targets: &[Target<R>], offline: bool) -> Vec<Planned> {
    let mut plans = Vec::new();
    for (component, target, spec) in targets {
        let world = if offline { Ok(R::nothing(spec)) } else { look(component, target, spec).await };
        plans.push(match world {
            Ok(world) => Planned::of(component, &decide::<R>(spec, &world)),
            Err(failure) => unseen::<R>(component, failure),
        });
    }
    plans
}

/// Its plan is empty, and there: programs need not ask whether it could be looked at before they read it.
fn unseen<R: Reconcile>(component: &Component, failure: Failure) -> Planned {
    let mut json = account::json(component, &Plan::<R::Step>::default());
    json["error"] = failure.message.as_str().into();
    Planned { json, ..Planned::failed(component, failure) }
}

async fn look<R: Reconcile>(component: &Component, target: &R, spec: &R::Spec) -> Result<R::World, Failure> {
    target.observe(spec).await.map_err(|error| {
        let exit = if error.is_transient() { Exit::TryAgain } else { Exit::NeverWorks };
        Failure::new(exit, format!("{component} cannot be looked at: {}", chain(&error)))
    })
}

/// Prints plans to standard output. Fails afterwards with what is refused or could not be looked at.
pub fn print(plans: &[Planned], output: Output) -> Result<(), Failure> {
    let text = match output {
        Output::Text => plans.iter().map(Planned::to_string).collect(),
        Output::Json => {
            let values: Vec<&serde_json::Value> = plans.iter().map(|plan| &plan.json).collect();
            serde_json::to_string_pretty(&values).map_err(Failure::internal)?
        }
    };
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        other => other.map_err(Failure::internal)?,
    }
    let failures: Vec<&Failure> = plans.iter().filter_map(|plan| plan.failure.as_ref()).collect();
    // What will never work outweighs what may work later.
    let exit = failures.iter().map(|failure| failure.exit).min_by_key(|exit| *exit as u8);
    match exit {
        None => Ok(()),
        Some(exit) => {
            let texts: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
            Err(Failure::new(exit, texts.join("\n")))
        }
    }
}
