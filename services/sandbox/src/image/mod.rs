//! Images of containers without an engine: from programs of this machine and the libraries they are linked to, in the
//! layout that `docker/Dockerfile` gives.

mod layout;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lddtree::DependencyAnalyzer;
use tempfile::NamedTempFile;

use self::layout::{Entry, Layer, Parts};
use crate::Error;

/// The user and group of the Dockerfile and of the image that it builds upon.
const USER: &str = "65532:65532";
/// That user's number.
const NONROOT: u32 = 65532;
/// Where the Dockerfile puts the program.
const PROGRAM: &str = "/rollcall";
/// Where programs look for public authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The texts that the image below has, as far as programs ask for them.
const TEXTS: [(&str, &str); 3] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n\
         nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
    ),
    ("/etc/group", "root:x:0:\nnobody:x:65534:\ntty:x:5:\nstaff:x:50:\nnonroot:x:65532:\n"),
    ("/etc/nsswitch.conf", "hosts: files dns\n"),
];
/// The labels of the Dockerfile that are the same for each program.
const LABELS: [(&str, &str); 2] = [
    ("org.opencontainers.image.licenses", "Apache-2.0"),
    ("org.opencontainers.image.description", "Rollcall: every dependency answers before the next one starts"),
];

/// The layer below programs: the libraries of all of them, what a C library expects to find, and user `nonroot`. Images
/// that are made with one base share it.
#[derive(Debug, Clone)]
pub struct Base(Layer);

impl Base {
    /// For these programs of this machine.
    pub fn of<P: AsRef<Path>>(programs: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        let mut entries = BTreeMap::from([
            ("/tmp".to_owned(), Entry::Folder(0o1777, 0)),
            ("/home/nonroot".to_owned(), Entry::Folder(0o700, NONROOT)),
        ]);
        for (path, text) in TEXTS {
            entries.insert(path.to_owned(), Entry::File(text.into(), false));
        }
        if Path::new(AUTHORITIES).exists() {
            entries.insert(AUTHORITIES.to_owned(), read(Path::new(AUTHORITIES))?);
        }
        for program in programs {
            for (path, real) in libraries(program.as_ref())? {
                entries.insert(path, read(&real)?);
            }
        }
        let layer =
            Layer::new(&entries).map_err(|source| Error::io("make", "the base layer of images", source))?;
        Ok(Self(layer))
    }

    /// Its digest, by which a container runtime knows whether it has it already.
    pub fn digest(&self) -> String {
        format!("sha256:{}", self.0.digest())
    }
}

/// An image of a container.
#[derive(Debug, Clone)]
pub struct Image {
    parts: Parts,
}

impl Image {
    /// A program of ours upon a base, as `docker/Dockerfile` makes it: run as user `nonroot`. `name` is what pods call it,
    /// with registry and tag (`localhost/rollcall:1`; with tag `latest` a kubelet would try to pull it), `title` what its
    /// label says.
    pub fn of_program(name: &str, title: &str, base: &Base, program: &Path) -> Result<Self, Error> {
        let labels = LABELS.into_iter().chain([("org.opencontainers.image.title", title)]);
        let stripped = stripped(program)?;
        let mut image = Self::bare(name, stripped.as_ref().map_or(program, |file| file.path()), PROGRAM)?;
        image.parts.layers.insert(0, base.0.clone());
        USER.clone_into(&mut image.parts.user);
        "/home/nonroot".clone_into(&mut image.parts.folder);
        image.parts.labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Ok(image
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SSL_CERT_FILE", AUTHORITIES))
    }

    /// A program that needs nothing else, at this path of an otherwise empty image, run as root unless a pod says otherwise.
    pub fn bare(name: &str, program: &Path, path: &str) -> Result<Self, Error> {
        let entries = BTreeMap::from([(path.to_owned(), read(program)?)]);
        let layer = Layer::new(&entries).map_err(|source| Error::io("make an image of", program, source))?;
        let parts = Parts {
            name: name.to_owned(),
            layers: vec![layer],
            user: String::new(),
            folder: "/".to_owned(),
            entrypoint: vec![path.to_owned()],
            environment: Vec::new(),
            labels: BTreeMap::new(),
        };
        Ok(Self { parts })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Sets a variable of its programs' environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.parts.environment.push(format!("{key}={value}"));
        self
    }

    /// Sets a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.parts.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the user that a container runs as, `uid:gid`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.parts.user);
        self
    }

    /// Sets what a container runs when its pod does not say.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.parts.entrypoint = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Adds a layer with a file of this machine, executable if it is here.
    pub fn file(mut self, from: &Path, to: &str) -> Result<Self, Error> {
        let entries = BTreeMap::from([(to.to_owned(), read(from)?)]);
        let layer = Layer::new(&entries).map_err(|source| Error::io("add to an image", from, source))?;
        self.parts.layers.push(layer);
        Ok(self)
    }

    /// Writes images into one OCI archive; layers that they share are in it once.
    pub fn write(images: &[Image], archive: &Path) -> Result<(), Error> {
        let write = || {
            let parts: Vec<Parts> = images.iter().map(|image| image.parts.clone()).collect();
            let mut file = BufWriter::new(File::create(archive)?);
            layout::archive(&parts, &mut file)?;
            file.into_inner().map(drop).map_err(std::io::IntoInnerError::into_error)
        };
        write().map_err(|source| Error::io("write the image archive", archive, source))
    }
}

/// A copy without symbols, as the Dockerfile's program is: those of a debug build take up 200 MB. None where there is no
/// `strip`, which comes with every C compiler.
fn stripped(program: &Path) -> Result<Option<NamedTempFile>, Error> {
    let fail = |source| Error::io("strip the symbols of", program, source);
    let copy = NamedTempFile::new().map_err(fail)?;
    let strip = Command::new("strip").arg("--strip-all").arg("-o").arg(copy.path()).arg(program).output();
    match strip {
        Ok(output) if output.status.success() => Ok(Some(copy)),
        Ok(output) => Err(fail(std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(program = %program.display(), "there is no `strip`: the image will be large");
            Ok(None)
        }
        Err(error) => Err(fail(error)),
    }
}

fn read(path: &Path) -> Result<Entry, Error> {
    let fail = |source| Error::io("read", path, source);
    let mode = fs::metadata(path).map_err(fail)?.permissions().mode();
    Ok(Entry::File(fs::read(path).map_err(fail)?, mode & 0o111 != 0))
}

/// The loader and the shared libraries of a program: where it looks for them, and the files here. None for a static one.
fn libraries(program: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let fail = |reason: String| Error::io("find the libraries of", program, std::io::Error::other(reason));
    let tree = DependencyAnalyzer::default().analyze(program).map_err(|error| fail(error.to_string()))?;
    let missing: BTreeSet<&str> = tree
        .libraries
        .values()
        .filter(|library| !library.found())
        .map(|library| library.name.as_str())
        .collect();
    if !missing.is_empty() {
        return Err(fail(format!("not on this machine: {missing:?}")));
    }
    let loader = tree.interpreter.iter().map(PathBuf::from);
    let paths = tree.libraries.values().map(|library| library.path.clone()).chain(loader);
    let real = |path: PathBuf| {
        let real = path.canonicalize().map_err(|error| fail(format!("{}: {error}", path.display())))?;
        Ok((path.display().to_string(), real))
    };
    paths.map(real).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKERFILE: &str = include_str!("../../../../docker/Dockerfile");

    #[test]
    fn an_image_is_what_the_dockerfile_makes() {
        let program = std::env::current_exe().expect("this program");
        let base = Base::of([&program]).expect("a base");
        let image = Image::of_program("localhost/test:1", "test", &base, &program).expect("an image").parts;
        let says = |line: &str| assert!(DOCKERFILE.contains(line), "the Dockerfile does not say {line}");
        says(&format!("\nUSER {}\n", image.user));
        says(&format!("\nENTRYPOINT {}\n", serde_json::to_string(&image.entrypoint).expect("JSON")));
        says("\nARG BASE=gcr.io/distroless/cc-debian12:nonroot\n");
        says("\nFROM ${BASE}\n");
        for (key, value) in &image.labels {
            let value = if value == "test" { "${BIN}" } else { value };
            says(&format!("{key}=\"{value}\""));
        }
        // What only those know who publish.
        let published = ["version", "revision", "source"];
        for label in published {
            says(&format!("org.opencontainers.image.{label}=\"${{{}}}\"", label.to_uppercase()));
        }
        let labels = DOCKERFILE.matches("org.opencontainers.image.").count();
        assert_eq!(labels, image.labels.len() + published.len());
        assert_eq!(image.layers.len(), 2, "one of what programs share, one of the program");
    }

    #[test]
    fn an_image_is_as_asked() {
        let program = std::env::current_exe().expect("this program");
        let image = Image::bare("localhost/test:1", &program, "/test").expect("an image");
        let image = image.user("1:2").entrypoint(&["/test", "--quiet"]).label("a", "b").env("C", "d");
        let image = image.file(&program, "/other").expect("a file");
        assert_eq!(image.name(), "localhost/test:1");
        let parts = image.parts;
        assert_eq!((parts.user.as_str(), parts.folder.as_str(), parts.layers.len()), ("1:2", "/", 2));
        assert_eq!(parts.entrypoint, ["/test", "--quiet"]);
        assert_eq!(parts.labels, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!(parts.environment, ["C=d"]);
    }

    #[test]
    fn a_base_holds_the_loader_and_every_library_where_programs_look_for_them() {
        let program = std::env::current_exe().expect("this program");
        let found = libraries(&program).expect("found");
        let listed = std::process::Command::new("ldd").arg(&program).output().expect("ldd runs");
        let listed = String::from_utf8(listed.stdout).expect("text");
        let names = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let expected: BTreeSet<String> =
            listed.split_whitespace().filter(|word| word.starts_with('/')).map(names).collect();
        assert!(expected.len() > 2, "{listed}");
        assert_eq!(found.keys().map(|path| names(path)).collect::<BTreeSet<_>>(), expected);
        assert!(
            found.keys().any(|path| path.starts_with("/lib64/ld-") || path.starts_with("/lib/ld-")),
            "{found:?}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let missing = Path::new("/no/such/program");
        let base = Base::of([] as [&Path; 0]).expect("a base of nothing");
        for error in [
            Base::of([missing]).err(),
            Image::bare("localhost/x:1", missing, "/x").err(),
            Image::of_program("localhost/x:1", "x", &base, missing).err(),
        ] {
            assert!(error.expect("it fails").to_string().contains("/no/such/program"));
        }
    }
}
