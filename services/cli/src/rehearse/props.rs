//! What lies ready on a stage before anybody plays: documents at the sandbox's addresses, and the Secrets that somebody
//! else would have made.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use chassis::SecretValue;
use chassis::secret::SecretStore;
use lifecycle::Component;

use super::rewrite::rewrite;
use super::stage::{Error, Stage};

impl Stage {
    /// Writes a value into the store of secrets.
    pub fn write_secret(&self, secret: &Component, key: &str, value: &str) -> Result<(), Error> {
        let store = SecretStore::Root(self.secrets());
        let folder = store.folder(secret).unwrap_or_else(|| self.secrets());
        write(&folder.join(key), value)
    }

    pub(super) fn write_documents(&self) -> Result<(), Error> {
        for document in rewrite(&self.environment, &self.addresses) {
            let file = self.documents().join(format!("{}.json", document.fragment.name));
            write(&file, &serde_json::to_string_pretty(&document)?)?;
        }
        for folder in [self.folder.join("logs"), self.marks(), self.secrets()] {
            std::fs::create_dir_all(&folder).map_err(|source| Error::Io { path: folder, source })?;
        }
        // A kept run directory is for everybody to read, but for this.
        let path = self.secrets();
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))
            .map_err(|source| Error::Io { path, source })
    }

    /// Somebody else's Secrets, as somebody else would make them: administrators' passwords are the sandbox's, any other
    /// value is random.
    pub(super) async fn write_external_secrets(&self) -> Result<(), Error> {
        let external: Vec<Component> =
            self.environment.secrets().filter(|s| s.spec.external).map(|s| s.component).collect();
        for (secret, key) in self.environment.references() {
            if external.contains(&secret) {
                self.write_secret(&secret, &key, &uuid::Uuid::new_v4().simple().to_string())?;
            }
        }
        for server in self.environment.postgres() {
            if let Some(admin) = &server.spec.admin {
                self.admit(&admin.user).await?;
                self.write_secret(
                    &server.secret(&admin.password.secret),
                    &admin.password.key,
                    self.postgres.password(),
                )?;
            }
        }
        Ok(())
    }

    /// Makes sure that the documents' administrator exists with the sandbox's password.
    async fn admit(&self, admin: &str) -> Result<(), Error> {
        if admin == self.postgres.superuser() {
            return Ok(());
        }
        let server = postgres::Server {
            component: Component::new(lifecycle::Kind::Postgres, "sandbox"),
            host: self.postgres.host().to_owned(),
            port: self.postgres.port(),
            tls: postgres::Encryption::Disable,
            ca: None,
        };
        let password = SecretValue::new(self.postgres.password());
        let within = Duration::from_secs(10);
        let user = self.postgres.superuser();
        let mut session =
            postgres::Session::open(&server, user, Some(&password), "postgres", "rollcall rehearse", within)
                .await?;
        let quoted = admin.replace('"', "\"\"");
        let made = session
            .execute(format!(
                "CREATE ROLE \"{quoted}\" SUPERUSER LOGIN PASSWORD '{}'",
                self.postgres.password()
            ))
            .await;
        session.close().await;
        Ok(made?)
    }
}

/// Writes a file and the folders above it.
fn write(file: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::Io { path: file.to_owned(), source };
    file.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
    std::fs::write(file, text).map_err(failed)
}
