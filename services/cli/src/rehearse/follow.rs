//! Following a rehearsal: what the hub says of every component, folded into one board.

use std::collections::BTreeMap;
use std::time::Duration;

use lifecycle::document::Environment;
use lifecycle::{Component, Event, Graph, Kind, Link, Moment, Phase, Roster, explain};
use rollcall_proto::diagnostics::v1::hub_client::HubClient;
use rollcall_proto::diagnostics::v1::watch_response::Update;
use rollcall_proto::diagnostics::v1::{ComponentState, WatchRequest};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::client::Reached;
use crate::state::phase_of;

/// How long to wait before the hub is asked again after its stream was lost: it is killed on purpose at times.
const AGAIN: Duration = Duration::from_millis(200);
/// Changes that may be on their way to the reader.
const BUFFER: usize = 1024;

/// Receives every state the hub sends, over any number of hubs' lives.
pub struct Follower {
    states: mpsc::Receiver<ComponentState>,
}

impl Follower {
    /// Follows the hub at `url` until it is dropped.
    pub fn start(url: String) -> Follower {
        let (sender, states) = mpsc::channel(BUFFER);
        tokio::spawn(async move {
            while !sender.is_closed() {
                let _ = stream(&url, &sender).await;
                tokio::time::sleep(AGAIN).await;
            }
        });
        Follower { states }
    }

    /// The next state; none when nothing came in time.
    pub async fn next(&mut self, within: Duration) -> Option<ComponentState> {
        tokio::time::timeout(within, self.states.recv()).await.ok().flatten()
    }
}

async fn stream(url: &str, sender: &mpsc::Sender<ComponentState>) -> Option<()> {
    let mut client = HubClient::new(Reached::at(url).await.ok()?.channel);
    let watch = WatchRequest { source: "rehearse".to_owned(), ..WatchRequest::default() };
    let mut updates = client.watch(watch).await.ok()?.into_inner();
    while let Some(response) = updates.message().await.ok()? {
        if let Some(Update::State(state)) = response.update {
            sender.send(state).await.ok()?;
        }
    }
    None
}

/// What is known of every component, and what follows from it.
#[derive(Debug)]
pub struct Board {
    graph: Graph,
    modules: Vec<Component>,
    roster: Roster,
    states: BTreeMap<Component, ComponentState>,
    heard: u64,
}

impl Board {
    /// An empty board of an environment.
    pub fn new(environment: &Environment) -> Board {
        let modules = environment.modules().filter(|m| m.spec.ready.is_some()).map(|m| m.component).collect();
        Board {
            graph: Graph::of(environment),
            modules,
            roster: Roster::new(),
            states: BTreeMap::new(),
            heard: 0,
        }
    }

    /// Hears a state. Gives component and phase when the phase is news.
    pub fn hear(&mut self, state: ComponentState) -> Option<(Component, Phase)> {
        let component: Component = state.component.parse().ok()?;
        let phase = phase_of(&state)?;
        let news = self.phase(&component) != Some(phase);
        let since = state
            .since
            .as_ref()
            .map_or(0, |t| t.seconds.unsigned_abs() * 1000 + u64::from(t.nanos.unsigned_abs()) / 1_000_000);
        self.heard += 1;
        let event = Event {
            environment: Uuid::nil(),
            component: component.clone(),
            phase,
            since: Moment(since),
            // What is heard last holds, whatever a killed hub's clock said.
            generation: self.heard,
            evidence: lifecycle::Evidence::default(),
            reason: state.reason.clone(),
            attempts: state.attempts,
            source: state.source.clone(),
            time: Moment(since),
        };
        self.roster.hear(self.heard, event);
        self.states.insert(component.clone(), state);
        news.then_some((component, phase))
    }

    /// A component's phase.
    pub fn phase(&self, component: &Component) -> Option<Phase> {
        self.roster.get(component).map(|event| event.phase)
    }

    /// The last state heard of a component.
    pub fn state(&self, component: &Component) -> Option<&ComponentState> {
        self.states.get(component)
    }

    /// Modules that are not ready.
    pub fn missing(&self) -> Vec<&Component> {
        self.modules.iter().filter(|m| self.phase(m) != Some(Phase::Ready)).collect()
    }

    /// How many of all components are ready, and how many there are.
    pub fn count(&self) -> (usize, usize) {
        let ready = self.graph.components().filter(|c| self.phase(c) == Some(Phase::Ready)).count();
        (ready, self.graph.components().count())
    }

    /// The chain from a component to the root of why it is not ready.
    pub fn chain(&self, component: &Component) -> Vec<Link> {
        explain(component, &self.graph, &self.roster)
    }

    /// Whether nothing more will happen by itself: some module is not ready, and every one that is not hangs on something
    /// that failed.
    pub fn is_stuck(&self) -> bool {
        let missing = self.missing();
        !missing.is_empty()
            && missing.iter().all(|module| {
                self.chain(module)
                    .last()
                    .is_some_and(|root| self.phase(&root.component) == Some(Phase::Failed))
            })
    }

    /// One line for each root cause, with the modules it holds up.
    pub fn causes(&self) -> Vec<String> {
        let mut roots: BTreeMap<Component, Vec<String>> = BTreeMap::new();
        for module in self.missing() {
            if let Some(root) = self.chain(module).pop() {
                roots.entry(root.component).or_default().push(module.to_string());
            }
        }
        let line = |(root, modules): (Component, Vec<String>)| {
            let phase = self.phase(&root).map_or("never heard of", Phase::as_str);
            let reason = self.states.get(&root).map(|s| s.reason.as_str()).unwrap_or_default();
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let others: Vec<String> = modules.into_iter().filter(|m| *m != root.to_string()).collect();
            let holds = if others.is_empty() {
                String::new()
            } else {
                format!("; it holds up {}", others.join(", "))
            };
            format!("{root} is {phase}{reason}{holds}")
        };
        roots.into_iter().map(line).collect()
    }

    /// Modules of the environment.
    pub fn modules(&self) -> impl Iterator<Item = &Component> {
        self.graph.components().filter(|c| c.kind() == Kind::Module)
    }
}
