//! Taking down a whole environment: clients of Keycloak, and later Secrets and ConfigMaps, where their fragment says `on_delete: delete`
//! and nothing that stays needs them.

use std::collections::{BTreeMap, BTreeSet};

use chassis::converge::{Note, Reconcile};
use chassis::teardown::Report;
use chassis::{Context, Failure};
use lifecycle::document::{Environment, OnDelete};
use lifecycle::{Component, Kind};

use crate::keycloak::spec::Wish;
use crate::keycloak::{self, KeycloakTarget};
use crate::spec::{self, Origin, Owner, Spec};
use crate::world::{Backend, InStore, alone, record_name};
use crate::{Store, command, credentials, logins, plan};

const RETAINED: &str = "stays with its mark, for its fragment does not say `on_delete: delete`";
const REPORTED: &str = "stays, for its fragment is in mode report";

const LOOKS: &[&str] = &["get"];
const DELETES: &[&str] = &["get", "delete"];
const FORGETS: &[&str] = &["get", "create", "patch"];

/// Why what a fragment declares stays, if it does.
fn stays(environment: &Environment, owner: &Owner, report_only: bool) -> Option<&'static str> {
    let own = environment.sources().find(|source| source.document.fragment.name == owner.fragment);
    match own.map(|source| source.document.policy.on_delete) {
        _ if report_only => Some(REPORTED),
        Some(OnDelete::Delete) => None,
        Some(OnDelete::Retain) | None => Some(RETAINED),
    }
}

/// What a teardown does with which Secrets and ConfigMaps, in the words of Kubernetes: looks at what documents have made, deletes what
/// they say goes, and of what was generated forgets that it was.
pub fn rights(environment: &Environment) -> BTreeMap<Component, &'static [&'static str]> {
    let mut rights: BTreeMap<Component, &'static [&'static str]> = BTreeMap::new();
    if environment.clients().next().is_some() {
        rights.extend(logins(environment).into_iter().map(|secret| (secret, LOOKS)));
    }
    for spec in spec::specs(environment).iter().filter(|spec| !matches!(spec.origin, Origin::External)) {
        let goes = stays(environment, &spec.owner, spec.report_only).is_none();
        rights.insert(spec.object.clone(), if goes { DELETES } else { LOOKS });
        if goes && matches!(spec.origin, Origin::Generated(_)) {
            let namespace = spec.object.namespace().unwrap_or_default();
            let record = record_name(environment.identity().uid);
            rights.insert(Component::namespaced(Kind::ConfigMap, namespace, record), FORGETS);
        }
    }
    rights
}

/// Takes down the clients of Keycloak that these documents have, or says which would go. Before the databases: Keycloak's own may
/// be among them.
///
/// # Errors
/// The store cannot be opened; what goes wrong with one client is in the report.
pub async fn teardown_clients(
    environment: &Environment,
    context: &Context,
    yes: bool,
) -> Result<Report, Failure> {
    let mut report = Report::new(yes);
    if environment.clients().next().is_none() {
        return Ok(report);
    }
    let store = Store::open(&context.settings, false).await?;
    for (name, target, client_spec) in keycloak::targets(environment, &InStore(store.clone())) {
        let why = stays(environment, &client_spec.owner, client_spec.report_only);
        if let Err(error) = client(&mut report, &target, &client_spec, why).await {
            report.failed.push((name, error));
        }
    }
    Ok(report)
}

/// Takes down the Secrets and ConfigMaps of these documents, or says which would go. What something of `staying` needs (`needed`, and
/// what lets us in to Keycloak while a client stays), and what that is made from, stays.
///
/// # Errors
/// The store cannot be opened; what goes wrong with one object is in the report.
pub async fn teardown(
    environment: &Environment,
    context: &Context,
    yes: bool,
    staying: &BTreeSet<Component>,
    needed: &BTreeSet<Component>,
) -> Result<Report, Failure> {
    let mut report = Report::new(yes);
    let specs = spec::specs(environment);
    if specs.is_empty() {
        return Ok(report);
    }
    let store = Store::open(&context.settings, false).await?;
    for copy in environment.choosing() {
        tracing::warn!("{copy}: where labels choose, `secret-syncer --central teardown` takes it down");
    }
    let mut needed = needed.clone();
    if environment.clients().any(|client| staying.contains(&client.component)) {
        needed.extend(credentials(environment));
    }
    // Each after what it is made from: what is needed is known before what it needs is asked about.
    for spec in specs.iter().rev() {
        let why = match stays(environment, &spec.owner, spec.report_only) {
            None if needed.contains(&spec.object) => Some("stays, for something that stays needs it"),
            why => why,
        };
        if why.is_some() {
            needed.extend(spec.read_objects());
        }
        if let Err(error) = object(&mut report, spec, &store, why).await {
            report.failed.push((spec.object.clone(), error));
        }
    }
    Ok(report)
}

async fn client(
    report: &mut Report,
    target: &KeycloakTarget<InStore<Store>>,
    spec: &keycloak::Spec,
    stays: Option<&str>,
) -> Result<(), Failure> {
    if matches!(spec.wish, Wish::External { .. }) {
        return Ok(());
    }
    if let Some(why) = stays {
        // Its server is not asked: it may be gone already.
        report.retained.push(Note::new(&spec.component, format!("{}, if it is there, {why}", spec.called())));
        return Ok(());
    }
    let plan = keycloak::teardown(spec, &target.alone(spec).await.map_err(|error| command::failure(&error))?);
    report.retained.extend(plan.drift);
    for step in &plan.steps {
        if report.done {
            target.apply(spec, step).await.map_err(|error| command::failure(&error))?;
        }
        report.removed.push(Note::new(&step.component, step));
    }
    Ok(())
}

async fn object(report: &mut Report, spec: &Spec, store: &Store, stays: Option<&str>) -> Result<(), Failure> {
    if matches!(spec.origin, Origin::External) {
        return Ok(());
    }
    let contents = store.read(&spec.object).await.map_err(|error| command::failure(&error))?;
    let plan = plan::teardown(spec, &alone(spec, contents), true);
    report.refused.extend(plan.refusals);
    report.told.extend(plan.drift);
    report.told.extend(plan.pending);
    for step in &plan.steps {
        if let Some(why) = stays {
            report.retained.push(Note::new(&step.object, why));
            continue;
        }
        if report.done {
            command::delete(store, spec, step).await?;
        }
        report.removed.push(Note::new(&step.object, step));
    }
    Ok(())
}
