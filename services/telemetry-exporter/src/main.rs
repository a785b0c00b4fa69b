//! The telemetry-exporter binary.

fn main() -> std::process::ExitCode {
    chassis::run::main("telemetry-exporter", telemetry_exporter::run)
}
