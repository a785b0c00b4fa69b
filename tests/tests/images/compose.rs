//! The compose file, as compose itself reads it, agrees with the documents that it mounts, with the images that are made, and with
//! the settings that programs know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use acceptance::{binary, text};
use chassis::documents::load_complete;
use chassis::settings::KEYS;
use lifecycle::document::{Environment, Ready};
use serde_json::{Map, Value};

use super::{json, run, tools};

/// The file as compose understands it, with these variables.
async fn read(env: &[(&str, &str)]) -> Value {
    let (sandbox, containers) = tools().await;
    let args = ["-f", "docker/compose.yaml", "config", "--format", "json"];
    let read = json(&run(&sandbox, &containers.compose(), &args, env, ""));
    sandbox.stop().await.unwrap();
    read
}

fn services(file: &Value) -> &Map<String, Value> {
    file["services"].as_object().unwrap()
}

fn command(service: &Value) -> Vec<&str> {
    let words = service["command"].as_array().map(Vec::as_slice).unwrap_or_default();
    words.iter().map(|word| word.as_str().unwrap()).collect()
}

fn is_ours(service: &Value) -> bool {
    service["image"].as_str().unwrap().contains("rollcall/")
}

/// The folder that is mounted where our programs look for documents: one and the same everywhere.
fn documents(file: &Value) -> PathBuf {
    let mut folders = BTreeSet::new();
    for service in services(file).values().filter(|service| is_ours(service)) {
        let told = service["environment"]["ROLLCALL_DOCUMENTS"].as_str().unwrap();
        let volumes = service["volumes"].as_array().unwrap();
        let mount = volumes.iter().find(|volume| volume["target"] == told).unwrap();
        assert_eq!((&mount["type"], &mount["read_only"]), (&"bind".into(), &true.into()));
        folders.insert(PathBuf::from(mount["source"].as_str().unwrap()));
    }
    assert_eq!(folders.len(), 1);
    folders.pop_first().unwrap()
}

/// Host and port where a module is looked at.
fn address(ready: &Ready) -> (String, u16) {
    if let Some(tcp) = &ready.tcp {
        let (host, port) = tcp.address.rsplit_once(':').unwrap();
        return (host.to_owned(), port.parse().unwrap());
    }
    let url = ready.http.as_ref().map(|http| &http.url);
    let url = url.or_else(|| ready.keycloak.as_ref().map(|keycloak| &keycloak.url)).unwrap();
    (url.host_str().unwrap().to_owned(), url.port_or_known_default().unwrap())
}

/// Who answers to which name in the network.
fn names(file: &Value) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for (name, service) in services(file) {
        let aliases =
            service["networks"]["default"]["aliases"].as_array().map(Vec::as_slice).unwrap_or_default();
        let aliases = aliases.iter().map(|alias| alias.as_str().unwrap().to_owned());
        for alias in aliases.chain([name.clone()]) {
            assert_eq!(names.insert(alias.clone(), name.clone()), None, "two answer to {alias}");
        }
    }
    names
}

#[tokio::test]
async fn images_are_fixed_and_ours_are_those_that_are_made() {
    let file = read(&[]).await;
    let version = env!("CARGO_PKG_VERSION");
    for (name, service) in services(&file) {
        let image = service["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: {image} has no tag")).1;
        assert!(tag.starts_with(|first: char| first.is_ascii_digit()), "{name}: {image} may be any version");
        if is_ours(service) {
            assert_eq!(image, format!("localhost/rollcall/rollcall:{version}"));
            assert_eq!((&service["read_only"], &service["cap_drop"][0]), (&true.into(), &"ALL".into()));
        }
    }
    let given = read(&[("REGISTRY", "registry.local/some"), ("VERSION", "7.8.9")]).await;
    assert_eq!(services(&given)["hub"]["image"], "registry.local/some/rollcall/rollcall:7.8.9");
}

#[tokio::test]
async fn programs_know_what_they_are_told_and_nobody_is_told_a_password() {
    let file = read(&[]).await;
    let (mut told, mut programs) = (BTreeSet::new(), BTreeSet::new());
    for (name, service) in services(&file) {
        for key in service["environment"].as_object().iter().flat_map(|environment| environment.keys()) {
            let secret = ["PASSWORD", "SECRET_KEY", "TOKEN"].iter().any(|word| key.contains(word));
            assert!(!secret || key.ends_with("_FILE"), "{name}: {key} would hold a secret in plain sight");
            if key.starts_with("ROLLCALL_") {
                assert!(KEYS.iter().any(|known| known.name == key), "{name}: no program knows {key}");
                told.insert(key.as_str());
            }
        }
        if is_ours(service) {
            // As far as it is a program's own; what a waiter becomes is beyond `--`.
            let words: Vec<&str> = command(service).into_iter().take_while(|word| *word != "--").collect();
            let output = Command::new(binary()).args(&words).arg("--help").output().unwrap();
            assert!(output.status.success(), "{name}: {words:?}: {}", text(&output));
            programs.insert(words[0].to_owned());
        }
    }
    assert!(told.contains("ROLLCALL_SECRETS_ROOT") && told.contains("ROLLCALL_HUB"), "{told:?}");
    let services =
        ["postgres-init", "secret-syncer", "telemetry-exporter", "topic-provisioner", "wait-for-dependency"];
    assert_eq!(programs.iter().map(String::as_str).collect::<Vec<_>>(), services);
}

#[tokio::test]
async fn every_module_of_the_documents_is_there_under_the_name_they_give_it() {
    let file = read(&[]).await;
    let environment: Environment = load_complete(&[documents(&file)]).unwrap();
    let names = names(&file);
    let mut modules = 0;
    for module in environment.modules() {
        modules += 1;
        let name = module.component.name();
        let (host, port) = address(module.spec.ready.as_ref().unwrap());
        let service = &names[&host];
        assert_eq!(service, name, "who answers to {host}");
        let (service, waits) = (&services(&file)[service], ["wait-for-dependency", "wait", "--module", name]);
        if is_ours(service) {
            let words = command(service);
            assert_eq!(words[..4], waits, "{name}");
            assert_eq!(words[4..9], ["--", "/rollcall", "stand-in", "--module", name], "{name}");
            assert!(
                words.contains(&format!("0.0.0.0:{port}").as_str()),
                "{name} is looked at on port {port}"
            );
        } else {
            // Somebody waits in its place.
            let before: Vec<&String> = service["depends_on"].as_object().unwrap().keys().collect();
            assert_eq!(before.len(), 1);
            assert_eq!(command(&services(&file)[before[0]]), waits);
            assert_eq!(service["depends_on"][before[0]]["condition"], "service_completed_successfully");
        }
    }
    assert!(modules > 30, "{modules}");
    for host in ["commons-postgresql", "commons-kafka", "hub"] {
        assert!(names.contains_key(host), "{host}");
    }
    // Nothing else holds an order: only who cannot wait by itself, because it is not ours or must find its volumes made.
    let held: BTreeMap<&str, Vec<&String>> = services(&file)
        .iter()
        .filter_map(|(name, service)| {
            Some((name.as_str(), service["depends_on"].as_object()?.keys().collect()))
        })
        .collect();
    assert_eq!(held.keys().copied().collect::<Vec<_>>(), ["keycloak", "postgres", "secret-syncer"]);
}
