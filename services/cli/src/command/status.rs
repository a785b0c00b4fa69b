//! `rollcall status`: every component's phase, as the hub knows it.

use std::fmt::Write;

use chassis::{Exit, Failure};
use clap::Args;
use rollcall_proto::diagnostics::v1::hub_client::HubClient;
use rollcall_proto::diagnostics::v1::watch_response::Update;
use rollcall_proto::diagnostics::v1::{ComponentState, Mode, WatchRequest};
use serde_json::json;
use wait_for_dependency::hub::decide::NOBODY;

use crate::client::{Hub, Reached, request};
use crate::output::{Output, print};
use crate::state::{age, describe, phase_of};

/// Show every component's phase.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    hub: Hub,
    /// Only these components, for example module/registry-staff-api.
    components: Vec<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Prints the states the hub knows now.
pub async fn run(args: &Status) -> Result<(), Failure> {
    let (states, mode, generation) = snapshot(&args.hub.reach().await?, &args.components).await?;
    let value = json!({
        "mode": mode,
        "generation": generation,
        "components": states.iter().map(describe).collect::<Vec<_>>(),
    });
    let undeclared: Vec<&str> =
        states.iter().filter(|s| is_undeclared(s)).map(|s| s.component.as_str()).collect();
    print(args.output, &value, || {
        let ready = states.iter().filter(|s| phase_of(s) == Some(lifecycle::Phase::Ready)).count();
        let mut text = format!("generation {generation}, {mode}, {ready} of {} ready\n", states.len());
        for state in &states {
            let shown = phase_of(state).map_or_else(|| "unknown ".to_owned(), crate::output::phase);
            let reason = if state.reason.is_empty() { String::new() } else { format!("  {}", state.reason) };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{shown} {:>8}  {}{reason}", age(state), state.component);
        }
        text
    })?;
    nobody(&undeclared)
}

/// What was asked for and no fragment declares is waited for in vain.
pub(super) fn nobody(undeclared: &[&str]) -> Result<(), Failure> {
    if undeclared.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Deadlock, format!("no fragment declares {}", undeclared.join(", "))))
}

/// Whether the hub says that nobody declares it.
pub(super) fn is_undeclared(state: &ComponentState) -> bool {
    state.evidence.as_ref().is_some_and(|evidence| evidence.error_code == NOBODY)
}

/// What the hub knows now: states, mode, generation.
pub(crate) async fn snapshot(
    hub: &Reached,
    components: &[String],
) -> Result<(Vec<ComponentState>, String, u64), Failure> {
    let mut client = HubClient::new(hub.channel.clone());
    let watch = WatchRequest {
        components: components.to_vec(),
        source: "rollcall".to_owned(),
        ..WatchRequest::default()
    };
    let mut updates = client.watch(request(watch)).await.map_err(|s| hub.refused(&s))?.into_inner();
    let mut states = Vec::new();
    while let Some(response) = updates.message().await.map_err(|s| hub.refused(&s))? {
        match response.update {
            Some(Update::State(state)) => states.push(state),
            Some(Update::CaughtUp(caught_up)) => {
                let mode = match caught_up.mode() {
                    Mode::Push => "push",
                    Mode::Direct => "direct",
                    Mode::Degraded => "degraded",
                    Mode::Unspecified => "unknown",
                };
                return Ok((states, mode.to_owned(), caught_up.generation));
            }
            None => {}
        }
    }
    Err(Failure::new(
        Exit::TryAgain,
        format!("{} ended the answer before it was complete; ask again", hub.place),
    ))
}
