//! Whose databases they are, where no document says it: what a pod can tell of itself without being told.
//!
//! A namespace of a cluster is an environment. Its uid is made from the namespace and from the cluster's own authority, which
//! no other cluster has, so that it is the same for every run there and another everywhere else. The service account is the
//! fragment: charts make one for each release, and where they do not, the namespace's `default` is nobody's. All three stand in the files that a kubelet mounts into every pod.

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use lifecycle::document::Identity;
use lifecycle::sha256_hex;
use serde::Deserialize;
use uuid::{Builder, Uuid};

/// Where a kubelet mounts them.
pub const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The service account of every pod that has none of its own.
const SHARED: &str = "default";
/// A fragment's name is a DNS label, which is not longer.
const LABEL_MAX: usize = 63;

/// Whose the databases will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The environment.
    pub environment: Identity,
    /// The namespace of the fragment.
    pub namespace: String,
    /// The fragment.
    pub fragment: String,
}

/// What settings say of it, which goes before what the pod tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    /// The uid of the environment.
    pub uid: Option<Uuid>,
    /// Its name.
    pub name: Option<&'a str>,
    /// The fragment, a DNS label.
    pub fragment: Option<&'a str>,
}

/// Why it cannot be told whose they are.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Neither a setting nor a service account says it.
    #[error(
        "whose the database is cannot be told, and without an owner none is made: {} cannot be read ({error}); let the pod have its \
         service account's token (automountServiceAccountToken), or set ROLLCALL_ENVIRONMENT_UID, minted once by `rollcall init`, \
         ROLLCALL_ENVIRONMENT_NAME and ROLLCALL_FRAGMENT, such as the release's name", .path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The pod runs as the service account that all share.
    #[error(
        "whose the database is cannot be told, and without an owner none is made: the pod runs as service account `{SHARED}`, as may \
         every other release of the namespace; let the chart make an account (serviceAccount.create), or set ROLLCALL_FRAGMENT, such \
         as to the release's name"
    )]
    Shared,
    /// The service account's token is there and does not say whose it is.
    #[error("{} does not say whose token it is; let the kubelet mount it anew", .0.display())]
    Token(PathBuf),
}

impl Owner {
    /// The owner by what is said, and for the rest by the files in `mount`.
    ///
    /// # Errors
    /// When neither says it: nothing is guessed.
    pub fn of(said: Said<'_>, mount: &Path) -> Result<Owner, OwnerError> {
        let Said { uid, name, fragment } = said;
        let read = |file: &str| -> Result<String, OwnerError> {
            let path = mount.join(file);
            let text = std::fs::read_to_string(&path);
            text.map(|text| text.trim().to_owned()).map_err(|error| OwnerError::Unknown { path, error })
        };
        let namespace = match (read("namespace"), uid, name) {
            (Ok(namespace), ..) => namespace,
            (Err(_), Some(_), Some(name)) => name.to_owned(),
            (Err(error), ..) => return Err(error),
        };
        let uid = match uid {
            Some(uid) => uid,
            None => of_namespace(&read("ca.crt")?, &namespace),
        };
        let fragment = if let Some(fragment) = fragment {
            fragment.to_owned()
        } else {
            let account = account(&read("token")?);
            match account.ok_or_else(|| OwnerError::Token(mount.join("token")))? {
                account if account == SHARED => return Err(OwnerError::Shared),
                account => label(&account),
            }
        };
        let name = name.unwrap_or(&namespace).to_owned();
        Ok(Owner { environment: Identity { name, uid }, namespace, fragment })
    }
}

/// The uid of a namespace of the cluster with this authority (RFC 9562 section 5.8: a version 8 UUID is of one's own making).
fn of_namespace(authority: &str, namespace: &str) -> Uuid {
    let hash = sha256_hex(&["rollcall namespace", authority, namespace]);
    let number = u128::from_str_radix(&hash[..32], 16).unwrap_or_default();
    Builder::from_custom_bytes(number.to_be_bytes()).into_uuid()
}

/// The service account a token is for, as the token says (`sub` is `system:serviceaccount:<namespace>:<name>`). It is our own
/// and opens nothing here, so nobody has to verify it.
fn account(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    let claims = BASE64.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let (_, name) = claims.sub.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// A service account's name, a DNS subdomain of up to 253 bytes, as a DNS label; two names stay two.
fn label(name: &str) -> String {
    if name.len() <= LABEL_MAX && !name.contains('.') {
        return name.to_owned();
    }
    let hash = &sha256_hex(&[name])[..8];
    let room = name.floor_char_boundary(LABEL_MAX - hash.len() - 1);
    format!("{}-{hash}", name[..room].replace('.', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

    fn token(sub: &str) -> String {
        format!("e30.{}.c2ln", BASE64.encode(format!(r#"{{"sub":"{sub}","exp":1}}"#)))
    }

    fn mount(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn pod(namespace: &str, ca: &str, account: &str) -> Owner {
        let token = token(&format!("system:serviceaccount:{namespace}:{account}"));
        let folder = mount(&[("namespace", namespace), ("ca.crt", ca), ("token", &token)]);
        Owner::of(Said::default(), folder.path()).unwrap()
    }

    #[test]
    fn a_namespace_of_a_cluster_is_the_same_at_every_run_and_no_other() {
        let dev = pod("dev", CA, "registry-postgres-init");
        assert_eq!(dev, pod("dev", CA, "registry-postgres-init"));
        assert_eq!(
            (dev.environment.name.as_str(), dev.namespace.as_str(), dev.fragment.as_str()),
            ("dev", "dev", "registry-postgres-init")
        );
        assert_eq!(dev.environment.uid.get_version_num(), 8);
        // Kept: databases in the field carry it.
        assert_eq!(dev.environment.uid.to_string(), "21a13588-7c68-894c-91d1-34b57c508bc9");
        let uids = [
            dev.environment.uid,
            pod("prod", CA, "x").environment.uid,
            pod("dev", &CA.replace("MIIB", "MIIC"), "x").environment.uid,
        ];
        assert!(uids[0] != uids[1] && uids[0] != uids[2] && uids[1] != uids[2]);
        assert_eq!(pod("dev", CA, "other").environment, dev.environment, "two charts, one environment");
    }

    #[test]
    fn what_is_said_goes_before_what_is_mounted() {
        let uid: Uuid = "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06".parse().unwrap();
        let nothing = mount(&[]);
        let said = Said { uid: Some(uid), name: Some("dev"), fragment: Some("registry") };
        let owner = Owner::of(said, nothing.path()).unwrap();
        assert_eq!(owner.environment, Identity { name: "dev".to_owned(), uid });
        assert_eq!((owner.namespace.as_str(), owner.fragment.as_str()), ("dev", "registry"));
        let token = token("system:serviceaccount:openg2p:default");
        let folder = mount(&[("namespace", "openg2p\n"), ("token", &token)]);
        let owner = Owner::of(said, folder.path()).unwrap();
        assert_eq!((owner.namespace.as_str(), owner.fragment.as_str()), ("openg2p", "registry"));
        assert_eq!(owner.environment, Identity { name: "dev".to_owned(), uid });
        assert_eq!(
            Owner::of(Said { name: None, ..said }, folder.path()).unwrap().environment.name,
            "openg2p"
        );
    }

    #[test]
    fn nothing_is_guessed() {
        let uid = Uuid::from_u128(1);
        let shared = token("system:serviceaccount:dev:default");
        for (files, uid, name, says) in [
            (vec![], None, None, "namespace cannot be read"),
            (vec![], None, Some("dev"), "ROLLCALL_ENVIRONMENT_UID"),
            (vec![], Some(uid), None, "ROLLCALL_ENVIRONMENT_NAME"),
            (vec![], Some(uid), Some("dev"), "token cannot be read"),
            (vec![], Some(uid), Some("dev"), "ROLLCALL_FRAGMENT"),
            (vec![("namespace", "dev")], None, None, "ca.crt cannot be read"),
            (vec![("namespace", "dev"), ("ca.crt", CA), ("token", &shared)], None, None, "ROLLCALL_FRAGMENT"),
            (vec![("token", &shared)], Some(uid), Some("dev"), "serviceAccount.create"),
            (vec![("namespace", "dev"), ("ca.crt", CA), ("token", "opaque")], None, None, "whose token"),
            (
                vec![("namespace", "dev"), ("ca.crt", CA), ("token", "a.e30.b")],
                Some(uid),
                None,
                "whose token",
            ),
        ] {
            let folder = mount(&files);
            let error = Owner::of(Said { uid, name, fragment: None }, folder.path()).unwrap_err().to_string();
            assert!(error.contains(says), "{files:?}: {error}");
        }
    }

    #[test]
    fn a_service_accounts_name_becomes_a_label_of_its_own() {
        assert_eq!(label("registry-postgres-init"), "registry-postgres-init");
        let (a, b) = (label("a.b"), label("a-b"));
        assert!(a != b && lifecycle::is_dns_label(&a), "{a}");
        let long = format!("{}x", "a".repeat(99));
        assert!(label(&long).len() <= LABEL_MAX && label(&long) != label(&"a".repeat(100)));
    }
}
