//! Charts as they are published: packaged by the script of the release workflow, they take their images from the registry they are
//! published beside, in their own version, whatever Helm renders them.

use std::collections::BTreeSet;
use std::process::Command;

use acceptance::charts::matrix::cases;
use acceptance::charts::{Charts, manifests};
use acceptance::{root, text};
use sandbox::Helm;
use serde_json::Value;

use super::sandbox;

const REGISTRY: &str = "registry.local/some";

/// Every image that these manifests name.
fn images(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("image").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| images(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| images(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn packaged_charts_take_their_images_from_where_they_are_published() {
    let sandbox = sandbox().await;
    let charts = Charts::with(&sandbox, Helm::V4).await;
    let version = env!("CARGO_PKG_VERSION");
    for major in Helm::ALL {
        let folder = sandbox.dir().join(format!("archives-{major:?}"));
        let helm = sandbox.helm(major).await.unwrap();
        let path = format!("{}:{}", helm.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(root().join(".ci/charts"));
        command.arg(REGISTRY).arg(&folder).env("PATH", path).env("HOME", sandbox.dir());
        let packaged = command.output().unwrap();
        assert!(packaged.status.success(), "{}", text(&packaged));

        let archive = |name: &str| folder.join(format!("{name}-{version}.tgz"));
        let made: BTreeSet<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(made, charts.names().iter().map(|name| archive(name)).collect());
        let mut found = BTreeSet::new();
        for case in cases().iter().filter(|case| case.values["image"].is_null()) {
            let values = charts.values("published", &case.values);
            let archive = archive(case.chart).display().to_string();
            let rendered = charts.run(&["template", "syncer", &archive, "--values", &values]);
            images(&Value::from(manifests(&rendered)), &mut found);
        }
        for image in &found {
            let program = image.strip_prefix(&format!("{REGISTRY}/rollcall/"));
            let program = program.and_then(|rest| rest.strip_suffix(&format!(":{version}")));
            assert!(program.is_some(), "{image}");
        }
        assert!(found.len() >= 5, "{found:?}");
    }
    // What is here stays as it is.
    let values = std::fs::read_to_string(root().join("charts/environment/values.yaml")).unwrap();
    assert!(values.contains("registry: localhost") && !root().join("charts/environment/charts").exists());
    sandbox.stop().await.unwrap();
}
