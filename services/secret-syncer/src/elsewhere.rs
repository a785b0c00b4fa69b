//! Sources that no store keeps: clients of Keycloak, Vaults and sops files. What it takes to log in or to decrypt is read when it is needed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use chassis::SecretValue;
use chassis::settings::Settings;
use lifecycle::Component;
use lifecycle::document::{self, Environment, SecretRef};
use tokio::sync::Mutex;

use crate::keycloak::{self, ClientSecret, KeycloakTarget};
use crate::sops;
use crate::spec::Source;
use crate::vault::{self, Vault};
use crate::world::{Backend, Contents, Error, InStore, Outside};

/// As Kubernetes limits a Secret.
const FILE_MAX: u64 = 1024 * 1024;

/// Reads what environments name outside of their store `B`, which holds the credentials for it.
pub(crate) struct Elsewhere<B> {
    store: B,
    vaults: BTreeMap<(String, String), VaultOf>,
    clients: BTreeMap<Component, (KeycloakTarget<InStore<B>>, keycloak::Spec)>,
    sops_dir: Option<PathBuf>,
    sops_key_file: Option<PathBuf>,
}

impl<B> fmt::Debug for Elsewhere<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

/// A fragment's Vault.
struct VaultOf {
    namespace: String,
    spec: document::Vault,
    /// The client, and the credentials it was made with.
    client: Mutex<Option<(Vec<SecretValue>, Arc<Vault>)>>,
}

impl<B: Backend> Elsewhere<B> {
    /// What an environment's documents and the settings name.
    pub(crate) fn new(
        environment: &Environment,
        settings: &Settings,
        store: B,
        clients: &[(Component, KeycloakTarget<InStore<B>>, keycloak::Spec)],
    ) -> Self {
        let vaults = environment.sources().flat_map(|source| {
            let fragment = &source.document.fragment;
            source.document.vault.iter().map(move |(server, spec)| {
                let vault = VaultOf {
                    namespace: fragment.namespace.clone(),
                    spec: spec.clone(),
                    client: Mutex::default(),
                };
                ((fragment.name.clone(), server.clone()), vault)
            })
        });
        Elsewhere {
            store,
            vaults: vaults.collect(),
            clients: clients
                .iter()
                .map(|(name, target, spec)| (name.clone(), (target.clone(), spec.clone())))
                .collect(),
            sops_dir: settings.sops_dir.clone(),
            sops_key_file: settings.sops_key_file.clone(),
        }
    }

    async fn read_vault(&self, source: &Source, of: &VaultOf, path: &str) -> Result<Option<Contents>, Error> {
        let client = self.client(of).await?;
        let held = client.read(&of.spec.mount, path).await.map_err(Error::from)?;
        tracing::trace!(%source, found = held.is_some(), "asked Vault");
        Ok(held.map(|held| Contents { keys: held.values, ..Contents::default() }))
    }

    /// A client with the credentials as they are now: whoever replaces one need not restart anything.
    async fn client(&self, of: &VaultOf) -> Result<Arc<Vault>, Error> {
        let mut values = Vec::new();
        for reference in of.spec.references() {
            values.push(self.value(of, reference).await?);
        }
        let mut held = of.client.lock().await;
        if let Some((known, client)) = &*held
            && *known == values
        {
            return Ok(Arc::clone(client));
        }
        let given = of.spec.references().cloned().zip(values.iter().cloned()).collect::<BTreeMap<_, _>>();
        let settings = vault::Settings::of::<Error>(&of.spec, |reference| {
            given.get(reference).cloned().ok_or_else(|| gone(of, reference))
        })?;
        let client = Arc::new(Vault::new(settings)?);
        *held = Some((values, Arc::clone(&client)));
        Ok(client)
    }

    async fn value(&self, of: &VaultOf, reference: &SecretRef) -> Result<SecretValue, Error> {
        let contents = self.store.read(&reference.secret.secret(&of.namespace)).await?;
        let value = contents.and_then(|mut contents| contents.keys.remove(&reference.key));
        value.ok_or_else(|| gone(of, reference))
    }

    async fn read_client(&self, source: &Source, client: &Component) -> Result<Option<Contents>, Error> {
        let Some((target, spec)) = self.clients.get(client) else {
            return Err(Error::NoReader(source.clone(), "no fragment declares that client"));
        };
        let secret = target.secret_of(spec).await.map_err(Box::new)?;
        let keys =
            |secret: ClientSecret| secret.keys().into_iter().map(|(key, value)| (key.to_owned(), value));
        Ok(secret.map(|secret| Contents { keys: keys(secret).collect(), ..Contents::default() }))
    }

    async fn read_sops(&self, source: &Source, file: &str) -> Result<Option<Contents>, Error> {
        let missing = |what| Error::NoReader(source.clone(), what);
        let dir = self
            .sops_dir
            .as_deref()
            .ok_or_else(|| missing("set ROLLCALL_SOPS_DIR to the folder of sops files"))?;
        let key = self.sops_key_file.as_deref().ok_or_else(|| {
            missing("set ROLLCALL_SOPS_KEY_FILE to the file with the age key that opens it")
        })?;
        let Some(text) = read(&dir.join(file), source).await? else { return Ok(None) };
        let Some(key) = read(key, source).await? else {
            return Err(missing("the file that ROLLCALL_SOPS_KEY_FILE names does not exist"));
        };
        let wrong = |source| Error::Sops { file: file.to_owned(), source };
        let text = text.expose_text().unwrap_or_default();
        Ok(Some(Contents { keys: sops::open(text, &key).map_err(wrong)?, ..Contents::default() }))
    }
}

fn gone(of: &VaultOf, reference: &SecretRef) -> Error {
    let from = Source::Object(reference.secret.secret(&of.namespace));
    Error::SourceGone { from, key: reference.key.clone() }
}

/// A file's contents; none when it does not exist. What is no file, or larger than Kubernetes would keep, is refused: reading
/// it might never end.
async fn read(path: &Path, source: &Source) -> Result<Option<SecretValue>, Error> {
    let found = async {
        let about = tokio::fs::metadata(path).await?;
        if !about.is_file() || about.len() > FILE_MAX {
            return Err(io::Error::other("it is no file of at most 1 MiB"));
        }
        tokio::fs::read(path).await
    };
    match found.await {
        Ok(bytes) => Ok(Some(SecretValue::new(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Io {
            object: source.to_string(),
            doing: "read",
            place: path.display().to_string(),
            source: error,
        }),
    }
}

impl<B: Backend> Outside for Elsewhere<B> {
    fn read<'a>(
        &'a self,
        source: &'a Source,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Contents>, Error>> + Send + 'a>> {
        Box::pin(async move {
            match source {
                Source::Vault { fragment, server, path } => {
                    match self.vaults.get(&(fragment.clone(), server.clone())) {
                        Some(of) => self.read_vault(source, of, path).await,
                        None => Err(Error::NoReader(source.clone(), "no fragment declares that Vault")),
                    }
                }
                Source::Sops(file) => self.read_sops(source, file).await,
                Source::Object(object) => self.store.read(object).await,
                Source::Client(client) => self.read_client(source, client).await,
            }
        })
    }
}
