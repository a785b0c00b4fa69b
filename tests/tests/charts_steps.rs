//! Steps in the pods of other people's charts: what one include makes, that an API server takes it, and that it does what it says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use std::process::Command;

use acceptance::binary;
use acceptance::charts::Charts;
use acceptance::charts::foreign::{args, init_containers};
use sandbox::{Options, Sandbox, Supervisor};
use serde_json::{Value, json};

fn step(more: &Value) -> Value {
    let mut step = json!({"name": "load_masterdata", "image": "example.org/{{ .Chart.Name }}:1",
        "command": ["./load.sh", "--all"]});
    for (key, value) in more.as_object().unwrap() {
        step[key] = value.clone();
    }
    json!({"rollcall": {"documents": "environment"}, "steps": [step]})
}

#[tokio::test]
async fn one_include_runs_a_command_once_in_the_charts_of_others() {
    let sandbox =
        Sandbox::start(Options::new(Supervisor::command(binary(), ["sandbox-supervisor"]))).await.unwrap();
    let charts = Charts::with_foreign(&sandbox).await;
    let more = json!({"inputs": ["/data/a.csv"], "inputEnv": ["VERSION"], "secretEnv": ["WORD"], "again": true,
        "env": [{"name": "VERSION", "value": "1"}]});
    let containers = init_containers(&charts.render("own", &step(&more)));
    let [bring, run] = &containers[..] else { panic!("{containers:?}") };
    assert_eq!(
        (&bring["name"], &run["name"]),
        (&json!("step-load-masterdata-bring"), &json!("step-load-masterdata"))
    );
    assert_eq!(bring["image"], "localhost/rollcall/postgres-init:0.1.0");
    assert_eq!(run["image"], "example.org/own:1");
    let expected = [
        "step",
        "load_masterdata",
        "--again",
        "--input=/data/a.csv",
        "--env=VERSION",
        "--secret-env=WORD",
        "--",
        "./load.sh",
        "--all",
    ];
    assert_eq!(args(run), expected);
    let folder = &args(bring)[1];
    let program = format!("{folder}/postgres-init");
    assert_eq!(run["command"], json!([format!("{folder}/ld.so"), "--library-path", folder, program]));
    let variables = run["env"].as_array().unwrap();
    let has =
        |name: &str, value: &str| variables.iter().any(|one| one["name"] == name && one["value"] == value);
    assert!(has("ROLLCALL_DOCUMENTS", "/etc/rollcall/documents") && has("VERSION", "1"), "{variables:?}");

    // What brings the program is the program, and it needs nothing of where it comes to: not even a C library.
    let to = sandbox.dir().join("bin");
    std::fs::create_dir(&to).unwrap();
    let status = Command::new(binary()).args(["postgres-init", "install"]).arg(&to).status().unwrap();
    assert!(status.success());
    let run_there = |before: &[&str], args: &[&str]| {
        let mut loader = Command::new(to.join("ld.so"));
        loader.arg("--library-path").arg(&to).args(before).arg(to.join("postgres-init")).args(args);
        let output = loader.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let libraries = run_there(&["--list"], &[]);
    let here = libraries.matches(&format!("=> {}/", to.display())).count();
    assert!(here > 1 && here == libraries.matches("=>").count(), "{libraries}");
    assert!(run_there(&[], &["step", "--help"]).contains("once"));

    for (values, words) in [
        (step(&json!({"comand": []})), "has no key `comand`"),
        (step(&json!({"command": []})), "rollcall.step.command: is missing"),
        (step(&json!({"command": "./load.sh"})), "write a list, a word each"),
        (step(&json!({"again": true, "baseline": true})), "exclude each other"),
        (json!({"steps": [{"name": "a", "image": "b", "command": ["c"]}]}), "step `a` stands in documents"),
    ] {
        let output = charts.template("own", &values);
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && why.contains(words), "{why}");
    }
    sandbox.stop().await.unwrap();
}

fn shop() -> Value {
    let uid = "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06";
    json!({
        "rollcall": "v1", "environment": {"name": "dev", "uid": uid},
        "fragment": {"name": "shop", "namespace": "shop"},
        "uses": {"postgres": {"main": {"host": "db.commons", "tls": {"mode": "verify-full", "ca": {"secret": "db-ca", "key": "ca.crt"}}}}},
        "databases": {"shop": {"server": "main", "roles": {
            "app": {"name": "shop_user", "password": {"secret": "shop-db", "key": "password"}},
            "migrator": {"name": "shop_migrator", "password": {"secret": "shop/shop-migrator", "key": "password"}}
        }}},
        "steps": {"load_masterdata": {"database": "shop"}},
    })
}

/// The volume of this name, of the pod among these manifests.
fn volume(manifests: &[Value], name: &str) -> Value {
    let pods = manifests.iter().filter(|one| one["kind"] == "Deployment");
    let mut volumes =
        pods.flat_map(|pod| pod["spec"]["template"]["spec"]["volumes"].as_array().unwrap().clone());
    volumes.find(|volume| volume["name"] == name).unwrap_or_else(|| panic!("no volume {name}"))
}

#[tokio::test]
async fn one_include_asks_for_a_modules_databases_and_mounts_no_credential_of_the_server() {
    let sandbox =
        Sandbox::start(Options::new(Supervisor::command(binary(), ["sandbox-supervisor"]))).await.unwrap();
    let charts = Charts::with_foreign(&sandbox).await;
    let mut values = json!({
        "rollcall": {"postgresInit": "http://env-postgres-init.commons:7070", "secrets": "files", "fragments": {"shop": shop()},
            "timeout": "15m"},
        "steps": [{"name": "load_masterdata", "image": "example.org/own:1", "command": ["./load.sh"]}],
    });
    let manifests = charts.render("own", &values);
    let containers = init_containers(&manifests);
    let [asks, _, step] = &containers[..] else { panic!("{containers:?}") };
    assert_eq!(
        (&asks["name"], &asks["image"]),
        (&json!("rollcall-provision"), &json!("localhost/rollcall/postgres-init:0.1.0"))
    );
    assert_eq!(args(asks), ["apply"]);
    for (container, name, value) in [
        (asks, "ROLLCALL_POSTGRES_INIT", "http://env-postgres-init.commons:7070"),
        (asks, "ROLLCALL_HUB_TOKEN_FILE", "/run/rollcall/postgres-init/token"),
        (asks, "ROLLCALL_SECRETS_DIR", "/run/rollcall/secrets"),
        (asks, "ROLLCALL_DEADLINE", "15m"),
        (step, "ROLLCALL_POSTGRES_INIT", "http://env-postgres-init.commons:7070"),
        (step, "ROLLCALL_HUB_TOKEN_FILE", "/run/rollcall/postgres-init/token"),
        (step, "ROLLCALL_SECRETS_DIR", "/run/rollcall/secrets"),
    ] {
        let variables = container["env"].as_array().unwrap();
        assert!(
            variables.iter().any(|one| one["name"] == name && one["value"] == value),
            "{name}: {variables:?}"
        );
    }
    let mounted = |container: &Value| -> Vec<String> {
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        mounts
            .filter_map(|mount| {
                Some(mount["mountPath"].as_str()?.strip_prefix("/run/rollcall/secrets/")?.to_owned())
            })
            .collect()
    };
    assert_eq!(mounted(asks), ["db-ca", "shop-db", "shop-migrator"]);
    assert_eq!(mounted(step), mounted(asks));
    let token = volume(&manifests, "rollcall-postgres-init");
    assert_eq!(token["projected"]["sources"][0]["serviceAccountToken"]["audience"], "rollcall/commons");
    assert_eq!(
        volume(&manifests, "rollcall-shop-db")["secret"],
        json!({"secretName": "shop-db", "optional": true})
    );

    // Through the API server it is the account's right, by name.
    values["rollcall"]["secrets"] = json!("api");
    values["rollcall"]["serviceAccountName"] = json!("own");
    let manifests = charts.render("own", &values);
    let role = manifests.iter().find(|one| one["kind"] == "Role").unwrap();
    assert_eq!(role["rules"][0]["resourceNames"], json!(["db-ca", "shop-db", "shop-migrator"]));
    values["rollcall"]["secrets"] = json!("env");
    let output = charts.template("own", &values);
    assert!(String::from_utf8_lossy(&output.stderr).contains("set `rollcall.secrets` to `files`"));

    // Whoever looks after the server lets in whom its document delegates to, and nobody where it delegates nothing.
    let base = |delegate: Value| {
        json!({"run": "serve", "fragments": {"base": {
            "rollcall": "v1", "environment": shop()["environment"], "fragment": {"name": "base", "namespace": "commons"},
            "postgres": {"main": {"host": "db", "delegate": delegate,
                "admin": {"user": "postgres", "password": {"secret": "pg", "key": "password"}}}},
        }}})
    };
    let service = |manifests: &[Value]| manifests.iter().any(|one| one["kind"] == "Service");
    let open = charts.render("postgres-init", &base(json!([{"namespaces": ["shop"]}])));
    let policy = open.iter().find(|one| one["kind"] == "NetworkPolicy").unwrap();
    let grpc = &policy["spec"]["ingress"][2];
    assert_eq!(grpc["ports"], json!([{"port": "grpc"}]));
    let from = &grpc["from"][0]["namespaceSelector"]["matchExpressions"][0]["values"];
    assert!(service(&open) && from.as_array().unwrap().contains(&json!("shop")), "{policy}");
    let closed = charts.render("postgres-init", &base(json!([])));
    let policy = closed.iter().find(|one| one["kind"] == "NetworkPolicy").unwrap();
    assert!(!service(&closed) && policy["spec"]["ingress"].as_array().unwrap().len() == 2, "{policy}");
    sandbox.stop().await.unwrap();
}
