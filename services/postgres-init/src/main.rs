//! The postgres-init binary.

fn main() -> std::process::ExitCode {
    chassis::run::main("postgres-init", postgres_init::run)
}
