//! What a tenant who means harm can do: the same attacks by a tenant that Rollcall made or adopted, with each login that it has,
//! and by one that OpenG2P's script made, on every major version. The last shows that the attacks work where nothing stops them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod attacks;
#[path = "../common/mod.rs"]
mod common;
#[path = "../old/mod.rs"]
mod old;

use std::fmt::Write;

use attacks::{ATTACKS, Attack, Tenant};
use chassis::converge::Standing;
use common::{Db, World};
use old::Commands;
use serde_json::json;

const VERSIONS: [u16; 5] = [14, 15, 16, 17, 18];
const README: &str = include_str!("../../../../README.md");

/// How the attacked server was provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    /// By statements of OpenG2P's script.
    Script,
    /// By Rollcall as a superuser.
    Superuser,
    /// By Rollcall as the administrator of a managed service.
    Manager,
    /// By statements of OpenG2P's script; then Rollcall recorded and converged it, class by class.
    Adopter,
}

#[test]
#[ignore = "the sandbox's supervisor, not a test"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// A server with what makes attacks worth while: logical decoding, a neighbour with rows, a role that somebody else logs in as.
/// Gives the tenant with each of its logins; the first is its app's.
async fn server(version: u16, maker: Maker) -> (World, Vec<Tenant>) {
    let world = World::with(version, &[("wal_level", "logical")]).await;
    world.run("postgres", "CREATE ROLE auditor LOGIN PASSWORD 'only-the-auditor-knows'").await;
    for name in ["mallory", "victim"] {
        let (user, password) = (format!("{name}_user"), format!("password-of-{name}-db"));
        match maker {
            Maker::Script | Maker::Adopter => old::script(&world, name, &password).await,
            Maker::Superuser | Maker::Manager => {
                world.settle_twice(&document(&world, name, maker).await).await;
            }
        }
        let mut own = world.login(&user, &password, name).await.unwrap();
        own.execute("CREATE TABLE people (name text); INSERT INTO people VALUES ('Asha')").await.unwrap();
        own.close().await;
        if maker == Maker::Adopter {
            let document = document(&world, name, maker).await;
            let commands = Commands::new(&world, &document);
            commands.run(&["record", "--yes"]).await.unwrap();
            for class in ["attributes", "ownership", "grants", "public-connect"] {
                commands.run(&["converge", "--class", class, "--yes"]).await.unwrap();
            }
            world.settle(&document).await;
        }
    }
    let mut logins = vec![("mallory_user", "password-of-mallory-db")];
    if matches!(maker, Maker::Superuser | Maker::Manager) {
        logins.extend([("mallory_migrator", "migrates"), ("mallory_bi", "reads")]);
    }
    let tenant = |(role, password): (&str, &str)| Tenant {
        role: role.to_owned(),
        password: password.to_owned(),
        database: "mallory".to_owned(),
        neighbour: "victim".to_owned(),
        neighbours_role: "victim_user".to_owned(),
        neighbours_password: "password-of-victim-db".to_owned(),
        bystander: "auditor".to_owned(),
    };
    let tenants = logins.into_iter().map(tenant).collect();
    (world, tenants)
}

/// A tenant's documents: each is an environment of its own. One that Rollcall makes has every kind of login.
async fn document(world: &World, name: &str, maker: Maker) -> serde_json::Value {
    let key = |secret: &str| json!({"secret": secret, "key": "password"});
    let mut database = Db::new(name);
    if maker != Maker::Adopter {
        world.secret("migrator", "migrates");
        world.secret("bi", "reads");
        database = database.with(json!({"roles": {
            "migrator": {"name": format!("{name}_migrator"), "password": key("migrator")}, "readers": {},
        }}));
    }
    let mut document = world.document(name, &[database]);
    if maker != Maker::Adopter {
        document["roles"] =
            json!({format!("{name}_bi"): {"server": "main", "password": key("bi"), "reads": [name]}});
    }
    if maker == Maker::Manager {
        let exists = "SELECT count(*)::text FROM pg_roles WHERE rolname = 'managed'";
        match world.ask("postgres", exists).await.as_str() {
            "0" => world.managed(&mut document).await,
            _ => document["postgres"]["main"]["admin"]["user"] = "managed".into(),
        }
    }
    document["postgres"]["main"].as_object_mut().unwrap().remove("observer");
    document
}

/// Which attacks succeed, with each of the tenant's logins.
async fn attacked(version: u16, maker: Maker) -> Vec<(String, Attack)> {
    let (world, tenants) = server(version, maker).await;
    let mut succeeded = Vec::new();
    for tenant in &tenants {
        for attack in ATTACKS {
            if attacks::succeeds(&world, tenant, version, attack).await {
                succeeded.push((tenant.role.clone(), attack));
            }
        }
    }
    world.stop().await;
    succeeded
}

/// What stops a tenant of the script: since version 16 CREATEROLE reaches only the roles that its bearer made.
fn works_for_the_script(version: u16, attack: Attack) -> bool {
    !matches!(attack, Attack::OsCommand | Attack::ForeignPassword) || version < 16
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_the_script_succeeds_where_nothing_stops_it() {
    for version in VERSIONS {
        let works = ATTACKS.into_iter().filter(|attack| works_for_the_script(version, *attack));
        let expected: Vec<_> = works.map(|attack| ("mallory_user".to_owned(), attack)).collect();
        assert_eq!(attacked(version, Maker::Script).await, expected, "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_we_made_or_adopted_fails_in_every_attack() {
    for version in VERSIONS {
        for maker in [Maker::Superuser, Maker::Manager, Maker::Adopter] {
            assert_eq!(attacked(version, maker).await, [], "version {version}, {maker:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_holds_every_lock_it_can_stalls_nobody_elses_provisioning() {
    for version in VERSIONS {
        for maker in [Maker::Superuser, Maker::Manager] {
            let (world, tenants) = server(version, maker).await;
            let held = attacks::hold_locks(&world, &tenants[0]).await;
            // A new neighbour, and one that is made already and has lost something.
            world.settle_twice(&document(&world, "newcomer", maker).await).await;
            world.run("postgres", "REVOKE CONNECT ON DATABASE victim FROM victim_user").await;
            world.settle(&document(&world, "victim", maker).await).await;
            // Its own is found as it is; that it cannot be changed meanwhile is its own loss.
            let own = world.converge(&document(&world, "mallory", maker).await).await;
            for (component, standing) in own {
                assert!(matches!(standing, Standing::Ready { .. }), "{component}: {standing:?}");
            }
            for session in held {
                session.close().await;
            }
            world.stop().await;
        }
    }
}

#[test]
fn the_readme_shows_what_was_found() {
    let mut table = String::from("| attack by a tenant | OpenG2P's script | Rollcall |\n|---|---|---|\n");
    for attack in ATTACKS {
        let works: Vec<String> = VERSIONS
            .into_iter()
            .filter(|version| works_for_the_script(*version, attack))
            .map(|version| version.to_string())
            .collect();
        let works = if works.len() == VERSIONS.len() { "14–18".to_owned() } else { works.join(", ") };
        writeln!(table, "| {attack} | succeeds on {works} | fails on 14–18 |").unwrap();
    }
    assert!(README.contains(&table), "README.md must hold:\n{table}");
}
