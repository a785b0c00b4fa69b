//! What is asked of Keycloak's Admin REST API, one function a question or change.
//!
//! Paths and answers: <https://www.keycloak.org/docs-api/latest/rest-api/index.html>. What is not found is told apart
//! from what may not be seen: only a 404 that Keycloak itself gives is "not there".

use std::collections::{BTreeMap, BTreeSet};

use chassis::SecretValue;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::answer::Answer;
use super::api::{Api, Purpose, Request, body};
use super::error::Error;
use super::representation::{Representation, marker};
use super::state::Marker;
use super::values::Values;

/// The role that lets a service account see clients and their secrets.
pub(super) const VIEW_CLIENTS: &str = "role `view-clients` of the realm's management client";
/// The role that lets it make and change them.
pub(super) const MANAGE_CLIENTS: &str = "role `manage-clients` of the realm's management client";
const VIEW_REALM: &str = "role `view-realm` of the realm's management client";
const MANAGE_REALM: &str = "role `manage-realm` of the realm's management client";
const VIEW_USERS: &str = "role `view-users` of the realm's management client";
const MANAGE_USERS: &str = "roles `manage-users` and `view-realm` of the realm's management client";
const CREATE_REALM: &str = "role `create-realm` of realm `master`, or create the realm yourself";

/// What looking for a client finds.
#[derive(Debug)]
pub(super) enum Found {
    /// There is no such realm.
    NoRealm,
    /// The realm has no such client.
    NoClient,
    /// The client.
    Client(Representation),
}

/// A role, as it is given to somebody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Role {
    id: String,
    pub(super) name: String,
}

/// Where a role is: in a realm, or in a client of it, by Keycloak's own id.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holder<'a> {
    Realm,
    Client(&'a str),
}

/// The roles that an account has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) realm: BTreeSet<String>,
    pub(super) clients: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
struct RealmSeen {
    id: Option<String>,
    #[serde(default)]
    attributes: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
struct Credential {
    value: Option<String>,
}

#[derive(Deserialize)]
struct Mappings {
    #[serde(default, rename = "realmMappings")]
    realm: Vec<Role>,
    #[serde(default, rename = "clientMappings")]
    clients: BTreeMap<String, ClientMappings>,
}

#[derive(Deserialize)]
struct ClientMappings {
    mappings: Vec<Role>,
}

impl<V: Values> Api<V> {
    async fn get(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        known: &[StatusCode],
        purpose: &Purpose,
    ) -> Result<Answer, Error> {
        let (method, purpose) = (Method::GET, purpose.clone());
        self.ask(&Request { method, path, query, body: None, secret: None, purpose }, known).await
    }

    async fn write(
        &self,
        method: Method,
        path: &[&str],
        body: Zeroizing<Vec<u8>>,
        secret: Option<&SecretValue>,
        known: &[StatusCode],
        purpose: &Purpose,
    ) -> Result<StatusCode, Error> {
        let request =
            Request { method, path, query: &[], body: Some(body), secret, purpose: purpose.clone() };
        self.ask(&request, known).await.map(|answer| answer.status)
    }

    /// Looks for a client by its client id.
    pub(super) async fn find(&self, realm: &str, id: &str) -> Result<Found, Error> {
        let purpose = purpose(format!("look for client `{id}` in realm `{realm}`"), VIEW_CLIENTS);
        let path = [realm, "clients"];
        let answer = self.get(&path, &[("clientId", id)], &[StatusCode::NOT_FOUND], &purpose).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Found::NoRealm);
        }
        let mut clients: Vec<Representation> = self.json(&answer, &purpose)?;
        match clients.pop() {
            Some(client) if clients.is_empty() && !client.uuid().is_empty() => Ok(Found::Client(client)),
            Some(_) => Err(self.strange(&purpose, "is not one client")),
            None => {
                // Every realm has clients of its own. An account with role `query-clients` alone is shown none of any.
                let any = self.get(&path, &[("first", "0"), ("max", "1")], &[], &purpose).await?;
                let any: Vec<Representation> = self.json(&any, &purpose)?;
                if any.is_empty() { Err(self.denied(&purpose, any_status())) } else { Ok(Found::NoClient) }
            }
        }
    }

    /// Whose a realm is; none when it is not there.
    pub(super) async fn realm(&self, realm: &str) -> Result<Option<Marker>, Error> {
        let purpose = purpose(format!("look at realm `{realm}`"), VIEW_REALM);
        let answer = self.get(&[realm], &[], &[StatusCode::NOT_FOUND], &purpose).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let seen: RealmSeen = self.json(&answer, &purpose)?;
        // Who may not see a realm is told its name and little else.
        if seen.id.is_none() {
            return Err(self.denied(&purpose, any_status()));
        }
        Ok(Some(marker(seen.attributes.as_ref())))
    }

    /// The roles of a realm or a client.
    pub(super) async fn roles(&self, realm: &str, of: Holder<'_>) -> Result<Vec<Role>, Error> {
        let (what, needs) = match of {
            Holder::Realm => ("roles", VIEW_REALM),
            Holder::Client(_) => ("roles of a client", VIEW_CLIENTS),
        };
        let purpose = purpose(format!("look at the {what} of realm `{realm}`"), needs);
        let answer = self.get(&roles_at(realm, of), &[], &[], &purpose).await?;
        self.json(&answer, &purpose)
    }

    /// The user that a client's service account is; none when the client has none.
    pub(super) async fn service_account(&self, realm: &str, client: &str) -> Result<Option<String>, Error> {
        let purpose = purpose(format!("look at a service account of realm `{realm}`"), VIEW_CLIENTS);
        let path = [realm, "clients", client, "service-account-user"];
        // Keycloak calls it a bad request where the client has no service account.
        let answer = self.get(&path, &[], &[StatusCode::BAD_REQUEST], &purpose).await?;
        if answer.status == StatusCode::BAD_REQUEST {
            return Ok(None);
        }
        self.json(&answer, &purpose).map(|user: Id| Some(user.id))
    }

    /// The roles that a user has.
    pub(super) async fn granted(&self, realm: &str, user: &str) -> Result<Granted, Error> {
        let purpose =
            purpose(format!("look at the roles of a service account of realm `{realm}`"), VIEW_USERS);
        let answer = self.get(&[realm, "users", user, "role-mappings"], &[], &[], &purpose).await?;
        let mappings: Mappings = self.json(&answer, &purpose)?;
        let names = |roles: Vec<Role>| roles.into_iter().map(|role| role.name).collect();
        let clients = mappings.clients.into_iter().map(|(id, client)| (id, names(client.mappings)));
        Ok(Granted { realm: names(mappings.realm), clients: clients.collect() })
    }

    /// A client's secret; none when it has none.
    pub(super) async fn secret(&self, realm: &str, client: &str) -> Result<Option<SecretValue>, Error> {
        self.credential(&[realm, "clients", client, "client-secret"], &[]).await
    }

    /// The secret before the present one, while Keycloak still takes it: its client policy with the executor
    /// `secret-rotation` keeps it for a time.
    pub(super) async fn rotated(&self, realm: &str, client: &str) -> Result<Option<SecretValue>, Error> {
        let path = [realm, "clients", client, "client-secret", "rotated"];
        self.credential(&path, &[StatusCode::NOT_FOUND]).await
    }

    async fn credential(&self, path: &[&str], none: &[StatusCode]) -> Result<Option<SecretValue>, Error> {
        let realm = path.first().copied().unwrap_or_default();
        let purpose = purpose(format!("read the secret of a client of realm `{realm}`"), VIEW_CLIENTS);
        let answer = self.get(path, &[], none, &purpose).await?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        let credential: Credential = self.json(&answer, &purpose)?;
        let value = credential.value.filter(|value| !value.is_empty());
        Ok(value.map(SecretValue::new))
    }

    /// Makes a realm; false when there is one of that name by now.
    pub(super) async fn create_realm(
        &self,
        realm: &str,
        marks: &BTreeMap<&str, String>,
    ) -> Result<bool, Error> {
        let purpose = purpose(format!("create realm `{realm}`"), CREATE_REALM);
        let new = body(&json!({"realm": realm, "enabled": true, "attributes": marks}));
        let status = self.write(Method::POST, &[], new, None, &[StatusCode::CONFLICT], &purpose).await?;
        // What may be done in the realm stands in tokens made from now on.
        self.renew().await;
        Ok(status != StatusCode::CONFLICT)
    }

    /// Adds a role; one that is there by now stays as it is.
    pub(super) async fn create_role(
        &self,
        realm: &str,
        of: Holder<'_>,
        role: &str,
        marks: &BTreeMap<&str, String>,
    ) -> Result<(), Error> {
        let needs = match of {
            Holder::Realm => MANAGE_REALM,
            Holder::Client(_) => MANAGE_CLIENTS,
        };
        let purpose = purpose(format!("add role `{role}` in realm `{realm}`"), needs);
        let marks: BTreeMap<_, _> = marks.iter().map(|(key, value)| (key, [value])).collect();
        let new = body(&json!({"name": role, "attributes": marks}));
        let path = roles_at(realm, of);
        self.write(Method::POST, &path, new, None, &[StatusCode::CONFLICT], &purpose).await.map(drop)
    }

    /// Makes a client; false when there is one of that id by now.
    pub(super) async fn create_client(
        &self,
        realm: &str,
        client: &Representation,
        secret: Option<&SecretValue>,
    ) -> Result<bool, Error> {
        let purpose = purpose(format!("create a client in realm `{realm}`"), MANAGE_CLIENTS);
        let new = self.told(client, &purpose)?;
        let known = [StatusCode::CONFLICT];
        let status = self.write(Method::POST, &[realm, "clients"], new, secret, &known, &purpose).await?;
        Ok(status != StatusCode::CONFLICT)
    }

    /// Writes a client back; false when it is not there any more.
    pub(super) async fn put_client(
        &self,
        realm: &str,
        client: &Representation,
        secret: Option<&SecretValue>,
    ) -> Result<bool, Error> {
        let purpose = purpose(format!("change a client of realm `{realm}`"), MANAGE_CLIENTS);
        let told = self.told(client, &purpose)?;
        let (path, known) = ([realm, "clients", client.uuid()], [StatusCode::NOT_FOUND]);
        let status = self.write(Method::PUT, &path, told, secret, &known, &purpose).await?;
        Ok(status != StatusCode::NOT_FOUND)
    }

    /// Deletes a client; one that is gone by now is as good.
    pub(super) async fn delete_client(&self, realm: &str, client: &str) -> Result<(), Error> {
        let purpose = purpose(format!("delete a client of realm `{realm}`"), MANAGE_CLIENTS);
        let (method, path) = (Method::DELETE, [realm, "clients", client]);
        let request = Request { method, path: &path, query: &[], body: None, secret: None, purpose };
        self.ask(&request, &[StatusCode::NOT_FOUND]).await.map(drop)
    }

    fn told(&self, client: &Representation, purpose: &Purpose) -> Result<Zeroizing<Vec<u8>>, Error> {
        client.json().map_err(|_| self.strange(purpose, "cannot be asked for: the client is no JSON"))
    }

    /// Adds a protocol mapper, or writes the one with this id.
    pub(super) async fn set_mapper(
        &self,
        realm: &str,
        client: &str,
        id: Option<&str>,
        mapper: &Value,
    ) -> Result<(), Error> {
        let purpose = purpose(format!("set a protocol mapper in realm `{realm}`"), MANAGE_CLIENTS);
        let mut path = vec![realm, "clients", client, "protocol-mappers", "models"];
        path.extend(id);
        let method = if id.is_some() { Method::PUT } else { Method::POST };
        self.write(method, &path, body(mapper), None, &[], &purpose).await.map(drop)
    }

    /// Gives a user roles; false when one of them is not there any more. Those it has it keeps.
    pub(super) async fn grant(
        &self,
        realm: &str,
        user: &str,
        of: Holder<'_>,
        roles: &[Role],
    ) -> Result<bool, Error> {
        let purpose = purpose(format!("give a service account of realm `{realm}` roles"), MANAGE_USERS);
        let given: Vec<Value> = roles.iter().map(|role| json!({"id": role.id, "name": role.name})).collect();
        let mut path = vec![realm, "users", user, "role-mappings"];
        match of {
            Holder::Realm => path.push("realm"),
            Holder::Client(client) => path.extend(["clients", client]),
        }
        let known = [StatusCode::NOT_FOUND];
        let status = self.write(Method::POST, &path, body(&given.into()), None, &known, &purpose).await?;
        Ok(status != StatusCode::NOT_FOUND)
    }
}

fn purpose(action: String, needs: &'static str) -> Purpose {
    Purpose { action, needs }
}

/// The status with which Keycloak shows nothing to those who may not see.
fn any_status() -> StatusCode {
    StatusCode::OK
}

fn roles_at<'a>(realm: &'a str, of: Holder<'a>) -> Vec<&'a str> {
    match of {
        Holder::Realm => vec![realm, "roles"],
        Holder::Client(client) => vec![realm, "clients", client, "roles"],
    }
}
