//! The graph of an environment: components and the needs between them, the implied ones included.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::{Environment, Problem, Roles, check_union};
use crate::{Component, Kind, Need, When};

/// One edge: what is needed, and whether a document says so or it follows from what things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The need.
    pub need: Need,
    /// It follows from what the component is; no document says it.
    pub implied: bool,
}

/// Components and the needs between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    nodes: BTreeMap<Component, Vec<Edge>>,
}

/// Components that need each other to start: none of them ever could.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} need each other to start; make one of these needs `when: runtime`", path(.0))]
pub struct Cycle(
    /// The path from a component back to itself: the first and the last are the same.
    pub Vec<Component>,
);

fn path(components: &[Component]) -> String {
    components.iter().map(Component::to_string).collect::<Vec<_>>().join(" → ")
}

impl Graph {
    /// The graph of an environment, with its implied needs: a database needs its server, its login roles' passwords and
    /// its server's administrator's password; a role that reads databases the same and those databases; a migration its databases,
    /// its ConfigMaps and the Secrets of its variables; a step its server or database; a topic its Kafka; a Secret or ConfigMap what
    /// it is made from; a client its secret, and its server with its login; a module the passwords of the databases and roles it
    /// needs and of databases whose migrations it needs, and the Secrets with which it proves that the clients it needs are there.
    pub fn of(environment: &Environment) -> Graph {
        let mut graph = Graph::default();
        let passwords = graph.on_servers(environment);
        for cluster in environment.kafka() {
            graph.node(cluster.component);
        }
        for endpoint in environment.endpoints() {
            graph.node(endpoint.component);
        }
        let secrets = environment.secrets().map(|s| (s.spec.sources(s.namespace()), s.component));
        let configmaps = environment.configmaps().map(|c| (c.spec.sources(c.namespace()), c.component));
        for (sources, object) in secrets.chain(configmaps) {
            graph.node(object.clone());
            for source in sources {
                graph.imply(&object, source);
            }
        }
        for topic in environment.topics() {
            graph.imply(&topic.component, Component::new(Kind::Kafka, &topic.spec.kafka));
        }
        for client in environment.clients() {
            graph.node(client.component.clone());
            if let Some(secret) = &client.spec.secret {
                graph.imply(&client.component, client.secret(&secret.secret));
            }
            let Some((source, server)) = environment.keycloak(&client.spec.keycloak) else { continue };
            for secret in server.tls.ca.iter().chain([&server.login.secret]) {
                let namespace = &source.document.fragment.namespace;
                graph.imply(&client.component, secret.secret.secret(namespace));
            }
            if let Some(module) = &server.module {
                graph.imply(&client.component, Component::new(Kind::Module, module));
            }
        }
        for module in environment.modules() {
            graph.node(module.component.clone());
            graph.say(&module.component, &module.spec.needs, module.namespace());
            for value in module.spec.keys.listed() {
                if let Some(object) = value.component(&module.source.document.fragment.namespace) {
                    graph.imply(&module.component, object);
                }
            }
            for need in module.spec.needs.iter().filter(|need| need.when == When::Start) {
                if let Some(password) = passwords.get(&need.component) {
                    graph.imply(&module.component, password.clone());
                }
                if let Some(proof) = environment.credential(&need.component, module.namespace()) {
                    graph.imply(&module.component, proof.secret);
                }
            }
        }
        graph
    }

    /// Servers, what is on them, and what is done in their databases. Tells with which password each is entered.
    fn on_servers(&mut self, environment: &Environment) -> BTreeMap<Component, Component> {
        let mut admins: BTreeMap<Component, Component> = BTreeMap::new();
        let mut passwords: BTreeMap<Component, Component> = BTreeMap::new();
        for server in environment.postgres() {
            if let Some(admin) = &server.spec.admin {
                admins.insert(server.component.clone(), server.secret(&admin.password.secret));
            }
            self.node(server.component);
        }
        for database in environment.databases() {
            let server = Component::new(Kind::Postgres, &database.spec.server);
            let Roles { app, migrator, .. } = &database.spec.roles;
            let password = database.secret(&app.password.secret);
            self.imply(&database.component, server.clone());
            self.imply(&database.component, password.clone());
            let others = app.overlap.iter().map(|other| &other.password);
            for other in others.chain(migrator.iter().map(|migrator| &migrator.password)) {
                self.imply(&database.component, database.secret(&other.secret));
            }
            if let Some(admin) = admins.get(&server) {
                self.imply(&database.component, admin.clone());
            }
            passwords.insert(database.component, password);
        }
        for role in environment.roles() {
            let server = Component::new(Kind::Postgres, &role.spec.server);
            let password = role.secret(&role.spec.password.secret);
            self.imply(&role.component, server.clone());
            self.imply(&role.component, password.clone());
            for database in &role.spec.reads {
                self.imply(&role.component, Component::new(Kind::Database, database));
            }
            if let Some(admin) = admins.get(&server) {
                self.imply(&role.component, admin.clone());
            }
            passwords.insert(role.component, password);
        }
        self.work(environment, &mut passwords);
        passwords
    }

    /// Migrations, which are entered with the passwords of their databases, and steps.
    fn work(&mut self, environment: &Environment, passwords: &mut BTreeMap<Component, Component>) {
        for migration in environment.migrations() {
            let own = Component::new(Kind::Database, &migration.spec.database);
            if let Some(password) = passwords.get(&own).cloned() {
                passwords.insert(migration.component.clone(), password);
            }
            for database in migration.spec.databases() {
                self.imply(&migration.component, database);
            }
            for object in migration.spec.reads(migration.namespace()) {
                self.imply(&migration.component, object);
            }
            self.say(&migration.component, &migration.spec.needs, migration.namespace());
        }
        for step in environment.steps() {
            self.node(step.component.clone());
            let evidence =
                step.spec.evidence.iter().map(|evidence| Component::new(Kind::Database, &evidence.database));
            for needed in step.spec.place().into_iter().chain(evidence) {
                self.imply(&step.component, needed);
            }
            self.say(&step.component, &step.spec.needs, step.namespace());
        }
    }

    /// Adds a component without needs, where it is not there yet.
    pub fn node(&mut self, component: Component) {
        self.nodes.entry(component).or_default();
    }

    /// Adds a need of `component`. A second need for the same thing is dropped: what a document says comes first.
    pub fn edge(&mut self, component: &Component, edge: Edge) {
        let edges = self.nodes.entry(component.clone()).or_default();
        if !edges.iter().any(|e| e.need.component == edge.need.component) {
            edges.push(edge);
        }
    }

    /// Adds the needs that a document in `namespace` says.
    fn say(&mut self, component: &Component, needs: &[Need], namespace: &str) {
        for need in needs {
            let needed = need.component.clone().in_namespace(namespace);
            self.edge(component, Edge { need: Need { component: needed, ..need.clone() }, implied: false });
        }
    }

    fn imply(&mut self, component: &Component, needed: Component) {
        self.edge(component, Edge { need: Need::start(needed), implied: true });
    }

    /// Every declared component, in the order of their names.
    pub fn components(&self) -> impl Iterator<Item = &Component> {
        self.nodes.keys()
    }

    /// Whether a document declares the component.
    pub fn declares(&self, component: &Component) -> bool {
        self.nodes.contains_key(component)
    }

    /// The needs of a component; none for one that is not declared.
    pub fn needs(&self, component: &Component) -> &[Edge] {
        self.nodes.get(component).map_or(&[], Vec::as_slice)
    }

    /// What a component needs before it starts.
    pub fn start_needs(&self, component: &Component) -> impl Iterator<Item = &Need> {
        self.needs(component).iter().map(|edge| &edge.need).filter(|need| need.when == When::Start)
    }

    /// Who needs the component to start, directly or through others.
    pub fn dependants(&self, component: &Component) -> BTreeSet<Component> {
        let mut found = BTreeSet::new();
        let mut next = vec![component.clone()];
        while let Some(current) = next.pop() {
            for (dependant, _) in
                self.nodes.iter().filter(|(node, _)| self.start_needs(node).any(|n| n.component == current))
            {
                if found.insert(dependant.clone()) {
                    next.push(dependant.clone());
                }
            }
        }
        found
    }

    /// Needs for which no document declares anything: (who needs, what).
    pub fn dangling(&self) -> Vec<(&Component, &Component)> {
        let edges =
            self.nodes.iter().flat_map(|(node, edges)| edges.iter().map(move |e| (node, &e.need.component)));
        edges.filter(|(_, needed)| !self.declares(needed)).collect()
    }

    /// The components in layers: each one's start needs are all in earlier layers. Needs that nobody declares count as
    /// met here; [`dangling`](Self::dangling) names them.
    pub fn order(&self) -> Result<Vec<Vec<Component>>, Cycle> {
        let mut left: BTreeMap<&Component, BTreeSet<&Component>> = self
            .nodes
            .keys()
            .map(|node| {
                (node, self.start_needs(node).map(|n| &n.component).filter(|c| self.declares(c)).collect())
            })
            .collect();
        let mut layers = Vec::new();
        while !left.is_empty() {
            let layer: Vec<&Component> =
                left.iter().filter(|(_, needs)| needs.is_empty()).map(|(c, _)| *c).collect();
            if layer.is_empty() {
                return Err(Cycle(cycle(&left)));
            }
            for component in &layer {
                left.remove(component);
            }
            for needs in left.values_mut() {
                needs.retain(|need| !layer.contains(need));
            }
            layers.push(layer.into_iter().cloned().collect());
        }
        Ok(layers)
    }

    /// Everything that is wrong with the union although each fragment is right by itself.
    pub fn check(&self, environment: &Environment) -> Vec<Problem> {
        let mut problems = check_union(environment);
        let file_of = |component: &Component| {
            environment
                .sources()
                .find(|s| declared_in(s, component))
                .map_or_else(|| "documents".to_owned(), |s| s.file.clone())
        };
        for (who, what) in self.dangling() {
            problems.push(Problem {
                file: file_of(who),
                key: who.to_string(),
                message: format!("needs {what}, which no fragment declares; declare it, or give all the fragments of the environment"),
            });
        }
        let unprovable: BTreeSet<Component> =
            environment.modules().filter(|m| m.spec.ready.is_none()).map(|m| m.component).collect();
        for (node, edges) in &self.nodes {
            for edge in
                edges.iter().filter(|e| unprovable.contains(&e.need.component) && e.need.when == When::Start)
            {
                problems.push(Problem {
                    file: file_of(&edge.need.component),
                    key: edge.need.component.to_string(),
                    message: format!("{node} needs it to start, but it does not say how to see that it is ready; add `ready`"),
                });
            }
        }
        if let Err(cycle) = self.order() {
            problems.push(Problem {
                file: file_of(&cycle.0[0]),
                key: cycle.0[0].to_string(),
                message: cycle.to_string(),
            });
        }
        problems.sort();
        problems
    }
}

fn declared_in(source: &crate::document::Source, component: &Component) -> bool {
    let (document, name) = (&source.document, component.name());
    match component.kind() {
        Kind::Postgres => document.postgres.contains_key(name),
        Kind::Kafka => document.kafka.contains_key(name),
        Kind::Database => document.databases.contains_key(name),
        Kind::Role => document.roles.contains_key(name),
        Kind::Topic => document.topics.contains_key(name),
        Kind::Client => document.clients.contains_key(name),
        Kind::Endpoint => document.endpoints.contains_key(name),
        Kind::Module => document.modules.contains_key(name),
        Kind::Secret => document
            .secrets
            .iter()
            .any(|(name, secret)| secret.stands(name, &document.fragment.namespace).contains(component)),
        Kind::ConfigMap => document.configmaps.iter().any(|(name, configmap)| {
            configmap.stands(name, &document.fragment.namespace).contains(component)
        }),
        Kind::Migration => document.migrations.contains_key(name),
        Kind::Step => document.steps.contains_key(name),
        Kind::Group => false,
    }
}

/// A cycle among components each of which still needs another of them: follow first needs until one comes again.
fn cycle(left: &BTreeMap<&Component, BTreeSet<&Component>>) -> Vec<Component> {
    let mut path: Vec<&Component> = left.keys().take(1).copied().collect();
    while let Some(next) = path.last().and_then(|last| left.get(last)).and_then(|needs| needs.first()) {
        if let Some(start) = path.iter().position(|seen| seen == next) {
            let mut found: Vec<Component> = path[start..].iter().map(|c| (*c).clone()).collect();
            found.push((*next).clone());
            return found;
        }
        path.push(next);
    }
    path.into_iter().cloned().collect()
}
