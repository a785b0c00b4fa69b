//! What is, as deciding sees it: a client, its realm and what else its wish speaks of, without any secret value.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::Mapper;

use super::spec::Settings;
use crate::spec::Owner;

/// What identifies a value without being it: a keyed digest under a salt that nobody keeps. Two fingerprints of one
/// [`World`] are equal when their values are.
pub type Fingerprint = [u8; 32];

/// What is, of one client and what it stands on. Only what the spec speaks of is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// Its realm; none when there is no such realm.
    pub realm: Option<Realm>,
    /// The client; none when there is no such client.
    pub client: Option<Client>,
    /// Roles of the other clients whose roles its service account gets, by client id; no entry for a client that is
    /// not there.
    pub others: BTreeMap<String, BTreeSet<String>>,
    /// The value that its secret is made to be; the text says why it cannot be read yet.
    pub value: Option<Result<Fingerprint, String>>,
}

/// A realm.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Realm {
    /// Whose it is.
    pub marker: Marker,
    /// Its roles.
    pub roles: BTreeSet<String>,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Client {
    /// Keycloak's own id of it.
    pub uid: String,
    /// Whose it is.
    pub marker: Marker,
    /// We made it; otherwise it was there before it was ours.
    pub made: bool,
    /// What it speaks, as Keycloak calls it.
    pub protocol: String,
    /// Nobody can use it.
    pub disabled: bool,
    /// How it is set.
    pub settings: Settings,
    /// Its secret; none when it has none.
    pub secret: Option<Fingerprint>,
    /// Its roles.
    pub roles: BTreeSet<String>,
    /// Its protocol mappers.
    pub mappers: BTreeMap<String, Mapper>,
    /// The roles of the realm that its service account has.
    pub realm_roles: BTreeSet<String>,
    /// The roles of clients that its service account has, by client id.
    pub client_roles: BTreeMap<String, BTreeSet<String>>,
}

/// Whose a thing is, by the mark that Rollcall leaves on what it makes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Marker {
    /// It has no mark.
    #[default]
    None,
    /// It has one that cannot be read.
    Unreadable,
    /// Somebody's documents declare it.
    Of(Owner),
}
