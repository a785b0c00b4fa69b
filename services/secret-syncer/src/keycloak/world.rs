//! Looking and changing: one client of a Keycloak with its realm, its roles and its service account.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chassis::SecretValue;
use chassis::converge::Reconcile;
use hmac::{Hmac, Mac};
use lifecycle::{Component, Evidence};
use rand::RngExt;
use sha2::Sha256;

use super::admin::{Found, Holder, Role};
use super::api::Api;
use super::error::Error;
use super::plan::{self, Action, Step};
use super::representation::{self, Representation, marks};
use super::spec::{Made, Spec, Wish};
use super::state::{Client, Fingerprint, Marker, Realm, World};
use super::values::{Values, password};

/// A client that is made to be as documents say.
#[derive(Debug)]
pub struct KeycloakTarget<V> {
    api: Arc<Api<V>>,
}

impl<V> Clone for KeycloakTarget<V> {
    fn clone(&self) -> Self {
        KeycloakTarget { api: Arc::clone(&self.api) }
    }
}

/// The keys of a client that Secrets can copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSecret {
    /// Its client id.
    pub id: String,
    /// Its secret; none when it is public, or proves itself in another way.
    pub secret: Option<SecretValue>,
    /// The secret before that, while Keycloak still takes it.
    pub previous: Option<SecretValue>,
}

impl ClientSecret {
    /// The key of the client id.
    pub const ID: &str = "client_id";
    /// The key of the secret.
    pub const SECRET: &str = "secret";
    /// The key of the secret before the present one.
    pub const PREVIOUS: &str = "previous";

    /// The values by their keys; those that there are.
    pub fn keys(self) -> BTreeMap<&'static str, SecretValue> {
        let id = Some(SecretValue::new(self.id));
        let keys = [(Self::ID, id), (Self::SECRET, self.secret), (Self::PREVIOUS, self.previous)];
        keys.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

impl<V: Values> KeycloakTarget<V> {
    /// The client of a spec, on a server that others may share.
    pub fn new(api: Arc<Api<V>>) -> Self {
        KeycloakTarget { api }
    }

    /// The values of a client, read now; none when there is no such client or realm. Needs role `view-clients`, which an
    /// account without it is told: it never seems that there is no client.
    pub async fn secret_of(&self, spec: &Spec) -> Result<Option<ClientSecret>, Error> {
        let realm = &spec.realm.name;
        let Found::Client(client) = self.api.find(realm, &spec.id).await? else { return Ok(None) };
        let mut values = ClientSecret { id: spec.id.clone(), secret: None, previous: None };
        if !client.is_public() {
            values.secret = self.api.secret(realm, client.uuid()).await?;
            values.previous = self.api.rotated(realm, client.uuid()).await?;
        }
        Ok(Some(values))
    }

    /// The client and no more: none when it, or its realm, is not there.
    pub async fn alone(&self, spec: &Spec) -> Result<World, Error> {
        Ok(match self.api.find(&spec.realm.name, &spec.id).await? {
            Found::NoRealm => World::default(),
            Found::NoClient => World { realm: Some(Realm::default()), ..World::default() },
            Found::Client(client) => {
                World { realm: Some(Realm::default()), client: Some(seen(&client)), ..World::default() }
            }
        })
    }

    async fn look(&self, spec: &Spec, made: &Made) -> Result<World, Error> {
        let (api, realm) = (&self.api, &spec.realm.name);
        let salt = rand::rng().random::<[u8; 32]>();
        let mut world = World { value: self.wanted(made, &salt).await?, ..World::default() };
        let client = match api.find(realm, &spec.id).await? {
            Found::NoRealm => return Ok(world),
            Found::NoClient => None,
            Found::Client(client) => Some(client),
        };
        world.realm = self.realm(spec, made).await?;
        for other in made.granted.clients.keys().filter(|other| **other != spec.id) {
            if let Found::Client(other_client) = api.find(realm, other).await? {
                let roles = api.roles(realm, Holder::Client(other_client.uuid())).await?;
                world.others.insert(other.clone(), names(roles));
            }
        }
        if let Some(client) = client {
            if made.granted.clients.contains_key(&spec.id) || !made.roles.is_empty() {
                let roles = api.roles(realm, Holder::Client(client.uuid())).await?;
                world.others.insert(spec.id.clone(), names(roles));
            }
            let roles = world.others.get(&spec.id).cloned().unwrap_or_default();
            world.client = Some(self.client(spec, made, &client, roles, &salt).await?);
        }
        Ok(world)
    }

    /// The value that the secret is made to be. One that is not there yet is waited for.
    async fn wanted(&self, made: &Made, salt: &[u8]) -> Result<Option<Result<Fingerprint, String>>, Error> {
        let Some(key) = &made.secret else { return Ok(None) };
        match password(self.api.values(), key).await {
            Ok(value) => Ok(Some(Ok(fingerprint(salt, &value)))),
            Err(source) if source.transient => Ok(Some(Err(source.to_string()))),
            Err(source) => Err(Error::Value { server: self.api.name(), source }),
        }
    }

    async fn realm(&self, spec: &Spec, made: &Made) -> Result<Option<Realm>, Error> {
        let (name, declared) = (&spec.realm.name, &spec.realm.declared);
        let mut realm = Realm::default();
        if declared.is_some() {
            match self.api.realm(name).await? {
                Some(marker) => realm.marker = marker,
                None => return Ok(None),
            }
        }
        if declared.as_ref().is_some_and(|roles| !roles.is_empty()) || !made.granted.realm.is_empty() {
            realm.roles = names(self.api.roles(name, Holder::Realm).await?);
        }
        Ok(Some(realm))
    }

    async fn client(
        &self,
        spec: &Spec,
        made: &Made,
        client: &Representation,
        roles: BTreeSet<String>,
        salt: &[u8],
    ) -> Result<Client, Error> {
        let (api, realm) = (&self.api, &spec.realm.name);
        let secret = match made.secret {
            Some(_) => api.secret(realm, client.uuid()).await?,
            None => None,
        };
        let mut seen = Client {
            roles,
            secret: secret.map(|secret| fingerprint(salt, &secret)),
            mappers: client.mappers().into_iter().map(|(name, (_, mapper))| (name, mapper)).collect(),
            ..seen(client)
        };
        if !made.granted.is_empty()
            && let Some(user) = api.service_account(realm, client.uuid()).await?
        {
            let granted = api.granted(realm, &user).await?;
            (seen.realm_roles, seen.client_roles) = (granted.realm, granted.clients);
        }
        Ok(seen)
    }

    fn changed(&self, spec: &Spec) -> Error {
        Error::Changed { server: self.api.name(), what: spec.called() }
    }

    /// The client as it is at this moment, if it is ours to change.
    async fn ours(&self, spec: &Spec, adopt: bool) -> Result<Representation, Error> {
        let Found::Client(client) = self.api.find(&spec.realm.name, &spec.id).await? else {
            return Err(self.changed(spec));
        };
        match client.marker() {
            Marker::Of(owner) if owner.is(&spec.owner) => Ok(client),
            Marker::None if adopt => Ok(client),
            _ => Err(self.changed(spec)),
        }
    }

    /// Makes the declared realm and its roles, as far as they are not there. Every client of the realm asks for that; the
    /// first does it while the others wait. Whose a realm is that is there by now the next look judges.
    async fn realm_made(&self, spec: &Spec) -> Result<(), Error> {
        let (api, realm, marks) = (&self.api, &spec.realm.name, marks(&spec.owner));
        let Some(declared) = &spec.realm.declared else { return Ok(()) };
        let _turn = api.realms().await;
        match api.realm(realm).await? {
            None if !api.create_realm(realm, &marks).await? => return Err(self.changed(spec)),
            None | Some(Marker::None) => {}
            Some(Marker::Of(owner)) if owner.environment == spec.owner.environment => {}
            Some(Marker::Of(_) | Marker::Unreadable) => return Err(self.changed(spec)),
        }
        if declared.is_empty() {
            return Ok(());
        }
        let there = names(api.roles(realm, Holder::Realm).await?);
        for role in declared.iter().filter(|role| !there.contains(*role)) {
            api.create_role(realm, Holder::Realm, role, &marks).await?;
        }
        Ok(())
    }

    async fn create_client(&self, spec: &Spec, made: &Made) -> Result<(), Error> {
        let mut client = Representation::new(&spec.id, made, &spec.owner);
        let secret = self.value(made).await?;
        if let Some(text) = secret.as_ref().and_then(SecretValue::expose_text) {
            client.set_secret(text);
        }
        if self.api.create_client(&spec.realm.name, &client, secret.as_ref()).await? {
            return Ok(());
        }
        // Somebody else made it; the next look judges who.
        Err(self.changed(spec))
    }

    async fn value(&self, made: &Made) -> Result<Option<SecretValue>, Error> {
        let Some(key) = &made.secret else { return Ok(None) };
        let value = password(self.api.values(), key).await;
        value.map(Some).map_err(|source| Error::Value { server: self.api.name(), source })
    }

    async fn put(
        &self,
        spec: &Spec,
        client: &Representation,
        secret: Option<&SecretValue>,
    ) -> Result<(), Error> {
        let there = self.api.put_client(&spec.realm.name, client, secret).await?;
        if there { Ok(()) } else { Err(self.changed(spec)) }
    }

    async fn set_mapper(&self, spec: &Spec, made: &Made, name: &str) -> Result<(), Error> {
        let Some(asked) = made.mappers.get(name) else { return Ok(()) };
        let client = self.ours(spec, false).await?;
        let there = client.mappers();
        let there = there.get(name);
        let mapper = representation::mapper(name, asked, there);
        let id = there.map(|(id, _)| id.as_str());
        self.api.set_mapper(&spec.realm.name, client.uuid(), id, &mapper).await
    }

    /// Gives the service account roles that are in the realm, or in the client of this id.
    async fn grant(&self, spec: &Spec, of: Option<&str>, wanted: &[String]) -> Result<(), Error> {
        let (api, realm) = (&self.api, &spec.realm.name);
        let client = self.ours(spec, false).await?;
        let user = api.service_account(realm, client.uuid()).await?;
        let user = user.ok_or_else(|| self.changed(spec))?;
        let other = match of {
            Some(id) => match api.find(realm, id).await? {
                Found::Client(other) => Some(other),
                Found::NoRealm | Found::NoClient => return Err(self.changed(spec)),
            },
            None => None,
        };
        let holder = other.as_ref().map_or(Holder::Realm, |other| Holder::Client(other.uuid()));
        let there = api.roles(realm, holder).await?;
        let given: Vec<Role> = there.into_iter().filter(|role| wanted.contains(&role.name)).collect();
        let all = given.len() == wanted.len();
        if all && api.grant(realm, &user, holder, &given).await? { Ok(()) } else { Err(self.changed(spec)) }
    }
}

impl<V: Values> Reconcile for KeycloakTarget<V> {
    type Spec = Spec;
    type World = World;
    type Step = Step;
    type Error = Error;

    fn components(spec: &Spec) -> Vec<Component> {
        vec![spec.component.clone()]
    }

    fn only(spec: &Spec, _: &Component) -> Spec {
        spec.clone()
    }

    fn reports_only(spec: &Spec, _: &Component) -> bool {
        spec.report_only
    }

    fn nothing(spec: &Spec) -> World {
        // What nobody declares is somebody else's, and taken to be there.
        let Wish::Made(made) = &spec.wish else { return World::default() };
        let realm = Realm { marker: Marker::None, roles: made.granted.realm.iter().cloned().collect() };
        let others = made.granted.clients.iter();
        World {
            realm: spec.realm.declared.is_none().then_some(realm),
            client: None,
            others: others.map(|(id, roles)| (id.clone(), roles.iter().cloned().collect())).collect(),
            value: made.secret.as_ref().map(|_| Ok(Fingerprint::default())),
        }
    }

    async fn observe(&self, spec: &Spec) -> Result<World, Error> {
        let made = match &spec.wish {
            Wish::Made(made) => made,
            Wish::External { .. } => return self.alone(spec).await,
        };
        self.look(spec, made).await
    }

    fn plan(spec: &Spec, world: &World) -> plan::Plan {
        plan::plan(spec, world)
    }

    async fn apply(&self, spec: &Spec, step: &Step) -> Result<(), Error> {
        let Wish::Made(made) = &spec.wish else { return Ok(()) };
        match &step.action {
            Action::CreateRealm { .. } | Action::AddRealmRoles { .. } => self.realm_made(spec).await,
            Action::CreateClient => self.create_client(spec, made).await,
            Action::Update { adopt, .. } => {
                let mut client = self.ours(spec, *adopt).await?;
                client.update(&made.settings, &spec.owner);
                self.put(spec, &client, None).await
            }
            Action::Delete => {
                let client = self.ours(spec, false).await?;
                self.api.delete_client(&spec.realm.name, client.uuid()).await
            }
            Action::SetSecret => {
                let Some(secret) = self.value(made).await? else { return Ok(()) };
                let mut client = self.ours(spec, false).await?;
                client.update_secret(secret.expose_text().unwrap_or_default());
                self.put(spec, &client, Some(&secret)).await
            }
            Action::SetMapper { name } => self.set_mapper(spec, made, name).await,
            Action::AddRole { role } => {
                let client = self.ours(spec, false).await?;
                let of = Holder::Client(client.uuid());
                self.api.create_role(&spec.realm.name, of, role, &marks(&spec.owner)).await
            }
            Action::GrantRealmRoles { roles } => self.grant(spec, None, roles).await,
            Action::GrantClientRoles { client, roles } => self.grant(spec, Some(client), roles).await,
        }
    }

    fn evidence(_: &Spec, world: &World, _: &Component) -> Evidence {
        match &world.client {
            Some(client) => Evidence::level("client").with("client_uid", client.uid.clone()),
            None => Evidence::level("absent"),
        }
    }
}

/// What every look sees of a client.
fn seen(client: &Representation) -> Client {
    Client {
        uid: client.uuid().to_owned(),
        marker: client.marker(),
        made: client.is_made(),
        protocol: client.protocol().to_owned(),
        disabled: client.disabled(),
        settings: client.settings(),
        ..Client::default()
    }
}

fn names(roles: Vec<Role>) -> BTreeSet<String> {
    roles.into_iter().map(|role| role.name).collect()
}

/// What identifies a value: HMAC-SHA-256 under a salt that lives as long as one look.
fn fingerprint(salt: &[u8], value: &SecretValue) -> Fingerprint {
    // HMAC takes keys of any length, so this cannot fail; if it ever did, values would only seem to differ.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(salt) else { return rand::rng().random() };
    mac.update(value.expose());
    mac.finalize().into_bytes().into()
}
