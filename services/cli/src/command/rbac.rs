//! `rollcall rbac`: the rights that secret-syncer needs, as files that the owners of namespaces can read and apply.

use chassis::Failure;
use clap::Args;
use secret_syncer::rbac::Account;
use serde_json::Value;

use super::Documents;
use crate::output::print;

/// Print the Roles that let secret-syncer do what the documents say: by name, and nothing more.
///
/// Each namespace's owner applies those of his own namespace; what he gives away stands in the Role that ends in `-read`.
#[derive(Debug, Args)]
pub struct Rbac {
    #[command(flatten)]
    documents: Documents,
    /// Only the Roles of this namespace.
    #[arg(long)]
    namespace: Option<String>,
    /// The service account that secret-syncer runs as, `namespace/name`.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = account)]
    account: Account,
}

/// Prints the manifests, as YAML for `kubectl apply -f -`, or as a JSON list.
pub fn run(args: &Rbac) -> Result<(), Failure> {
    let environment = chassis::documents::load_complete(&args.documents.paths)?;
    let mut manifests = secret_syncer::rights(&environment, &args.account);
    if let Some(namespace) = &args.namespace {
        manifests.retain(|manifest| manifest["metadata"]["namespace"] == namespace.as_str());
    }
    let mut texts = Vec::new();
    for manifest in &manifests {
        texts.push(serde_saphyr::to_string(manifest).map_err(Failure::internal)?);
    }
    print(args.documents.output, &Value::Array(manifests), || texts.join("---\n"))
}

fn account(text: &str) -> Result<Account, String> {
    let parts = text
        .split_once('/')
        .filter(|(namespace, name)| lifecycle::is_dns_label(namespace) && lifecycle::is_name(name));
    let (namespace, name) =
        parts.ok_or("write namespace/name, for example openg2p-dev/rollcall-secret-syncer")?;
    Ok(Account { namespace: namespace.to_owned(), name: name.to_owned() })
}
