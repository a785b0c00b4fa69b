//! Logs and traces of a whole process: each test runs itself again and looks at what that process says and sends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chassis::run::run_with;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Set in the second process: where traces go.
const CHILD: &str = "CHASSIS_TEST_OTLP";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The standard error of this test in a process of its own.
fn in_a_process(test: &str, otlp: &str) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args([test, "--exact", "--nocapture"]).env(CHILD, otlp).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

/// What that process does. True when this is it.
fn is_the_process() -> bool {
    let Ok(otlp) = std::env::var(CHILD) else { return false };
    let env = [
        ("TRACEPARENT", format!("00-{TRACE}-00f067aa0ba902b7-01")),
        ("ROLLCALL_LOG_FORMAT", "json".to_owned()),
        ("ROLLCALL_OTLP", otlp),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value));
    run_with("test", env, async |_| {
        tracing::info!(number = 7, "hello");
        Ok(())
    });
    true
}

#[test]
fn a_json_line_carries_the_trace_that_the_environment_names() {
    if is_the_process() {
        return;
    }
    let text = in_a_process("a_json_line_carries_the_trace_that_the_environment_names", "");
    let line = text.lines().find(|line| line.contains("hello")).unwrap_or_else(|| panic!("{text}"));
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["trace_id"], TRACE, "{line}");
    assert_eq!((&line["message"], &line["number"]), (&"hello".into(), &7.into()), "{line}");
}

#[test]
fn a_collector_that_never_answers_does_not_keep_the_process() {
    if is_the_process() {
        return;
    }
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let test = "a_collector_that_never_answers_does_not_keep_the_process";
    in_a_process(test, &format!("http://{}", silent.local_addr().unwrap()));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn the_last_spans_are_sent_before_the_process_ends() {
    if is_the_process() {
        return;
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let paths = Arc::clone(&seen);
    let collector = axum::Router::new().fallback(move |request: axum::extract::Request| {
        paths.lock().unwrap().push(request.uri().path().to_owned());
        async { Status::unimplemented("only looks").into_http::<axum::body::Body>() }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = runtime.block_on(async {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        tokio::spawn(Server::builder().add_routes(Routes::from(collector)).serve_with_incoming(incoming));
        address
    });
    in_a_process("the_last_spans_are_sent_before_the_process_ends", &format!("http://{address}"));
    assert_eq!(*seen.lock().unwrap(), ["/opentelemetry.proto.collector.trace.v1.TraceService/Export"]);
}
