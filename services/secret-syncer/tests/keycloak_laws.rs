//! Laws of deciding about clients of Keycloak, over worlds and wishes of all sorts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::document::{Existing, Mapper, SecretKey, ServiceAccountRoles};
use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;
use secret_syncer::keycloak::plan::{Action, Client, Marker, Plan, Realm, World, plan};
use secret_syncer::keycloak::spec::{self, Made, Server, Settings, Spec, Wish};
use secret_syncer::keycloak::teardown;
use secret_syncer::spec::Owner;
use uuid::Uuid;

fn owner(environment: u128, fragment: &str) -> Owner {
    Owner { environment: Uuid::from_u128(environment), name: "dev".to_owned(), fragment: fragment.to_owned() }
}

fn secret(name: &str) -> SecretKey {
    SecretKey { secret: format!("secret/app/{name}").parse().unwrap(), key: "k".to_owned() }
}

fn names() -> impl Strategy<Value = BTreeSet<String>> {
    btree_set(prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned), 0..3)
}

fn lists() -> impl Strategy<Value = Vec<String>> {
    names().prop_map(|names| names.into_iter().collect())
}

fn settings() -> impl Strategy<Value = Settings> {
    (any::<[bool; 4]>(), lists(), lists()).prop_map(|(flags, redirect_uris, web_origins)| Settings {
        public: flags[0],
        standard_flow: flags[1],
        service_account: flags[2],
        direct_access: flags[3],
        redirect_uris,
        web_origins,
    })
}

fn mappers() -> impl Strategy<Value = BTreeMap<String, Mapper>> {
    let mapper = (prop::sample::select(vec!["x", "y"]), lists()).prop_map(|(kind, config)| Mapper {
        kind: kind.to_owned(),
        config: config.into_iter().map(|key| (key, "1".to_owned())).collect(),
    });
    btree_map(prop::sample::select(vec!["m", "n"]).prop_map(str::to_owned), mapper, 0..2)
}

fn ids() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["portal", "other"]).prop_map(str::to_owned)
}

fn made() -> impl Strategy<Value = Wish> {
    let granted = (lists(), btree_map(ids(), lists(), 0..3));
    (any::<bool>(), any::<bool>(), settings(), lists(), mappers(), granted).prop_map(
        |(keep, cluster, settings, roles, mappers, (realm, clients))| {
            Wish::Made(Box::new(Made {
                existing: if keep { Existing::Keep } else { Existing::Update },
                secret: cluster.then(|| secret("portal")),
                settings,
                roles,
                mappers,
                granted: ServiceAccountRoles { realm, clients },
                makers: BTreeMap::new(),
            }))
        },
    )
}

fn specs() -> impl Strategy<Value = Spec> {
    let wish =
        prop_oneof![5 => made(), 1 => any::<bool>().prop_map(|mandatory| Wish::External { mandatory })];
    (wish, option::of(lists())).prop_map(|(wish, declared)| Spec {
        component: "client/portal".parse().unwrap(),
        owner: owner(7, "app"),
        report_only: false,
        server: Server {
            name: "main".to_owned(),
            url: "https://k".parse().unwrap(),
            ca: None,
            realm: "master".to_owned(),
            client: "rollcall".to_owned(),
            secret: secret("login"),
        },
        realm: spec::Realm { name: "staff".to_owned(), declared },
        id: "portal".to_owned(),
        wish,
    })
}

fn markers() -> impl Strategy<Value = Marker> {
    prop_oneof![
        3 => Just(Marker::None),
        3 => Just(Marker::Of(owner(7, "app"))),
        1 => Just(Marker::Of(owner(7, "base"))),
        1 => Just(Marker::Of(owner(8, "app"))),
        1 => Just(Marker::Unreadable),
    ]
}

fn digests() -> impl Strategy<Value = [u8; 32]> {
    prop::sample::select(vec![[1; 32], [2; 32]])
}

fn clients() -> impl Strategy<Value = Client> {
    let rest = (names(), mappers(), names(), btree_map(ids(), names(), 0..3));
    (markers(), settings(), option::of(digests()), rest, 0..9_u8, any::<bool>()).prop_map(
        |(marker, settings, secret, (roles, mappers, realm_roles, client_roles), saml, disabled)| Client {
            uid: "1".to_owned(),
            marker,
            made: saml == 1,
            protocol: if saml == 0 { "saml" } else { "openid-connect" }.to_owned(),
            disabled,
            settings,
            secret,
            roles,
            mappers,
            realm_roles,
            client_roles,
        },
    )
}

fn worlds() -> impl Strategy<Value = World> {
    let realm = (markers(), names()).prop_map(|(marker, roles)| Realm { marker, roles });
    let value =
        option::weighted(0.9, digests()).prop_map(|value| value.ok_or_else(|| "not there".to_owned()));
    (option::weighted(0.8, realm), option::of(clients()), btree_map(ids(), names(), 0..3), value).prop_map(
        |(realm, client, others, value)| World {
            client: client.filter(|_| realm.is_some()),
            realm,
            others,
            value: Some(value),
        },
    )
}

/// What is looked at only where the wish speaks of it is there only then.
fn seen(spec: &Spec, mut world: World) -> World {
    let Wish::Made(made) = &spec.wish else {
        world.value = None;
        return world;
    };
    if made.secret.is_none() {
        world.value = None;
    }
    if spec.realm.declared.is_none()
        && let Some(realm) = &mut world.realm
    {
        realm.marker = Marker::None;
    }
    world
}

/// The world after a step, as Keycloak would make it.
fn after(spec: &Spec, mut world: World, action: &Action) -> World {
    let Wish::Made(made) = &spec.wish else { panic!("a step for what somebody else makes") };
    let marker = Marker::Of(spec.owner.clone());
    if let Action::CreateRealm { realm } = action {
        assert_eq!((realm, world.realm.is_none()), (&spec.realm.name, true));
        world.realm = Some(Realm { marker, roles: BTreeSet::new() });
        return world;
    }
    let realm = world.realm.as_mut().expect("nothing is made in a realm that is not there");
    if let Action::AddRealmRoles { roles } = action {
        let declared = spec.realm.declared.as_ref().unwrap();
        assert!(roles.iter().all(|role| declared.contains(role) && realm.roles.insert(role.clone())));
        return world;
    }
    if *action == Action::CreateClient {
        assert!(world.client.is_none());
        world.client = Some(Client {
            marker,
            protocol: "openid-connect".to_owned(),
            settings: made.settings.clone(),
            secret: world.value.clone().map_or(Some([9; 32]), Result::ok),
            mappers: made.mappers.clone(),
            ..Client::default()
        });
        return world;
    }
    let client = world.client.as_mut().expect("nothing is done to a client that is not there");
    match action {
        Action::Update { adopt, .. } => {
            assert_eq!(*adopt, client.marker == Marker::None);
            client.marker = marker;
            client.settings = made.settings.clone();
        }
        other => {
            assert_eq!(client.marker, marker, "only what is ours is changed: {other:?}");
            match other {
                Action::SetSecret => client.secret = world.value.clone().unwrap().ok(),
                Action::SetMapper { name } => {
                    client.mappers.insert(name.clone(), made.mappers[name].clone());
                }
                Action::AddRole { role } => {
                    assert!(client.roles.insert(role.clone()));
                }
                Action::GrantRealmRoles { roles } => {
                    assert!(roles.iter().all(|role| realm.roles.contains(role)), "{roles:?}");
                    client.realm_roles.extend(roles.iter().cloned());
                }
                Action::GrantClientRoles { client: other, roles } => {
                    let there = if *other == spec.id {
                        &client.roles
                    } else {
                        world.others.get(other).expect("there")
                    };
                    assert!(roles.iter().all(|role| there.contains(role)), "{roles:?}");
                    client.client_roles.entry(other.clone()).or_default().extend(roles.iter().cloned());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    world
}

fn all(spec: &Spec, world: &World, plan: &Plan) -> World {
    plan.steps.iter().fold(world.clone(), |world, step| after(spec, world, &step.action))
}

/// The look takes the client's own roles from one place.
fn looked_at(mut spec_world: World) -> World {
    match &spec_world.client {
        Some(client) => spec_world.others.insert("portal".to_owned(), client.roles.clone()),
        None => spec_world.others.remove("portal"),
    };
    spec_world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn after_one_run_nothing_is_left_to_do(spec in specs(), world in worlds()) {
        let world = looked_at(seen(&spec, world));
        let first = plan(&spec, &world);
        prop_assert!(first.steps.is_empty() || (first.refusals.is_empty() && first.pending.is_empty()));
        let made = looked_at(all(&spec, &world, &first));
        let second = plan(&spec, &made);
        prop_assert_eq!(&second.steps, &vec![], "{:?}", first);
        if !first.steps.is_empty() {
            prop_assert_eq!(&second.refusals, &vec![]);
        }
    }

    #[test]
    fn what_is_not_ours_is_never_changed(spec in specs(), world in worlds()) {
        let world = looked_at(seen(&spec, world));
        let plan = plan(&spec, &world);
        let Some(client) = &world.client else { return Ok(()) };
        let may = match (&spec.wish, &client.marker) {
            (Wish::External { .. }, _) | (_, Marker::Unreadable) => false,
            (_, Marker::Of(owner)) => owner.is(&spec.owner),
            (Wish::Made(made), Marker::None) => made.existing == Existing::Update,
        };
        let realm = |action: &Action| matches!(action, Action::CreateRealm { .. } | Action::AddRealmRoles { .. });
        if !may {
            prop_assert!(plan.steps.iter().all(|step| realm(&step.action)), "{:?}", plan.steps);
        }
        if let Some(Realm { marker: Marker::Of(owner), .. }) = &world.realm
            && owner.environment != spec.owner.environment && matches!(spec.wish, Wish::Made(_))
        {
            prop_assert!(plan.steps.is_empty() && !plan.refusals.is_empty());
        }
    }

    #[test]
    fn what_is_settled_is_as_declared(spec in specs(), world in worlds()) {
        let world = looked_at(seen(&spec, world));
        let world = looked_at(all(&spec, &world, &plan(&spec, &world)));
        let plan = plan(&spec, &world);
        if !(plan.steps.is_empty() && plan.refusals.is_empty() && plan.pending.is_empty()) {
            return Ok(());
        }
        let Wish::Made(made) = &spec.wish else {
            let absent = Wish::External { mandatory: false };
            prop_assert!(world.client.is_some() || spec.wish == absent);
            return Ok(());
        };
        let client = world.client.as_ref().unwrap();
        // Whoever logs in with the declared secret is let in, whoever made the client.
        if let Some(value) = &world.value {
            prop_assert_eq!(client.secret, Some(*value.as_ref().unwrap()));
        }
        if client.marker == Marker::None {
            return Ok(());
        }
        prop_assert_eq!(&client.settings, &made.settings);
        prop_assert!(made.roles.iter().all(|role| client.roles.contains(role)));
        prop_assert!(made.granted.realm.iter().all(|role| client.realm_roles.contains(role)));
        for (other, roles) in &made.granted.clients {
            prop_assert!(roles.iter().all(|role| client.client_roles.get(other).is_some_and(|had| had.contains(role))));
        }
    }

    #[test]
    fn a_teardown_deletes_what_is_ours_and_nothing_else(spec in specs(), world in worlds()) {
        let plan = teardown(&spec, &world);
        let made = world.client.as_ref().is_some_and(|client| {
            let ours = matches!(&client.marker, Marker::Of(owner) if owner.is(&spec.owner));
            ours && client.made && matches!(spec.wish, Wish::Made(_))
        });
        let steps: Vec<&Action> = plan.steps.iter().map(|step| &step.action).collect();
        prop_assert_eq!(steps, if made { vec![&Action::Delete] } else { vec![] });
        prop_assert!(plan.refusals.is_empty() && plan.pending.is_empty());
    }

    #[test]
    fn no_plan_shows_a_fingerprint(spec in specs(), world in worlds()) {
        let plan = plan(&spec, &looked_at(seen(&spec, world)));
        let shown = format!("{plan} {plan:?}");
        prop_assert!(!shown.contains("1, 1, 1") && !shown.contains("2, 2, 2"), "{}", shown);
    }
}
