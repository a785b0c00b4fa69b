//! `rollcall check`: everything that can be known to be wrong without asking a server.

use chassis::{Exit, Failure};
use lifecycle::Graph;
use lifecycle::document::{Merged, Problem};
use serde_json::json;

use super::Documents;
use crate::output::{Output, print};

/// Judges a complete set of documents: exit code 2 when anything is wrong.
pub fn run(args: &Documents) -> Result<(), Failure> {
    let Merged { environment, mut problems } = chassis::documents::load(&args.paths);
    let graph = environment.as_ref().map(Graph::of).unwrap_or_default();
    if let Some(environment) = &environment {
        problems.extend(graph.check(environment));
    }
    let value = json!({
        "ok": problems.is_empty(),
        "environment": environment.as_ref().map(|e| e.identity().name.clone()),
        "fragments": environment.as_ref().map_or(0, |e| e.sources().count()),
        "components": graph.components().count(),
        "problems": problems.iter().map(describe).collect::<Vec<_>>(),
    });
    match environment {
        Some(environment) if problems.is_empty() => print(args.output, &value, || {
            format!(
                "{}: {} fragments, {} components, nothing wrong",
                environment.identity().name,
                environment.sources().count(),
                graph.components().count()
            )
        }),
        _ => {
            if args.output == Output::Json {
                print(args.output, &value, String::new)?;
            }
            let failure = chassis::documents::refusal(&problems);
            Err(Failure::new(Exit::Usage, failure.message))
        }
    }
}

fn describe(problem: &Problem) -> serde_json::Value {
    json!({"file": problem.file, "key": problem.key, "message": problem.message})
}
