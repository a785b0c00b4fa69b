//! What is waited for: a port that listens or not, a role that may log in or not; and the news of it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use acceptance::catalog;
use chassis::announcer::Announcer;
use chassis::bus::{Bus, Part};
use chassis::hub::{Announcement, HubClient, HubUpdate};
use chassis::shutdown::Shutdown;
use chassis::{SecretValue, clock};
use lifecycle::{Component, Evidence, Phase};
use rollcall::rehearse::{Service, Stage};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::waiter::Method;

/// How long the hub may take to notice.
const NOTICE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Login,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "TCP",
            Kind::Login => "login",
        }
    }
}

/// How those who make dependencies tell of them.
pub(crate) struct News {
    hub: HubClient,
    bus: Announcer,
    /// Without its end the bus is followed.
    _shutdown: Shutdown,
}

impl News {
    pub(crate) async fn start(stage: &Stage) -> News {
        let hub = HubClient::new(&stage.url(Service::WaitForDependency), "stand-in/bench").unwrap();
        let mut updates = hub.watch("", &[]);
        let generation = async {
            loop {
                match updates.recv().await.unwrap() {
                    HubUpdate::CaughtUp { generation, .. } if generation > 0 => return generation,
                    _ => {}
                }
            }
        };
        let generation = timeout(NOTICE, generation).await.expect("the hub serves no bring-up");
        let shutdown = Shutdown::manual();
        let brokers = [stage.kafka().unwrap().brokers()];
        let identity = stage.environment().identity().clone();
        let bus = Bus::start(brokers.as_slice(), identity.clone(), &shutdown, Part::Member);
        let bus = Announcer::new(bus, identity, "postgres-init/bench");
        bus.set_generation(generation);
        assert_eq!(bus.flush(NOTICE).await, 0, "the bus is not there");
        News { hub, bus, _shutdown: shutdown }
    }

    /// A module says that it works, and the hub looks; a provisioner says what it made.
    fn tell(&self, component: &Component, present: bool) {
        if component.kind() == lifecycle::Kind::Module {
            self.hub.announce(Announcement {
                component: component.clone(),
                phase: Phase::Working,
                reason: if present { "answers its health check" } else { "starts" }.to_owned(),
                unmet: Vec::new(),
                attempts: 1,
                since: clock::now(),
            });
        } else {
            let phase = if present { Phase::Ready } else { Phase::Working };
            self.bus.announce(component, phase, "", Evidence::default());
        }
    }
}

/// One dependency of one lane.
pub(crate) struct Dependency {
    pub(crate) thing: Thing,
    /// What the documents call it, and what the hub says of it; only push knows the hub.
    pub(crate) told: Option<(Component, Receiver<HubUpdate>)>,
}

pub(crate) enum Thing {
    Port { port: u16, listener: Option<TcpListener> },
    Role { role: String, password: SecretValue, admin: PgConnection },
}

impl Dependency {
    pub(crate) async fn new(kind: Kind, method: Method, lane: usize, stage: &Stage) -> Dependency {
        let push = method == Method::Push;
        let name =
            if kind == Kind::Tcp { format!("module/port{lane}") } else { format!("database/lane{lane}") };
        let thing = match kind {
            Kind::Tcp => {
                let own = || sandbox::ports::free(1).unwrap()[0];
                let port = if push { stage.stand_in_port(&name).unwrap() } else { own() };
                Thing::Port { port, listener: None }
            }
            Kind::Login => {
                let mut admin = catalog::superuser(stage, "postgres").await;
                let role = if push { format!("lane{lane}") } else { format!("{}{lane}", method.name()) };
                if !push {
                    let sql = format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'");
                    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
                }
                Thing::Role { password: SecretValue::new(role.clone()), role, admin }
            }
        };
        let hub = HubClient::new(&stage.url(Service::WaitForDependency), "bench/look").unwrap();
        let component: Component = name.parse().unwrap();
        let told = push.then(|| (component.clone(), hub.watch("", &[component])));
        Dependency { thing, told }
    }

    /// Makes it ready and tells of it; gives the time between.
    pub(crate) async fn present(&mut self, news: &News) -> Instant {
        self.thing.set(true).await;
        let ready = Instant::now();
        self.tell(true, news);
        ready
    }

    /// Makes it not ready, whatever it was, and lets the hub notice.
    pub(crate) async fn absent(&mut self, news: &News) {
        self.present(news).await;
        self.noticed(true).await;
        self.thing.set(false).await;
        self.tell(false, news);
        self.noticed(false).await;
    }

    fn tell(&self, present: bool, news: &News) {
        if let Some((component, _)) = &self.told {
            news.tell(component, present);
        }
    }

    async fn noticed(&mut self, ready: bool) {
        let Some((component, updates)) = &mut self.told else { return };
        let noticed = async {
            loop {
                if let HubUpdate::State(state) = updates.recv().await.unwrap()
                    && (state.phase == Some(Phase::Ready)) == ready
                {
                    return;
                }
            }
        };
        let what = if ready { "is" } else { "is not" };
        assert!(
            timeout(NOTICE, noticed).await.is_ok(),
            "the hub does not notice that {component} {what} ready"
        );
    }
}

impl Thing {
    async fn set(&mut self, present: bool) {
        match self {
            Thing::Port { port, listener } => {
                if !present {
                    *listener = None;
                } else if listener.is_none() {
                    *listener = Some(TcpListener::bind(("127.0.0.1", *port)).unwrap());
                }
            }
            Thing::Role { role, admin, .. } => {
                let sql = format!("ALTER ROLE {role} {}", if present { "LOGIN" } else { "NOLOGIN" });
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(admin).await.unwrap();
            }
        }
    }
}
