//! The certificates of a sandbox's servers: an authority for each, its serving certificate, clients, and the key that signs
//! a Kubernetes's service-account tokens.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::Error;

/// The authority's certificate.
pub(crate) const AUTHORITY: &str = "ca.crt";
/// Its key, where it is written.
pub(crate) const AUTHORITY_KEY: &str = "ca.key";
/// The key that signs service-account tokens, and the one that verifies them.
pub(crate) const TOKEN_KEY: &str = "token.key";
pub(crate) const TOKEN_PUBLIC: &str = "token.pub";

/// An authority whose certificates live in a folder.
pub(crate) struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// A new authority.
    pub(crate) fn new(dir: &Path) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "sandbox");
        let certificate = params.self_signed(&key).map_err(failed)?;
        write(&dir.join(AUTHORITY), &certificate.pem())?;
        let der = certificate.der().clone();
        Ok(Authority { dir: dir.to_owned(), issuer: Issuer::new(params, key), certificate: der })
    }

    /// Writes its own key, for servers that certify by themselves.
    pub(crate) fn key(&self) -> Result<(), Error> {
        write_secret(&self.dir.join(AUTHORITY_KEY), &self.issuer.key().serialize_pem())
    }

    /// Writes a new key for tokens.
    pub(crate) fn token_key(&self) -> Result<(), Error> {
        let tokens = KeyPair::generate().map_err(failed)?;
        write_secret(&self.dir.join(TOKEN_KEY), &tokens.serialize_pem())?;
        write(&self.dir.join(TOKEN_PUBLIC), &tokens.public_key_pem())
    }

    /// Writes a certificate for a server on loopback that is also found under these names and addresses.
    pub(crate) fn serving(&self, name: &str, also: &[String]) -> Result<(), Error> {
        let names: Vec<String> = ["localhost".to_owned(), "127.0.0.1".to_owned()]
            .into_iter()
            .chain(also.iter().cloned())
            .collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.leaf(name, params).map(drop)
    }

    /// Writes a certificate for a client; gives its file and its key's.
    pub(crate) fn client(&self, user: &str, group: &str) -> Result<(PathBuf, PathBuf), Error> {
        self.leaf(user, of_client(user, group))
    }

    /// How a client that trusts this authority and nobody else connects.
    pub(crate) fn trusting(&self) -> Result<ClientConfig, Error> {
        Ok(self.roots()?.with_no_client_auth())
    }

    /// The same, and it says who it is: a user and a group.
    pub(crate) fn trusting_as(&self, user: &str, group: &str) -> Result<ClientConfig, Error> {
        let (key, certificate) = self.signed(of_client(user, group))?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|error| failed(std::io::Error::other(error)))?;
        self.roots()?.with_client_auth_cert(vec![certificate.der().clone()], key).map_err(failed)
    }

    fn roots(&self) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(failed)?;
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?;
        Ok(config.with_root_certificates(roots))
    }

    fn signed(&self, mut params: CertificateParams) -> Result<(KeyPair, Certificate), Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((key, certificate))
    }

    fn leaf(&self, name: &str, params: CertificateParams) -> Result<(PathBuf, PathBuf), Error> {
        let (key, certificate) = self.signed(params)?;
        let files = (self.dir.join(format!("{name}.crt")), self.dir.join(format!("{name}.key")));
        write(&files.0, &certificate.pem())?;
        write_secret(&files.1, &key.serialize_pem())?;
        Ok(files)
    }
}

fn of_client(user: &str, group: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, user);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn write(file: &Path, text: &str) -> Result<(), Error> {
    fs::write(file, text).map_err(|source| Error::io("write", file, source))
}

/// For the user alone who runs the sandbox and its servers.
fn write_secret(file: &Path, text: &str) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(file);
    opened
        .and_then(|mut open| open.write_all(text.as_bytes()))
        .map_err(|source| Error::io("write", file, source))
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::io("make", "a certificate", std::io::Error::other(error))
}
