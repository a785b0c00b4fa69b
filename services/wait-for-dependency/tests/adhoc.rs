//! The ad-hoc waiter as people meet it: the binary itself, its exit codes and what it says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what does not hold fails the test"
)]

use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PLANTED: &str = "hunter2-planted";

fn wait(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wait-for-dependency"));
    command
        .arg("wait")
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        // Whoever runs this test may have a cluster of his own.
        .env("HOME", "/nonexistent")
        .env("ROLLCALL_LOG_FORMAT", "text");
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    finished(&wait(arguments).output().unwrap())
}

fn finished(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn open_port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn closed_port() -> String {
    open_port().1
}

/// Answers every connection with these bytes, on a thread of its own.
fn server(answer: &'static [u8]) -> String {
    use std::io::Write;
    let (listener, address) = open_port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn what_is_ready_releases_at_once_and_says_so() {
    let (_listener, address) = open_port();
    let begun = Instant::now();
    let (code, _, said) = run(&["--tcp", &address]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("released: tcp {address}, at the first look")), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(run(&["--tcp", &address, "--quiet"]).2, "");
}

#[test]
fn several_targets_are_all_waited_for() {
    let (_listener, open) = open_port();
    let health = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let url = format!("http://{health}/");
    assert_eq!(run(&["--tcp", &open, "--http", &url]).0, Some(0));
    let (code, _, said) = run(&["--tcp", &open, "--http", &url, "--tcp", &closed_port(), "--timeout", "3s"]);
    assert_eq!(code, Some(124), "{said}");
    assert!(said.contains("1 of 3 not ready"), "{said}");
}

#[test]
fn the_deadline_is_124_and_names_target_state_and_cause() {
    let closed = closed_port();
    let failing =
        server(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let url = format!("http://{failing}/health");
    let (code, _, said) = run(&["--tcp", &closed, "--http", &url, "--timeout", "3s"]);
    assert_eq!(code, Some(124));
    assert!(said.contains(&format!("tcp {closed}: refused for")), "{said}");
    assert!(said.contains("Connection refused"), "{said}");
    assert!(said.contains(&format!("{url}: unhealthy for")) && said.contains("answers 503"), "{said}");
    assert!(said.contains("check that it is started"), "{said}");
}

#[test]
fn the_command_takes_the_process_over_with_its_exit_code() {
    let (_listener, address) = open_port();
    let (code, out, _) = run(&["--tcp", &address, "--", "sh", "-c", "echo $0 ran; exit 7", "it"]);
    assert_eq!((code, out.as_str()), (Some(7), "it ran\n"));

    let child = wait(&["--tcp", &address, "--quiet", "--", "sh", "-c", "echo $$"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(finished(&output).1.trim(), pid.to_string(), "the command keeps the process id");

    let (code, out, _) = run(&["--tcp", &closed_port(), "--timeout", "3s", "--", "echo", "ran"]);
    assert_eq!((code, out.as_str()), (Some(124), ""), "a timeout never starts the command");
    let (code, _, said) = run(&["--tcp", &address, "--", "/no/such/program"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("/no/such/program: cannot be started"), "{said}");
}

#[test]
fn wrong_usage_is_2_and_names_the_flag() {
    let table: &[(&[&str], &str)] = &[
        (&[], "nothing to wait for"),
        (&["--", "true"], "nothing to wait for"),
        (&["--tcp", "db"], "--tcp: `db` is not host:port"),
        (&["--http", "db:80"], "--http"),
        (&["--http", "http://x/", "--timeout", "soon"], "--timeout"),
        (&["--http", "http://x/", "--timeout=-1s"], "--timeout"),
        (&["--tcp", "x:1", "--interval", "0s"], "--interval"),
        (&["--grpc", "x"], "--grpc"),
        (&["--kafka", "x:1/"], "--kafka"),
        (&["--keycloak", "kc"], "--keycloak"),
        (&["--postgres", "host=db"], "--postgres"),
        (&["--secret", "a:b"], "ROLLCALL_SECRETS_DIR"),
        (&["--tpc", "x:1"], "--tpc"),
        (&["docs.yaml"], "--module"),
        (&["--module", "m", "--tcp", "x:1"], "--module"),
        (&["--tcp", "x:1", "--password-file", "/f"], "--password-file"),
    ];
    for (arguments, says) in table {
        let (code, _, said) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}

#[test]
fn no_refusal_repeats_a_password() {
    for arguments in [
        ["--postgres", &format!("postgresql://app:{PLANTED}@db:port/x")],
        ["--postgres", &format!("mysql://app:{PLANTED}@db/x")],
        ["--quiet", &format!("postgresql://app:{PLANTED}@db/x")],
        ["--tcp", &format!("app:{PLANTED}@db")],
    ] {
        let (code, out, said) = run(&arguments);
        assert_eq!(code, Some(2), "{said}");
        assert!(!said.contains(PLANTED) && !out.contains(PLANTED), "{said}");
    }
}

#[test]
fn a_password_is_neither_said_nor_seen_in_a_childs_arguments() {
    let closed = closed_port();
    let inline = format!("postgresql://app:{PLANTED}@{closed}/registry");
    let (code, out, said) = run(&["--postgres", &inline, "--timeout", "3s", "--output", "json"]);
    assert_eq!(code, Some(124));
    assert!(
        said.contains("holds a password") && said.contains(&format!("postgresql://app@{closed}/registry")),
        "{said}"
    );
    assert!(!said.contains(PLANTED) && !out.contains(PLANTED), "{said}{out}");

    // A login needs a server; an open port is enough to see what the command after it is started with.
    let (_listener, open) = open_port();
    let mut command = wait(&["--tcp", &open, "--quiet", "--", "cat", "/proc/self/cmdline"]);
    let (code, out, _) = finished(&command.env("PGPASSWORD", PLANTED).output().unwrap());
    assert_eq!(code, Some(0));
    assert!(!out.contains(PLANTED), "{out}");
}

#[test]
fn a_secret_must_be_there_and_can_be_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("db")).unwrap();
    let secrets = |arguments: &[&str]| {
        let mut command = wait(arguments);
        command.env("ROLLCALL_SECRETS_DIR", dir.path());
        command
    };
    let (code, _, said) =
        finished(&secrets(&["--secret", "db:password", "--timeout", "3s"]).output().unwrap());
    assert_eq!(code, Some(124));
    assert!(said.contains("has no key `password`"), "{said}");

    let child =
        secrets(&["--secret", "db:password", "--timeout", "30s"]).stderr(Stdio::piped()).spawn().unwrap();
    let child = after_it_said("absent", child);
    std::fs::write(dir.path().join("db/password"), PLANTED).unwrap();
    let (code, _, said) = finished(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(PLANTED), "{said}");

    // A password that could never log in will never work: it ends although no deadline was given.
    std::fs::write(dir.path().join("db/password"), format!("{PLANTED}\n")).unwrap();
    let target = format!("postgresql://app@{}/x", closed_port());
    let (code, _, said) =
        finished(&secrets(&["--postgres", &target, "--password-secret", "db:password"]).output().unwrap());
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("line break") && !said.contains(PLANTED), "{said}");
}

#[test]
fn an_api_server_is_asked_by_who_waits_for_a_secret_and_by_nobody_else() {
    let (server, address) = open_port();
    server.set_nonblocking(true).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": format!("https://{address}")}}],
        "users": [{"name": "x", "user": {"token": PLANTED}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "own"}}],
    });
    std::fs::write(file.path(), config.to_string()).unwrap();
    let asking = |arguments: &[&str]| {
        let mut command = wait(arguments);
        command.env("KUBECONFIG", file.path()).env("ROLLCALL_LOG", "trace");
        finished(&command.output().unwrap())
    };
    let (_listener, open) = open_port();
    let (code, _, said) = asking(&["--tcp", &open]);
    assert_eq!(code, Some(0), "{said}");
    assert!(server.accept().is_err() && !said.contains("kube"), "nobody is asked and nothing said: {said}");

    let (code, _, said) = asking(&["--secret", "db:password", "--timeout", "4s"]);
    assert_eq!(code, Some(124), "a server that does not answer may answer later: {said}");
    assert!(server.accept().is_ok());
    assert!(said.contains("secret/own/db cannot be read now"), "in the namespace of the kubeconfig: {said}");
    assert!(said.contains("unknown for") && !said.contains(PLANTED), "{said}");

    let mut nowhere = wait(&["--secret", "db:password"]);
    let (code, _, said) = finished(&nowhere.env("KUBECONFIG", "/none/such").output().unwrap());
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("/none/such") && said.contains("or set ROLLCALL_SECRETS_DIR"), "{said}");
}

#[test]
fn what_comes_up_later_releases() {
    let (listener, address) = open_port();
    drop(listener);
    let child = wait(&["--tcp", &address, "--timeout", "30s"]).stderr(Stdio::piped()).spawn().unwrap();
    let child = after_it_said("Connection refused", child);
    let _listener = TcpListener::bind(&address).unwrap();
    let (code, _, said) = finished(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("by its own polling"), "{said}");
}

#[test]
fn asked_to_stop_it_ends_promptly_and_says_what_it_waited_for() {
    let address = closed_port();
    let child = wait(&["--tcp", &address, "--", "echo", "ran"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let child = after_it_said("Connection refused", child);
    let begun = Instant::now();
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let (code, out, said) = finished(&child.wait_with_output().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert_eq!(out, "", "the command was not started");
    assert!(said.contains("asked to stop") && said.contains(&address), "{said}");
}

#[test]
fn machines_read_json_lines() {
    let (_listener, open) = open_port();
    let closed = closed_port();
    let (code, out, _) = run(&["--tcp", &open, "--tcp", &closed, "--timeout", "3s", "--output", "json"]);
    assert_eq!(code, Some(124));
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |target: &str| lines.iter().find(|line| line["target"] == format!("tcp {target}")).unwrap();
    assert_eq!(of(&open)["state"], "ready");
    assert_eq!(of(&open)["level"], "open");
    assert_eq!(of(&closed)["state"], "refused");
    let last = lines.last().unwrap();
    assert_eq!(last["result"], "timeout");
    assert_eq!(last["unmet"][0]["target"], format!("tcp {closed}"));
}

/// Reads what a child says on standard error until it says `text`. What follows is for the caller.
fn after_it_said(text: &str, mut child: Child) -> Child {
    let mut stderr = child.stderr.take().unwrap();
    let (mut heard, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&heard).contains(text) {
        assert_ne!(stderr.read(&mut byte).unwrap(), 0, "it ended: {}", String::from_utf8_lossy(&heard));
        heard.push(byte[0]);
    }
    child.stderr = Some(stderr);
    child
}
