//! What the operator sees of what modules asked for, and taking it back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use serde_json::json;

use crate::common::bench::until;
use crate::steps;

#[tokio::test]
async fn what_was_accepted_is_told_and_taken_back_and_nothing_that_was_made_goes() {
    const STANDS: &str = "SELECT count(*)::text FROM rollcall.delegated";
    let (place, shop) = steps::place(18, &json!({"database": "shop"})).await;
    place.step("shop/web", &shop, &["--baseline"], "").await.unwrap();
    let told = place.delegations(None, false).await;
    let says = "postgres/main\n= fragment `shop` of namespace shop: database/shop, step/seed; asked for by postgres-init/";
    assert!(told.contains(says) && told.contains("(shop/web), first at 2"), "{told}");

    // Only said, until it is meant.
    let told = place.delegations(Some("shop"), false).await;
    assert!(
        told.contains("- fragment `shop`") && told.ends_with("= nothing was done: --yes does it\n"),
        "{told}"
    );
    let told = place.delegations(Some("ship"), true).await;
    assert!(told.ends_with("= fragment `ship` is not accepted here; accepted are: shop\n"), "{told}");
    assert_eq!(place.world.ask("rollcall", STANDS).await, "1");

    let told = place.delegations(Some("shop"), true).await;
    assert!(told.ends_with("= done\n"), "{told}");
    assert_eq!(place.world.ask("rollcall", STANDS).await, "0");
    assert_eq!(place.delegations(None, false).await, "postgres/main\n= nobody has asked for anything\n");
    place.world.login("shop_user", "only the module knows", "shop").await.unwrap().close().await;
    assert_eq!(steps::ledger(&place).await, "step/seed baseline");
    let history = "SELECT string_agg(step, '; ') FROM rollcall.history WHERE step LIKE 'take back%'";
    let history = place.world.ask("rollcall", history).await;
    assert_eq!(history, "take back that fragment `shop` of namespace shop was accepted");

    // Who asks again does not have back what was made, unless the rule names the fragment.
    until(|| async {
        let asked = place.apply("shop/web", &shop).await;
        asked.is_err_and(|why| why.message.contains("what it asked for was withdrawn"))
    })
    .await;
    place.stop().await;
}
