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
    let namespace = namespace(args, environment.as_ref(), &objects)?;
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

/// The namespace of objects that name none: as it is said, or as all documents have it. Of several it is not guessed.
fn namespace(args: &Check, environment: Option<&Environment>, objects: &[Value]) -> Result<String, Failure> {
    if let Some(namespace) = &args.namespace {
        return Ok(namespace.clone());
    }
    let sources = environment.into_iter().flat_map(Environment::sources);
    let mut namespaces = sources.map(|source| &source.document.fragment.namespace);
    let Some(first) = namespaces.next() else { return Ok("default".to_owned()) };
    let nameless = objects.iter().any(|object| object["metadata"]["namespace"].is_null());
    match namespaces.find(|other| *other != first) {
        Some(other) if nameless => Err(Failure::usage(format!(
            "--namespace: some manifests name no namespace, and the documents span {first} and {other}; say which it is"
        ))),
        _ => Ok(first.clone()),
    }
}

/// The objects in these files.
fn read(files: &[PathBuf]) -> Result<Vec<Value>, Failure> {
    let mut objects = Vec::new();
    for file in files {
        let name =
            if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
        let failed = |error: &dyn std::fmt::Display| Failure::usage(format!("{name}: {error}"));
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
            // A whole platform renders to thousands of objects, and the schemas of custom resources nest deeply.
            budget: serde_saphyr::budget! {
                max_documents: 100_000,
                max_events: 20_000_000,
                max_nodes: 10_000_000,
                max_depth: 256,
            },
        };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options)
            .map_err(|error| failed(&error.render_with_formatter(&serde_saphyr::UserMessageFormatter)))?;
        // What a chart renders to nothing leaves an empty document.
        let documents = documents.into_iter().enumerate().filter(|(_, document)| !document.is_null());
        for (number, document) in documents {
            if !document["kind"].is_string() {
                let which =
                    format!("document {} has no `kind`, so it is no object of Kubernetes", number + 1);
                return Err(failed(&which));
            }
            objects.push(document);
        }
    }
    if !files.is_empty() && objects.is_empty() {
        return Err(Failure::usage("--manifests: there is nothing in there; did rendering fail?"));
    }
    Ok(objects)
}

fn describe(problem: &Problem) -> Value {
    json!({"file": problem.file, "key": problem.key, "message": problem.message})
}

fn describe_reference(reference: &Unresolved) -> Value {
    json!({"by": reference.by, "component": reference.component, "key": reference.key, "message": reference.why})
}
