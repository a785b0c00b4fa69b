//! The topic-provisioner binary.

fn main() -> std::process::ExitCode {
    chassis::run::main("topic-provisioner", topic_provisioner::run)
}
