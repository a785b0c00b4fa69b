//! How things are printed: for people, or as JSON for programs.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use chassis::Failure;
pub use chassis::Output;
use lifecycle::Phase;
use serde::Serialize;

/// Prints text or a value, whichever was asked for. Colours reach only a terminal, and none when `NO_COLOR` is set.
pub fn print(output: Output, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
    let text = match output {
        Output::Text => text(),
        Output::Json => serde_json::to_string_pretty(value).map_err(Failure::internal)?,
    };
    line(&text)
}

/// Prints text and a line break to standard output.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end_matches('\n')) {
        // The reader has seen enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => {
            other.map_err(|error| Failure::internal(format!("cannot write to standard output: {error}")))
        }
    }
}

/// The colour a phase is shown in.
pub fn style(phase: Phase) -> Style {
    let color = match phase {
        Phase::Ready => AnsiColor::Green,
        Phase::Working => AnsiColor::Cyan,
        Phase::Waiting => AnsiColor::Yellow,
        Phase::Degraded => AnsiColor::Magenta,
        Phase::Failed => AnsiColor::Red,
        Phase::Removed => AnsiColor::BrightBlack,
    };
    Style::new().fg_color(Some(color.into()))
}

/// A phase's name, padded to the longest and coloured.
pub fn phase(phase: Phase) -> String {
    let style = style(phase);
    format!("{style}{phase:<8}{style:#}")
}
