//! Deciding: what a client of Keycloak lacks, and what must not be done to it. Sees fingerprints, never values.

use std::collections::BTreeSet;
use std::fmt;

use chassis::converge::{self, Awaits, Note};
use lifecycle::document::{Existing, Mapper};

use super::spec::{Made, Settings, Spec, Wish};
pub use super::state::{Client, Fingerprint, Marker, Realm, World};
pub use super::step::{Action, Step};
use crate::spec::Owner;

/// A plan for one client.
pub type Plan = converge::Plan<Step>;

/// Decides what to do about one client. What is refused, or waits for something it cannot be made without, is left alone as
/// a whole.
pub fn plan(spec: &Spec, world: &World) -> Plan {
    let mut deciding = Deciding { spec, world, plan: Plan::default(), missing: Vec::new() };
    match &spec.wish {
        Wish::External { mandatory } => deciding.external(*mandatory),
        Wish::Made(made) => deciding.made(made),
    }
    let Deciding { mut plan, missing, .. } = deciding;
    if !plan.refusals.is_empty() {
        plan.pending.clear();
    }
    if !plan.refusals.is_empty() || !plan.pending.is_empty() {
        plan.steps.clear();
    } else if plan.steps.is_empty() {
        // Two clients may each give the other's service account a role: both are made before either waits.
        plan.pending = missing;
    }
    plan
}

struct Deciding<'a> {
    spec: &'a Spec,
    world: &'a World,
    plan: Plan,
    /// Roles to give that are not there yet.
    missing: Vec<Note>,
}

impl Deciding<'_> {
    fn note(&self, text: impl fmt::Display) -> Note {
        Note::new(&self.spec.component, text)
    }

    fn refuse(&mut self, text: impl fmt::Display) {
        self.plan.refusals.push(self.note(text));
    }

    fn wait_for(&mut self, awaits: Awaits, text: impl fmt::Display) {
        self.plan.pending.push(self.note(text).awaiting(awaits));
    }

    fn drift(&mut self, text: impl fmt::Display) {
        self.plan.drift.push(self.note(text));
    }

    fn step(&mut self, action: Action) {
        self.plan.steps.push(Step { component: self.spec.component.clone(), action });
    }

    fn external(&mut self, mandatory: bool) {
        let called = self.spec.called();
        let says = match (&self.world.realm, &self.world.client) {
            (_, Some(client)) if client.disabled => return self.drift(format!("{called} is disabled")),
            (_, Some(_)) => return,
            (None, None) => format!("realm `{}` does not exist", self.spec.realm.name),
            (Some(_), None) => format!("{called} does not exist"),
        };
        if mandatory {
            // Another client of these documents may come with the realm, and nothing of them with this client.
            let is_made = self.world.realm.is_none() && self.spec.realm.declared.is_some();
            let awaits = if is_made { Awaits::Time } else { Awaits::Others };
            let says = format!(
                "{says}; the client is declared external, so somebody else makes it: make it there, correct its realm and client_id, or say `mandatory: false`"
            );
            self.wait_for(awaits, says);
        } else {
            self.drift(format!("{says}; it is not mandatory"));
        }
    }

    fn made(&mut self, made: &Made) {
        self.realm();
        if let Some(Err(why)) = &self.world.value {
            let secret = made.secret.as_ref().map(|key| Awaits::Component(key.secret.clone()));
            self.wait_for(secret.unwrap_or_default(), why);
        }
        match &self.world.client {
            None => {
                self.step(Action::CreateClient);
                self.parts(made, &Client { settings: made.settings.clone(), ..Client::default() }, true);
            }
            Some(client) => self.present(made, client),
        }
    }

    /// The realm and its declared roles.
    fn realm(&mut self) {
        let (name, declared) = (&self.spec.realm.name, self.spec.realm.declared.as_ref());
        let there = match (&self.world.realm, declared) {
            (Some(realm), _) => Some(realm),
            (None, Some(_)) => {
                self.step(Action::CreateRealm { realm: name.clone() });
                None
            }
            (None, None) => {
                let says = format!(
                    "realm `{name}` does not exist and no document declares it; declare it under `realms`, or wait for whoever makes it"
                );
                return self.wait_for(Awaits::Others, says);
            }
        };
        let Some(declared) = declared else { return };
        match there.map(|realm| &realm.marker) {
            Some(Marker::Of(owner)) if owner.environment != self.spec.owner.environment => {
                return self.refuse(format!(
                    "realm `{name}` belongs to {}; give this environment a realm of its own, or declare it there only",
                    person(owner)
                ));
            }
            Some(Marker::Unreadable) => {
                return self.refuse(format!(
                    "the mark of ownership on realm `{name}` cannot be read; correct its attributes `rollcall.…`"
                ));
            }
            _ => {}
        }
        let absent = |role: &&String| there.is_none_or(|realm| !realm.roles.contains(*role));
        let roles: Vec<String> = declared.iter().filter(absent).cloned().collect();
        if !roles.is_empty() {
            self.step(Action::AddRealmRoles { roles });
        }
    }

    /// The client is there.
    fn present(&mut self, made: &Made, client: &Client) {
        let (ours, called) = (&self.spec.owner, self.spec.called());
        if client.protocol != "openid-connect" {
            return self.refuse(format!(
                "{called} speaks {}, not openid-connect; give ours another client_id",
                client.protocol
            ));
        }
        let adopt = match &client.marker {
            Marker::Of(owner) if owner.is(ours) => false,
            Marker::Of(owner) if owner.environment != ours.environment => {
                return self.refuse(format!(
                    "{called} belongs to {}; give ours another client_id or realm",
                    person(owner)
                ));
            }
            Marker::Of(owner) => {
                return self.refuse(format!(
                    "{called} belongs to fragment `{}` of this environment, not to `{}`; give it another client_id, or if its declaration moved, write the new fragment into its attribute rollcall.fragment",
                    owner.fragment, ours.fragment
                ));
            }
            Marker::Unreadable => {
                return self.refuse(format!(
                    "the mark of ownership on {called} cannot be read; correct its attributes `rollcall.…`, or remove them to have it taken for somebody else's"
                ));
            }
            Marker::None if made.existing == Existing::Keep => return self.kept(made, client),
            Marker::None => true,
        };
        if client.disabled {
            self.drift(format!("{called} is disabled; it is left so"));
        }
        let changes = differences(&made.settings, &client.settings);
        if adopt || !changes.is_empty() {
            self.step(Action::Update { changes, adopt });
        }
        if self.secret_differs(client) {
            self.step(Action::SetSecret);
        }
        self.parts(made, client, false);
    }

    /// There, not ours, and to be kept as it is.
    fn kept(&mut self, made: &Made, client: &Client) {
        let called = self.spec.called();
        if self.secret_differs(client) {
            // Whoever logs in with the value from the document would be turned away: that is not ready.
            self.refuse(format!(
                "{called} exists, was not made by Rollcall, and has another secret than the document says; say `existing: update` to take it over, or `truth: keycloak`"
            ));
        }
        let steps = std::mem::take(&mut self.plan.steps);
        self.parts(made, client, false);
        let parts = std::mem::replace(&mut self.plan.steps, steps);
        let missing = std::mem::take(&mut self.missing);
        let differs = differences(&made.settings, &client.settings).into_iter();
        let differs = differs.chain(parts.iter().map(Step::to_string));
        let differs: Vec<String> = differs.chain(missing.into_iter().map(|note| note.text)).collect();
        for text in differs {
            self.drift(format!("{called} was not made by Rollcall and is kept; not done: {text}"));
        }
    }

    fn secret_differs(&self, client: &Client) -> bool {
        matches!(&self.world.value, Some(Ok(value)) if client.secret.as_ref() != Some(value))
    }

    /// What hangs on the client: mappers, roles, and the roles of its service account.
    fn parts(&mut self, made: &Made, client: &Client, new: bool) {
        if !new {
            // A new one is made with them.
            for (name, mapper) in &made.mappers {
                if !client.mappers.get(name).is_some_and(|there| covers(there, mapper)) {
                    self.step(Action::SetMapper { name: name.clone() });
                }
            }
        }
        for role in made.roles.iter().filter(|role| !client.roles.contains(*role)) {
            self.step(Action::AddRole { role: role.clone() });
        }
        self.grants(made, client);
    }

    fn grants(&mut self, made: &Made, client: &Client) {
        let declared = self.spec.realm.declared.iter().flatten().collect::<BTreeSet<_>>();
        let realm = &self.spec.realm.name;
        let there = |role: &String| {
            declared.contains(role)
                || self.world.realm.as_ref().is_some_and(|realm| realm.roles.contains(role))
        };
        let (lacks, missing) = split(&made.granted.realm, Some(&client.realm_roles), there);
        // A role of the realm that is declared comes with it: any other is somebody else's to make.
        let mut missing: Vec<(String, Awaits)> = missing
            .iter()
            .map(|role| (format!("role `{role}` of realm `{realm}`"), Awaits::Others))
            .collect();
        if !lacks.is_empty() {
            self.step(Action::GrantRealmRoles { roles: lacks });
        }
        for (other, roles) in &made.granted.clients {
            let there = |role: &String| {
                (*other == self.spec.id && made.roles.contains(role))
                    || self.world.others.get(other).is_some_and(|roles| roles.contains(role))
            };
            let (lacks, absent) = split(roles, client.client_roles.get(other), there);
            missing.extend(absent.iter().map(|role| {
                let maker = made.makers.get(&(other.clone(), role.clone())).cloned();
                let awaits = maker.map_or(Awaits::Others, Awaits::Component);
                (format!("role `{role}` of client `{other}`"), awaits)
            }));
            if !lacks.is_empty() {
                self.step(Action::GrantClientRoles { client: other.clone(), roles: lacks });
            }
        }
        for (text, awaits) in missing {
            let says = format!(
                "{text} does not exist, which its service account is to have; it gets it as soon as that is made"
            );
            self.missing.push(self.note(says).awaiting(awaits));
        }
        self.more_granted(made, client);
    }

    /// Roles that nobody declares are power that nobody asked for; they are somebody's doing all the same, and stay.
    fn more_granted(&mut self, made: &Made, client: &Client) {
        // Every user has it.
        let default = format!("default-roles-{}", self.spec.realm.name.to_lowercase());
        let realm: Vec<String> = client
            .realm_roles
            .iter()
            .filter(|role| **role != default && !made.granted.realm.contains(role))
            .map(|role| format!("role `{role}` of the realm"))
            .collect();
        let clients = client.client_roles.iter().flat_map(|(other, roles)| {
            let asked = made.granted.clients.get(other);
            roles
                .iter()
                .filter(move |role| asked.is_none_or(|asked| !asked.contains(role)))
                .map(move |role| format!("role `{role}` of client `{other}`"))
        });
        for text in realm.into_iter().chain(clients.collect::<Vec<_>>()) {
            self.drift(format!("its service account has {text}, which no document asks for; it is left"));
        }
    }
}

/// The roles asked for that are not had: those that are there to be given, and those that are not there.
fn split(
    asked: &[String],
    had: Option<&BTreeSet<String>>,
    there: impl Fn(&String) -> bool,
) -> (Vec<String>, Vec<String>) {
    asked.iter().filter(|role| had.is_none_or(|had| !had.contains(*role))).cloned().partition(there)
}

/// Whether a mapper is as declared; settings that no document speaks of are Keycloak's defaults.
fn covers(there: &Mapper, asked: &Mapper) -> bool {
    there.kind == asked.kind && asked.config.iter().all(|(key, value)| there.config.get(key) == Some(value))
}

/// What differs, for people.
fn differences(asked: &Settings, there: &Settings) -> Vec<String> {
    let flags = [
        ("public", asked.public, there.public),
        ("standard flow", asked.standard_flow, there.standard_flow),
        ("service account", asked.service_account, there.service_account),
        ("direct access", asked.direct_access, there.direct_access),
    ];
    let flags = flags.into_iter().filter(|(_, asked, there)| asked != there);
    let mut texts: Vec<String> =
        flags.map(|(name, asked, _)| format!("{name} {}", if asked { "on" } else { "off" })).collect();
    let lists = [
        ("redirect_uris", &asked.redirect_uris, &there.redirect_uris),
        ("web_origins", &asked.web_origins, &there.web_origins),
    ];
    for (name, asked, there) in lists {
        let more = asked.iter().filter(|entry| !there.contains(entry)).map(|entry| format!("+`{entry}`"));
        let less = there.iter().filter(|entry| !asked.contains(entry)).map(|entry| format!("-`{entry}`"));
        let changes: Vec<String> = more.chain(less).collect();
        if !changes.is_empty() {
            texts.push(format!("{name} {}", changes.join(" ")));
        }
    }
    texts
}

fn person(owner: &Owner) -> String {
    format!("environment `{}` ({}), fragment `{}`", owner.name, owner.environment, owner.fragment)
}
