//! The binary: everything is in the library.

fn main() -> std::process::ExitCode {
    chassis::run::main("wait-for-dependency", wait_for_dependency::run)
}
