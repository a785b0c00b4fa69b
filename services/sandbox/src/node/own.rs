//! The cluster that a sandbox makes itself: how it is put together, and when it is ready.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::daemons::{API_PORT, Daemon, Plan};
use super::furnish;
use super::network::Network;
use super::settings::{CONTAINERD, DNS_READY_PORT, NAME, PAUSE, first_objects};
use crate::api::Api;
use crate::image::Image;
use crate::kubernetes::access::Access;
use crate::kubernetes::binary;
use crate::link::Link;
use crate::protocol::Place;
use crate::tools::{self, Tool};
use crate::{Error, Handle, ProcessSpec, Sandbox, cgroups};

/// How long a daemon may take to stop before it is killed.
pub(super) const STOP: Duration = Duration::from_secs(20);
/// How long the control plane may take to serve on a busy machine; it takes five seconds on an idle one.
const SERVING: Duration = Duration::from_mins(3);
/// How long the first objects may be refused: their namespace is made by the server itself, a moment after it serves.
const OBJECTS: Duration = Duration::from_mins(1);
/// How long an import may take; it takes 40 ms a megabyte.
const IMPORT: Duration = Duration::from_mins(5);
/// How long a connection to something of the node may take.
const CONNECT: Duration = Duration::from_secs(2);
/// Where a kubelet answers the API server.
const KUBELET_PORT: u16 = 10250;
/// How long mounting `/proc` may take.
const MOUNT: Duration = Duration::from_secs(30);

/// A cluster and its processes.
pub(super) struct Own {
    first: Handle,
    daemons: BTreeMap<Daemon, Handle>,
    dir: PathBuf,
    kubernetes: PathBuf,
    pub(super) network: Network,
    pub(super) access: Access,
    pub(super) admin: PathBuf,
    master: Api,
}

impl Own {
    /// Starts one in an empty folder.
    pub(super) async fn start(sandbox: &Sandbox, dir: &Path) -> Result<Self, Error> {
        let needed = [Tool::Containerd, Tool::Runc, Tool::Iptables, Tool::Cni];
        tools::ensure(sandbox, &needed).await?;
        let plugins = tools::network_plugins()?;
        let programs = binary::programs(sandbox).await?;
        let dns = binary::dns(sandbox).await?;
        for needed in [dir, &programs.kubernetes, &dns] {
            furnish::visible(needed)?;
        }
        let group = sandbox.group().join(dir.file_name().unwrap_or_default());
        cgroups::make(&group).map_err(|source| Error::io("make the control group", &group, source))?;
        let first = holder(sandbox, dir, &programs.pause).await?;
        let pid = first.pid().ok_or(Error::Ended)?;
        furnish::furnish(pid, dir)?;
        let network = Network::lay(pid).await?;
        let access = Access::new(dir, (network.node(), API_PORT).into())?;
        let (admin, master) = (access.admin()?, access.master()?);
        let mut own = Self {
            first,
            daemons: BTreeMap::new(),
            dir: dir.to_owned(),
            kubernetes: programs.kubernetes.clone(),
            network: network.clone(),
            access,
            admin,
            master,
        };
        let images = [Image::bare(PAUSE, &programs.pause, "/pause")?];
        let group = Path::new("/").join(group);
        for daemon in Daemon::ALL {
            if daemon == Daemon::ControllerManager {
                // It gives up on a server that is not there, and the others need what follows.
                own.import_first(sandbox, &images).await?;
                own.serving().await?;
            }
            let plan = Plan {
                dir,
                group: &group,
                place: own.place(),
                network: &network,
                access: &own.access,
                programs: &programs,
                dns: &dns,
                plugins: &plugins,
            };
            let handle = sandbox.spawn(plan.spec(daemon)?).await?;
            own.daemons.insert(daemon, handle);
        }
        Ok(own)
    }

    /// The namespaces of the node.
    pub(super) fn place(&self) -> Place {
        self.first.place()
    }

    pub(super) fn daemon(&self, daemon: Daemon) -> &Handle {
        &self.daemons[&daemon]
    }

    pub(super) fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.kubernetes);
        command.arg("kubectl").env("KUBECTL_KUBERC", "false");
        // No proxy of the user's leads to the node.
        command.env_remove("HTTPS_PROXY").env_remove("https_proxy");
        command
    }

    /// Imports an archive into containerd.
    pub(super) async fn import(&self, link: Arc<Link>, archive: &Path) -> Result<(), Error> {
        furnish::visible(archive)?;
        let archive = std::path::absolute(archive).map_err(|source| Error::io("find", archive, source))?;
        self.answering(SERVING).await?;
        let spec = ProcessSpec::new("ctr images import", "ctr", self.dir.join("import.log"))
            .args(["-n", "k8s.io", "images", "import"])
            .args([archive.display().to_string()])
            .place(self.place());
        Handle::start_new(link, spec).await?.succeeded(IMPORT).await
    }

    async fn import_first(&self, sandbox: &Sandbox, images: &[Image]) -> Result<(), Error> {
        let archive = self.dir.join("first-images.tar");
        Image::write(images, &archive)?;
        self.import(sandbox.link(), &archive).await
    }

    /// Waits until the API server serves, and makes the first objects.
    async fn serving(&self) -> Result<(), Error> {
        let apiserver = self.daemon(Daemon::ApiServer);
        apiserver.until("ready", SERVING, async || self.master.succeeds("/readyz").await).await?;
        for (path, object) in first_objects(&self.network) {
            let made = async || self.master.create(path, &object).await.is_ok();
            apiserver.until("taking the cluster's first objects", OBJECTS, made).await?;
        }
        Ok(())
    }

    async fn answering(&self, within: Duration) -> Result<(), Error> {
        let socket = format!("/proc/{}/root{CONTAINERD}", self.first.pid().ok_or(Error::Ended)?);
        let answers = async || UnixStream::connect(&socket).await.is_ok();
        self.daemon(Daemon::Containerd).until("answering", within, answers).await
    }

    /// Looks at one part after another, so that an error names the one that is not ready and shows its log.
    pub(super) async fn ready(&self, within: Duration) -> Result<(), Error> {
        let end = Instant::now() + within;
        let left = || end.saturating_duration_since(Instant::now());
        let master = &self.master;
        self.daemon(Daemon::Etcd).until("running", left(), async || true).await?;
        let server = self.daemon(Daemon::ApiServer);
        server.until("ready", left(), async || master.succeeds("/readyz").await).await?;
        self.answering(left()).await?;
        let kubelet = self.daemon(Daemon::Kubelet);
        let runs_pods = async || self.node_ready().await && self.kubelet_answers().await;
        kubelet.until("ready", left(), runs_pods).await?;
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        let manager = self.daemon(Daemon::ControllerManager);
        manager.until("making service accounts", left(), async || master.succeeds(account).await).await?;
        self.daemon(Daemon::Scheduler).until("running", left(), async || true).await?;
        let dns = self.daemon(Daemon::Dns);
        let node = SocketAddr::from((self.network.node(), DNS_READY_PORT));
        dns.until("ready", left(), async || Api::plain(node).succeeds("/ready").await).await?;
        let (api, dns) = ((self.network.api(), 443), (self.network.dns(), 53));
        let leads = async || opens(api).await && opens(dns).await;
        self.daemon(Daemon::KubeProxy).until("leading to services", left(), leads).await
    }

    /// Where it shows logs and executes commands.
    async fn kubelet_answers(&self) -> bool {
        opens((self.network.node(), KUBELET_PORT)).await
    }

    async fn node_ready(&self) -> bool {
        let Ok(node) = self.master.get(&format!("/api/v1/nodes/{NAME}")).await else { return false };
        let conditions = node["status"]["conditions"].as_array();
        conditions.is_some_and(|all| {
            all.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        })
    }
}

/// The first process of new namespaces, with a `/proc` that shows what is in them.
async fn holder(sandbox: &Sandbox, dir: &Path, pause: &Path) -> Result<Handle, Error> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    // In one blow: nothing in the node is worth a farewell.
    let spec =
        ProcessSpec::new(name, pause, dir.join("first.log")).place(Place::New).stop_signal(Signal::SIGKILL);
    let first = sandbox.spawn(spec).await?;
    let mount = ProcessSpec::new("mount", "mount", dir.join("first.log"))
        .args(["-t", "proc", "proc", "/proc"])
        .place(first.place());
    sandbox.run(mount, MOUNT).await?;
    Ok(first)
}

async fn opens(address: (std::net::Ipv4Addr, u16)) -> bool {
    tokio::time::timeout(CONNECT, TcpStream::connect(address)).await.is_ok_and(|stream| stream.is_ok())
}
