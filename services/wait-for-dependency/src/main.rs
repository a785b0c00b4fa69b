//! The binary: everything is in the library.

fn main() -> std::process::ExitCode {
    chassis::run::main(wait_for_dependency::SERVICE, wait_for_dependency::run)
}
