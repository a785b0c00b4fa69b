//! A whole Kubernetes of one node comes up for real, runs pods that find each other, survives the loss of its parts, and
//! leaves nothing on the machine.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod leftovers;
mod without;

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sandbox::image::{Base, Image};
use sandbox::{Daemon, KafkaOptions, Node, Options, PostgresOptions, ProcessSpec, Sandbox, Supervisor};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// One at a time: each takes a gigabyte and all processors.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());
pub(crate) const READY: Duration = Duration::from_mins(3);
const IMAGE: &str = "localhost/sandbox-pod:1";

pub(crate) async fn start() -> Sandbox {
    let supervisor = Supervisor::command(env!("CARGO_BIN_EXE_sandbox-supervisor"), [] as [&str; 0]);
    Sandbox::start(Options::new(supervisor)).await.expect("a sandbox starts")
}

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(READY, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// A node that is ready and has the image of the program `sandbox-pod`.
pub(crate) async fn node(sandbox: &Sandbox) -> Node {
    let node = sandbox.node().await.expect("made");
    node.ready(READY).await.expect("ready");
    let program = Path::new(env!("CARGO_BIN_EXE_sandbox-pod"));
    let base = Base::of([program]).expect("a base");
    let image = Image::of_program(IMAGE, "sandbox-pod", &base, program).expect("an image");
    node.load(&[image]).await.expect("loaded");
    node
}

/// What kubectl answers; it must succeed.
fn kubectl(node: &Node, args: &[&str], input: Option<&Value>) -> String {
    let mut command = node.kubectl();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().expect("kubectl starts");
    let text = input.map(Value::to_string).unwrap_or_default();
    running.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let Output { status, stdout, stderr } = running.wait_with_output().expect("it ends");
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "kubectl {args:?}: {out}{err}");
    out.into_owned()
}

fn apply(node: &Node, object: &Value) {
    kubectl(node, &["apply", "-f", "-"], Some(object));
}

fn container(args: &[&str]) -> Value {
    json!({
        "name": "main", "image": IMAGE, "args": args,
        "securityContext": {
            "runAsNonRoot": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

/// What a pod is told at a place, by name or by address.
fn told(node: &Node, pod: &str, place: &str) -> String {
    answered(node, pod, &["ask", place])
}

/// The same, after bytes that it sends first.
fn answered(node: &Node, pod: &str, args: &[&str]) -> String {
    apply(
        node,
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod},
            "spec": {"restartPolicy": "Never", "containers": [container(args)]},
        }),
    );
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    kubectl(node, &["wait", done, &format!("pod/{pod}"), "--timeout=2m"], None);
    kubectl(node, &["logs", pod], None)
}

/// A Deployment of two that serves, and its Service; returns when the service leads to it.
async fn serve(node: &Node) {
    let mut main = container(&["serve", "8080"]);
    main["readinessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    let labels = json!({"app": "web"});
    apply(
        node,
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": 2, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [main]}},
            },
        }),
    );
    let ports = json!([{"port": 80, "targetPort": 8080, "nodePort": 30080}]);
    apply(
        node,
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"type": "NodePort", "selector": labels, "ports": ports},
        }),
    );
    kubectl(node, &["rollout", "status", "deployment/web", "--timeout=2m"], None);
    // kube-proxy learns of ready pods a moment later.
    let place = format!("{}:30080", node.network().expect("its own").node());
    eventually("the service leads to a pod", || told_here(&place).starts_with("web-")).await;
}

/// Restarts and ids of the Deployment's containers: the same as long as none was started again.
fn containers(node: &Node) -> String {
    let what = "jsonpath={range .items[*].status.containerStatuses[*]}{.restartCount} {.containerID}\n{end}";
    kubectl(node, &["get", "pods", "-l", "app=web", "-o", what], None)
}

/// What the program of pods is told when this machine runs it.
fn told_here(place: &str) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sandbox-pod")).args(["ask", place]).output().expect("it runs");
    String::from_utf8(output.stdout).expect("text")
}

/// What the program is told over a port that kubectl forwards to the service.
fn forwarded(node: &Node) -> String {
    let mut command = node.kubectl();
    command.args(["port-forward", "service/web", ":80"]).stdout(Stdio::piped());
    let mut forwarding = command.spawn().expect("kubectl starts");
    // Open until the end: kubectl says more, and would not survive that nobody listens.
    let mut output = BufReader::new(forwarding.stdout.take().expect("a pipe"));
    let mut said = String::new();
    output.read_line(&mut said).expect("it says where");
    // Forwarding from 127.0.0.1:40123 -> 8080
    let place = said.split_whitespace().nth(2).unwrap_or_default();
    let answer = told_here(place);
    forwarding.kill().expect("it lives");
    forwarding.wait().expect("it ends");
    answer
}

/// A server of this machine where pods see it; gives its place and the address it is asked from.
fn here(node: &Node) -> (String, std::thread::JoinHandle<IpAddr>) {
    let listener = TcpListener::bind((node.host().expect("an address"), 0)).expect("it listens");
    let place = listener.local_addr().expect("an address").to_string();
    let asked = std::thread::spawn(move || {
        let (mut stream, caller) = listener.accept().expect("a caller");
        writeln!(stream, "this machine").expect("it reads");
        caller.ip()
    });
    (place, asked)
}

#[tokio::test]
#[ignore = "needs root and takes a whole cluster: cargo test -p sandbox --test node -- --ignored"]
async fn pods_find_services_each_other_and_this_machine_and_nothing_else() {
    let _alone = ALONE.lock().await;
    let sandbox = start().await;
    let node = node(&sandbox).await;
    let nodes =
        kubectl(&node, &["get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}"], None);
    assert_eq!(nodes, "v1.34.4");
    serve(&node).await;
    for (pod, place) in [("short", "web:80"), ("long", "web.default.svc.cluster.local:80")] {
        let answer = told(&node, pod, place);
        assert!(answer.starts_with("web-"), "{place}: {answer}");
    }
    // The hint of glibc for a name that nobody knows, in contrast to a server that does not answer.
    let answer = told(&node, "unknown", "nobody.example:80");
    assert!(answer.contains("Name or service not known"), "{answer}");
    let answer = told(&node, "outside", "203.0.113.1:80");
    assert!(answer.contains("unreachable"), "{answer}");
    // The ways through the API server into a pod.
    let answer =
        kubectl(&node, &["exec", "deployment/web", "--", "/rollcall", "ask", "localhost:8080"], None);
    assert!(answer.contains("was asked by 127.0.0.1"), "{answer}");
    let answer = forwarded(&node);
    assert!(answer.contains("was asked by 127.0.0.1"), "{answer}");
    let (place, asked) = here(&node);
    assert_eq!(told(&node, "home", &place), "this machine\n");
    let network = node.network().expect("its own");
    let pods: Ipv4Addr = network.pods().trim_end_matches("/24").parse().expect("an address");
    let IpAddr::V4(caller) = asked.join().expect("asked") else { panic!("not over IPv4") };
    assert_eq!(caller.octets()[..3], pods.octets()[..3], "pods come with their own addresses");
    let service = kubectl(&node, &["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"], None);
    let pod =
        kubectl(&node, &["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].status.podIP}"], None);
    for place in [format!("{}:30080", network.node()), format!("{service}:80"), format!("{pod}:8080")] {
        let answer = told_here(&place);
        assert!(answer.starts_with("web-"), "{place}: {answer}");
    }
    sandbox.stop().await.expect("ends");
}

/// What `kubectl` says to somebody else than the administrator.
fn kubectl_as(node: &Node, kubeconfig: &Path, args: &[&str]) -> String {
    let output = node.kubectl().env("KUBECONFIG", kubeconfig).args(args).output().expect("kubectl runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
#[ignore = "needs root and takes a whole cluster: cargo test -p sandbox --test node -- --ignored"]
async fn everybody_is_who_he_is_and_may_do_what_roles_say() {
    let _alone = ALONE.lock().await;
    let sandbox = start().await;
    let node = node(&sandbox).await;
    let user = node.kubeconfig_of("somebody", "people").expect("written");
    let said = kubectl_as(&node, &user, &["get", "pods"]);
    assert!(said.contains("Forbidden") && said.contains("somebody"), "{said}");
    let token = kubectl(&node, &["create", "token", "default"], None);
    let account = node.kubeconfig_of_token("account", token.trim()).expect("written");
    let said = kubectl_as(&node, &account, &["auth", "whoami"]);
    assert!(said.contains("system:serviceaccount:default:default"), "{said}");
    let log = sandbox.dir().join("ctr.log");
    let list = ProcessSpec::new("ctr", "ctr", &log).args(["-n", "k8s.io", "images", "ls", "-q"]);
    node.run(list, READY).await.expect("listed");
    assert!(std::fs::read_to_string(log).expect("a log").lines().any(|line| line == IMAGE));
    sandbox.stop().await.expect("ends");
}

/// SSLRequest, to which PostgreSQL without TLS answers `N`.
const TO_POSTGRES: &str = "0,0,0,8,4,210,22,47";
/// Metadata version 1, correlation id 7, no client id, no topics: the broker answers with where clients find it.
const TO_KAFKA: &str = "0,0,0,14,0,3,0,1,0,0,0,7,255,255,0,0,0,0";

#[tokio::test]
#[ignore = "needs root and takes a whole cluster: cargo test -p sandbox --test node -- --ignored"]
async fn pods_reach_the_servers_of_this_machine() {
    let _alone = ALONE.lock().await;
    let sandbox = start().await;
    let node = node(&sandbox).await;
    let also = Some(node.host().expect("an address"));
    let postgres =
        sandbox.postgres(PostgresOptions { also, ..PostgresOptions::default() }).await.expect("made");
    let kafka = sandbox.kafka(KafkaOptions { also, ..KafkaOptions::default() }).await.expect("made");
    postgres.ready(READY).await.expect("ready");
    kafka.ready(READY).await.expect("ready");
    let host = node.host().expect("an address").to_string();
    let answer = answered(&node, "postgres", &["ask", &format!("{host}:{}", postgres.port()), TO_POSTGRES]);
    assert_eq!(answer, "N");
    let brokers = kafka.brokers_also().expect("it was given one");
    let answer = answered(&node, "kafka", &["ask", &brokers, TO_KAFKA]);
    assert!(answer.contains(&host) && !answer.contains("127.0.0.1"), "{answer:?}");
    sandbox.stop().await.expect("ends");
}

#[tokio::test]
#[ignore = "needs root and takes a whole cluster: cargo test -p sandbox --test node -- --ignored"]
async fn pods_outlive_every_daemon_and_new_ones_start_once_it_is_back() {
    let _alone = ALONE.lock().await;
    let sandbox = start().await;
    let node = node(&sandbox).await;
    serve(&node).await;
    let before = containers(&node);
    assert_eq!(before.lines().filter(|line| line.starts_with("0 ")).count(), 2, "{before}");
    node.restart(Daemon::Containerd).await.expect("restarted");
    node.ready(READY).await.expect("ready again");
    assert_eq!(containers(&node), before);
    for daemon in Daemon::ALL {
        let handle = node.daemon(daemon).expect("one");
        handle.kill().await.expect("killed");
        let error = node.ready(READY).await.expect_err("a part is missing").to_string();
        assert!(error.contains(daemon.name()), "{error}");
        handle.start().await.expect("started");
    }
    node.ready(READY).await.expect("ready again");
    assert!(told(&node, "after", "web:80").starts_with("web-"));
    assert_eq!(containers(&node), before);
    sandbox.stop().await.expect("ends");
}
