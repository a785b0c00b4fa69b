//! The variables of OpenG2P's image on real servers: fresh ones, ones where its script was before, and ones that others use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
mod old;

use chassis::exit::Exit;
use chassis::settings::Settings;
use chassis::shutdown::Shutdown;
use chassis::{Context, Failure};
use common::World;
use lifecycle::document::Identity;
use lifecycle::sha256_hex;
use old::script as old_script;
use postgres_init::variables::REQUIRED;
use postgres_init::{Owner, Variables, apply_variables};

#[test]
#[ignore = "the sandbox's supervisor, executed by the sandbox"]
fn supervises() {
    assert_eq!(sandbox::supervise(), std::process::ExitCode::SUCCESS);
}

/// What a Job of a namespace is told.
struct Job<'a> {
    world: &'a World,
    namespace: &'static str,
    fragment: &'static str,
    env: Vec<(&'static str, String)>,
}

impl Job<'_> {
    fn new<'a>(world: &'a World, namespace: &'static str, database: &str, password: &str) -> Job<'a> {
        let values = [
            "127.0.0.1".to_owned(),
            world.server.port().to_string(),
            "postgres".to_owned(),
            world.server.password().to_owned(),
            database.to_owned(),
            format!("{database}_user"),
            password.to_owned(),
        ];
        let env = REQUIRED.into_iter().zip(values).collect();
        Job { world, namespace, fragment: "registry-postgres-init", env }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.to_owned()));
        self
    }

    fn owner(&self) -> Owner {
        let uid = common::uid(self.namespace).parse().unwrap();
        Owner {
            environment: Identity { name: self.namespace.to_owned(), uid },
            namespace: self.namespace.to_owned(),
            fragment: self.fragment.to_owned(),
        }
    }

    async fn run(&self) -> Result<(), Failure> {
        let variables = Variables::of(self.env.iter().map(|(name, value)| (name.into(), value.into())));
        let settings = Settings::load([("ROLLCALL_DEADLINE".to_owned(), "60s".to_owned())]).unwrap();
        let context = Context::new("postgres-init", settings, Shutdown::manual());
        apply_variables(&variables.unwrap(), &self.owner(), &context).await
    }

    async fn logs_in(&self, password: &str) -> bool {
        let user = &self.env.iter().find(|(name, _)| *name == "DB_USER").unwrap().1;
        let database = &self.env.iter().find(|(name, _)| *name == "DB_NAME").unwrap().1;
        match self.world.login(user, password, database).await {
            Ok(mut session) => {
                session.execute("CREATE TABLE IF NOT EXISTS written (n int)").await.unwrap();
                session.close().await;
                true
            }
            Err(_) => false,
        }
    }
}

/// Everything the server knows of databases and roles, as one hash; nothing of it may change where something is only reported.
async fn catalog(world: &World) -> String {
    let rows = world
        .ask(
            "postgres",
            "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (SELECT row_to_json(d)::text || xmin AS line FROM pg_database d
             UNION ALL SELECT row_to_json(r)::text || xmin FROM pg_authid r
             UNION ALL SELECT row_to_json(m)::text FROM pg_auth_members m) lines",
        )
        .await;
    sha256_hex(&[&rows])
}

#[tokio::test]
async fn a_new_database_is_made_found_again_and_follows_its_secret() {
    let world = World::start(18).await;
    let password = "it's \" \\ @ # % $ : / ü; DROP";
    let job = Job::new(&world, "openg2p", "registry", password).with("DB_EXTENSIONS", "pg_trgm unaccent");
    job.run().await.unwrap();
    assert!(job.logs_in(password).await);
    let made =
        "SELECT string_agg(extname, ',' ORDER BY extname) FROM pg_extension WHERE extname <> 'plpgsql'";
    assert_eq!(world.ask("registry", made).await, "pg_trgm,unaccent");
    let powers = "SELECT (rolcreatedb OR rolcreaterole OR rolreplication OR rolsuper)::text FROM pg_roles WHERE rolname = 'registry_user'";
    assert_eq!(world.ask("postgres", powers).await, "false");

    // The next `helm upgrade` runs it again.
    let before = world.written().await;
    job.run().await.unwrap();
    assert_eq!(world.written().await, before, "found again, and nothing written");

    // The Secret was written anew.
    let rotated =
        Job::new(&world, "openg2p", "registry", "rotated").with("DB_EXTENSIONS", "pg_trgm unaccent");
    rotated.run().await.unwrap();
    assert!(rotated.logs_in("rotated").await && !rotated.logs_in(password).await);
    assert!(
        !world.log().contains("DROP") && !world.log().contains("rotated"),
        "no password reaches the server's log"
    );
    world.stop().await;
}

#[tokio::test]
async fn another_namespace_or_chart_of_the_same_names_is_refused_and_the_first_stays() {
    let world = World::start(18).await;
    let first = Job::new(&world, "openg2p", "registry", "first");
    first.run().await.unwrap();
    let before = world.written().await;
    let second = Job::new(&world, "training", "registry", "second");
    let failure = second.run().await.unwrap_err();
    assert_eq!(failure.exit, Exit::NeverWorks, "{failure}");
    assert!(failure.message.contains("belongs to environment `openg2p`"), "{failure}");
    let chart = Job { fragment: "other-postgres-init", ..Job::new(&world, "openg2p", "registry", "third") };
    let failure = chart.run().await.unwrap_err();
    assert!(failure.message.contains("belongs to fragment `registry-postgres-init`"), "{failure}");
    // A namespace of that name in another cluster; the way back, should it be the same one, is said.
    let elsewhere = Owner {
        environment: Identity { uid: common::uid("elsewhere").parse().unwrap(), ..first.owner().environment },
        ..first.owner()
    };
    let variables =
        Variables::of(second.env.iter().map(|(name, value)| (name.into(), value.into()))).unwrap();
    let context = Context::new("postgres-init", Settings::load([]).unwrap(), Shutdown::manual());
    let failure = apply_variables(&variables, &elsewhere, &context).await.unwrap_err();
    let say = format!("ROLLCALL_ENVIRONMENT_UID={}", common::uid("openg2p"));
    assert!(failure.exit == Exit::NeverWorks && failure.message.contains(&say), "{failure}");
    assert_eq!(world.written().await, before);
    assert!(first.logs_in("first").await);
    // A database of another name is nobody's.
    Job::new(&world, "training", "training", "second").run().await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn what_the_old_script_made_is_reported_on_and_stays() {
    // Before version 15 everybody may create in `public`.
    for version in [14, 18] {
        let world = World::start(version).await;
        old_script(&world, "odkdb", "old").await;
        let before = catalog(&world).await;
        for password in ["old", "regenerated"] {
            let job = Job::new(&world, "openg2p", "odkdb", password).with("DB_EXTENSIONS", "pg_trgm");
            job.run().await.unwrap();
        }
        assert_eq!(catalog(&world).await, before, "not even database `rollcall` is made");
        assert!(Job::new(&world, "openg2p", "odkdb", "old").logs_in("old").await);
        // What is new beside it is made, and what was there stays.
        Job::new(&world, "openg2p", "registry", "new").run().await.unwrap();
        Job::new(&world, "openg2p", "odkdb", "regenerated").run().await.unwrap();
        let powers = "SELECT (rolcreatedb AND rolcreaterole AND rolreplication)::text FROM pg_roles WHERE rolname = 'odkdb_user'";
        assert_eq!(world.ask("postgres", powers).await, "true");
        assert_eq!(
            world.ask("rollcall", "SELECT string_agg(DISTINCT component, ',') FROM rollcall.owned").await,
            "database/registry"
        );
        world.stop().await;
    }
}

#[tokio::test]
async fn where_marks_cannot_be_read_nothing_is_taken_for_unmarked() {
    let world = World::start(18).await;
    let first = Job::new(&world, "openg2p", "registry", "first");
    first.run().await.unwrap();
    old_script(&world, "odkdb", "old").await;
    let close = "ALTER DATABASE rollcall ALLOW_CONNECTIONS false";
    let logins = |log: String| log.matches("password authentication failed").count();

    // Another environment's: found out once its mark can be read, and its password was not tried meanwhile.
    world.run("postgres", close).await;
    let failure = Job::new(&world, "training", "registry", "second").run().await.unwrap_err();
    assert_eq!(failure.exit, Exit::NeverWorks, "{failure}");
    assert!(failure.message.contains("belongs to environment `openg2p`"), "{failure}");
    assert_eq!(logins(world.log()), 0, "{}", world.log());
    assert!(first.logs_in("first").await);

    // Its own, and what nobody marked: judged as ever once it can be.
    for (database, password) in [("registry", "first"), ("odkdb", "old")] {
        world.run("postgres", close).await;
        let job = Job::new(&world, "openg2p", database, password);
        job.run().await.unwrap();
        assert!(job.logs_in(password).await);
    }

    // Where the records are not ours to open, nothing is guessed either.
    world.run("postgres", "CREATE ROLE stranger").await;
    world.run("postgres", "ALTER DATABASE rollcall OWNER TO stranger").await;
    world.run("postgres", close).await;
    let failure = Job::new(&world, "openg2p", "odkdb", "old").run().await.unwrap_err();
    assert_eq!(failure.exit, Exit::NeverWorks, "{failure}");
    assert!(failure.message.contains("belongs to role `stranger`"), "{failure}");
    world.stop().await;
}

#[tokio::test]
async fn half_of_what_the_old_script_made_is_refused() {
    let world = World::start(18).await;
    world.run("postgres", "CREATE ROLE late_user LOGIN PASSWORD 'x' CREATEROLE").await;
    world.run("postgres", "CREATE DATABASE early").await;
    let before = catalog(&world).await;
    for (database, thing) in [("late", "role `late_user`"), ("early", "database `early`")] {
        let failure = Job::new(&world, "openg2p", database, "x").run().await.unwrap_err();
        assert_eq!(failure.exit, Exit::NeverWorks, "{failure}");
        assert!(failure.message.contains(&format!("{thing} exists and carries no mark")), "{failure}");
    }
    let left = "SELECT count(*)::text FROM pg_database WHERE datname = 'late'";
    assert_eq!(world.ask("postgres", left).await, "0");
    world.run("postgres", "DROP DATABASE rollcall").await;
    assert_eq!(catalog(&world).await, before);
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_is_said_with_its_exit_code() {
    let world = World::start(18).await;
    let job = |name, value: &str| Job::new(&world, "openg2p", "registry", "x").with(name, value);
    let failure = job("POSTGRES_PASSWORD", "planted-wrong").run().await.unwrap_err();
    assert_eq!(failure.exit, Exit::NeverWorks, "{failure}");
    assert!(
        failure.message.contains("28P01") && failure.message.contains("`POSTGRES_PASSWORD`"),
        "{failure}"
    );
    assert!(!failure.message.contains("planted"), "{failure}");
    let failure = job("DB_EXTENSIONS", "postgis").run().await.unwrap_err();
    assert!(
        failure.exit == Exit::NeverWorks && failure.message.contains("no extension `postgis`"),
        "{failure}"
    );
    let failure = job("DB_NAME", "").run().await.unwrap_err();
    assert!(failure.exit == Exit::Usage && failure.message.starts_with("DB_NAME not given"), "{failure}");
    // The server has no TLS: what asks for it is not lowered.
    let failure = job("PGSSLMODE", "require").run().await.unwrap_err();
    assert!(failure.exit == Exit::NeverWorks && failure.message.contains("tls"), "{failure}");
    let failure = job("PGSSLMODE", "verify-full").with("PGSSLROOTCERT", "/none").run().await.unwrap_err();
    assert!(failure.exit == Exit::Usage && failure.message.starts_with("PGSSLROOTCERT: /none"), "{failure}");
    job("PGSSLMODE", "prefer").run().await.unwrap();
    world.stop().await;
}
