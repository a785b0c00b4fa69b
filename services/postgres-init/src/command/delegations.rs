//! What modules asked for and was accepted, for whoever looks after the servers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use chassis::provision::Planned;
use chassis::{Context, Failure, Output};
use lifecycle::document::Environment;
use lifecycle::{Component, Kind};
use serde_json::json;

use super::adoption::{failure, read};
use crate::world::Error;
use crate::world::delegated::Kept;
use crate::{PostgresTarget, ServerSpec, targets};

/// Of which servers.
#[derive(Debug, Clone, clap::Args)]
pub struct Delegations {
    /// Documents, or folders of documents.
    #[arg(value_name = "DOCUMENTS", env = "ROLLCALL_DOCUMENTS", value_delimiter = ':', required = true)]
    documents: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub(crate) async fn run(args: &Delegations, context: &Context) -> Result<(), Failure> {
    let environment = read(&args.documents)?;
    let told = delegations(&environment, context).await?;
    chassis::provision::print(&told, args.output)
}

/// What was accepted on each server of these documents. One server that is away hides no other.
///
/// # Errors
/// Secrets cannot be read at all; what goes wrong with a server is in what is told of it.
pub async fn delegations(environment: &Environment, context: &Context) -> Result<Vec<Planned>, Failure> {
    let mut told = Vec::new();
    for (component, target, spec) in targets(environment, &context.secrets_of(environment)?) {
        let one = list(environment, &target, &spec).await;
        told.push(one.unwrap_or_else(|error| Planned::failed(&component, failure(&component, &error))));
    }
    if told.is_empty() {
        return Err(Failure::usage(
            "no document here declares a server with `admin`: give the fragment that does too",
        ));
    }
    Ok(told)
}

async fn list(
    environment: &Environment,
    target: &PostgresTarget,
    spec: &ServerSpec,
) -> Result<Planned, Error> {
    let kept = target.kept(spec).await?;
    let left = crate::delegation::left(environment, &kept);
    let mut text = String::new();
    for one in &kept {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "= {}", line(one));
        for why in left.get(&one.fragment).into_iter().flatten() {
            let _ = writeln!(text, "! is not looked after now: {why}");
        }
    }
    if kept.is_empty() {
        text.push_str("= nobody has asked for anything\n");
    }
    let values = kept.iter().map(|one| value(one, &left)).collect::<Vec<_>>();
    let json = json!({"target": spec.component, "accepted": values});
    Ok(Planned { target: spec.component.clone(), settled: true, failure: None, text, json })
}

/// One fragment, for people.
fn line(kept: &Kept) -> String {
    let made = asked(kept).join(", ");
    let made = if made.is_empty() { "what this version does not understand".to_owned() } else { made };
    format!(
        "fragment `{}` of namespace {}: {made}; asked for by {}, first at {}, as it is now at {}",
        kept.fragment,
        kept.namespace,
        kept.by,
        moment(kept.first),
        moment(kept.accepted)
    )
}

fn value(kept: &Kept, left: &BTreeMap<String, Vec<String>>) -> serde_json::Value {
    json!({
        "fragment": kept.fragment,
        "namespace": kept.namespace,
        "components": asked(kept),
        "by": kept.by,
        "first_accepted": moment(kept.first),
        "accepted": moment(kept.accepted),
        "looked_after": !left.contains_key(&kept.fragment),
        "left_out": left.get(&kept.fragment),
    })
}

/// What a fragment asked for, as components.
fn asked(kept: &Kept) -> Vec<String> {
    let Some(document) = &kept.document else { return Vec::new() };
    let of = |kind, names: Vec<&String>| {
        names.into_iter().map(|name| Component::new(kind, name).to_string()).collect::<Vec<_>>()
    };
    [
        of(Kind::Database, document.databases.keys().collect()),
        of(Kind::Role, document.roles.keys().collect()),
        of(Kind::Step, document.steps.keys().collect()),
    ]
    .concat()
}

/// When something was, of microseconds since 1970.
fn moment(microseconds: i64) -> String {
    let since = Duration::from_micros(microseconds.unsigned_abs());
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string()
}
