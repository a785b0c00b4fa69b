//! A real Kubernetes of one node, in namespaces of its own: control plane, kubelet, kube-proxy, containerd, pods, services
//! and cluster DNS. Nothing in it can reach further than this machine, and its first process takes all of it along.

mod daemons;
mod furnish;
mod given;
mod network;
mod own;
mod privileges;
mod settings;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use self::given::{Given, only_own};
use self::own::Own;
use crate::image::Image;
use crate::link::Link;
use crate::{Error, Handle, ProcessSpec, Sandbox};

pub use self::daemons::Daemon;
pub use self::network::Network;

/// A cluster of one node: the sandbox's own or, where `SANDBOX_KUBECONFIG` names one, one that is there already.
pub struct Node {
    link: Arc<Link>,
    dir: PathBuf,
    kind: Kind,
}

enum Kind {
    Own(Box<Own>),
    Given(Given),
}

impl Sandbox {
    /// Makes a cluster of one node and starts it; [`Node::ready`] waits until it can run pods. Needs root with
    /// CAP_NET_ADMIN and CAP_SYS_ADMIN. Its programs are compiled when they are first asked for, which takes minutes, and
    /// containerd, runc, iptables and the network plugins are installed if they are missing and may be.
    ///
    /// With the path of an administrator's kubeconfig in `SANDBOX_KUBECONFIG` that cluster is used instead, without any
    /// right: then [`Node::load`] executes what `SANDBOX_LOAD_IMAGE` says (`kind load image-archive`), and
    /// [`Node::host`] is what `SANDBOX_HOST_ADDRESS` says.
    pub async fn node(&self) -> Result<Node, Error> {
        let given = Given::from(|name| std::env::var(name).ok())?;
        if given.is_none() {
            privileges::check()?;
        }
        let dir = self.new_dir("node")?;
        let kind = match given {
            Some(given) => Kind::Given(given),
            None => Kind::Own(Box::new(Own::start(self, &dir).await?)),
        };
        Ok(Node { link: self.link(), dir, kind })
    }
}

impl Node {
    /// Waits until all daemons answer, the node is Ready, the service account `default` is there, and services and cluster
    /// DNS answer. A cluster that was given is taken to be ready.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        match &self.kind {
            Kind::Own(own) => own.ready(within).await,
            Kind::Given(_) => Ok(()),
        }
    }

    /// The kubeconfig of an administrator, good on this machine: what kubectl, Helm and clients take.
    pub fn kubeconfig(&self) -> &Path {
        match &self.kind {
            Kind::Own(own) => &own.admin,
            Kind::Given(given) => &given.kubeconfig,
        }
    }

    /// Writes a kubeconfig for somebody with a client certificate: a user and a group. Names are used for file names too.
    pub fn kubeconfig_of(&self, user: &str, group: &str) -> Result<PathBuf, Error> {
        self.own("an authority that certifies users")?.access.kubeconfig(user, group)
    }

    /// Writes a kubeconfig for the bearer of a token, such as a service account's; it is read from the file again and again.
    pub fn kubeconfig_of_token(&self, name: &str, token: &str) -> Result<PathBuf, Error> {
        self.own("an authority that its clients trust by itself")?.access.kubeconfig_of_token(name, token)
    }

    /// kubectl as an administrator; it writes nothing outside the sandbox. For a cluster that was given, the one in `PATH`.
    pub fn kubectl(&self) -> Command {
        let mut command = match &self.kind {
            Kind::Own(own) => own.kubectl(),
            Kind::Given(_) => Command::new("kubectl"),
        };
        command.env("KUBECONFIG", self.kubeconfig()).env("KUBECACHEDIR", self.dir.join("kubectl"));
        command
    }

    /// The address of this machine for pods: a server of this machine that listens there is reached by them.
    pub fn host(&self) -> Result<Ipv4Addr, Error> {
        match &self.kind {
            Kind::Own(own) => Ok(own.network.host()),
            Kind::Given(given) => given.host(),
        }
    }

    /// The node's addresses and those of its pods and services, all of which this machine can reach.
    pub fn network(&self) -> Result<&Network, Error> {
        self.own("the addresses of its node").map(|own| &own.network)
    }

    /// Makes images known to the node; a pod may name them at once. They must have a tag other than `latest`.
    pub async fn load(&self, images: &[Image]) -> Result<(), Error> {
        // It goes when it has been loaded: the node has its own copy, and images are large.
        let archive = tempfile::Builder::new().suffix(".tar").tempfile_in(&self.dir);
        let archive = archive.map_err(|source| Error::io("create a file in", &self.dir, source))?;
        Image::write(images, archive.path())?;
        self.load_archive(archive.path()).await
    }

    /// Makes the images of an archive known to the node: an OCI archive, or what `docker save` writes.
    pub async fn load_archive(&self, archive: &Path) -> Result<(), Error> {
        match &self.kind {
            Kind::Own(own) => own.import(Arc::clone(&self.link), archive).await,
            Kind::Given(given) => {
                given.load(Arc::clone(&self.link), self.dir.join("load-image.log"), archive).await
            }
        }
    }

    /// One of its daemons, to be stopped, killed and started again.
    pub fn daemon(&self, daemon: Daemon) -> Result<&Handle, Error> {
        self.own("daemons that may be stopped").map(|own| own.daemon(daemon))
    }

    /// Stops a daemon in its own way and starts it again; [`Node::ready`] waits until it answers.
    pub async fn restart(&self, daemon: Daemon) -> Result<(), Error> {
        let handle = self.daemon(daemon)?;
        handle.stop(own::STOP).await?;
        handle.start().await
    }

    /// Runs a program of this machine to its end in the node's namespaces, such as `ctr` or `iptables-save`.
    pub async fn run(&self, spec: ProcessSpec, within: Duration) -> Result<(), Error> {
        let place = self.own("namespaces that may be entered")?.place();
        Handle::start_new(Arc::clone(&self.link), spec.place(place)).await?.succeeded(within).await
    }

    fn own(&self, what: &'static str) -> Result<&Own, Error> {
        match &self.kind {
            Kind::Own(own) => Ok(own),
            Kind::Given(_) => Err(only_own(what)),
        }
    }
}
