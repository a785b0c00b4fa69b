//! What the operator sees of what modules asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use serde_json::json;

use crate::steps;

#[tokio::test]
async fn what_was_accepted_is_told_and_why_it_is_not_looked_after_where_its_rule_is_gone() {
    let (place, _) = steps::place(18, &json!({"database": "shop"})).await;
    let says = "postgres/main\n= fragment `shop` of namespace shop: database/shop, step/seed; asked for by postgres-init/";
    let told = place.delegations().await;
    assert!(told.contains(says) && told.contains("(shop/web), first at 2"), "{told}");
    assert!(!told.contains("not looked after"), "{told}");
    place.rules(json!([{"namespaces": ["bank"]}]));
    let told = place.delegations().await;
    let why =
        "! is not looked after now: fragment `shop` of namespace shop: nothing on postgres/main is delegated";
    assert!(told.contains(says) && told.contains(why), "{told}");
    place.stop().await;
}
