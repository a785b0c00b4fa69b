//! The connections to an API server: one for calls, which go over it side by side (HTTP/2), and one for every so many watches.
//! kube's own client opens one for each watch, at some 90 KiB apiece.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{BoxError, ServiceBuilder};

use crate::Error;

/// A connection is made within this.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection over which nothing has come for so long is asked whether it still is one, and is dead without an answer within
/// the second: what client-go does (ReadIdleTimeout and PingTimeout in k8s.io/apimachinery/pkg/util/net/http.go).
const ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));
/// So many watches share a connection. An API server allows 100 streams by default (MaxConcurrentStreams in
/// k8s.io/apiserver/pkg/server/secure_serving.go), and whatever is asked beyond that waits until one ends.
const WATCHES: usize = 80;
/// The largest headers of an answer that are kept, in bytes.
const HEADERS: u32 = 16 * 1024;

/// Connections for watches, made as they are needed.
pub(crate) struct Watching {
    config: Config,
    open: Mutex<Vec<(Client, Arc<Semaphore>)>>,
}

impl Watching {
    pub(crate) fn new(config: Config) -> Self {
        Watching { config, open: Mutex::default() }
    }

    /// A client whose every call takes a connection over.
    pub(crate) fn upgrading(&self) -> Result<Client, Error> {
        client(self.config.clone(), Speaks::Http1)
    }

    /// A connection with a place for one more watch, which is taken for as long as the permit lives.
    pub(crate) fn place(&self) -> Result<(Client, OwnedSemaphorePermit), Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let free = |(client, places): &(Client, Arc<Semaphore>)| {
            Some((client.clone(), Arc::clone(places).try_acquire_owned().ok()?))
        };
        if let Some(found) = open.iter().find_map(free) {
            return Ok(found);
        }
        let new = (client(self.config.clone(), Speaks::Any)?, Arc::new(Semaphore::new(WATCHES)));
        let found = free(&new);
        open.push(new);
        // A new one has free places.
        found.ok_or_else(|| Error::Unconfigured("no watch fits on a connection".to_owned()))
    }
}

/// Which versions of HTTP a connection may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// What the server prefers. What stands before an API server may not speak HTTP/2.
    Any,
    /// Only what a connection can be turned into another protocol from (RFC 9110 section 7.8).
    Http1,
}

/// A client for calls.
pub(crate) fn calling(config: Config) -> Result<Client, Error> {
    client(config, Speaks::Any)
}

/// A client whose calls are tried once and logged nowhere: whoever calls decides when to try again, and what is an error.
fn client(config: Config, speaks: Speaks) -> Result<Client, Error> {
    if config.proxy_url.is_some() {
        return Err(Error::Unconfigured(
            "the API server is to be reached through a proxy, which Rollcall cannot; name it in NO_PROXY, or take proxy-url out of the kubeconfig".to_owned(),
        ));
    }
    let unconfigured = |error: kube::Error| Error::Unconfigured(chassis::exit::chain(&error));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config().map_err(unconfigured)?)
        .https_only();
    let connector = match config.tls_server_name.clone() {
        None => connector,
        Some(name) => connector.with_server_name_resolver(FixedServerNameResolver::new(
            name.try_into().map_err(|error| Error::Unconfigured(format!("tls-server-name: {error}")))?,
        )),
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let http = Http::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(ALIVE.0)
        .http2_keep_alive_timeout(ALIVE.1)
        .http2_max_header_list_size(HEADERS)
        .build::<_, Body>(match speaks {
            Speaks::Any => connector.enable_all_versions().wrap_connector(tcp),
            Speaks::Http1 => connector.enable_http1().wrap_connector(tcp),
        });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(unconfigured)?)
        .layer(config.extra_headers_layer().map_err(unconfigured)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}
