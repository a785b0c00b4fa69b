//! Supervises one sandbox: what `rollcall`'s hidden subcommand does too, alone for the tests of this crate.

fn main() -> std::process::ExitCode {
    sandbox::supervise()
}
