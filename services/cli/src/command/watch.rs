//! `rollcall watch`: the news as it happens.

use chassis::{Context, Exit, Failure};
use clap::Args;
use rollcall_proto::diagnostics::v1::WatchRequest;
use rollcall_proto::diagnostics::v1::hub_client::HubClient;
use rollcall_proto::diagnostics::v1::watch_response::Update;

use crate::client::Hub;
use crate::output::{Output, line, phase};
use crate::state::{describe, phase_of};

/// Follow the news until interrupted.
#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    hub: Hub,
    /// Only these components, for example module/registry.
    components: Vec<String>,
    /// How to print: one line, or one JSON value, for each change.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Prints each state now, then each change.
pub async fn run(args: &Watch, context: &Context) -> Result<(), Failure> {
    let hub = args.hub.reach().await?;
    let mut client = HubClient::new(hub.channel.clone());
    let watch = WatchRequest {
        components: args.components.clone(),
        source: "rollcall".to_owned(),
        ..WatchRequest::default()
    };
    let mut updates = client.watch(watch).await.map_err(|s| hub.refused(&s))?.into_inner();
    loop {
        let response = tokio::select! {
            () = context.shutdown.requested() => return Ok(()),
            response = updates.message() => response.map_err(|s| hub.refused(&s))?,
        };
        let Some(response) = response else {
            return Err(Failure::new(
                Exit::TryAgain,
                format!("{} ended the news; start the watch again", hub.place),
            ));
        };
        if let Some(Update::State(state)) = response.update {
            match args.output {
                Output::Json => line(&describe(&state).to_string())?,
                Output::Text => {
                    let shown = phase_of(&state).map_or_else(|| "unknown ".to_owned(), phase);
                    line(&format!("{shown} {}  {}", state.component, state.reason))?;
                }
            }
        }
    }
}
