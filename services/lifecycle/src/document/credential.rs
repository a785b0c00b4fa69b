//! Which Secret holds the secret of a client, where somebody who needs that client can read it.

use super::{Client, Copy, Environment, Origin, SecretKey};
use crate::{Component, Kind};

/// The key of a client's secret, among those that a copy of it has.
const SECRET: &str = "secret";

impl Environment {
    /// What proves, to whoever stands in `namespace`, that a client is there: the value of its secret in a Secret of that
    /// namespace. None for a client that nobody declares, for one without a secret, and where no such Secret is declared.
    pub fn credential(&self, client: &Component, namespace: &str) -> Option<SecretKey> {
        let declared = self.clients().find(|declared| declared.component == *client)?;
        let Client { public, secret, .. } = declared.spec;
        if *public {
            return None;
        }
        let given = secret.as_ref().map(|secret| SecretKey::of(secret, declared.namespace()));
        if let Some(given) = given.as_ref().filter(|given| given.secret.namespace() == Some(namespace)) {
            return Some(given.clone());
        }
        let here = self.secrets().filter(|secret| secret.component.namespace() == Some(namespace));
        let mut copies = here.filter_map(|secret| {
            let copy = secret.spec.copy.as_ref()?;
            let key = match &copy.from {
                Origin::Client(name) if name == client.name() => copied(copy, SECRET)?,
                Origin::Object(name) => {
                    let from = name.component(Kind::Secret, secret.namespace());
                    copied(copy, &given.as_ref().filter(|given| given.secret == from)?.key)?
                }
                Origin::Client(_) | Origin::Vault { .. } | Origin::Sops(_) => return None,
            };
            Some(SecretKey { secret: secret.component, key })
        });
        copies.next()
    }
}

/// What a key of the source is called in its copy.
fn copied(copy: &Copy, key: &str) -> Option<String> {
    if copy.keys.is_empty() {
        return Some(key.to_owned());
    }
    copy.keys.iter().find(|(_, old)| *old == key).map(|(new, _)| new.clone())
}
