//! Answering a health check as a module would: HTTP, TCP, gRPC, or as a Keycloak with its realm.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use chassis::{Context, Failure};
use lifecycle::document::{HttpReady, KeycloakReady, Ready};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tracing::info;

/// Answers until it is asked to end: at `address`, or else on the loopback interface at the port of the health check. Leaves
/// the file `mark` behind once it listens.
pub(super) async fn serve(
    ready: &Ready,
    address: Option<SocketAddr>,
    context: &Context,
    mark: Option<&Path>,
) -> Result<(), Failure> {
    let address = match address {
        Some(address) => address,
        None => SocketAddr::from((Ipv4Addr::LOCALHOST, port_of(ready)?)),
    };
    let listener = listen(address).await?;
    if let Some(mark) = mark {
        std::fs::write(mark, "")
            .map_err(|error| Failure::internal(format!("cannot write {}: {error}", mark.display())))?;
    }
    if let Some(http) = &ready.http {
        answer_http(listener, page(http), context).await
    } else if let Some(keycloak) = &ready.keycloak {
        answer_http(listener, realm(keycloak), context).await
    } else if let Some(grpc) = &ready.grpc {
        answer_grpc(listener, &grpc.service, context).await
    } else {
        accept(listener, context).await
    }
}

fn port_of(ready: &Ready) -> Result<u16, Failure> {
    let url = ready.http.as_ref().map(|http| &http.url);
    let url = url.or_else(|| ready.keycloak.as_ref().map(|keycloak| &keycloak.url));
    let port = match (url.or_else(|| ready.grpc.as_ref().map(|grpc| &grpc.url)), &ready.tcp) {
        (Some(url), _) => url.port_or_known_default(),
        (None, Some(tcp)) => tcp.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()),
        (None, None) => None,
    };
    port.ok_or_else(|| Failure::usage("`ready` names no port"))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Failure::internal(format!("cannot listen on {address}: {error}")))?;
    info!(%address, "answers its health check");
    Ok(listener)
}

async fn answer_http(listener: TcpListener, router: Router, context: &Context) -> Result<(), Failure> {
    let shutdown = context.shutdown.clone();
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.requested().await })
        .await
        .map_err(|error| Failure::internal(format!("cannot answer any more: {error}")))
}

/// What an HTTP health check expects: the status, and a JSON body with every pointer's value.
fn page(http: &HttpReady) -> Router {
    let status = http.status.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::OK);
    let mut body = json!({});
    for (pointer, text) in &http.json {
        set(&mut body, pointer, text);
    }
    let body = body.to_string();
    Router::new().route(
        http.url.path(),
        get(move || async move { (status, [(CONTENT_TYPE, "application/json")], body) }),
    )
}

/// What Keycloak says of a realm it serves.
fn realm(keycloak: &KeycloakReady) -> Router {
    let realm = keycloak.realm.as_deref().unwrap_or("master");
    let base = keycloak.url.as_str().trim_end_matches('/');
    let body = json!({"issuer": format!("{base}/realms/{realm}")}).to_string();
    let path = format!(
        "{}/realms/{realm}/.well-known/openid-configuration",
        keycloak.url.path().trim_end_matches('/')
    );
    Router::new().route(&path, get(move || async move { ([(CONTENT_TYPE, "application/json")], body) }))
}

/// Sets the value at a JSON pointer (RFC 6901), making the objects on the way.
fn set(body: &mut Value, pointer: &str, text: &str) {
    let mut at = body;
    for part in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[part.replace("~1", "/").replace("~0", "~")];
    }
    *at = json!(text);
}

async fn accept(listener: TcpListener, context: &Context) -> Result<(), Failure> {
    loop {
        tokio::select! {
            () = context.shutdown.requested() => return Ok(()),
            // Accepting is all that is asked for.
            accepted = listener.accept() => drop(accepted),
        }
    }
}

async fn answer_grpc(listener: TcpListener, service: &str, context: &Context) -> Result<(), Failure> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let shutdown = context.shutdown.clone();
    tonic::transport::Server::builder()
        .add_service(health)
        .serve_with_incoming_shutdown(incoming, async move { shutdown.requested().await })
        .await
        .map_err(|error| Failure::internal(format!("cannot answer any more: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_holds_what_its_pointers_ask_for() {
        let mut body = json!({});
        set(&mut body, "/status", "UP");
        set(&mut body, "/components/db/a~1b", "ok");
        assert_eq!(body, json!({"status": "UP", "components": {"db": {"a/b": "ok"}}}));
        assert_eq!(body.pointer("/components/db/a~1b"), Some(&json!("ok")));
    }
}
