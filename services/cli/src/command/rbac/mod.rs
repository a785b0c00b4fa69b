//! `rollcall rbac`: the rights that a process needs, as files that the owners of namespaces can read and apply.

mod manifest;

use chassis::{Exit, Failure};
use clap::{Args, ValueEnum};
use lifecycle::document::Environment;
use serde_json::Value;
use wait_for_dependency::reads;

use super::Documents;
use crate::output::print;
use manifest::{Object, Part, Rights, Verbs, events, right};

/// What it takes to read an object when it is needed, and no more: whoever reads so does not watch.
const READ: Verbs = &["get"];

/// Print the Roles that let a process do what the documents say: by name, and nothing more.
///
/// Each process gets Roles of its own, for the service account that it runs as: the services that make things, the hub, `rollcall down`,
/// and the waiter in a module's pod. telemetry-exporter reads no Secret and no ConfigMap, and needs none.
///
/// Each namespace's owner applies those of his own namespace; what he gives away stands in the Role that ends in `-read`.
/// All but secret-syncer and `down` may only `get`; the hub writes Events too. A waiter that documents would have read a Secret with an administrator's or an
/// observer's password gets no Role (exit code 65).
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  rollcall rbac my-env/ --account shop/secret-syncer
  rollcall rbac my-env/ --account shop/postgres-init --service postgres-init | kubectl apply -f -
  rollcall rbac my-env/ --account shop/orders --module orders --namespace shop")]
pub struct Rbac {
    #[command(flatten)]
    documents: Documents,
    /// Whose rights.
    #[arg(long, value_enum, value_name = "SERVICE", default_value_t, conflicts_with = "module")]
    service: Service,
    /// The rights of this module's waiter instead: `wait-for-dependency wait --module MODULE`.
    #[arg(long, value_name = "MODULE")]
    module: Option<String>,
    /// The rights of this step instead: `postgres-init step STEP`, which writes the ledger as the server's administrator.
    #[arg(long, value_name = "STEP", conflicts_with_all = ["module", "service"])]
    step: Option<String>,
    /// The service account that it runs as, `namespace/name`.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = account)]
    account: Account,
    /// Only the Roles of this namespace.
    #[arg(long)]
    namespace: Option<String>,
}

/// A service account, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A service that reads Secrets or ConfigMaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Service {
    /// Reads what it copies or logs in with, writes what documents declare.
    #[default]
    SecretSyncer,
    /// Reads passwords of administrators, observers and modules' roles, and CAs.
    PostgresInit,
    /// Reads CAs of Kafka clusters.
    TopicProvisioner,
    /// Reads observers' passwords, and CAs, and writes Events on pods that wait: `wait-for-dependency serve`.
    #[value(alias = "wait-for-dependency")]
    Hub,
    /// Reads what the provisioners read, deletes the Secrets and ConfigMaps that documents say go: `rollcall down`.
    Down,
}

/// Whose rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process<'a> {
    /// A service's.
    Service(Service),
    /// Those of this module's waiter.
    Waiter(&'a str),
    /// Those of this step.
    Step(&'a str),
}

/// Prints the manifests, as YAML for `kubectl apply -f -`, or as a JSON list.
pub fn run(args: &Rbac) -> Result<(), Failure> {
    let environment = chassis::documents::load_complete(&args.documents.paths)?;
    // As it is called everywhere else.
    let module = args.module.as_deref().map(|module| module.strip_prefix("module/").unwrap_or(module));
    let step = args.step.as_deref().map(|step| step.strip_prefix("step/").unwrap_or(step));
    let process = match (module, step) {
        (Some(module), _) => Process::Waiter(module),
        (_, Some(step)) => Process::Step(step),
        _ => Process::Service(args.service),
    };
    let mut manifests = manifests(&environment, process, &args.account)?;
    if let Some(namespace) = &args.namespace {
        manifests.retain(|manifest| manifest["metadata"]["namespace"] == namespace.as_str());
    }
    if manifests.is_empty() {
        let place = args.namespace.as_ref().map(|namespace| format!(" of namespace {namespace}"));
        let place = place.unwrap_or_default();
        tracing::warn!("{} needs no Role: it reads no Secret or ConfigMap{place}", name(process));
    }
    let mut texts = Vec::new();
    for manifest in &manifests {
        texts.push(serde_saphyr::to_string(manifest).map_err(Failure::internal)?);
    }
    print(args.documents.output, &Value::Array(manifests), || texts.join("---\n"))
}

/// The Roles and RoleBindings that let an account do what a process does for these documents.
pub fn manifests(
    environment: &Environment,
    process: Process<'_>,
    account: &Account,
) -> Result<Vec<Value>, Failure> {
    let rights = rights(environment, process)?;
    Ok(manifest::manifests(&name(process), environment.identity(), &rights, account))
}

/// What a process does with which objects: each says it itself, from what it does it by.
fn rights(environment: &Environment, process: Process<'_>) -> Result<Rights, Failure> {
    let read = match process {
        Process::Service(Service::SecretSyncer) => {
            let uses = secret_syncer::uses(environment);
            let restarts = secret_syncer::restart::rights(environment).into_iter().map(|right| {
                let object = Object {
                    namespace: right.namespace,
                    group: right.group,
                    resource: right.resource,
                    name: Some(right.name),
                };
                ((Part::Workloads, object), right.verbs)
            });
            return Ok(uses
                .iter()
                .map(|(object, what)| right(object, what.verbs()))
                .chain(restarts)
                .collect());
        }
        Process::Service(Service::PostgresInit) => postgres_init::reads(environment),
        Process::Service(Service::TopicProvisioner) => topic_provisioner::reads(environment),
        Process::Service(Service::Hub) => {
            let reads = reads::of_hub(environment);
            let tells = reads::told(environment);
            let events = tells.iter().map(|namespace| events(namespace));
            return Ok(reads.iter().map(|object| right(object, READ)).chain(events).collect());
        }
        Process::Service(Service::Down) => {
            let read =
                postgres_init::reads(environment).into_iter().chain(topic_provisioner::reads(environment));
            let mut rights: Rights = read.map(|object| right(&object, READ)).collect();
            for (object, verbs) in secret_syncer::teardown_rights(environment) {
                rights.remove(&right(&object, READ).0);
                rights.extend([right(&object, verbs)]);
            }
            return Ok(rights);
        }
        Process::Step(step) => postgres_init::step::spec::spec(environment, step)
            .map_err(|why| Failure::usage(format!("--step: {why}")))?
            .reads(),
        Process::Waiter(module) => reads::of_waiter(environment, module).map_err(|error| match &error {
            reads::Error::Nobody { .. } => Failure::usage(format!("--module: {error}")),
            reads::Error::Credential { .. } => Failure::new(Exit::NeverWorks, error),
        })?,
    };
    Ok(read.iter().map(|object| right(object, READ)).collect())
}

/// What a process is called in the names of its Roles.
fn name(process: Process<'_>) -> String {
    match process {
        Process::Service(Service::SecretSyncer) => "secret-syncer".to_owned(),
        Process::Service(Service::PostgresInit) => "postgres-init".to_owned(),
        Process::Service(Service::TopicProvisioner) => "topic-provisioner".to_owned(),
        Process::Service(Service::Hub) => "hub".to_owned(),
        Process::Service(Service::Down) => "down".to_owned(),
        Process::Waiter(module) => format!("waiter-{module}"),
        Process::Step(step) => format!("step-{step}"),
    }
}

fn account(text: &str) -> Result<Account, String> {
    let parts = text
        .split_once('/')
        .filter(|(namespace, name)| lifecycle::is_dns_label(namespace) && lifecycle::is_name(name));
    let (namespace, name) =
        parts.ok_or("write namespace/name, for example openg2p-dev/rollcall-secret-syncer")?;
    Ok(Account { namespace: namespace.to_owned(), name: name.to_owned() })
}
