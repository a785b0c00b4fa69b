//! What should be: every client that the documents declare, with its realm and the way to its server.
//!
//! Pure: names come from documents, values never do.

use std::collections::BTreeMap;

use lifecycle::Component;
use lifecycle::document::{
    self, Declared, Environment, Existing, KeycloakTlsMode, Mapper, Mode, SecretKey, ServiceAccountRoles,
    Truth,
};
use url::Url;

use crate::spec::Owner;

/// One declared client.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The client's component.
    pub component: Component,
    /// Who declares it.
    pub owner: Owner,
    /// Its fragment is in mode `report`.
    pub report_only: bool,
    /// Where it is.
    pub server: Server,
    /// The realm it is in.
    pub realm: Realm,
    /// Its client id.
    pub id: String,
    /// How it should be.
    pub wish: Wish,
}

/// How a server is reached, and who logs in there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Its name in documents.
    pub name: String,
    /// Its address, without `/realms` or `/admin`.
    pub url: Url,
    /// The certificate authority to trust; the system's when absent.
    pub ca: Option<SecretKey>,
    /// The realm the service account is in.
    pub realm: String,
    /// The service account's client id.
    pub client: String,
    /// Its secret.
    pub secret: SecretKey,
}

/// A client's realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    /// Its name on the server.
    pub name: String,
    /// Its roles, when a document declares it, and a client that it is made with.
    pub declared: Option<Vec<String>>,
}

/// How a client should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Somebody else makes it.
    External {
        /// Whether it has to be there.
        mandatory: bool,
    },
    /// Made as declared.
    Made(Box<Made>),
}

/// A client that is made as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// What is done with one that is there and that we did not make.
    pub existing: Existing,
    /// The value its secret is made to be; none when Keycloak makes it, or there is none.
    pub secret: Option<SecretKey>,
    /// How it is set.
    pub settings: Settings,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its protocol mappers, by their names.
    pub mappers: BTreeMap<String, Mapper>,
    /// The roles of its service account.
    pub granted: ServiceAccountRoles,
    /// Which clients of these documents make the roles of clients that it gets, by client id and role.
    pub makers: BTreeMap<(String, String), Component>,
}

/// The settings of a client that documents speak of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own in Keycloak")]
pub struct Settings {
    /// It has no secret.
    pub public: bool,
    /// The authorization code flow.
    pub standard_flow: bool,
    /// The client credentials grant.
    pub service_account: bool,
    /// The password grant.
    pub direct_access: bool,
    /// Where logins may lead back to, in order.
    pub redirect_uris: Vec<String>,
    /// Which origins may call from a browser, in order.
    pub web_origins: Vec<String>,
}

impl Spec {
    /// The client as people know it, for messages.
    pub fn called(&self) -> String {
        format!("client `{}` of realm `{}`", self.id, self.realm.name)
    }
}

/// The clients that an environment's documents declare. One whose server no document declares is left out; `check` names
/// it.
pub fn specs(environment: &Environment) -> Vec<Spec> {
    let identity = environment.identity();
    let clients = environment.clients().filter_map(|declared| {
        let client = declared.spec;
        let document = &declared.source.document;
        let (source, server) = environment.keycloak(&client.keycloak)?;
        let of = &source.document.fragment.namespace;
        let here =
            |other: &document::Client| (&other.keycloak, &other.realm) == (&client.keycloak, &client.realm);
        let roles = environment.sources().find_map(|source| {
            let realm = source.document.realms.get(&client.realm)?;
            // It is made with the first client of it that is made.
            let is_made = environment.clients().any(|other| here(other.spec) && !other.spec.external);
            (is_made && realm.keycloak == client.keycloak).then(|| realm.roles.clone())
        });
        let secret = |reference| SecretKey::of(reference, &document.fragment.namespace);
        Some(Spec {
            owner: Owner {
                environment: identity.uid,
                name: identity.name.clone(),
                fragment: document.fragment.name.clone(),
            },
            report_only: document.policy.mode == Mode::Report,
            server: self::server(&client.keycloak, server, of),
            realm: Realm { name: client.realm.clone(), declared: roles },
            id: client.id(declared.component.name()).to_owned(),
            wish: if client.external {
                Wish::External { mandatory: client.is_mandatory() }
            } else {
                let mut made = made(client, client.secret.as_ref().map(secret));
                made.makers =
                    environment.clients().filter(|other| here(other.spec)).flat_map(makers).collect();
                Wish::Made(Box::new(made))
            },
            component: declared.component,
        })
    });
    clients.collect()
}

fn server(name: &str, server: &document::Keycloak, namespace: &str) -> Server {
    let tls = &server.tls;
    let ca = tls.ca.as_ref().filter(|_| tls.mode == KeycloakTlsMode::VerifyFull);
    Server {
        name: name.to_owned(),
        url: server.url.clone(),
        ca: ca.map(|ca| SecretKey::of(ca, namespace)),
        realm: server.login.realm.clone(),
        client: server.login.client.clone(),
        secret: SecretKey::of(&server.login.secret, namespace),
    }
}

fn made(client: &document::Client, secret: Option<SecretKey>) -> Made {
    Made {
        existing: client.existing,
        secret: secret.filter(|_| client.truth == Truth::Cluster && !client.public),
        settings: Settings {
            public: client.public,
            standard_flow: client.has_standard_flow(),
            service_account: client.has_service_account(),
            direct_access: client.direct_access,
            redirect_uris: sorted(client.redirect_uris.clone()),
            web_origins: sorted(client.origins()),
        },
        roles: sorted(client.roles.clone()),
        mappers: client.mappers.clone(),
        granted: client.service_account_roles.clone(),
        makers: BTreeMap::new(),
    }
}

/// The roles that a declared client makes, each with it.
fn makers(declared: Declared<'_, document::Client>) -> impl Iterator<Item = ((String, String), Component)> {
    let (component, client) = (declared.component, declared.spec);
    let id = client.id(component.name()).to_owned();
    client.roles.iter().map(move |role| ((id.clone(), role.clone()), component.clone()))
}

/// Keycloak keeps sets and gives them in any order.
pub(super) fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::environment;

    #[test]
    fn a_client_knows_its_server_and_its_realm_from_whichever_fragment_declares_them() {
        let specs = specs(&environment(&[
            "
fragment: {name: base, namespace: base}
keycloak: {main: {url: 'https://k', tls: {ca: {secret: ca, key: ca.crt}}, login: {client: rollcall, secret: {secret: login, key: s}}}}
realms: {staff: {keycloak: main, roles: [clerk]}}
",
            "
fragment: {name: app, namespace: app}
policy: {mode: report}
uses: {keycloak: [main]}
clients:
  a: {keycloak: main, realm: staff, truth: cluster, secret: {secret: a, key: k}, redirect_uris: [/b, /a]}
  b: {keycloak: main, realm: other, external: true, mandatory: false, client_id: B}
",
        ]));
        let [a, b] = &specs[..] else { panic!("{specs:?}") };
        assert_eq!(a.called(), "client `a` of realm `staff`");
        assert_eq!(a.realm.declared, Some(vec!["clerk".to_owned()]));
        assert_eq!(a.server.ca.as_ref().unwrap().to_string(), "secret/base/ca:ca.crt");
        assert_eq!(a.server.secret.to_string(), "secret/base/login:s");
        assert_eq!((a.server.realm.as_str(), a.server.client.as_str()), ("master", "rollcall"));
        assert!(a.report_only && a.owner.fragment == "app");
        let Wish::Made(made) = &a.wish else { panic!("{a:?}") };
        assert_eq!(made.secret.as_ref().unwrap().to_string(), "secret/app/a:k");
        assert_eq!(made.settings.redirect_uris, ["/a", "/b"]);
        assert_eq!((b.id.as_str(), &b.realm.declared), ("B", &None));
        assert_eq!(b.wish, Wish::External { mandatory: false });
    }
}
