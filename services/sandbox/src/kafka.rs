//! A real single-node Kafka (KRaft), tuned to start quickly and to stay small.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::tools::{self, Tool};
use crate::{Error, Handle, ProcessSpec, Sandbox, cache, ports};

const VERSION: &str = "4.1.0";
/// The last line of a start.
const STARTED: &str = "Kafka Server started";
/// How long an orderly stop may take before it becomes a kill.
const STOP: Duration = Duration::from_secs(15);
/// How long the preparation after the download may take: one format, one start, one stop.
const WARM_UP: Duration = Duration::from_mins(3);
/// The archive of loaded classes, which halves the time a start takes.
const ARCHIVE: &str = "classes.jsa";
/// What formatting makes besides `meta.properties`: the features a new cluster has, nothing of its identity.
const CHECKPOINT: &str = "bootstrap.checkpoint";

const LOGGING: &str = "status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=info
rootLogger.appenderRef.out.ref=out
logger.settings.name=org.apache.kafka.common.config
logger.settings.level=warn
logger.configuration.name=kafka.server.KafkaConfig
logger.configuration.level=warn
";

/// What kind of Kafka.
#[derive(Debug, Clone, Default)]
pub struct KafkaOptions {
    /// The clients' port; a free one when not given.
    pub port: Option<u16>,
    /// Another address of this machine where it listens too, such as [`crate::Node::host`] for pods; see
    /// [`Kafka::brokers_also`]. Who comes there is told to stay there.
    pub also: Option<Ipv4Addr>,
    /// Lines of `server.properties`, which win over those set here.
    pub settings: Vec<(String, String)>,
}

/// A Kafka of a sandbox.
pub struct Kafka {
    handle: Handle,
    port: u16,
    also: Option<SocketAddrV4>,
    data: PathBuf,
    /// How long the log was before the last start: what is older says nothing about it.
    log_offset: AtomicU64,
}

impl Sandbox {
    /// Makes a new cluster of one and starts it; [`Kafka::ready`] waits until it serves.
    pub async fn kafka(&self, options: KafkaOptions) -> Result<Kafka, Error> {
        let libraries = libraries(self).await?;
        let warm = warm(self, &libraries).await?;
        let port = ports::or_free(options.port)?;
        let dir = self.new_dir("kafka")?;
        // Kafka wants another port for each listener, wherever it is.
        let also = match options.also {
            Some(address) => Some(SocketAddrV4::new(address, ports::or_free(None)?)),
            None => None,
        };
        let data = prepare(&dir, port, also, options.settings)?;
        let copied = data.join(CHECKPOINT);
        fs::copy(warm.join(CHECKPOINT), &copied).map_err(|source| Error::io("write", &copied, source))?;
        let identity = data.join("meta.properties");
        let text = format!("version=1\nnode.id=1\ncluster.id={}\ndirectory.id={}\n", new_id(), new_id());
        fs::write(&identity, text).map_err(|source| Error::io("write", &identity, source))?;
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // Should the archive not fit this Java after all, Java does without it, and need not warn in the broker's log.
        let options =
            [format!("-XX:SharedArchiveFile={}", warm.join(ARCHIVE).display()), "-Xlog:disable".into()];
        let handle = self.spawn(broker(&name, &dir, &libraries, &options)?).await?;
        Ok(Kafka { handle, port, also, data, log_offset: AtomicU64::new(0) })
    }
}

impl Kafka {
    /// What clients call bootstrap servers.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The same for those who come to the other address that it was given, if it was.
    pub fn brokers_also(&self) -> Option<String> {
        self.also.map(|address| address.to_string())
    }

    /// The clients' port, the same after each start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The broker's log.
    pub fn log(&self) -> &Path {
        self.handle.log()
    }

    /// Where its topics are.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Its process.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the broker says that it has started and its port accepts.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let serves = async || {
            says_started(self.log(), self.log_offset.load(Ordering::Relaxed))
                && tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_ok()
        };
        self.handle.until("ready", within, serves).await
    }

    /// An orderly stop.
    pub async fn stop(&self) -> Result<(), Error> {
        self.handle.stop(STOP).await
    }

    /// `kill -9`.
    pub async fn kill(&self) -> Result<(), Error> {
        self.handle.kill().await
    }

    /// Starts it again after `stop` or `kill`: same port, same topics.
    pub async fn start(&self) -> Result<(), Error> {
        let length = fs::metadata(self.log()).map(|meta| meta.len()).unwrap_or_default();
        self.log_offset.store(length, Ordering::Relaxed);
        self.handle.start().await
    }
}

async fn libraries(sandbox: &Sandbox) -> Result<PathBuf, Error> {
    cache::entry(sandbox, &format!("kafka-{VERSION}"), async |dir| {
        cache::maven(sandbox, "kafka", &[("kafka.version", VERSION)], "copy-dependencies", dir).await
    })
    .await
}

/// What is the same for every start with one Java: the class archive and a formatted directory, made by starting once.
async fn warm(sandbox: &Sandbox, libraries: &Path) -> Result<PathBuf, Error> {
    tools::ensure(sandbox, &[Tool::Java]).await?;
    let java_path = tools::java_or_missing()?;
    let meta = fs::metadata(&java_path).map_err(|source| Error::io("look at", &java_path, source))?;
    let entry = format!("kafka-{VERSION}-warm-{:x}-{:x}", meta.size(), meta.mtime());
    cache::entry(sandbox, &entry, async |made| {
        sandbox.say("preparing Kafka for quick starts");
        let dir = sandbox.new_dir("kafka-warm-up")?;
        let port = ports::free(1)?[0];
        let data = prepare(&dir, port, None, Vec::new())?;
        let properties = dir.join("server.properties").display().to_string();
        let format = java("kafka format", &dir, libraries, &[])?
            .args(["kafka.tools.StorageTool", "format", "-t", &new_id(), "-c", &properties]);
        sandbox.run(format, WARM_UP).await?;
        let checkpoint = made.join(CHECKPOINT);
        fs::copy(data.join(CHECKPOINT), &checkpoint).map_err(|source| Error::io("write", &checkpoint, source))?;
        let archive = made.join(ARCHIVE);
        let option = format!("-XX:ArchiveClassesAtExit={}", archive.display());
        let handle = sandbox.spawn(broker("kafka warm-up", &dir, libraries, &[option])?).await?;
        handle.until("ready", WARM_UP, async || says_started(handle.log(), 0)).await?;
        handle.stop(WARM_UP).await?;
        // Without the archive everything works, only slower: a Java that cannot make one is no reason to fail.
        if !archive.is_file() {
            tracing::warn!(log = %handle.log().display(), "Java made no class archive; Kafka will start slower");
        }
        let _ = fs::remove_dir_all(&dir);
        Ok(())
    })
    .await
}

/// Writes a broker's settings into its folder and makes its empty data directory.
fn prepare(
    dir: &Path,
    port: u16,
    also: Option<SocketAddrV4>,
    settings: Vec<(String, String)>,
) -> Result<PathBuf, Error> {
    let data = dir.join("data");
    fs::create_dir(&data).map_err(|source| Error::io("create", &data, source))?;
    let controller = ports::free(2)?.into_iter().find(|free| *free != port).unwrap_or_default();
    let mut all = properties(port, also, controller, &data);
    all.extend(settings);
    let line = |(key, value): (&String, &String)| [key, "=", &value.replace('\\', "\\\\"), "\n"].concat();
    let text: String = all.iter().map(line).collect();
    for (name, text) in [("server.properties", text.as_str()), ("log4j2.properties", LOGGING)] {
        let file = dir.join(name);
        fs::write(&file, text).map_err(|source| Error::io("write", &file, source))?;
    }
    Ok(data)
}

fn properties(
    port: u16,
    also: Option<SocketAddrV4>,
    controller: u16,
    data: &Path,
) -> BTreeMap<String, String> {
    let fixed = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.listener.names", "CONTROLLER"),
        ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,ALSO:PLAINTEXT"),
        ("auto.create.topics.enable", "false"),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "1"),
        ("share.coordinator.state.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.min.isr", "1"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("num.network.threads", "1"),
        ("num.io.threads", "2"),
        ("log.cleaner.dedupe.buffer.size", "2097152"),
        ("log.cleaner.backoff.ms", "200"),
        // A killed broker may register again only when its old session is over: 9 s otherwise.
        ("broker.session.timeout.ms", "3000"),
        ("broker.heartbeat.interval.ms", "500"),
    ];
    let also = also.map(|address| format!(",ALSO://{address}")).unwrap_or_default();
    let own = [
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
        ("listeners", format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{also}")),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}{also}")),
        ("log.dirs", data.display().to_string()),
    ];
    let fixed = fixed.map(|(key, value)| (key.to_owned(), value.to_owned()));
    fixed.into_iter().chain(own.map(|(key, value)| (key.to_owned(), value))).collect()
}

fn broker(name: &str, dir: &Path, libraries: &Path, options: &[String]) -> Result<ProcessSpec, Error> {
    let properties = dir.join("server.properties").display().to_string();
    Ok(java(name, dir, libraries, options)?.args(["kafka.Kafka", &properties]))
}

/// Java with Kafka's libraries. The class archive holds only for exactly this class path.
fn java(name: &str, dir: &Path, libraries: &Path, options: &[String]) -> Result<ProcessSpec, Error> {
    let entries = fs::read_dir(libraries).map_err(|source| Error::io("read", libraries, source))?;
    let mut jars: Vec<String> = entries.flatten().map(|entry| entry.path().display().to_string()).collect();
    jars.sort();
    Ok(ProcessSpec::new(name, tools::java_or_missing()?, dir.join("server.log"))
        .dir(dir)
        .args([
            "-Xms128m",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Djava.awt.headless=true",
        ])
        .args([format!("-Dlog4j2.configurationFile={}", dir.join("log4j2.properties").display())])
        .args(options.iter().cloned())
        .args(["-cp".to_owned(), jars.join(":")]))
}

/// Kafka's ids are 16 bytes in 22 characters; one that begins with a dash would look like an option.
fn new_id() -> String {
    loop {
        let id = URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

fn says_started(log: &Path, from: u64) -> bool {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(log)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().is_ok_and(|text| text.contains(STARTED))
}
