//! A client as Keycloak tells it, whole: what we do not know of it is given back as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lifecycle::document::Mapper;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use zeroize::Zeroize;

use super::spec::{Made, Settings, sorted};
use super::state::Marker;
use crate::spec::Owner;

/// The attribute that says which environment made a thing: its uid.
const ENVIRONMENT: &str = "rollcall.environment";
/// The attribute with the environment's name, for people.
const NAME: &str = "rollcall.environment-name";
/// The attribute that says which fragment made a thing.
const FRAGMENT: &str = "rollcall.fragment";
/// The attribute of a client that we made. One that was taken over has our mark, and not this.
const MADE: &str = "rollcall.made";
/// Attributes that Keycloak keeps about a client's secret, the one before it among them.
const OF_SECRET: &str = "client.secret.";

/// The attributes that mark what we make.
pub(super) fn marks(owner: &Owner) -> BTreeMap<&'static str, String> {
    [
        (ENVIRONMENT, owner.environment.to_string()),
        (NAME, owner.name.clone()),
        (FRAGMENT, owner.fragment.clone()),
    ]
    .into()
}

/// Whose a thing with these attributes is.
pub(super) fn marker(attributes: Option<&Map<String, Value>>) -> Marker {
    let text = |key| attributes.and_then(|map| map.get(key)).and_then(Value::as_str);
    match (text(ENVIRONMENT), text(FRAGMENT)) {
        (None, None) => Marker::None,
        (Some(environment), Some(fragment)) => match environment.parse::<Uuid>() {
            Ok(environment) => Marker::Of(Owner {
                environment,
                name: text(NAME).unwrap_or_default().to_owned(),
                fragment: fragment.to_owned(),
            }),
            Err(_) => Marker::Unreadable,
        },
        _ => Marker::Unreadable,
    }
}

/// A client as Keycloak tells it. Its secret may be in it: nothing of it is shown, and it is wiped when it is dropped.
pub(super) struct Representation(Map<String, Value>);

impl fmt::Debug for Representation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Representation(…)")
    }
}

impl Drop for Representation {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl<'de> Deserialize<'de> for Representation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Representation)
    }
}

impl Representation {
    /// A new client, marked as its owner's.
    pub(super) fn new(id: &str, made: &Made, owner: &Owner) -> Self {
        let mut new = Map::new();
        new.insert("clientId".to_owned(), id.into());
        new.insert("protocol".to_owned(), "openid-connect".into());
        new.insert("enabled".to_owned(), true.into());
        new.insert("implicitFlowEnabled".to_owned(), false.into());
        let mappers: Vec<Value> = made.mappers.iter().map(|(name, it)| mapper(name, it, None)).collect();
        new.insert("protocolMappers".to_owned(), mappers.into());
        let mut new = Representation(new);
        new.set(&made.settings, owner);
        if let Some(Value::Object(attributes)) = new.0.get_mut("attributes") {
            attributes.insert(MADE.to_owned(), "true".into());
        }
        new
    }

    /// Sets what documents speak of and marks it as the owner's. What is written back says nothing of the secret, so that
    /// one that is changed at the same moment stays changed, and nothing of mappers, which are set one by one.
    pub(super) fn update(&mut self, settings: &Settings, owner: &Owner) {
        self.set(settings, owner);
        self.0.remove("protocolMappers");
        self.forget_secret();
    }

    /// Gives it a secret; what is written back changes nothing else.
    pub(super) fn update_secret(&mut self, secret: &str) {
        self.forget_secret();
        self.0.remove("protocolMappers");
        self.set_secret(secret);
    }

    /// Gives a new one its secret.
    pub(super) fn set_secret(&mut self, secret: &str) {
        self.0.insert("secret".to_owned(), secret.into());
    }

    /// Keycloak keeps what is not spoken of.
    fn forget_secret(&mut self) {
        if let Some(mut secret) = self.0.remove("secret") {
            wipe(&mut secret);
        }
        if let Some(Value::Object(attributes)) = self.0.get_mut("attributes") {
            let of_secret = |key: &String| key.starts_with(OF_SECRET);
            attributes.iter_mut().filter(|(key, _)| of_secret(key)).for_each(|(_, value)| wipe(value));
            attributes.retain(|key, _| !of_secret(key));
        }
    }

    fn set(&mut self, settings: &Settings, owner: &Owner) {
        let flags = [
            ("publicClient", settings.public),
            ("standardFlowEnabled", settings.standard_flow),
            ("serviceAccountsEnabled", settings.service_account),
            ("directAccessGrantsEnabled", settings.direct_access),
        ];
        for (key, on) in flags {
            self.0.insert(key.to_owned(), on.into());
        }
        self.0.insert("redirectUris".to_owned(), settings.redirect_uris.clone().into());
        self.0.insert("webOrigins".to_owned(), settings.web_origins.clone().into());
        let attributes = self.0.entry("attributes").or_insert_with(|| json!({}));
        if !attributes.is_object() {
            *attributes = json!({});
        }
        if let Value::Object(attributes) = attributes {
            attributes.extend(marks(owner).into_iter().map(|(key, value)| (key.to_owned(), value.into())));
        }
    }

    /// It as JSON, for a request's body.
    pub(super) fn json(&self) -> serde_json::Result<zeroize::Zeroizing<Vec<u8>>> {
        serde_json::to_vec(&self.0).map(zeroize::Zeroizing::new)
    }

    /// Keycloak's own id of it.
    pub(super) fn uuid(&self) -> &str {
        self.text("id")
    }

    /// What it speaks.
    pub(super) fn protocol(&self) -> &str {
        // Keycloak takes a client without a protocol for one of OpenID Connect.
        if self.text("protocol").is_empty() { "openid-connect" } else { self.text("protocol") }
    }

    /// Whether nobody can use it.
    pub(super) fn disabled(&self) -> bool {
        self.0.get("enabled").and_then(Value::as_bool) == Some(false)
    }

    /// Whether it has no secret.
    pub(super) fn is_public(&self) -> bool {
        self.flag("publicClient")
    }

    /// Whose it is.
    pub(super) fn marker(&self) -> Marker {
        marker(self.0.get("attributes").and_then(Value::as_object))
    }

    /// Whether we made it, and did not take it over.
    pub(super) fn is_made(&self) -> bool {
        self.0.get("attributes").and_then(Value::as_object).is_some_and(|map| map.contains_key(MADE))
    }

    /// The settings that documents speak of.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            public: self.is_public(),
            standard_flow: self.flag("standardFlowEnabled"),
            service_account: self.flag("serviceAccountsEnabled"),
            direct_access: self.flag("directAccessGrantsEnabled"),
            redirect_uris: sorted(self.list("redirectUris")),
            web_origins: sorted(self.list("webOrigins")),
        }
    }

    /// Its protocol mappers, by name, and Keycloak's ids of them.
    pub(super) fn mappers(&self) -> BTreeMap<String, (String, Mapper)> {
        let mappers = self.0.get("protocolMappers").and_then(Value::as_array);
        let read = |value: &Value| {
            let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
            let config = value.get("config").and_then(Value::as_object);
            let config = config.into_iter().flatten();
            let config = config.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            let mapper = Mapper { kind: text("protocolMapper")?, config: config.collect() };
            Some((text("name")?, (text("id")?, mapper)))
        };
        mappers.into_iter().flatten().filter_map(read).collect()
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or_default()
    }

    fn list(&self, key: &str) -> Vec<String> {
        let entries = self.0.get(key).and_then(Value::as_array).into_iter().flatten();
        let entries: BTreeSet<String> = entries.filter_map(Value::as_str).map(str::to_owned).collect();
        entries.into_iter().collect()
    }
}

/// A protocol mapper as Keycloak takes it: the declared configuration over what is there.
pub(super) fn mapper(name: &str, asked: &Mapper, there: Option<&(String, Mapper)>) -> Value {
    let mut config = match there {
        Some((_, there)) if there.kind == asked.kind => there.config.clone(),
        _ => BTreeMap::new(),
    };
    config.extend(asked.config.clone());
    let mut value = json!({
        "name": name, "protocol": "openid-connect", "protocolMapper": asked.kind, "config": config,
    });
    if let (Some((id, _)), Value::Object(map)) = (there, &mut value) {
        map.insert("id".to_owned(), id.as_str().into());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { environment: Uuid::from_u128(7), name: "dev".to_owned(), fragment: "app".to_owned() }
    }

    #[test]
    fn nothing_secret_is_shown_or_written_back_and_nothing_unknown_is_lost() {
        let text = json!({
            "id": "1", "clientId": "a", "secret": "hunter2", "description": "kept",
            "attributes": {"client.secret.rotated": "hunter1", "x": "y"},
        });
        let mut client: Representation = serde_json::from_value(text).unwrap();
        assert!(!format!("{client:?}").contains("hunter"));
        client.update(&Settings { direct_access: true, ..Settings::default() }, &owner());
        let written = String::from_utf8(client.json().unwrap().to_vec()).unwrap();
        assert!(!written.contains("hunter") && written.contains("kept") && written.contains("\"x\":\"y\""));
        assert_eq!(client.marker(), Marker::Of(owner()));
        assert!(client.settings().direct_access && !client.is_made(), "taken over");
        client.update_secret("hunter3");
        assert!(String::from_utf8(client.json().unwrap().to_vec()).unwrap().contains("hunter3"));
    }

    #[test]
    fn a_mark_that_is_not_whole_is_nobodys() {
        let marker = |attributes: Value| marker(attributes.as_object());
        assert_eq!(marker(json!({"x": "y"})), Marker::None);
        assert_eq!(marker(json!({ENVIRONMENT: "dev", FRAGMENT: "app"})), Marker::Unreadable);
        assert_eq!(marker(json!({ENVIRONMENT: Uuid::from_u128(7).to_string()})), Marker::Unreadable);
        assert_eq!(marker(json!({FRAGMENT: "app"})), Marker::Unreadable);
    }
}
