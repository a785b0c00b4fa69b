//! The secret-syncer binary.

fn main() -> std::process::ExitCode {
    chassis::run::main("secret-syncer", secret_syncer::run)
}
