//! What images look like inside, byte by byte and key by key.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};

use super::*;

fn file(text: &str) -> Entry {
    Entry::File(text.as_bytes().to_vec(), false)
}

fn layer(entries: &[(&str, Entry)]) -> Layer {
    let entries = entries.iter().map(|(path, entry)| ((*path).to_owned(), entry.clone())).collect();
    Layer::new(&entries).expect("made")
}

fn image(name: &str, layers: Vec<Layer>) -> Parts {
    Parts {
        name: name.to_owned(),
        layers,
        user: "65532:65532".into(),
        folder: "/home/nonroot".into(),
        entrypoint: vec!["/app".into()],
        environment: vec!["A=1".into()],
        labels: ["b", "a", "c"].into_iter().map(|key| (key.to_owned(), format!("label {key}"))).collect(),
    }
}

/// What a tar archive holds: path → rights, owner, content.
fn read(bytes: &[u8]) -> BTreeMap<String, (u32, u64, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let read = |entry: Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        let header = entry.header();
        assert_eq!(header.mtime().expect("a time"), 0);
        let about = (header.mode().expect("a mode"), header.uid().expect("an owner"), content);
        (entry.path().expect("a path").display().to_string(), about)
    };
    archive.entries().expect("entries").map(read).collect()
}

fn written(images: &[Parts]) -> Vec<u8> {
    let mut bytes = Vec::new();
    archive(images, &mut bytes).expect("written");
    bytes
}

#[test]
fn a_layer_holds_what_was_given_and_the_folders_above_it() {
    let layer = layer(&[
        ("/usr/bin/app", Entry::File(b"program".to_vec(), true)),
        ("/etc/passwd", file("root")),
        ("/tmp", Entry::Folder(0o1777, 0)),
        ("/home/nonroot", Entry::Folder(0o700, 65532)),
    ]);
    let found = read(&layer.0.bytes);
    let about: Vec<_> =
        found.iter().map(|(path, (mode, owner, text))| (path.as_str(), *mode, *owner, text.len())).collect();
    assert_eq!(
        about,
        [
            ("etc", 0o755, 0, 0),
            ("etc/passwd", 0o644, 0, 4),
            ("home", 0o755, 0, 0),
            ("home/nonroot", 0o700, 65532, 0),
            ("tmp", 0o1777, 0, 0),
            ("usr", 0o755, 0, 0),
            ("usr/bin", 0o755, 0, 0),
            ("usr/bin/app", 0o755, 0, 7),
        ]
    );
}

#[test]
fn digests_depend_on_content_alone() {
    let (one, other) = (("/a", file("1")), ("/b", file("2")));
    assert_eq!(layer(&[one.clone(), other.clone()]).digest(), layer(&[other.clone(), one.clone()]).digest());
    for different in [("/a", file("2")), ("/c", file("1")), ("/a", Entry::File(b"1".to_vec(), true))] {
        assert_ne!(layer(std::slice::from_ref(&one)).digest(), layer(&[different]).digest());
    }
    // sha256 of nothing, as everybody knows it.
    assert!(Blob::new(Vec::new()).digest.starts_with("e3b0c44298fc1c149afbf4c8996fb924"));
    let images = [image("localhost/a:1", vec![layer(&[one, other])])];
    assert_eq!(written(&images), written(&images));
}

#[test]
fn an_archive_leads_from_the_index_to_every_byte() {
    let shared = layer(&[("/lib/c", file("library"))]);
    let images = [
        image("localhost/a:1", vec![shared.clone(), layer(&[("/app", file("a"))])]),
        image("localhost/b:1", vec![shared.clone(), layer(&[("/app", file("b"))])]),
    ];
    let files = read(&written(&images));
    let json = |path: &str| serde_json::from_slice::<Value>(&files[path].2).expect("JSON");
    assert_eq!(json("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
    let follow = |descriptor: &Value| {
        let path = format!("blobs/{}", descriptor["digest"].as_str().expect("a digest").replace(':', "/"));
        let bytes = &files[&path].2;
        assert_eq!(descriptor["size"], bytes.len());
        assert!(path.ends_with(&Blob::new(bytes.clone()).digest));
        path
    };
    let index = json("index.json");
    assert_eq!(index["schemaVersion"], 2);
    let mut seen = BTreeSet::new();
    for (entry, image) in index["manifests"].as_array().expect("a list").iter().zip(&images) {
        assert_eq!(entry["annotations"], json!({"io.containerd.image.name": image.name}));
        assert_eq!(entry["platform"]["os"], "linux");
        let path = follow(entry);
        let manifest = json(&path);
        assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        let layers = manifest["layers"].as_array().expect("a list");
        assert!(layers.iter().all(|layer| layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"));
        let config = json(&follow(&manifest["config"]));
        let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        assert_eq!(config["rootfs"], json!({"type": "layers", "diff_ids": digests}));
        let expected = json!({
            "User": "65532:65532", "WorkingDir": "/home/nonroot", "Entrypoint": ["/app"], "Env": ["A=1"],
            "Labels": {"a": "label a", "b": "label b", "c": "label c"},
        });
        assert_eq!(config["config"], expected);
        seen.extend([path, follow(&manifest["config"])]);
        seen.extend(layers.iter().map(follow));
    }
    let blobs: BTreeSet<String> = files.keys().filter(|path| path.starts_with("blobs/")).cloned().collect();
    assert_eq!(seen, blobs, "nothing else is in it");
    assert_eq!(blobs.len(), 7, "the shared layer is in it once");
}
