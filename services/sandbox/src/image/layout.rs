//! The layout of images of containers, as data: layers, configuration, manifest and index in the words of the OCI image
//! specification. Same input, same bytes: what two images have in common has one digest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, Result};
use std::sync::Arc;

use oci_spec::image::{
    Arch, Config, ConfigBuilder, Descriptor, DescriptorBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, Os, PlatformBuilder, RootFsBuilder, Sha256Digest,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// By this annotation containerd knows the whole name of an image in an archive.
const NAME: &str = "io.containerd.image.name";
/// What the specification wants beside the index.
const LAYOUT: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
/// The version of the specification's documents.
const SCHEMA: u32 = 2;

/// Something in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A file: its content and whether it may be executed.
    File(Vec<u8>, bool),
    /// A folder: its rights and its owner, a user and a group of the same number.
    Folder(u32, u32),
}

/// A layer: an uncompressed tar archive, named by its digest.
#[derive(Debug, Clone)]
pub(super) struct Layer(Arc<Blob>);

/// Bytes and the name they have.
#[derive(Debug)]
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

/// An image: what its layers are, and what a container of it runs.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    /// With registry and tag, such as `localhost/app:1`.
    pub(super) name: String,
    pub(super) layers: Vec<Layer>,
    pub(super) user: String,
    pub(super) folder: String,
    pub(super) entrypoint: Vec<String>,
    pub(super) environment: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = format!("{:x}", Sha256::digest(&bytes));
        Self { digest, bytes }
    }

    /// A document. Its keys are sorted, whatever the order in which its type holds them.
    fn json(document: &impl Serialize) -> Result<Self> {
        Ok(Self::new(serde_json::to_vec(&serde_json::to_value(document)?)?))
    }

    fn descriptor(&self, kind: MediaType) -> Result<Descriptor> {
        let digest: Sha256Digest = self.digest.parse().map_err(Error::other)?;
        Ok(Descriptor::new(kind, self.bytes.len() as u64, digest))
    }
}

impl Layer {
    /// A layer of these paths (absolute) and the folders above them.
    pub(super) fn new(entries: &BTreeMap<String, Entry>) -> Result<Self> {
        let mut archive = Builder::new(Vec::new());
        for folder in above(entries) {
            add(&mut archive, &folder, &Entry::Folder(0o755, 0))?;
        }
        for (path, entry) in entries {
            add(&mut archive, path.trim_start_matches('/'), entry)?;
        }
        Ok(Self(Arc::new(Blob::new(archive.into_inner()?))))
    }

    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub(super) fn digest(&self) -> &str {
        &self.0.digest
    }
}

/// The folders that are not given but lie above what is, the upper first.
fn above(entries: &BTreeMap<String, Entry>) -> BTreeSet<String> {
    let mut folders = BTreeSet::new();
    for path in entries.keys() {
        let mut path = path.trim_start_matches('/');
        while let Some((folder, _)) = path.rsplit_once('/') {
            folders.insert(folder.to_owned());
            path = folder;
        }
    }
    folders.retain(|folder| !entries.contains_key(&format!("/{folder}")));
    folders
}

fn add(archive: &mut Builder<Vec<u8>>, path: &str, entry: &Entry) -> Result<()> {
    let (mut header, bytes): (_, &[u8]) = match entry {
        Entry::File(bytes, executable) => {
            (header(EntryType::Regular, if *executable { 0o755 } else { 0o644 }, 0, bytes.len()), bytes)
        }
        Entry::Folder(mode, owner) => (header(EntryType::Directory, *mode, *owner, 0), &[]),
    };
    archive.append_data(&mut header, path, bytes)
}

/// Without a time, which would make every archive another.
fn header(kind: EntryType, mode: u32, owner: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

/// Writes images into one archive, which `ctr images import`, `kind load image-archive` and `skopeo` take. What several of
/// them have in common is in it once.
pub(super) fn archive(images: &[Parts], to: impl std::io::Write) -> Result<()> {
    let mut blobs = BTreeMap::new();
    let mut manifests = Vec::new();
    for image in images {
        manifests.push(manifest(image, &mut blobs)?);
    }
    let index = ImageIndexBuilder::default().schema_version(SCHEMA).manifests(manifests).build();
    let index = Blob::json(&index.map_err(Error::other)?)?;
    let mut archive = Builder::new(to);
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = header(EntryType::Regular, 0o644, 0, bytes.len());
        archive.append_data(&mut header, name, bytes)
    };
    put(LAYOUT.0, LAYOUT.1)?;
    put("index.json", &index.bytes)?;
    for (digest, blob) in &blobs {
        put(&format!("blobs/sha256/{digest}"), &blob.bytes)?;
    }
    archive.finish()
}

/// An image's entry in the index; its blobs are added to the others.
fn manifest(image: &Parts, blobs: &mut BTreeMap<String, Arc<Blob>>) -> Result<Descriptor> {
    let mut keep = |blob: Arc<Blob>, kind: MediaType| {
        let descriptor = blob.descriptor(kind);
        blobs.insert(blob.digest.clone(), blob);
        descriptor
    };
    let layers = image.layers.iter().map(|layer| keep(Arc::clone(&layer.0), MediaType::ImageLayer));
    let layers = layers.collect::<Result<Vec<_>>>()?;
    let files = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(layers.iter().map(|layer| layer.digest().to_string()).collect::<Vec<_>>())
        .build()
        .map_err(Error::other)?;
    let configuration = ImageConfigurationBuilder::default()
        .architecture(Arch::default())
        .os(Os::Linux)
        .config(config(image)?)
        .rootfs(files)
        .build()
        .map_err(Error::other)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA)
        .media_type(MediaType::ImageManifest)
        .config(keep(Arc::new(Blob::json(&configuration)?), MediaType::ImageConfig)?)
        .layers(layers)
        .build()
        .map_err(Error::other)?;
    let entry = keep(Arc::new(Blob::json(&manifest)?), MediaType::ImageManifest)?;
    let platform = PlatformBuilder::default().architecture(Arch::default()).os(Os::Linux).build();
    DescriptorBuilder::default()
        .media_type(entry.media_type().clone())
        .digest(entry.digest().clone())
        .size(entry.size())
        .platform(platform.map_err(Error::other)?)
        .annotations([(NAME.to_owned(), image.name.clone())])
        .build()
        .map_err(Error::other)
}

fn config(image: &Parts) -> Result<Config> {
    ConfigBuilder::default()
        .user(image.user.clone())
        .working_dir(image.folder.clone())
        .entrypoint(image.entrypoint.clone())
        .env(image.environment.clone())
        .labels(image.labels.clone().into_iter().collect::<std::collections::HashMap<_, _>>())
        .build()
        .map_err(Error::other)
}

#[cfg(test)]
mod tests;
