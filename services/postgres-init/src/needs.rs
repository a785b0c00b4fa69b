//! What must be there before a migration or a step runs, and how postgres-init sees that it is.

use std::collections::{BTreeMap, BTreeSet};

use chassis::secret::SecretStore;
use lifecycle::document::{Document, Environment};
use lifecycle::{Component, Kind, Need};

use crate::spec::ServerSpec;
use crate::step::spec::fragments;
use crate::world::{Error, PostgresTarget};

/// What must be there first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Databases, migrations and steps, by the server whose records tell of them. Of a step with the fragment that declares it: where one
    /// of another has its name, that one's runs are not its own.
    recorded: BTreeMap<Component, BTreeMap<Component, Option<String>>>,
    /// The fragments that are declared.
    declared: BTreeSet<String>,
    /// Secrets and ConfigMaps.
    objects: BTreeSet<Component>,
    /// What no document here lets be seen, with the reason.
    unseen: Vec<(Component, String)>,
    /// How records are read, by server: as its administrator, nothing but its own part.
    servers: BTreeMap<Component, ServerSpec>,
}

impl Needs {
    /// What these needs of a document mean. `server` is where the thing itself is.
    pub fn of(
        environment: &Environment,
        servers: &BTreeMap<Component, ServerSpec>,
        server: &Component,
        needs: &[Need],
        document: &Document,
    ) -> Needs {
        let mut found = Needs { declared: fragments(environment).collect(), ..Needs::default() };
        for need in needs {
            let component = need.component.clone().in_namespace(&document.fragment.namespace);
            match component.kind() {
                Kind::Secret | Kind::ConfigMap => {
                    found.objects.insert(component);
                }
                // Whoever looks at its records sees whether it answers.
                Kind::Postgres => {
                    found.recorded.entry(component).or_default();
                }
                _ => match place(environment, &component) {
                    Some(at) => {
                        let fragment = fragment(environment, &component);
                        found.recorded.entry(at).or_default().insert(component, fragment);
                    }
                    None => found.unseen.push((
                        component.clone(),
                        format!("no document here declares {component}; give the fragment that does"),
                    )),
                },
            }
        }
        for (at, components) in &found.recorded {
            match servers.get(at) {
                Some(spec) => {
                    found.servers.insert(at.clone(), spec.only(at));
                }
                None => found.unseen.extend(components.keys().map(|component| {
                    let said =
                        format!("{at}, whose records tell of it, has no administrator in the documents here");
                    (component.clone(), said)
                })),
            }
        }
        // Its own server's records are read for what is written there too.
        if let Some(spec) = servers.get(server) {
            found.servers.insert(server.clone(), spec.only(server));
        }
        found
    }

    /// What is read to see them.
    pub fn reads(&self) -> BTreeSet<Component> {
        let servers = self.servers.values().flat_map(|spec| {
            let ca = postgres::Server::authority(&spec.connection, &spec.namespace).map(|ca| ca.secret);
            ca.into_iter().chain([spec.admin.password.secret.clone()])
        });
        servers.chain(self.objects.iter().cloned()).collect()
    }

    /// The server's own part, as its administrator sees it; none where no document here names one.
    pub fn server(&self, server: &Component) -> Option<&ServerSpec> {
        self.servers.get(server)
    }

    /// The first of them that is not there yet, with the reason; none when all are.
    pub async fn unmet(
        &self,
        environment: uuid::Uuid,
        secrets: &SecretStore,
    ) -> Result<Option<(Component, String)>, Error> {
        if let Some(unseen) = self.unseen.first() {
            return Ok(Some(unseen.clone()));
        }
        for object in &self.objects {
            if let Err(error) = secrets.contents(object, &[]).await {
                return Ok(Some((object.clone(), error.to_string())));
            }
        }
        for (server, components) in &self.recorded {
            let Some(spec) = self.servers.get(server) else { continue };
            let target = PostgresTarget::new(secrets.clone());
            let done = target.recorded(spec, environment, components, &self.declared).await?;
            if let Some(missing) = components.keys().find(|component| !done.contains(*component)) {
                return Ok(Some((missing.clone(), format!("{missing} is not done yet"))));
            }
        }
        Ok(None)
    }
}

/// The fragment that runs a step; none for anything else, which keeps what was done to it wherever it is declared.
fn fragment(environment: &Environment, component: &Component) -> Option<String> {
    let declared = environment.steps().find(|step| step.component == *component)?;
    Some(declared.source.document.fragment.name.clone())
}

/// The server whose records tell of a component.
pub(crate) fn place(environment: &Environment, component: &Component) -> Option<Component> {
    let database = |name: &str| {
        let component = Component::new(Kind::Database, name);
        let declared = environment.databases().find(|database| database.component == component)?;
        Some(Component::new(Kind::Postgres, &declared.spec.server))
    };
    match component.kind() {
        Kind::Database => database(component.name()),
        Kind::Migration => {
            let declared = environment.migrations().find(|migration| migration.component == *component)?;
            database(&declared.spec.database)
        }
        Kind::Step => {
            let declared = environment.steps().find(|step| step.component == *component)?;
            match declared.spec.place()? {
                at if at.kind() == Kind::Database => database(at.name()),
                at => Some(at),
            }
        }
        _ => None,
    }
}
