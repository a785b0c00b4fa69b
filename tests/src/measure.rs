//! What benches share: when to run at all, optimised programs, numbers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use sandbox::ProcessSpec;

/// Whether this program was started by `cargo bench`. `cargo test --all-targets` starts benches too, without saying
/// `--bench`; measuring there would only be in the way, so it says how to measure.
pub fn asked(bench: &str) -> bool {
    let asked = std::env::args().any(|argument| argument == "--bench");
    if !asked {
        println!("nothing is measured here: cargo bench --package acceptance --bench {bench}");
    }
    asked
}

/// A number from the environment, such as how many samples are taken.
pub fn number<T: FromStr>(variable: &str, default: T) -> T {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}: `{text}` is not a number")),
        Err(_) => default,
    }
}

/// The profile that programs are built in: `BENCH_PROFILE`, or `release`.
pub fn profile() -> String {
    std::env::var("BENCH_PROFILE").unwrap_or_else(|_| "release".to_owned())
}

/// The programs of these packages in [`profile`].
pub fn programs(packages: &[&str]) -> BTreeMap<String, PathBuf> {
    crate::programs(&profile(), packages)
}

/// The `rollcall` program in [`profile`].
pub fn rollcall() -> PathBuf {
    programs(&["rollcall"]).remove("rollcall").unwrap()
}

/// A process of the sandbox as a child of this one, so that its end is seen without a detour. It is killed when its handle
/// is dropped; give it a deadline of its own, for this process may be killed too.
pub fn child(spec: &ProcessSpec) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(&spec.program);
    command.args(&spec.args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(&spec.env).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command.stderr(Stdio::null());
    command
}

/// Whether a program of this name is in `PATH`.
pub fn in_path(program: impl AsRef<OsStr>) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program.as_ref()).is_file())
}

/// Durations in milliseconds, sorted.
#[derive(Debug, Clone, Default)]
pub struct Spread(Vec<f64>);

impl Spread {
    /// Of these.
    pub fn of(durations: impl IntoIterator<Item = Duration>) -> Spread {
        let mut sorted: Vec<f64> = durations.into_iter().map(|d| d.as_secs_f64() * 1000.0).collect();
        sorted.sort_by(f64::total_cmp);
        Spread(sorted)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least of them that so large a share (in hundredths) is not above ("nearest rank"): 50 for the median. NaN of none.
    pub fn quantile(&self, hundredths: usize) -> f64 {
        let rank = (self.0.len() * hundredths).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

/// Three decimals are more than any of this is good for.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let spread = Spread::of((1..=200).rev().map(Duration::from_millis));
        let close = |hundredths, wanted: f64| (spread.quantile(hundredths) - wanted).abs() < 1e-9;
        assert!(close(50, 100.0) && close(99, 198.0) && close(100, 200.0) && close(0, 1.0));
        assert!(Spread::default().quantile(50).is_nan());
    }
}
