//! Waiting in the pods of other people's charts: by a dependency and an include, by DIGIT's `extraInitContainers`, by Bitnami's
//! `initContainers`, and what the container so made really does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario fails by panicking")]

use acceptance::charts::Charts;
use acceptance::charts::described::defaults;
use acceptance::charts::foreign::{args, init_containers, waiter};
use acceptance::charts::matrix::pod;
use acceptance::cluster::Cluster;
use acceptance::{binary, root};
use sandbox::{Options, Sandbox, Supervisor};
use serde_json::{Value, json};

async fn sandbox() -> Sandbox {
    Sandbox::start(Options::new(Supervisor::command(binary(), ["sandbox-supervisor"]))).await.unwrap()
}

fn rollcall(values: Value) -> Value {
    Value::Object([("rollcall".to_owned(), values)].into_iter().collect())
}

#[tokio::test]
async fn one_include_waits_in_the_charts_of_others() {
    let cluster = Cluster::start(&[]).await;
    let charts = Charts::with_foreign(&cluster.sandbox).await;
    let own = rollcall(json!({"needs": [
        {"postgres": {"host": "{{ .Release.Name }}-pg", "port": 5433, "database": "o w", "user": "a@b", "sslmode": "require", "password": {"secret": "db", "key": "password"}}},
        {"http": "http://keycloak/realms/{{ .Release.Namespace }}=200"},
        {"kafka": "kafka:9092/events"}, {"tcp": "redis:6379"}, {"grpc": "audit:7070"}, {"keycloak": "http://keycloak/realms/staff"},
    ]}));
    for (chart, values, names, expected) in [
        (
            "own",
            own,
            &["rollcall-wait"][..],
            &[
                "wait",
                "--postgres=postgresql://a%40b@syncer-pg:5433/o%20w?sslmode=require",
                "--http=http://keycloak/realms/rollcall=200",
                "--kafka=kafka:9092/events",
                "--tcp=redis:6379",
                "--grpc=audit:7070",
                "--keycloak=http://keycloak/realms/staff",
            ][..],
        ),
        (
            "digit-service",
            json!({"namespace": "rollcall"}),
            &["rollcall-wait"],
            &[
                "wait",
                "--postgres=postgresql://egov@postgres.backbone:5432/egov",
                "--kafka=kafka-v2.backbone:9092",
            ],
        ),
        (
            "umbrella",
            json!({}),
            &["prepare-write-dirs", "rollcall-wait"],
            &["wait", "--postgres=postgresql://keycloakuser@syncer-postgresql:5432/keycloak"],
        ),
        // As arguments of the include, where the chart takes no value that it does not know.
        (
            "umbrella",
            json!({"keycloak": {"rollcall": null, "initContainers": "{{ include \"rollcall.wait\" (dict \"root\" $ \"name\" \"first\" \"needs\" (list (dict \"tcp\" \"a:1\"))) }}\n{{ include \"rollcall.wait\" (dict \"root\" $ \"needs\" (list (dict \"tcp\" \"b:1\"))) }}"}}),
            &["prepare-write-dirs", "first", "rollcall-wait"],
            &["wait", "--tcp=b:1"],
        ),
    ] {
        let manifests = charts.render(chart, &values);
        let containers = init_containers(&manifests);
        let found: Vec<_> = containers.iter().map(|container| container["name"].as_str().unwrap()).collect();
        assert_eq!(found, names, "{chart}");
        let waiter = waiter(&manifests);
        assert_eq!(args(&waiter), expected, "{chart}");
        assert_eq!(waiter["image"], "localhost/rollcall/wait-for-dependency:0.1.0");

        // It fits into a restricted pod whatever the pod itself says.
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let metadata = json!({"name": "rollcall", "labels": labels});
        cluster.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await;
        let mut pod = manifests.iter().find_map(pod).unwrap();
        pod["spec"]["initContainers"] = json!([waiter]);
        let tried = cluster.admin().try_out(&pod).await;
        assert!(tried.is_ok(), "{chart}: {tried:?}");
        for manifest in &manifests {
            let tried = cluster.admin().try_out(manifest).await;
            assert!(tried.is_ok(), "{chart}: {tried:?}\n{manifest:#}");
        }
    }
    // The sidecar, with documents of the chart's own; rights to read what is needed.
    let metadata = json!({"name": "web", "namespace": "rollcall"});
    let uid = "6f1c2a52-6a52-4b0e-9c1d-2b7a8e541f06";
    let fragment = json!({"rollcall": "v1", "environment": {"name": "dev", "uid": uid}, "fragment": metadata, "modules": {"web": {}}});
    for values in [
        json!({"module": "web", "fragments": {"web": fragment}, "sidecar": true}),
        json!({"needs": [{"secret": "a.b:c"}], "secrets": "api", "serviceAccountName": "{{ .Release.Name }}-own"}),
        json!({"needs": [{"secret": "a.b:c"}], "secrets": "files", "secretNames": ["d"]}),
    ] {
        let manifests = charts.render("own", &rollcall(values));
        let pod = manifests.iter().find_map(pod).unwrap();
        for object in manifests.iter().chain([&pod]) {
            let tried = cluster.admin().try_out(object).await;
            assert!(tried.is_ok(), "{tried:?}\n{object:#}");
        }
    }
    // Where nothing is needed there is nothing.
    assert_eq!(init_containers(&charts.render("own", &json!({}))), Vec::<Value>::new());
    // What a release says to all its charts, and a chart otherwise.
    let values = json!({
        "global": {"rollcall": {"image": {"registry": "registry.local", "tag": "7"}, "timeout": "5m"}},
        "rollcall": {"needs": [{"tcp": "a:1"}], "image": {"tag": "8"}},
    });
    let waiter = waiter(&charts.render("own", &values));
    assert_eq!(waiter["image"], "registry.local/rollcall/wait-for-dependency:8");
    assert_eq!(args(&waiter), ["wait", "--tcp=a:1", "--timeout=5m"]);
    cluster.stop().await;
}

/// Where services migrate, DIGIT's slot for more init containers stands at another indentation than theirs; so its library is
/// given the line itself, once for all services.
#[tokio::test]
async fn one_line_in_the_library_of_digit_reaches_every_service() {
    let sandbox = sandbox().await;
    let charts = Charts::with_foreign(&sandbox).await;
    let library = sandbox.dir().join("digit-library");
    std::fs::create_dir_all(library.join("templates")).unwrap();
    let of_digit = root().join("tests/charts/digit-common");
    for (file, from, to) in [
        ("values.yaml", "", ""),
        (
            "Chart.yaml",
            "version: 0.0.2",
            "version: 0.0.2\ndependencies:\n  - {name: common, alias: rollcall, version: 0.1.0, repository: 'file://../common'}",
        ),
        (
            "templates/_deployment.yaml",
            "      initContainers:\n",
            "      initContainers:\n      {{- include \"rollcall.wait\" . | nindent 6 }}\n",
        ),
    ] {
        let text = std::fs::read_to_string(of_digit.join(file)).unwrap();
        std::fs::write(library.join(file), text.replacen(from, to, 1)).unwrap();
    }
    charts.add("digit-common", &library);
    charts.add("digit-service", &root().join("tests/charts/digit-service"));
    let migrates = json!({"initContainers": {"dbMigration": {"enabled": true}, "extraInitContainers": ""}});
    let containers = init_containers(&charts.render("digit-service", &migrates));
    let names: Vec<_> = containers.iter().map(|container| container["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["rollcall-wait", "db-migration"]);
    assert_eq!(args(&containers[0])[1], "--postgres=postgresql://egov@postgres.backbone:5432/egov");
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_needs_is_said_with_its_key() {
    let sandbox = sandbox().await;
    let charts = Charts::with_foreign(&sandbox).await;
    let postgres = |more: Value| {
        let mut postgres = json!({"host": "h", "database": "d", "user": "u"});
        postgres.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"needs": [{"postgres": postgres}]})
    };
    for (values, words) in [
        (json!({"need": []}), "need"),
        (json!({"needs": [{"tpc": "a:1"}]}), "'/needs/0': additional properties 'tpc'"),
        (json!({"needs": [{"tcp": "a:1", "http": "b"}]}), "/needs/0"),
        (json!({"needs": [{"tcp": 5}]}), "needs[0].tcp: is not a text"),
        (
            json!({"needs": [{"tcp": "a:1"}, {"postgres": {"host": "h", "user": "u"}}]}),
            "needs[1].postgres.database: is missing",
        ),
        (postgres(json!({"hots": "x"})), "has no key `hots`"),
        (postgres(json!({"password": "hunter2"})), "write {secret: NAME, key: KEY}"),
        (json!({"needs": [{"postgres": "postgresql://u:hunter2@h/d"}]}), "needs[0]: holds a password"),
        (json!({"needs": [{"tcp": "a:1"}], "module": "m"}), "exclude each other"),
        (json!({"module": "m"}), "stand in documents"),
        (json!({"module": "m", "documents": "d", "fragments": {"a": {"databses": 1}}}), "databses"),
        (json!({"secrets": "vault"}), "secrets"),
        (json!({"needs": [{"secret": "a:b"}]}), "secrets: env holds one password only"),
        (
            json!({"needs": [{"postgres": {"host": "h", "database": "d", "user": "u", "password": {"secret": "a", "key": "k"}}},
                {"postgres": {"host": "h", "database": "d", "user": "v", "password": {"secret": "b", "key": "k"}}}]}),
            "secrets: env holds one password only",
        ),
        (json!({"needs": [{"secret": "a:b"}], "secrets": "api"}), "rollcall.serviceAccountName"),
        (json!({"sidecar": true, "needs": [{"tcp": "a:1"}]}), "give `module`"),
    ] {
        let output = charts.template("own", &rollcall(values.clone()));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{values}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    // Also in a chart that has no schema of ours.
    let output = charts.template("umbrella", &json!({"keycloak": {"rollcall": {"nedes": []}}}));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("`nedes`") && said.contains("needs"), "{said}");
    sandbox.stop().await.unwrap();
}

/// The library's values are told twice: to charts that have it as `rollcall`, and within it for those that do not.
#[tokio::test]
async fn what_is_usual_is_what_the_values_say() {
    let library = std::fs::read_to_string(root().join("charts/common/templates/_config.tpl")).unwrap();
    let begin = "{{- define \"rollcall.config.usual\" -}}";
    let usual = library.split_once(begin).unwrap().1.split_once("{{- end -}}").unwrap().0;
    let usual: Value = serde_saphyr::from_str(usual).unwrap();
    assert_eq!(usual, defaults(&root().join("charts/common")));
}

#[tokio::test]
async fn before_kubernetes_1_29_an_init_container_stands_in_for_the_sidecar() {
    let sandbox = sandbox().await;
    let charts = Charts::with_foreign(&sandbox).await;
    let values =
        rollcall(json!({"module": "web", "documents": "docs", "sidecar": true, "hub": "http://hub:7070"}));
    let at = |version: &str| {
        let manifests = charts.render_as("syncer", "own", &values, &["--kube-version", version]);
        assert_eq!(init_containers(&manifests).len(), 1);
        waiter(&manifests)
    };
    for version in ["1.29.0", "1.34.1", "v1.30.4-gke.100"] {
        let sidecar = at(version);
        assert_eq!(sidecar["restartPolicy"], "Always", "{version}");
        assert_eq!(args(&sidecar), ["wait", "--module=web", "--", "/rollcall", "serve"]);
        assert_eq!(sidecar["startupProbe"]["grpc"]["port"], 7071);
    }
    for version in ["1.28.0", "1.28.15-eks-1", "1.21.14"] {
        let plain = at(version);
        assert_eq!(plain.get("restartPolicy"), None, "{version}");
        assert_eq!(args(&plain), ["wait", "--module=web"]);
        assert_eq!(plain.get("startupProbe"), None);
    }
    sandbox.stop().await.unwrap();
}

/// Who has one hub can show what modules show it to no other.
#[tokio::test]
async fn a_token_is_for_the_hubs_of_one_namespace() {
    let sandbox = sandbox().await;
    let charts = Charts::with_foreign(&sandbox).await;
    for (hub, given, audience) in [
        ("http://env-hub.base:7070", "", "rollcall/base"),
        ("http://env-hub.base.svc:7070", "", "rollcall/base"),
        ("http://env-hub.base.svc.cluster.local.:7070", "", "rollcall/base"),
        // In the waiter's own.
        ("http://env-hub:7070", "", "rollcall/rollcall"),
        // What tells no namespace.
        ("http://10.0.0.7:7070", "", "rollcall"),
        ("http://hub.base.example.org:7070", "", "rollcall"),
        // What its namespace is was said.
        ("http://hub.example.org:7070", "base", "rollcall/base"),
        ("http://hub.example:7070", "base", "rollcall/base"),
        ("http://env-hub:7070", "base", "rollcall/base"),
    ] {
        let values =
            rollcall(json!({"module": "web", "documents": "docs", "hub": hub, "hubNamespace": given}));
        let manifests = charts.render("own", &values);
        let pod = manifests.iter().find_map(pod).unwrap();
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume["name"] == "rollcall-hub").unwrap();
        assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["audience"], audience, "{hub}");
        let instance = waiter(&manifests)["env"]
            .as_array()
            .unwrap()
            .iter()
            .find(|v| v["name"] == "ROLLCALL_INSTANCE")
            .cloned();
        assert_eq!(instance.unwrap()["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name", "{hub}");
    }
    // Provisioners show the hub of their environment one too.
    let documents = chassis::documents::load(&[acceptance::openg2p()]).environment.unwrap();
    let fragments = acceptance::charts::fragments(&documents);
    let manifests = charts.render("environment", &json!({"fragments": fragments}));
    let text = serde_json::to_string(&manifests).unwrap();
    assert_eq!(text.matches("--release=rollcall/").count(), 1, "only the hub mounts, and says for whom");
    assert!(text.contains(r#""audience":"rollcall/rollcall""#) && !text.contains(r#""audience":"rollcall""#));
    sandbox.stop().await.unwrap();
}
