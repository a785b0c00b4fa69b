//! `rollcall explain`: why a component is not ready, down to the root cause.

use chassis::Failure;
use clap::Args;
use rollcall_proto::diagnostics::v1::hub_client::HubClient;
use rollcall_proto::diagnostics::v1::{ExplainRequest, ExplainResponse};
use serde_json::json;

use crate::client::{Hub, Reached, request};
use crate::command::status::{is_undeclared, nobody};
use crate::output::{Output, print};
use crate::state::describe;

/// Show why a component is not ready, down to the root cause.
#[derive(Debug, Args)]
pub struct Explain {
    /// The component, for example module/registry-staff-api.
    component: String,
    #[command(flatten)]
    hub: Hub,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Asks the hub and prints the chain.
pub async fn run(args: &Explain) -> Result<(), Failure> {
    args.component.parse::<lifecycle::Component>().map_err(Failure::usage)?;
    let answer = ask(&args.hub.reach().await?, &args.component).await?;
    let value = json!({
        "chain": answer.chain.iter().map(|link| json!({
            "state": link.state.as_ref().map(describe),
            "waits_for": link.waits_for,
        })).collect::<Vec<_>>(),
        "text": answer.text,
        "also_unblocks": answer.also_unblocks,
    });
    print(args.output, &value, || {
        if answer.also_unblocks.is_empty() {
            answer.text.clone()
        } else {
            format!(
                "{}\nmending the last would also unblock: {}",
                answer.text,
                answer.also_unblocks.join(", ")
            )
        }
    })?;
    let asked = answer.chain.first().and_then(|link| link.state.as_ref());
    match asked.filter(|state| is_undeclared(state)) {
        Some(state) => nobody(&[state.component.as_str()]),
        None => Ok(()),
    }
}

/// The hub's explanation of one component.
pub(crate) async fn ask(hub: &Reached, component: &str) -> Result<ExplainResponse, Failure> {
    let mut client = HubClient::new(hub.channel.clone());
    let question = ExplainRequest { component: component.to_owned() };
    Ok(client.explain(request(question)).await.map_err(|s| hub.refused(&s))?.into_inner())
}
