//! Follows a watch for as long as somebody listens, over every loss of the hub.

use std::sync::Arc;

use rollcall_proto::diagnostics::v1 as pb;
use tokio::sync::mpsc::Sender;
use tonic::Status;

use super::{HubUpdate, Inner, describe};
use crate::backoff::Backoff;
use crate::bus::Mode;

/// Nobody listens any more.
struct Unheard;

pub(super) async fn watch(client: Arc<Inner>, request: pb::WatchRequest, sender: Sender<HubUpdate>) {
    let mut backoff = Backoff::reconnecting();
    let mut lost = false;
    loop {
        let followed = tokio::select! {
            followed = follow(&client, &request, &sender, &mut lost, &mut backoff) => followed,
            () = sender.closed() => return,
        };
        let reason = match followed {
            Ok(()) => "it ended the stream".to_owned(),
            Err(Ok(status)) => describe(&status),
            Err(Err(Unheard)) => return,
        };
        // Only the first: a hub that stays away is no news.
        if !std::mem::replace(&mut lost, true) {
            tracing::info!(reason, "hub: lost, looking for it");
            if sender.send(HubUpdate::Lost(reason)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = sender.closed() => return,
        }
    }
}

async fn follow(
    client: &Inner,
    request: &pb::WatchRequest,
    sender: &Sender<HubUpdate>,
    lost: &mut bool,
    backoff: &mut Backoff,
) -> Result<(), Result<Status, Unheard>> {
    let request = client.link.stream_request(request.clone()).await;
    let mut stream = client.link.stub().watch(request).await.map_err(Ok)?.into_inner();
    while let Some(message) = stream.message().await.map_err(Ok)? {
        // Only a hub that says something is there again: one that takes calls and ends them is not.
        backoff.reset();
        if std::mem::take(lost) {
            tracing::info!("hub: found again");
            client.all_due();
        }
        let Some(update) = read(client, message) else { continue };
        sender.send(update).await.map_err(|_| Err(Unheard))?;
    }
    Ok(())
}

fn read(client: &Inner, message: pb::WatchResponse) -> Option<HubUpdate> {
    match message.update? {
        pb::watch_response::Update::State(state) => {
            let component = state.component.clone();
            match state.try_into() {
                Ok(state) => Some(HubUpdate::State(state)),
                // A newer hub may say what this version does not understand; the waiter goes on by its own probes.
                Err(error) => {
                    tracing::debug!(component, %error, "hub: a state is not understood and left out");
                    None
                }
            }
        }
        pb::watch_response::Update::CaughtUp(caught_up) => {
            client.heard_generation(caught_up.generation);
            let mode = match caught_up.mode() {
                pb::Mode::Push => Mode::Push,
                pb::Mode::Direct => Mode::Direct,
                pb::Mode::Degraded | pb::Mode::Unspecified => {
                    Mode::Degraded("the hub has lost its bus".to_owned())
                }
            };
            Some(HubUpdate::CaughtUp { generation: caught_up.generation, mode })
        }
    }
}
