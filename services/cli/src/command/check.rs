//! `rollcall check`: everything that can be known to be wrong without asking a server, in documents and in rendered manifests.

use std::io::Read;
use std::path::{Path, PathBuf};

use chassis::{Exit, Failure};
use clap::Args;
use lifecycle::Graph;
use lifecycle::document::{Environment, Merged, Problem};
use lifecycle::manifests::{Unresolved, unresolved};
use serde_json::{Value, json};

use crate::output::{Output, print};

/// Judge a complete set of documents, rendered manifests, or both, without asking a server.
#[derive(Debug, Args)]
pub struct Check {
    /// Documents, or folders of documents; ROLLCALL_DOCUMENTS when absent.
    #[arg(
        value_name = "DOCUMENTS",
        env = "ROLLCALL_DOCUMENTS",
        value_delimiter = ':',
        required_unless_present = "manifests"
    )]
    paths: Vec<PathBuf>,
    /// Rendered manifests, as `helm template` prints them; `-` is standard input. Every key of a Secret or ConfigMap that a pod
    /// reads must be made by them or by the documents.
    #[arg(long, value_name = "FILE")]
    manifests: Vec<PathBuf>,
    /// The namespace of manifests that name none; the documents' when they have one, else `default`.
    #[arg(long, short)]
    namespace: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Prints what was judged: exit code 2 when anything is wrong.
pub fn run(args: &Check) -> Result<(), Failure> {
    let Merged { environment, mut problems } = match args.paths.as_slice() {
        [] => Merged { environment: None, problems: Vec::new() },
        paths => chassis::documents::load(paths),
    };
    let graph = environment.as_ref().map(Graph::of).unwrap_or_default();
    if let Some(environment) = &environment {
        problems.extend(graph.check(environment));
    }
    let objects = read(&args.manifests)?;
    let namespace = args.namespace.clone().or_else(|| only_namespace(environment.as_ref()));
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let references = unresolved(&objects, &namespace, environment.as_ref());

    let sound =
        problems.is_empty() && references.is_empty() && (environment.is_some() || args.paths.is_empty());
    let value = json!({
        "ok": sound,
        "environment": environment.as_ref().map(|e| e.identity().name.clone()),
        "fragments": environment.as_ref().map_or(0, |e| e.sources().count()),
        "components": graph.components().count(),
        "manifests": objects.len(),
        "problems": problems.iter().map(describe).collect::<Vec<_>>(),
        "unresolved": references.iter().map(describe_reference).collect::<Vec<_>>(),
    });
    if sound {
        return print(args.output, &value, || summary(environment.as_ref(), &graph, objects.len()));
    }
    if args.output == Output::Json {
        print(args.output, &value, String::new)?;
    }
    let mut texts: Vec<String> = references.iter().map(ToString::to_string).collect();
    if !problems.is_empty() || texts.is_empty() {
        texts.insert(0, chassis::documents::refusal(&problems).message);
    }
    Err(Failure::new(Exit::Usage, texts.join("\n")))
}

fn summary(environment: Option<&Environment>, graph: &Graph, objects: usize) -> String {
    let documents = environment.map(|environment| {
        format!(
            "{}: {} fragments, {} components",
            environment.identity().name,
            environment.sources().count(),
            graph.components().count()
        )
    });
    let manifests = (objects > 0).then(|| format!("{objects} objects in manifests"));
    let parts: Vec<String> = documents.into_iter().chain(manifests).collect();
    format!("{}, nothing wrong", parts.join(", "))
}

/// The one namespace of the documents; none when there are several.
fn only_namespace(environment: Option<&Environment>) -> Option<String> {
    let mut namespaces = environment?.sources().map(|source| &source.document.fragment.namespace);
    let first = namespaces.next()?;
    namespaces.all(|other| other == first).then(|| first.clone())
}

/// The objects in these files.
fn read(files: &[PathBuf]) -> Result<Vec<Value>, Failure> {
    let mut objects = Vec::new();
    for file in files {
        let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", file.display()));
        let text = if file == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(file)
        };
        let text = text.map_err(|error| failed(&format!("cannot be read: {error}")))?;
        let options = serde_saphyr::options! {
            duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
            strict_booleans: true,
            with_snippet: false,
        };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options)
            .map_err(|error| failed(&error.render_with_formatter(&serde_saphyr::UserMessageFormatter)))?;
        // What a chart renders to nothing leaves an empty document.
        objects.extend(documents.into_iter().filter(|document| !document.is_null()));
    }
    match objects.iter().find(|object| !object["kind"].is_string()) {
        Some(_) => Err(Failure::usage(
            "--manifests: something in there is no object of Kubernetes: it has no `kind`",
        )),
        None if !files.is_empty() && objects.is_empty() => {
            Err(Failure::usage("--manifests: there is nothing in there; did rendering fail?"))
        }
        None => Ok(objects),
    }
}

fn describe(problem: &Problem) -> Value {
    json!({"file": problem.file, "key": problem.key, "message": problem.message})
}

fn describe_reference(reference: &Unresolved) -> Value {
    json!({"by": reference.by, "component": reference.component, "key": reference.key, "message": reference.why})
}
