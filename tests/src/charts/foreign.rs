//! Charts of others, in the shapes in which DIGIT's and Bitnami's come, that let their pods wait; and containers of rendered pods
//! run as processes of this machine.

use sandbox::{ProcessSpec, Sandbox};
use serde_json::Value;

use super::{Charts, matrix::pod};
use crate::{binary, root};

impl Charts {
    /// Every chart, and those of others beside them.
    pub async fn with_foreign(sandbox: &Sandbox) -> Charts {
        let charts = Charts::of(sandbox).await;
        // In the order of what needs what.
        for name in [
            "own",
            "digit-common",
            "digit-service",
            "bitnami-common",
            "bitnami-keycloak",
            "umbrella",
            "openg2p-registry",
        ] {
            charts.add(name, &root().join("tests/charts").join(name));
        }
        charts
    }
}

/// The init containers of the pod that is among these manifests.
pub fn init_containers(manifests: &[Value]) -> Vec<Value> {
    let mut pods = manifests.iter().filter_map(pod);
    let found = pods.next().unwrap()["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    assert_eq!(pods.next(), None);
    found
}

/// The one of them that waits.
pub fn waiter(manifests: &[Value]) -> Value {
    let mut found: Vec<Value> = init_containers(manifests)
        .into_iter()
        .filter(|container| container["name"] == "rollcall-wait")
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// A container's arguments.
pub fn args(container: &Value) -> Vec<&str> {
    container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect()
}

/// The real program of a container's image as a process of a sandbox, told what the container tells it. What it would find in its own file system it
/// finds under the sandbox's folder; `secrets` says what the kubelet would put into variables.
pub fn process(
    name: &str,
    container: &Value,
    sandbox: &Sandbox,
    secrets: impl Fn(&str, &str) -> String,
) -> ProcessSpec {
    let image = container["image"].as_str().unwrap();
    let program = image.rsplit('/').next().unwrap().split(':').next().unwrap().to_owned();
    let ours = || vec![binary().display().to_string(), program.clone()];
    let given = || container["args"].as_array().into_iter().flatten().map(|arg| arg.as_str().unwrap());
    let words = given().flat_map(|arg| match arg {
        "/rollcall" => ours(),
        arg => vec![arg.to_owned()],
    });
    let log = sandbox.dir().join(format!("{name}.log"));
    let mut spec = ProcessSpec::new(name, binary(), log).args([program.clone()]).args(words);
    for variable in container["env"].as_array().into_iter().flatten() {
        let value = match variable["value"].as_str() {
            Some(path) if path.starts_with('/') => {
                sandbox.dir().join(path.trim_start_matches('/')).display().to_string()
            }
            Some(value) => value.to_owned(),
            None => match &variable["valueFrom"]["secretKeyRef"] {
                Value::Null => name.to_owned(),
                of => secrets(of["name"].as_str().unwrap(), of["key"].as_str().unwrap()),
            },
        };
        spec = spec.env(variable["name"].as_str().unwrap(), value);
    }
    spec
}
