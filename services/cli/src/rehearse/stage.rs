//! The stage of a rehearsal: real servers in a sandbox, the environment's documents at their addresses, its secrets as
//! folders, and the processes that run on it. The `rehearse` command is one play on it; scenario tests are others.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lifecycle::document::Environment;
use sandbox::{
    Handle, Kafka, KafkaOptions, Options, Postgres, PostgresOptions, ProcessSpec, Restart, Sandbox,
    Supervisor,
};

use super::rewrite::{Addresses, stand_ins};

/// How long a server may take to answer after it was started.
pub const SERVER_START: Duration = Duration::from_mins(2);
/// How long a killed process stays away before its supervisor starts it again.
const RESTART: Duration = Duration::from_millis(200);

/// The five services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The hub.
    WaitForDependency,
    /// Generates and copies Secrets.
    SecretSyncer,
    /// Makes databases.
    PostgresInit,
    /// Makes topics.
    TopicProvisioner,
    /// Tells the story.
    TelemetryExporter,
}

impl Service {
    /// All five, in the order they are started; any order is right.
    pub const ALL: [Service; 5] = [
        Service::WaitForDependency,
        Service::TelemetryExporter,
        Service::SecretSyncer,
        Service::PostgresInit,
        Service::TopicProvisioner,
    ];

    /// The service's name: its subcommand of `rollcall`.
    pub fn name(self) -> &'static str {
        match self {
            Service::WaitForDependency => "wait-for-dependency",
            Service::SecretSyncer => "secret-syncer",
            Service::PostgresInit => "postgres-init",
            Service::TopicProvisioner => "topic-provisioner",
            Service::TelemetryExporter => "telemetry-exporter",
        }
    }
}

/// Where a service listens, all on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// gRPC.
    pub grpc: u16,
    /// Health, plaintext gRPC.
    pub health: u16,
    /// `/metrics`.
    pub metrics: u16,
}

/// When Kafka is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaStart {
    /// With everything else.
    AtOnce,
    /// Not before [`Stage::start_kafka`]; its address is known all the same.
    Later,
}

/// How a stage is set.
#[derive(Clone)]
pub struct Setting {
    /// The `rollcall` binary; every process is it, executed again.
    pub program: PathBuf,
    /// The Postgres version, 14 to 18.
    pub postgres: u16,
    /// More lines of `postgresql.conf`.
    pub postgres_settings: Vec<(String, String)>,
    /// Where data and logs go and stay; a temporary directory that is removed when absent.
    pub keep: Option<PathBuf>,
    /// `false`: nobody polls, everything is woken.
    pub polling: bool,
    /// `false`: no hub and no bus are configured, Kafka does not run; everybody polls.
    pub bus: bool,
    /// When Kafka is started.
    pub kafka: KafkaStart,
    /// The log filter of every process, for example `info`.
    pub log: String,
    /// Told what takes long.
    pub progress: Option<sandbox::Progress>,
}

impl Setting {
    /// The usual stage for a binary.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Setting {
            program: program.into(),
            postgres: 18,
            postgres_settings: Vec::new(),
            keep: None,
            polling: true,
            bus: true,
            kafka: KafkaStart::AtOnce,
            log: "info".to_owned(),
            progress: None,
        }
    }
}

/// A stage that cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The Postgres server does not do what a stage needs.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// A document cannot be written as JSON.
    #[error("cannot write a document: {0}")]
    Document(#[from] serde_json::Error),
}

/// Real servers, documents, secrets and processes of one rehearsal.
pub struct Stage {
    pub(super) setting: Setting,
    pub(super) sandbox: Sandbox,
    pub(super) postgres: Postgres,
    pub(super) kafka: Option<Kafka>,
    pub(super) environment: Environment,
    pub(super) addresses: Addresses,
    pub(super) folder: PathBuf,
    pub(super) ports: BTreeMap<Service, Ports>,
}

impl Stage {
    /// Starts Postgres, sets the port of Kafka without starting it, and writes documents and external Secrets.
    pub async fn set(environment: &Environment, setting: Setting) -> Result<Stage, Error> {
        let supervisor = Supervisor::command(&setting.program, ["sandbox-supervisor"]);
        let options = Options {
            keep_dir: setting.keep.clone(),
            progress: setting.progress.clone(),
            ..Options::new(supervisor)
        };
        let sandbox = Sandbox::start(options).await?;
        // Dozens of modules probe at once.
        let mut postgres_settings = vec![("max_connections".to_owned(), "300".to_owned())];
        postgres_settings.extend(setting.postgres_settings.iter().cloned());
        let postgres = sandbox
            .postgres(PostgresOptions {
                version: setting.postgres,
                settings: postgres_settings,
                ..PostgresOptions::default()
            })
            .await?;
        postgres.ready(SERVER_START).await?;
        let kafka = if setting.bus { Some(sandbox.kafka(KafkaOptions::default()).await?) } else { None };
        if let (Some(kafka), KafkaStart::Later) = (&kafka, setting.kafka) {
            kafka.kill().await?;
        }
        Stage::arrange(environment, setting, sandbox, postgres, kafka).await
    }

    async fn arrange(
        environment: &Environment,
        setting: Setting,
        sandbox: Sandbox,
        postgres: Postgres,
        kafka: Option<Kafka>,
    ) -> Result<Stage, Error> {
        let names = stand_ins(environment);
        let mut free = sandbox::ports::free(names.len() + 3 * Service::ALL.len())?.into_iter();
        let stand_ins = names.into_iter().zip(free.by_ref()).collect();
        let mut next = || free.next().unwrap_or_default();
        let ports = Service::ALL
            .map(|service| (service, Ports { grpc: next(), health: next(), metrics: next() }))
            .into();
        let addresses = Addresses {
            postgres: postgres.port(),
            // Without Kafka nothing may answer where documents look for it.
            brokers: kafka.as_ref().map_or_else(|| "127.0.0.1:1".to_owned(), Kafka::brokers),
            stand_ins,
        };
        let folder = sandbox.dir().join("rehearsal");
        let stage = Stage {
            setting,
            sandbox,
            postgres,
            kafka,
            environment: environment.clone(),
            addresses,
            folder,
            ports,
        };
        stage.write_documents()?;
        stage.write_external_secrets().await?;
        Ok(stage)
    }

    /// The documents every process of this stage reads.
    pub fn documents(&self) -> PathBuf {
        self.folder.join("documents")
    }

    /// The store of secrets: `<root>/<namespace>/<secret>/<key>`.
    pub fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    /// Where each stand-in leaves a mark once it answers its health check.
    pub(super) fn marks(&self) -> PathBuf {
        self.folder.join("answered")
    }

    /// A process's log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{}.log", name.replace('/', "-")))
    }

    /// The environment as its documents declare it; [`Stage::documents`] has it at the addresses of this stage.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The server that stands for every Postgres server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The cluster that stands for every Kafka cluster; none without a bus.
    pub fn kafka(&self) -> Option<&Kafka> {
        self.kafka.as_ref()
    }

    /// Starts Kafka where it was not started at once, and waits until it answers.
    pub async fn start_kafka(&self) -> Result<(), Error> {
        if let Some(kafka) = &self.kafka {
            if self.setting.kafka == KafkaStart::Later {
                kafka.start().await?;
            }
            kafka.ready(SERVER_START).await?;
        }
        Ok(())
    }

    /// The sandbox everything runs in.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Where a service listens.
    pub fn ports(&self, service: Service) -> Ports {
        self.ports[&service]
    }

    /// A service's gRPC address.
    pub fn url(&self, service: Service) -> String {
        format!("http://127.0.0.1:{}", self.ports(service).grpc)
    }

    /// Where a module's stand-in listens.
    pub fn stand_in_port(&self, component: &str) -> Option<u16> {
        self.addresses.stand_ins.get(component).copied()
    }

    /// Starts a service; a killed one is started again.
    pub async fn start_service(&self, service: Service) -> Result<Handle, Error> {
        let documents = self.documents().display().to_string();
        let ports = self.ports(service);
        let spec = self
            .process(service.name())
            .args([service.name(), "serve", &documents])
            .env("ROLLCALL_LISTEN", format!("127.0.0.1:{}", ports.grpc))
            .env("ROLLCALL_HEALTH_LISTEN", format!("127.0.0.1:{}", ports.health))
            .env("ROLLCALL_METRICS_LISTEN", format!("127.0.0.1:{}", ports.metrics))
            .restart(Restart::Always { backoff: RESTART });
        Ok(self.sandbox.spawn(spec).await?)
    }

    /// Starts a module as Kubernetes would: the waiter, which becomes the module's stand-in when the gate opens. A killed
    /// one is started again.
    pub async fn start_module(&self, name: &str, delay: Duration) -> Result<Handle, Error> {
        let documents = self.documents().display().to_string();
        let program = self.setting.program.display().to_string();
        let (marks, delay) = (self.marks().display().to_string(), delay.as_millis().to_string());
        let stand_in =
            [&program, "stand-in", "--module", name, "--delay-ms", &delay, "--marks", &marks, &documents]
                .map(str::to_owned);
        let spec = self
            .process(&format!("module/{name}"))
            .args(["wait-for-dependency", "wait", "--module", name, &documents, "--"])
            .args(stand_in)
            .restart(Restart::Always { backoff: RESTART });
        Ok(self.sandbox.spawn(spec).await?)
    }

    /// Starts the stand-in of an endpoint, which waits for nothing.
    pub async fn start_endpoint(&self, name: &str) -> Result<Handle, Error> {
        let spec = self
            .process(&format!("endpoint/{name}"))
            .args(["stand-in", "--endpoint", name])
            .args([
                "--marks".to_owned(),
                self.marks().display().to_string(),
                self.documents().display().to_string(),
            ])
            .restart(Restart::Always { backoff: RESTART });
        Ok(self.sandbox.spawn(spec).await?)
    }

    /// A process of this stage with the settings all of them share.
    pub fn process(&self, name: &str) -> ProcessSpec {
        let spec = ProcessSpec::new(name, &self.setting.program, self.log(name))
            .env("ROLLCALL_SECRETS_ROOT", self.secrets().display().to_string())
            .env("ROLLCALL_LOG", &self.setting.log)
            .env("ROLLCALL_LOG_FORMAT", "text")
            .env("ROLLCALL_INSTANCE", "rehearsal")
            .env("NO_COLOR", "1");
        let spec = if self.setting.polling { spec } else { spec.env("ROLLCALL_POLLING", "off") };
        if self.setting.bus {
            spec.env("ROLLCALL_HUB", self.url(Service::WaitForDependency))
                .env("ROLLCALL_BROKERS", &self.addresses.brokers)
        } else {
            spec
        }
    }

    /// Ends every process and removes the directory, unless it is kept.
    pub async fn strike(self) -> Result<(), Error> {
        Ok(self.sandbox.stop().await?)
    }
}
