//! Checks of what a document says about Keycloak, and of the union of what all say.

use super::check::{Claim, Found};
use super::{
    Client, Document, Environment, Existing, KeycloakTlsMode, Problem, ServiceAccountRoles, Source, Truth,
};
use crate::component::is_name;

/// Keycloak's columns for client ids, roles and realm names hold no more characters.
const NAME_MAX: usize = 255;

/// Everything that is wrong with what a document says about Keycloak.
pub(super) fn keycloak(document: &Document, found: &mut Found) {
    for (name, server) in &document.keycloak {
        let key = format!("keycloak.{name}");
        found.name(&key, name);
        found.address(&format!("{key}.url"), &server.url);
        let (plain, tls) = (server.url.scheme() == "http", &server.tls);
        if plain && tls.mode == KeycloakTlsMode::VerifyFull {
            found.say(
                format!("{key}.url"),
                "is not encrypted, and client secrets travel there; use https, or say `tls: {mode: disable}`",
            );
        }
        if !plain && tls.mode == KeycloakTlsMode::Disable {
            found
                .say(format!("{key}.tls.mode"), "is `disable`, and the address is https; remove one of them");
        }
        if let Some(ca) = &tls.ca {
            found.secret_ref(&format!("{key}.tls.ca"), ca);
            if tls.mode == KeycloakTlsMode::Disable {
                found.say(format!("{key}.tls.ca"), "verifies nothing where `mode` is `disable`; remove one");
            }
        }
        found.secret_ref(&format!("{key}.login.secret"), &server.login.secret);
        found.realm(&format!("{key}.login.realm"), &server.login.realm);
        found.text(&format!("{key}.login.client"), &server.login.client);
        if let Some(module) = &server.module {
            found.name(&format!("{key}.module"), module);
        }
        if document.uses.keycloak.contains(name) {
            found.say(
                format!("uses.keycloak.{name}"),
                "is declared in this fragment itself; keep it under `keycloak` only",
            );
        }
    }
    for (name, realm) in &document.realms {
        let key = format!("realms.{name}");
        found.realm(&key, name);
        found.server(document, &key, &realm.keycloak);
        found.list(&format!("{key}.roles"), &realm.roles);
    }
    for (name, declared) in &document.clients {
        let key = format!("clients.{name}");
        found.name(&key, name);
        found.server(document, &key, &declared.keycloak);
        found.realm(&format!("{key}.realm"), &declared.realm);
        found.text(&format!("{key}.client_id"), declared.id(name));
        if declared.external {
            external(&key, declared, found);
        } else {
            client(&key, declared, found);
        }
    }
}

/// Nothing is done to what somebody else makes, so nothing may be asked of it.
fn external(key: &str, client: &Client, found: &mut Found) {
    let only = Client {
        keycloak: client.keycloak.clone(),
        realm: client.realm.clone(),
        client_id: client.client_id.clone(),
        external: true,
        mandatory: client.mandatory,
        truth: Truth::Keycloak,
        existing: Existing::Keep,
        secret: None,
        public: false,
        redirect_uris: Vec::new(),
        web_origins: None,
        standard_flow: None,
        service_account: None,
        direct_access: false,
        roles: Vec::new(),
        mappers: std::collections::BTreeMap::new(),
        service_account_roles: ServiceAccountRoles::default(),
    };
    if *client != only {
        found.say(
            key,
            "is `external`, so somebody else makes it; give keycloak, realm, client_id and mandatory only",
        );
    }
}

fn client(key: &str, client: &Client, found: &mut Found) {
    if client.mandatory.is_some() {
        found.say(
            format!("{key}.mandatory"),
            "is for external clients; one that Rollcall makes is there afterwards",
        );
    }
    match (client.truth, &client.secret) {
        (Truth::Cluster, None) if !client.public => {
            found.say(format!("{key}.secret"), "is missing; `truth: cluster` takes the value from there");
        }
        (Truth::Keycloak, Some(_)) => {
            let says = "has no meaning where Keycloak makes the secret; remove it, or say `truth: cluster`";
            found.say(format!("{key}.secret"), says);
        }
        (_, Some(secret)) => found.secret_ref(&format!("{key}.secret"), secret),
        _ => {}
    }
    if client.public && client.truth == Truth::Cluster {
        found.say(format!("{key}.truth"), "a public client has no secret; remove `truth` and `secret`");
    }
    if client.public && client.has_service_account() {
        found.say(
            format!("{key}.public"),
            "a public client cannot log in by itself; remove the service account",
        );
    }
    if !client.has_service_account() && !client.service_account_roles.is_empty() {
        found.say(format!("{key}.service_account_roles"), "are given, and `service_account` is false");
    }
    if client.has_standard_flow() && client.redirect_uris.is_empty() {
        found.say(
            format!("{key}.redirect_uris"),
            "is empty, and `standard_flow` is true: no login could lead back; name the addresses",
        );
    }
    found.list(&format!("{key}.redirect_uris"), &client.redirect_uris);
    for uri in &client.redirect_uris {
        if let Some(why) = redirect(uri) {
            found.say(format!("{key}.redirect_uris"), format!("`{uri}` {why}"));
        }
    }
    let origins = client.web_origins.as_deref().unwrap_or_default();
    found.list(&format!("{key}.web_origins"), origins);
    for origin in origins.iter().filter(|origin| !is_origin(origin)) {
        found.say(
            format!("{key}.web_origins"),
            format!("`{origin}` is no origin; write scheme://host[:port], or `+` for those of redirect_uris"),
        );
    }
    found.list(&format!("{key}.roles"), &client.roles);
    for (name, mapper) in &client.mappers {
        found.text(&format!("{key}.mappers"), name);
        if !is_name(&mapper.kind) {
            let says = "is no protocol mapper; write Keycloak's name of it, such as oidc-audience-mapper";
            found.say(format!("{key}.mappers.{name}.kind"), format!("`{}` {says}", mapper.kind));
        }
    }
    let account = &client.service_account_roles;
    found.list(&format!("{key}.service_account_roles.realm"), &account.realm);
    for (other, roles) in &account.clients {
        found.text(&format!("{key}.service_account_roles.clients"), other);
        found.list(&format!("{key}.service_account_roles.clients.{other}"), roles);
    }
}

/// Why logins should not lead back there.
fn redirect(uri: &str) -> Option<&'static str> {
    if uri.starts_with('*') {
        return Some("would hand logins to every site; name the addresses");
    }
    if uri.starts_with('/') {
        return None;
    }
    let Ok(url) = url::Url::parse(uri) else {
        return Some("is no address; write scheme://host/path, or a path that begins with `/`");
    };
    if matches!(url.scheme(), "javascript" | "data" | "vbscript") {
        return Some("is a script, not an address");
    }
    if url.host_str().is_some_and(|host| host.contains('*')) {
        return Some("has a `*` in its host, which Keycloak would not match; only the end may be `*`");
    }
    None
}

fn is_origin(text: &str) -> bool {
    text == "+"
        || url::Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
        })
}

impl Found {
    /// A server that this fragment has or uses.
    fn server(&mut self, document: &Document, key: &str, server: &str) {
        if !document.keycloak.contains_key(server) && !document.uses.keycloak.contains(server) {
            self.say(
                format!("{key}.keycloak"),
                format!("`{server}` is neither under keycloak nor under uses.keycloak of this fragment"),
            );
        }
    }

    /// A name on the server: any text that stays readable in a message.
    fn text(&mut self, key: &str, text: &str) {
        if text.is_empty() || text.chars().count() > NAME_MAX || text.chars().any(char::is_control) {
            self.say(key, format!("must have 1 to {NAME_MAX} characters, none of them a control character"));
        } else if text.trim() != text {
            self.say(key, format!("`{text}` begins or ends with white space"));
        }
    }

    /// A realm's name, which stands in addresses. Keycloak refuses the same characters
    /// (`ReservedCharValidator`).
    fn realm(&mut self, key: &str, name: &str) {
        self.text(key, name);
        if name.contains(|c| ":/?#[]@!$&()*+,;=\\%".contains(c)) || name == "." || name == ".." {
            self.say(key, format!("`{name}` is no realm; use letters, digits, `-`, `_` and `.`"));
        }
    }

    fn list(&mut self, key: &str, entries: &[String]) {
        for (i, entry) in entries.iter().enumerate() {
            self.text(key, entry);
            if entries[..i].contains(entry) {
                self.say(key, format!("`{entry}` stands twice"));
            }
        }
    }
}

/// What a document claims for itself on Keycloak servers.
pub(super) fn claims(document: &Document) -> Vec<Claim> {
    let mut claims: Vec<Claim> = document
        .keycloak
        .keys()
        .map(|name| Claim::new(format!("keycloak/{name}"), format!("keycloak.{name}")))
        .collect();
    // Keycloak tells `a.b` and `a-b` apart.
    let exact = |what: String, key: String| Claim { folded: what.clone(), what, key };
    for (name, realm) in &document.realms {
        claims
            .push(exact(format!("realm `{name}` on keycloak/{}", realm.keycloak), format!("realms.{name}")));
    }
    for (name, client) in &document.clients {
        claims.push(Claim::new(format!("client/{name}"), format!("clients.{name}")));
        let (id, realm, server) = (client.id(name), &client.realm, &client.keycloak);
        let what = format!("client `{id}` of realm `{realm}` on keycloak/{server}");
        claims.push(exact(what, format!("clients.{name}.client_id")));
    }
    claims
}

/// What leads nowhere in all documents together: a server nobody declares, a realm nobody would make.
pub(super) fn union(environment: &Environment) -> Vec<Problem> {
    let problem = |source: &Source, key: String, message: &str| Problem {
        file: source.file.clone(),
        key,
        message: message.to_owned(),
    };
    let documents = || environment.sources().map(|source| &source.document);
    let mut problems = Vec::new();
    for source in environment.sources() {
        for name in &source.document.uses.keycloak {
            if !documents().any(|document| document.keycloak.contains_key(name)) {
                let says =
                    "no fragment declares it; correct the name, or give all the fragments of the environment";
                problems.push(problem(source, format!("uses.keycloak.{name}"), says));
            }
        }
        for (name, realm) in &source.document.realms {
            let makes = |client: &Client| {
                !client.external && client.keycloak == realm.keycloak && client.realm == *name
            };
            if !documents().any(|document| document.clients.values().any(makes)) {
                let says =
                    "no client is declared in it, so nobody makes it; declare one, or remove the realm";
                problems.push(problem(source, format!("realms.{name}"), says));
            }
        }
    }
    problems
}
