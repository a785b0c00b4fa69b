//! Programs that are published as Go modules are compiled from them: once, which may take minutes, and kept.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::tools::{self, Tool};
use crate::{Error, ProcessSpec, Sandbox, cache};

/// How long compiling may take: about eight minutes on two cores for the largest, Kubernetes, and the modules have to be
/// fetched.
const LIMIT: Duration = Duration::from_mins(40);
/// What Go needs of the owner's environment to reach its module proxy and to find what it has fetched and compiled before.
const FOR_GO: [&str; 15] = [
    "GOPROXY",
    "GONOPROXY",
    "GOPRIVATE",
    "GOSUMDB",
    "GONOSUMDB",
    "GOTOOLCHAIN",
    "GOCACHE",
    "GOMODCACHE",
    "GOPATH",
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "no_proxy",
];

/// What is to be compiled.
pub(crate) struct Build<'a> {
    /// The folder under which it is kept, with the version in it.
    pub(crate) entry: String,
    /// What people call it.
    pub(crate) what: &'a str,
    /// The module's files: names and texts. `go.sum` fixes all that it is compiled from.
    pub(crate) module: &'a [(&'a str, &'a str)],
    /// Flags for the linker.
    pub(crate) flags: String,
    /// Which packages of the module, or `tool` for all its tools.
    pub(crate) packages: &'a [&'a str],
}

/// The folder with the compiled programs, each named as its package is.
pub(crate) async fn built(sandbox: &Sandbox, build: Build<'_>) -> Result<PathBuf, Error> {
    cache::entry(sandbox, &build.entry, async |dir| {
        tools::ensure(sandbox, &[Tool::Go]).await?;
        sandbox.say(&format!("compiling {}, once; this takes minutes", build.what));
        let module = sandbox.new_dir("go-module")?;
        for (name, text) in build.module {
            let file = module.join(name);
            let folder = file.parent().unwrap_or(&module);
            fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
            fs::write(&file, text).map_err(|source| Error::io("write", &file, source))?;
        }
        let mut spec = ProcessSpec::new("go build", "go", module.join("build.log"))
            .dir(&module)
            .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", &build.flags, "-o"])
            // A folder, as the slash at its end says.
            .args([format!("{}/", dir.display())])
            .args(build.packages.iter().copied())
            .env("CGO_ENABLED", "0");
        for name in FOR_GO {
            if let Ok(value) = std::env::var(name) {
                spec = spec.env(name, value);
            }
        }
        sandbox.run(spec, LIMIT).await
    })
    .await
}
