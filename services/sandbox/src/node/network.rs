//! The network of a node: one link to this machine, addresses that no real network has, and no way further.

use std::net::Ipv4Addr;

use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime;

use crate::Error;
use crate::namespaces::{self, Namespaces};

/// 198.18.0.0/15 is set aside for tests of networks (RFC 2544): no network that this machine is in has it.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// Each node has four networks of 256 addresses, of which it uses three.
const BLOCK: u32 = 4 * 256;
/// How many such blocks there are.
const BLOCKS: u32 = 128;
/// How many leading bits of an address name its network.
const PREFIX: u8 = 24;
/// The node's end of the link.
const INSIDE: &str = "eth0";

/// The addresses of a node, its pods and its services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    block: u32,
}

impl Network {
    /// The node: node ports answer here, as does the API server on port 6443.
    pub fn node(&self) -> Ipv4Addr {
        self.address(2, 1)
    }

    /// This machine, as the node and its pods see it. What listens on it is reached by pods.
    pub fn host(&self) -> Ipv4Addr {
        self.address(2, 254)
    }

    /// The network of the pods, `address/bits`. This machine has a route into it.
    pub fn pods(&self) -> String {
        format!("{}/{PREFIX}", self.address(0, 0))
    }

    /// The network of the services, `address/bits`. This machine has a route into it.
    pub fn services(&self) -> String {
        format!("{}/{PREFIX}", self.address(1, 0))
    }

    /// The service `kubernetes` in namespace `default`, which always has the first address.
    pub(crate) fn api(&self) -> Ipv4Addr {
        self.address(1, 1)
    }

    /// The service `kube-dns` in namespace `kube-system`, where kubeadm puts it too.
    pub(crate) fn dns(&self) -> Ipv4Addr {
        self.address(1, 10)
    }

    /// This machine's end of the link; its name is what speaks for the block.
    fn outside(&self) -> String {
        format!("rollcall{}", self.block)
    }

    fn address(&self, network: u32, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(FIRST) + self.block * BLOCK + network * 256 + number)
    }

    /// Links the namespaces of process `first` to this machine, with the first block that nobody has. Link and routes go
    /// when these namespaces do.
    pub(super) async fn lay(first: i32) -> Result<Self, Error> {
        for block in 0..BLOCKS {
            let network = Self { block };
            let inside = namespaces::run(Namespaces::Of(first), || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(network.inside())
            });
            match inside {
                Ok(()) => {
                    network.outside_up().await.map_err(|source| failed(&network, source))?;
                    return Ok(network);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(failed(&network, source)),
            }
        }
        let all = format!("all {BLOCKS} blocks of 198.18.0.0/15 are in use by other nodes");
        Err(Error::io("link a node to", "this machine", std::io::Error::other(all)))
    }

    /// Run in the node's namespaces. Both ends are made there, so that nothing stays should this process be killed now.
    async fn inside(&self) -> std::io::Result<()> {
        let handle = netlink()?;
        let pair = LinkVeth::new(&self.outside(), INSIDE).setns_by_pid(std::process::id()).build();
        handle.link().add(pair).execute().await.map_err(io)?;
        up(&handle, "lo").await?;
        let index = up(&handle, INSIDE).await?;
        handle.address().add(index, self.node().into(), PREFIX).execute().await.map_err(io)?;
        // Where packets of the node itself to services seem to go before they are given another destination.
        let services = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(self.address(1, 0), PREFIX)
            .output_interface(index)
            .build();
        handle.route().add(services).execute().await.map_err(io)?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
    }

    async fn outside_up(&self) -> std::io::Result<()> {
        let handle = netlink()?;
        let index = up(&handle, &self.outside()).await?;
        handle.address().add(index, self.host().into(), PREFIX).execute().await.map_err(io)?;
        for network in [0, 1] {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(self.address(network, 0), PREFIX)
                .gateway(self.node())
                .build();
            handle.route().add(route).execute().await.map_err(io)?;
        }
        Ok(())
    }
}

/// A connection to the kernel of the namespace that this thread is in.
fn netlink() -> std::io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Sets a link up; gives its index.
async fn up(handle: &Handle, name: &str) -> std::io::Result<u32> {
    let index = nix::net::if_::if_nametoindex(name)?;
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.map_err(io)?;
    Ok(index)
}

fn io(error: rtnetlink::Error) -> std::io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => std::io::Error::other(other),
    }
}

fn failed(network: &Network, source: std::io::Error) -> Error {
    Error::io("set up", format!("the network link {}", network.outside()), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_stay_in_the_range() {
        let first = Network { block: 0 };
        assert_eq!((first.pods().as_str(), first.services().as_str()), ("198.18.0.0/24", "198.18.1.0/24"));
        assert_eq!(
            (first.node().to_string(), first.host().to_string()),
            ("198.18.2.1".into(), "198.18.2.254".into())
        );
        assert_eq!(
            (first.api().to_string(), first.dns().to_string()),
            ("198.18.1.1".into(), "198.18.1.10".into())
        );
        assert_eq!(Network { block: 1 }.pods(), "198.18.4.0/24");
        let last = Network { block: BLOCKS - 1 };
        assert_eq!(last.host().to_string(), "198.19.254.254");
        // The kernel allows 15 characters.
        assert!(last.outside().len() <= 15);
    }
}
