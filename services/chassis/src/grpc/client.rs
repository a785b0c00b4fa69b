//! The client's half: channels that find their peer again, and calls that carry their trace.

use std::path::Path;
use std::time::Duration;

use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint, Error};
use tonic::{Request, Status};

use crate::telemetry;

/// A channel to `uri` that connects at the first call, and again after the peer was lost. A peer that vanished
/// without a word is noticed within half a minute, also by an idle stream. Needs a tokio runtime.
pub fn channel(uri: &str) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(uri.to_owned())?
        .connect_timeout(Duration::from_secs(3))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

/// Shows with a request the service-account token in this file, which is read anew because tokens are renewed. Without a token
/// that can be read the request goes without one.
pub async fn show<T>(request: &mut Request<T>, token_file: Option<&Path>) {
    let Some(file) = token_file else { return };
    match tokio::fs::read_to_string(file).await {
        Ok(token) => {
            if let Ok(mut value) = MetadataValue::try_from(format!("Bearer {}", token.trim())) {
                value.set_sensitive(true);
                request.metadata_mut().insert("authorization", value);
            }
        }
        Err(error) => tracing::debug!(file = %file.display(), %error, "no token"),
    }
}

/// Gives each call the trace context of the span it is made in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traced;

impl Interceptor for Traced {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        telemetry::inject(|key, value| {
            if let (Ok(key), Ok(value)) =
                (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(value))
            {
                request.metadata_mut().insert(key, value);
            }
        });
        Ok(request)
    }
}
