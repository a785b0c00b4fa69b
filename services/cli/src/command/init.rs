//! `rollcall init`: begins an environment, with a uid of its own.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use chassis::{Failure, Output};
use clap::Args;
use serde_json::json;
use uuid::Uuid;

/// Begin an environment: mint its uid and write a first document.
#[derive(Debug, Args)]
pub struct Init {
    /// The environment's name, for example openg2p-dev.
    #[arg(long)]
    name: String,
    /// The namespace of its modules; the environment's name when absent.
    #[arg(long)]
    namespace: Option<String>,
    /// The first fragment's name.
    #[arg(long, default_value = "base")]
    fragment: String,
    /// The folder to write the document to.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Writes the first document; an existing file is never overwritten.
pub fn run(args: &Init) -> Result<(), Failure> {
    let uid = Uuid::new_v4();
    let text = document(args, uid);
    let file = args.folder.join(format!("{}.yaml", args.fragment));
    let document = chassis::documents::parse(&file.display().to_string(), &text)
        .map_err(|problems| chassis::documents::refusal(&problems))?;
    if let Some((key, message)) = lifecycle::document::check_fragment(&document).first() {
        return Err(Failure::usage(format!("{key}: {message}")));
    }
    std::fs::create_dir_all(&args.folder)
        .and_then(|()| OpenOptions::new().write(true).create_new(true).open(&file))
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", file.display())))?;
    let wrote = json!({"file": file, "environment": {"name": args.name, "uid": uid}});
    crate::output::print(args.output, &wrote, || {
        format!(
            "wrote {}; add your things to it, then: rollcall check {}",
            file.display(),
            args.folder.display()
        )
    })
}

fn document(args: &Init, uid: Uuid) -> String {
    let namespace = args.namespace.as_ref().unwrap_or(&args.name);
    format!(
        r#"rollcall: v1
# The uid is this environment's identity: the same in all its fragments, kept across reinstalls, used for no other.
environment: {{name: {name}, uid: {uid}}}
fragment: {{name: {fragment}, namespace: {namespace}}}

# Physical names. With {{environment}} in them, environments can share one server.
naming: {{database: "{{name}}", role: "{{name}}", topic: "{{environment}}.{{name}}"}}

# postgres:
#   main:
#     host: postgresql
#     tls: {{mode: disable}}        # or verify-full with a CA; `require` when absent
#     admin: {{user: postgres, password: {{secret: postgresql, key: postgres-password}}}}
# databases:
#   registry:
#     server: main
#     roles: {{app: {{name: registry_user, password: {{secret: registry-db, key: password}}, ddl: as-owner}}}}
# secrets:
#   postgresql: {{external: true}}
#   registry-db: {{generate: {{password: {{kind: password}}}}}}
# modules:
#   registry:
#     needs: [database/registry]
#     ready: {{http: {{url: "http://registry:8080/health"}}}}
"#,
        name = args.name,
        fragment = args.fragment,
    )
}
