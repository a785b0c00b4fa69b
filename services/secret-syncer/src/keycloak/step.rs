//! The changes that are made to a client and its realm, one at a time.

use std::fmt;

use chassis::converge;
use lifecycle::Component;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The client's component.
    pub component: Component,
    /// The change.
    pub action: Action,
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Makes the realm.
    CreateRealm {
        /// Its name.
        realm: String,
    },
    /// Adds roles to the realm.
    AddRealmRoles {
        /// The roles.
        roles: Vec<String>,
    },
    /// Makes the client, with its settings, its mappers and, where a document says so, its secret.
    CreateClient,
    /// Marks the client as ours and sets it as declared.
    Update {
        /// What differs, for people; empty when only the mark does.
        changes: Vec<String>,
        /// It was not ours until now.
        adopt: bool,
    },
    /// Deletes the client.
    Delete,
    /// Writes the secret.
    SetSecret,
    /// Adds a protocol mapper, or makes it as declared.
    SetMapper {
        /// Its name.
        name: String,
    },
    /// Adds a role to the client.
    AddRole {
        /// The role.
        role: String,
    },
    /// Gives the service account roles of the realm.
    GrantRealmRoles {
        /// The roles.
        roles: Vec<String>,
    },
    /// Gives the service account roles of a client.
    GrantClientRoles {
        /// The client's id.
        client: String,
        /// The roles.
        roles: Vec<String>,
    },
}

impl converge::Step for Step {
    fn component(&self) -> &Component {
        &self.component
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::CreateRealm { realm } => write!(f, "create realm `{realm}`"),
            Action::AddRealmRoles { roles } => write!(f, "add {} to the realm", list(roles)),
            Action::CreateClient => f.write_str("create the client"),
            Action::Update { changes, adopt } => {
                f.write_str(if *adopt { "take the client over" } else { "update the client" })?;
                if changes.is_empty() { Ok(()) } else { write!(f, ": {}", changes.join("; ")) }
            }
            Action::Delete => f.write_str("delete the client, because its environment is taken down"),
            Action::SetSecret => f.write_str("write the client's secret"),
            Action::SetMapper { name } => write!(f, "set protocol mapper `{name}`"),
            Action::AddRole { role } => write!(f, "add role `{role}` to the client"),
            Action::GrantRealmRoles { roles } => {
                write!(f, "give its service account {} of the realm", list(roles))
            }
            Action::GrantClientRoles { client, roles } => {
                write!(f, "give its service account {} of client `{client}`", list(roles))
            }
        }
    }
}

fn list(roles: &[String]) -> String {
    let roles: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
    format!("role{} {}", if roles.len() == 1 { "" } else { "s" }, roles.join(", "))
}
