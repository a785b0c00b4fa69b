//! A step that documents declare, with the names that things have on their servers. Pure.

use std::collections::BTreeSet;

use lifecycle::document::{self, Environment, Mode, OnChange};
use lifecycle::{Component, Kind, Need};
use postgres::Server;

use crate::migrate::spec::{Entrance, connection, entrance};
use crate::needs::Needs;
use crate::spec::ServerSpec;

/// A piece of work that is done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSpec {
    /// The component.
    pub component: Component,
    /// The fragment that declares it.
    pub fragment: String,
    /// The other fragments that are declared: where one of them ran a step of this name, that is another one.
    pub others: BTreeSet<String>,
    /// The server whose ledger it is written down in, as its administrator sees it.
    pub server: ServerSpec,
    /// The database that it works on, by its name on the server.
    pub database: Option<String>,
    /// What shows that it was done before there was a ledger.
    pub evidence: Option<Evidence>,
    /// It may be run again after a run that did not end well.
    pub idempotent: bool,
    /// What happens when it was done with other inputs.
    pub on_change: OnChange,
    /// What must be there first.
    pub needs: Needs,
    /// What is asked for, as a hash.
    pub hash: String,
    /// It is only reported whether it would run.
    pub report_only: bool,
}

/// A question to a database whose answer shows that a step was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The database's server.
    pub server: Component,
    /// How that is reached, and from which namespace its CA is read.
    pub connection: (document::Postgres, String),
    /// The database, and who asks.
    pub entrance: Entrance,
    /// The query of one boolean.
    pub sql: String,
}

/// The step called `name`. `Err` says why it cannot be run from these documents.
pub fn spec(environment: &Environment, name: &str) -> Result<StepSpec, String> {
    let component = Component::new(Kind::Step, name);
    let declared = environment.steps().find(|step| step.component == component).ok_or_else(|| {
        let known: Vec<String> = environment.steps().map(|step| step.component.name().to_owned()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!("no document declares {component}; declared are: {known}")
    })?;
    let (document, step) = (&declared.source.document, declared.spec);
    let place = step.place().ok_or("give exactly one of server, database in its document")?;
    let database = match place.kind() {
        Kind::Database => Some(entrance(environment, &place, |database| Some(any_of(database)))?),
        _ => None,
    };
    let at = database.as_ref().map_or_else(|| place.clone(), |(server, _)| server.clone());
    let servers = crate::spec::specs(environment);
    let server = servers.get(&at).map(|spec| spec.only(&at)).ok_or_else(|| {
        format!(
            "only who looks after {at} writes its ledger, and no document here declares it with `admin`; give the fragment that does"
        )
    })?;
    let mut needs = step.needs.clone();
    needs.push(Need::start(place));
    Ok(StepSpec {
        component,
        fragment: document.fragment.name.clone(),
        others: fragments(environment).filter(|name| *name != document.fragment.name).collect(),
        database: database.map(|(_, entrance)| entrance.name),
        evidence: evidence(environment, document, step)?,
        idempotent: step.idempotent,
        on_change: step.on_change,
        needs: Needs::of(environment, &servers, &at, &needs, document),
        hash: step.hash(),
        report_only: document.policy.mode == Mode::Report,
        server,
    })
}

/// The fragments of an environment, by their names.
pub(crate) fn fragments(environment: &Environment) -> impl Iterator<Item = String> {
    environment.sources().map(|source| source.document.fragment.name.clone())
}

/// What shows that a step of this document was done before there was a ledger, and how it is asked. `Err` says why it cannot be.
pub(crate) fn evidence(
    environment: &Environment,
    document: &document::Document,
    step: &document::Step,
) -> Result<Option<Evidence>, String> {
    let Some(asked) = &step.evidence else { return Ok(None) };
    let component = Component::new(Kind::Database, &asked.database);
    let (server, entrance) = entrance(environment, &component, |database| Some(any_of(database)))?;
    let connection = connection(environment, document, &server)
        .ok_or_else(|| format!("no document here says how {server} is reached"))?;
    Ok(Some(Evidence { server, connection, entrance, sql: asked.sql.clone() }))
}

fn any_of(database: &document::Database) -> (&str, &document::SecretRef) {
    let app = &database.roles.app;
    database.migrates().unwrap_or((&app.name, &app.password))
}

impl StepSpec {
    /// What is read to run it.
    pub fn reads(&self) -> BTreeSet<Component> {
        let mut reads = self.server.only(&self.server.component).reads();
        reads.extend(self.needs.reads());
        if let Some(evidence) = &self.evidence {
            reads.insert(evidence.entrance.login.password.secret.clone());
            let (connection, namespace) = &evidence.connection;
            reads.extend(Server::authority(connection, namespace).map(|ca| ca.secret));
        }
        reads
    }
}
