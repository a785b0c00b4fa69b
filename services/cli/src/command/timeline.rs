//! `rollcall timeline`: the story of a bring-up and its critical path, as the exporter tells it.

use std::fmt::Write;
use std::time::Duration;

use chassis::{Failure, wire};
use clap::Args;
use lifecycle::Phase;
use rollcall_proto::diagnostics::v1::timeline_client::TimelineClient;
use rollcall_proto::diagnostics::v1::{GetTimelineRequest, GetTimelineResponse, TimelineEntry};
use serde_json::json;

use crate::client::{Exporter, Reached, request};
use crate::output::{Output, print};

/// Show the story of a bring-up.
#[derive(Debug, Args)]
pub struct Timeline {
    #[command(flatten)]
    exporter: Exporter,
    /// Which bring-up; the latest when absent.
    #[arg(long, default_value_t = 0)]
    generation: u64,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Asks the exporter and prints the timeline.
pub async fn run(args: &Timeline) -> Result<(), Failure> {
    let story = told(&args.exporter.reach().await?, args.generation).await?;
    print(args.output, &value(&story), || text(&story))
}

/// The timeline of one generation by the exporter at an address; 0 for the latest.
pub async fn ask(url: &str, generation: u64) -> Result<GetTimelineResponse, Failure> {
    told(&Reached::at(url).await?, generation).await
}

async fn told(exporter: &Reached, generation: u64) -> Result<GetTimelineResponse, Failure> {
    let mut client = TimelineClient::new(exporter.channel.clone());
    let question = GetTimelineRequest { generation };
    Ok(client.get_timeline(request(question)).await.map_err(|s| exporter.refused(&s))?.into_inner())
}

/// A timeline as JSON. Times are seconds from the start of the bring-up.
pub fn value(story: &GetTimelineResponse) -> serde_json::Value {
    json!({
        "generation": story.generation,
        "complete": story.complete,
        "seconds": seconds(story.duration.as_ref()),
        "critical_path": story.critical_path,
        "entries": story.entries.iter().map(|entry| json!({
            "component": entry.component,
            "phase": phase(entry),
            "ready_after_seconds": ready_after(story, entry).map(|after| after.as_secs_f64()),
            "waited_seconds": seconds(entry.waited.as_ref()),
            "worked_seconds": seconds(entry.worked.as_ref()),
            "attempts": entry.attempts,
            "reason": entry.reason,
        })).collect::<Vec<_>>(),
    })
}

/// A timeline for people: one line a component, a bar for its waiting and working, then the critical path.
pub fn text(story: &GetTimelineResponse) -> String {
    let total = seconds(story.duration.as_ref()).max(0.001);
    let widest = story.entries.iter().map(|entry| entry.component.len()).max().unwrap_or(0);
    let mut text = format!("timeline of generation {}\n", story.generation);
    for entry in &story.entries {
        let mark = if story.critical_path.contains(&entry.component) { '*' } else { ' ' };
        let when = match ready_after(story, entry) {
            Some(after) => format!("{:>7.2} s", after.as_secs_f64()),
            None => format!("{:>9}", phase(entry)),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{mark} {when}  {:<widest$}  {}", entry.component, bar(story, entry, total));
    }
    let _ = writeln!(text, "critical path: {}", story.critical_path.join(" → "));
    let complete = if story.complete { "every module is ready" } else { "not every module is ready" };
    let _ = write!(text, "{complete}, {:.2} s", seconds(story.duration.as_ref()));
    text
}

/// 40 characters for the whole bring-up: `·` waiting, `▇` working.
fn bar(story: &GetTimelineResponse, entry: &TimelineEntry, total: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 40 columns")]
    let columns = |seconds: f64| (seconds / total * 40.0).round().clamp(0.0, 40.0) as usize;
    let Some(ready) = ready_after(story, entry) else { return String::new() };
    let (waited, worked) = (seconds(entry.waited.as_ref()), seconds(entry.worked.as_ref()));
    let begin = (ready.as_secs_f64() - waited - worked).max(0.0);
    format!(
        "{}{}{}",
        " ".repeat(columns(begin)),
        "·".repeat(columns(waited)),
        "▇".repeat(columns(worked).max(1))
    )
}

fn phase(entry: &TimelineEntry) -> &'static str {
    wire::phase_from(entry.phase).map_or("unknown", Phase::as_str)
}

fn ready_after(story: &GetTimelineResponse, entry: &TimelineEntry) -> Option<Duration> {
    let nanos = |t: &prost_types::Timestamp| i128::from(t.seconds) * 1_000_000_000 + i128::from(t.nanos);
    let after = nanos(entry.ready.as_ref()?) - nanos(story.started.as_ref()?);
    Some(Duration::from_nanos(u64::try_from(after).unwrap_or(0)))
}

fn seconds(duration: Option<&prost_types::Duration>) -> f64 {
    duration.map_or(0.0, |d| Duration::try_from(*d).unwrap_or_default().as_secs_f64())
}
