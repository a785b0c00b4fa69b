//! Charts of others, in the shapes of Bitnami's and DIGIT's, that wait by the documented lines alone.

use std::path::Path;

use acceptance::node::{Place, Shop, images};
use acceptance::root;
use sandbox::image::{Base, Image};
use serde_json::{Value, json};

/// What their containers run but for the waiter: it ends at once.
const ANYTHING: &str = "example.org/keycloak:1";

/// They wait for a database and for a server that is still to come, and go on when it is there.
pub(crate) async fn wait(place: &Place, shop: &Shop) {
    for name in ["digit-common", "digit-service", "bitnami-common", "bitnami-keycloak", "umbrella"] {
        place.charts.add(name, &root().join("tests/charts").join(name));
    }
    let program = Path::new("/bin/true");
    let image = Image::of_program(ANYTHING, "true", &Base::of([program]).unwrap(), program).unwrap();
    place.node.load(&[image]).await.unwrap();

    let (host, port) = shop.address.rsplit_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    let password = json!({"secret": "orders-db", "key": "password"});
    let needs = json!([
        {"postgres": {"host": host, "port": port, "database": "orders", "user": "orders", "sslmode": "disable", "password": password}},
        {"tcp": "late:7071"},
    ]);
    let rollcall = json!({"needs": needs, "image": images()});
    let bitnami = json!({"keycloak": {"rollcall": rollcall}});
    let digit = json!({"namespace": "shop", "image": {"repository": ANYTHING}, "rollcall": rollcall});
    for (release, chart, values) in [("bitnami", "umbrella", bitnami), ("digit", "digit-service", digit)] {
        place.install(&["upgrade", release, chart, "--namespace", "shop"], &values);
    }
    let labels = ["app=keycloak", "app=egov-idgen"];
    for label in labels {
        place
            .until("it waits for what is not there", async || {
                let statuses = statuses(place, label);
                statuses.is_some_and(|(waiter, main)| {
                    waiter["state"]["running"].is_object()
                        && main["state"]["waiting"]["reason"] == "PodInitializing"
                })
            })
            .await;
    }
    let ports = json!([{"port": 7071}]);
    place.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "late", "namespace": "shop"},
        "spec": {"selector": {"app": "own"}, "ports": ports},
    }));
    for label in labels {
        place
            .until("it has waited, and what follows has run", async || {
                let statuses = statuses(place, label);
                statuses.is_some_and(|(waiter, main)| {
                    let ran =
                        [&main["state"], &main["lastState"]].map(|state| &state["terminated"]["exitCode"]);
                    waiter["state"]["terminated"]["exitCode"] == 0 && ran.contains(&&json!(0))
                })
            })
            .await;
    }
}

/// Of the only pod with this label: the waiter, and the main container.
fn statuses(place: &Place, label: &str) -> Option<(Value, Value)> {
    let pods = place.json(&["get", "pods", "-n", "shop", "-l", label]);
    let status = &pods["items"][0]["status"];
    let mut first = status["initContainerStatuses"].as_array()?.iter();
    let waiter = first.find(|container| container["name"] == "rollcall-wait")?;
    Some((waiter.clone(), status["containerStatuses"][0].clone()))
}
