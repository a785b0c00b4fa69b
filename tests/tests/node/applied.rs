//! An environment without Helm's hands on the cluster: what its charts render is applied by kubectl. With a native sidecar, a
//! Job, and a Secret that is missing so that a waiter itself cannot start.

use acceptance::node::{Place, Servers, Whole, renamed, texts};
use acceptance::{programs, text};
use sandbox::image::{Base, Image};
use serde_json::{Value, json};

const NAME: &str = "applied";
/// What stands beside the reference documents: a module whose waiter is given a Secret that is not there yet, one with a
/// sidecar, and one that ends.
const MORE: &str = "
rollcall: v1
environment: {name: openg2p, uid: 3f6f4f0e-8d0b-4c39-9a55-2d1f0c6b7a10}
fragment: {name: more, namespace: openg2p}
uses: {modules: {redis: {}}}
secrets: {smtp: {external: true}}
modules:
  mailer: {needs: [secret/smtp], ready: {http: {url: \"http://mailer/ping\"}}}
  watched: {needs: [module/redis, secret/smtp], ready: {http: {url: \"http://watched/ping\"}}}
  nightly: {needs: [module/redis]}
";
/// An image of the waiter alone: a sidecar executes itself.
const ALONE: &str = "alone";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and takes a whole cluster: cargo test -p acceptance --test node -- --ignored"]
async fn what_the_charts_render_is_applied_without_helm() {
    let place = Place::new().await;
    let servers = Servers::new(&place).await;
    servers.found_in(&place, NAME);
    load_waiter(&place).await;
    let documents = [texts(&["commons-base"]), vec![MORE.to_owned()]].concat();
    let whole = Whole::of(&renamed(&documents, NAME, "00000000-0000-4000-8000-000000000004", None));
    let mut modules = whole.modules();
    let password = json!({"secretKeyRef": {"name": "smtp", "key": "password"}});
    modules["modules"]["mailer"]["extraEnv"] = json!([{"name": "SMTP_PASSWORD", "valueFrom": password}]);
    for module in ["watched", "nightly"] {
        modules["modules"][module]["sidecar"] = json!(true);
        modules["modules"][module]["image"] = json!({"tag": ALONE});
    }
    modules["modules"]["nightly"]["job"] = json!(["wait", "--tcp=commons-redis-master:6379"]);
    applied(&place, "env", "environment", &whole.values);
    applied(&place, "modules", "modules", &modules);

    // Every health check of ours is asked by gRPC: none of these would be ready otherwise.
    let (ready, mut slow) =
        (async |module: &str| is_ready(&place, module), vec!["kafka-ui", "minio", "redis"]);
    place
        .until("what lacks nothing is ready", async || {
            while let Some(module) = slow.last() {
                if !ready(module).await {
                    return false;
                }
                slow.pop();
            }
            true
        })
        .await;
    a_missing_secret_is_explained(&place).await;
    a_sidecar_holds_back(&place).await;
    a_job_ends_beside_its_sidecar(&place).await;

    place.kubectl(&["create", "secret", "generic", "smtp", "-n", NAME, "--from-literal=password=p"]);
    for module in ["mailer", "watched"] {
        place.until("what lacked the Secret is ready", async || is_ready(&place, module)).await;
    }
    let pod = place.pod(NAME, "module=watched");
    let (sidecar, main) =
        (&pod["status"]["initContainerStatuses"][0], &pod["status"]["containerStatuses"][0]);
    assert_eq!((&sidecar["started"], &sidecar["ready"]), (&json!(true), &json!(true)), "{sidecar:#}");
    let since = |container: &Value| container["state"]["running"]["startedAt"].as_str().unwrap().to_owned();
    assert!(since(sidecar) <= since(main), "{pod:#}");
    assert_eq!(main["restartCount"], 0, "{main:#}");
    place.sandbox.stop().await.unwrap();
}

/// The program by itself, as its own image has it.
async fn load_waiter(place: &Place) {
    // With the other, so that nothing is compiled again with fewer features.
    let program =
        programs("dev", &["rollcall", "wait-for-dependency"]).remove("wait-for-dependency").unwrap();
    let name = format!("localhost/rollcall/wait-for-dependency:{ALONE}");
    let base = Base::of([&program]).unwrap();
    let image = Image::of_program(&name, "wait-for-dependency", &base, &program).unwrap();
    place.node.load(&[image]).await.unwrap();
}

/// `helm template … | kubectl apply -f -`.
fn applied(place: &Place, release: &str, chart: &str, values: &Value) {
    let values = place.charts.values(release, values);
    let rendered = place.charts.run(&["template", release, chart, "--namespace", NAME, "--values", &values]);
    assert!(rendered.status.success(), "{}", text(&rendered));
    let file = place.sandbox.dir().join(format!("{release}.yaml"));
    std::fs::write(&file, rendered.stdout).unwrap();
    place.kubectl(&["apply", "-f", &file.display().to_string()]);
}

fn is_ready(place: &Place, module: &str) -> bool {
    place.phase(NAME, &format!("module/{module}")).as_deref() == Some("ready")
}

/// Whoever waits has not said a word: the kubelet could not even start the waiter.
async fn a_missing_secret_is_explained(place: &Place) {
    let waiter = || place.pod(NAME, "module=mailer")["status"]["initContainerStatuses"][0].clone();
    place
        .until("the kubelet lacks the Secret", async || {
            waiter()["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        })
        .await;
    let pod = place.pod(NAME, "module=mailer")["metadata"]["name"].as_str().unwrap().to_owned();
    place
        .until("the kubelet says which", async || {
            let described = place.kubectl(&["describe", "pod", &pod, "-n", NAME]);
            described.contains("secret \"smtp\" not found")
        })
        .await;
    let mut why = String::new();
    place
        .until("it is explained", async || {
            why = text(&place.rollcall(&["explain", "module/mailer", "-n", NAME]));
            why.contains("module/mailer") && why.contains(&format!("secret/{NAME}/smtp"))
        })
        .await;
}

/// It runs and looks, but what follows it is not started.
async fn a_sidecar_holds_back(place: &Place) {
    place
        .until("the sidecar waits", async || {
            let pod = place.pod(NAME, "module=watched");
            pod["status"]["initContainerStatuses"][0]["state"]["running"].is_object()
        })
        .await;
    let pod = place.pod(NAME, "module=watched");
    assert_eq!(pod["status"]["initContainerStatuses"][0]["started"], false, "{pod:#}");
    assert_eq!(
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing",
        "{pod:#}"
    );
}

/// A sidecar goes on for ever and does not keep a Job from being done.
async fn a_job_ends_beside_its_sidecar(place: &Place) {
    place
        .until("the Job is done", async || {
            let job = place.json(&["get", "job", "nightly", "-n", NAME]);
            job["status"]["succeeded"] == 1
        })
        .await;
    let pod = place.pod(NAME, "module=nightly");
    let sidecar = &pod["status"]["initContainerStatuses"][0];
    assert_eq!(sidecar["name"], "rollcall-wait", "{pod:#}");
    assert!(sidecar["state"]["terminated"].is_object(), "{sidecar:#}");
    assert_eq!(pod["status"]["phase"], "Succeeded", "{pod:#}");
}
