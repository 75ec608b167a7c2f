use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use topology::{
    AdminState, App, AppId, AppSpec, Endpoint, HostPattern, InstanceId, InstanceKey, OperatorWord, Origin,
    PathMatch, Protocol, Revision, Snapshot, Split, VersionId,
};

use super::compile::Settings;
use super::*;

fn settings() -> Settings {
    Settings {
        base_domain: Some("apps.test".into()),
        shards: 1,
        upstream_tls: Arc::default(),
        tenants: Arc::default(),
        statistics: false,
        sources: Arc::default(),
        zone: None,
        sticky: Arc::default(),
    }
}

fn endpoint(version: &str, instance: &str, port: u16) -> Endpoint {
    Endpoint {
        key: InstanceKey {
            version: VersionId::parse(version).unwrap(),
            instance: InstanceId::parse(instance).unwrap(),
        },
        address: ([127, 0, 0, 1], port).into(),
        weight: 1,
        protocol: Protocol::Http1,
        zone: None,
        is_backup: false,
        origin: Origin::File,
        word: Default::default(),
    }
}

fn app(id: &str, hosts: &[&str], paths: &[&str], claimed: u64) -> App {
    let spec = AppSpec {
        hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
        paths: paths.iter().map(|path| PathMatch::parse(path).unwrap()).collect(),
        ..AppSpec::implied()
    };
    App {
        id: AppId::parse(id).unwrap(),
        spec: Arc::new(spec),
        endpoints: vec![endpoint("v1", "c1", 1)],
        claimed,
    }
}

fn snapshot(apps: impl IntoIterator<Item = App>) -> Snapshot {
    let apps = apps.into_iter().map(|app| (app.id.clone(), Arc::new(app))).collect();
    Snapshot { revision: Revision(1), apps, ..Snapshot::default() }
}

fn table(apps: impl IntoIterator<Item = App>) -> RoutingTable {
    compile(&settings(), &RoutingTable::default(), snapshot(apps)).0
}

fn found<'t>(table: &'t RoutingTable, host: &str, path: &str) -> &'t str {
    match table.find("web", host, path.as_bytes()) {
        Match::App(app) => app.id.as_str(),
        Match::UnknownHost => "unknown host",
        Match::UnknownPath => "unknown path",
    }
}

#[test]
fn the_most_specific_host_wins_then_the_most_specific_path() {
    let table = table([
        app("exact", &["a.b.test"], &["/"], 9),
        app("near", &["*.b.test"], &["/"], 8),
        app("far", &["*.test"], &["/"], 7),
        app("rest", &["*"], &["/x"], 1),
        app("api", &["a.b.test"], &["/api"], 9),
        app("deep", &["a.b.test"], &["/api/v2"], 9),
        app("login", &["a.b.test"], &["=/api/v2/login"], 9),
    ]);
    for (host, path, wanted) in [
        ("a.b.test", "/", "exact"),
        ("a.b.test", "/apis", "exact"),
        ("a.b.test", "/api", "api"),
        ("a.b.test", "/api/v1", "api"),
        ("a.b.test", "/api/v2/x", "deep"),
        ("a.b.test", "/api/v2/login", "login"),
        ("a.b.test", "/api/v2/login/x", "deep"),
        ("c.b.test", "/", "near"),
        ("d.c.b.test", "/", "near"),
        ("b.test", "/", "far"),
        ("test", "/x", "rest"),
        ("", "/x/y", "rest"),
        ("elsewhere", "/", "unknown path"),
    ] {
        assert_eq!(found(&table, host, path), wanted, "{host}{path}");
    }
}

#[test]
fn an_app_without_hosts_answers_at_its_own_name_whoever_else_claims_it() {
    let table = table([app("shop", &[], &["/"], 5), app("thief", &["shop.apps.test"], &["/"], 1)]);
    assert_eq!(found(&table, "shop.apps.test", "/"), "shop");
    assert_eq!(found(&table, "blog.apps.test", "/"), "unknown host");
}

#[test]
fn of_two_equal_claims_the_earlier_wins_and_the_other_one_takes_over() {
    let (late, early) = (app("a", &["h.test"], &["/"], 2), app("b", &["h.test"], &["/"], 1));
    let both = table([late.clone(), early]);
    assert_eq!(found(&both, "h.test", "/"), "b");
    let (after, _) = compile(&settings(), &both, snapshot([late]));
    assert_eq!(found(&after, "h.test", "/"), "a");
}

#[test]
fn an_app_of_another_listener_leaves_the_host_unknown_here() {
    let mut elsewhere = app("tls", &["h.test"], &["/"], 1);
    Arc::make_mut(&mut elsewhere.spec).listeners = Some(vec!["web-tls".into()]);
    let table = table([elsewhere, app("rest", &["*"], &["/"], 2)]);
    assert_eq!(found(&table, "h.test", "/"), "rest");
}

#[test]
fn state_outlives_a_change_but_not_a_change_of_address() {
    let mut shop = app("shop", &["h.test"], &["/"], 1);
    let before = table([shop.clone()]);
    let former = before.app(&shop.id).unwrap();
    shop.endpoints[0].weight = 7;
    shop.endpoints.push(endpoint("v1", "c2", 2));
    let (after, changes) = compile(&settings(), &before, snapshot([shop.clone()]));
    let current = after.app(&shop.id).unwrap();
    assert_eq!(changes.len(), 1);
    assert!(Arc::ptr_eq(&former.live, &current.live));
    assert!(Arc::ptr_eq(&former.endpoints[0].live, &current.endpoints[0].live));
    assert!(Arc::ptr_eq(&current.endpoints[0].metrics, &current.endpoints[1].metrics));
    assert_eq!((former.http.pools[0].id, current.endpoints[0].weight), (current.http.pools[0].id, 7));
    assert_ne!(former.http.pools[0].edition, current.http.pools[0].edition);
    shop.endpoints[0].address.set_port(9);
    let (moved, _) = compile(&settings(), &after, snapshot([shop.clone()]));
    assert!(!Arc::ptr_eq(&moved.app(&shop.id).unwrap().endpoints[0].live, &current.endpoints[0].live));
}

#[test]
fn a_change_leaves_other_apps_untouched() {
    let (shop, blog) = (app("shop", &["s.test"], &["/"], 1), app("blog", &["b.test"], &["/"], 1));
    let first = snapshot([shop.clone(), blog.clone()]);
    let (before, _) = compile(&settings(), &RoutingTable::default(), first.clone());
    let mut second = first;
    let mut changed = shop;
    changed.endpoints.clear();
    second.apps.insert(changed.id.clone(), Arc::new(changed));
    let (after, changes) = compile(&settings(), &before, second);
    assert_eq!(changes.len(), 1);
    assert!(Arc::ptr_eq(before.app(&blog.id).unwrap(), after.app(&blog.id).unwrap()));
}

#[test]
fn a_split_keeps_a_pool_for_a_version_without_endpoints() {
    let mut shop = app("shop", &["h.test"], &["/"], 1);
    let version = |name| VersionId::parse(name).unwrap();
    let split = Split::new(vec![(version("v1"), 1), (version("v2"), 1), (version("v3"), 0)]).unwrap();
    Arc::make_mut(&mut shop.spec).split = Some(split);
    let table = table([shop.clone()]);
    let app = table.app(&shop.id).unwrap();
    let sizes: Vec<_> = app.http.pools.iter().map(|pool| pool.endpoints.len()).collect();
    assert_eq!(sizes, [1, 0]);
    // Every request still finds somebody, whatever its turn.
    for _ in 0..4 {
        assert!(
            app.http
                .choose(app.http.next_turn(&app.live.split_cursor))
                .any(|pool| !pool.endpoints.is_empty())
        );
    }
}

/// Everything that requests can see of a table.
fn observed(table: &RoutingTable) -> BTreeMap<String, Vec<(String, String)>> {
    table
        .hosts()
        .map(|(host, routes)| {
            (host, routes.iter().map(|(path, app)| (path.to_string(), app.id.to_string())).collect())
        })
        .collect()
}

fn arbitrary_app() -> impl Strategy<Value = App> {
    let hosts =
        proptest::collection::vec(prop::sample::select(vec!["a.test", "*.test", "b.a.test", "*"]), 0..3);
    let paths = proptest::collection::vec(prop::sample::select(vec!["/", "/x", "=/x", "/x/y"]), 1..3);
    (prop::sample::select(vec!["p", "q", "r", "s"]), hosts, paths, 0u64..3)
        .prop_map(|(id, hosts, paths, claimed)| app(id, &hosts, &paths, claimed))
}

proptest! {
    #[test]
    fn step_by_step_is_the_same_as_all_at_once(steps in proptest::collection::vec(proptest::collection::vec(arbitrary_app(), 0..5), 1..8)) {
        let mut grown = RoutingTable::default();
        for apps in steps {
            let wanted = snapshot(apps);
            let scratch = compile(&settings(), &RoutingTable::default(), wanted.clone()).0;
            grown = compile(&settings(), &grown, wanted).0;
            prop_assert_eq!(observed(&grown), observed(&scratch));
        }
    }
}

/// Settings with one profile, `internal`, which names no server.
fn with_profile() -> (Settings, tempfile::TempDir) {
    let folder = tempfile::TempDir::with_prefix("sluice-test-").unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem()).unwrap();
    let section = crate::config::UpstreamTlsConfig {
        name: "internal".into(),
        ca: Some(ca),
        server_name: None,
        certificate: None,
    };
    let upstream_tls = crate::listener::tls::UpstreamProfiles::load(&[section]).unwrap();
    (Settings { upstream_tls, ..settings() }, folder)
}

fn secured(profile: &str, server_name: Option<&str>, hosts: &[&str]) -> App {
    let mut app = app("shop", hosts, &["/"], 0);
    let tls = topology::AppTls { profile: profile.into(), server_name: server_name.map(Arc::from) };
    app.spec = Arc::new(AppSpec { tls: Some(Arc::new(tls)), ..(*app.spec).clone() });
    app
}

fn proved_name(table: &RoutingTable) -> Option<String> {
    let tls = table.apps.values().next()?.upstream.tls()?;
    Some(tls.server_name.to_str().into_owned())
}

#[test]
fn endpoints_prove_the_apps_name_or_its_first_exact_host() {
    let (settings, _folder) = with_profile();
    for (name, hosts, wanted) in [
        (Some("shop.internal"), &["a.test"][..], Some("shop.internal")),
        (None, &["*.a.test", "b.test", "c.test"], Some("b.test")),
        (None, &[], Some("shop.apps.test")),
        (Some("[::1]"), &["a.test"], Some("::1")),
        (None, &["*.a.test"], None),
    ] {
        let app = secured("internal", name, hosts);
        let (table, _) = compile(&settings, &RoutingTable::default(), snapshot([app]));
        assert_eq!(proved_name(&table).as_deref(), wanted, "{name:?} {hosts:?}");
        assert_eq!(table.apps.values().next().unwrap().rejection.is_some(), wanted.is_none());
    }
}

#[test]
fn an_unknown_profile_keeps_the_former_spec_with_the_present_endpoints() {
    let (settings, _folder) = with_profile();
    let good = secured("internal", None, &["a.test"]);
    let (first, _) = compile(&settings, &RoutingTable::default(), snapshot([good.clone()]));
    let mut bad = secured("nowhere", None, &["b.test"]);
    bad.endpoints = vec![endpoint("v1", "c1", 1), endpoint("v1", "c2", 1)];
    let (second, _) = compile(&settings, &first, snapshot([bad.clone()]));
    assert_eq!((found(&second, "a.test", "/"), found(&second, "b.test", "/")), ("shop", "unknown host"));
    let app = second.apps.values().next().unwrap();
    assert_eq!((app.endpoints.len(), proved_name(&second).as_deref()), (2, Some("a.test")));
    assert!(app.rejection.as_ref().unwrap().contains("nowhere"));
    // A table that knows no former spec has nothing to go on with, and clear text is no substitute.
    let (alone, _) = compile(&settings, &RoutingTable::default(), snapshot([bad]));
    assert!(matches!(alone.apps.values().next().unwrap().upstream, Upstream::Unknown));
    assert_eq!(found(&alone, "b.test", "/"), "shop");
    let (mended, _) = compile(&settings, &alone, snapshot([good]));
    assert!(mended.apps.values().next().unwrap().rejection.is_none());
}

#[test]
fn what_is_known_of_an_endpoint_holds_for_one_way_to_speak_to_it() {
    let (settings, _folder) = with_profile();
    let id = |table: &RoutingTable| table.apps.values().next().unwrap().endpoints[0].live.id;
    let next = |former: &RoutingTable, app: App| compile(&settings, former, snapshot([app])).0;
    let plain = next(&RoutingTable::default(), app("shop", &["a.test"], &["/"], 0));
    let tls = next(&plain, secured("internal", None, &["a.test"]));
    let other_host = next(&tls, secured("internal", Some("a.test"), &["a.test", "b.test"]));
    let other_name = next(&other_host, secured("internal", Some("b.test"), &["a.test", "b.test"]));
    assert_ne!(id(&plain), id(&tls));
    assert_eq!(id(&tls), id(&other_host));
    assert_ne!(id(&other_host), id(&other_name));
}

/// An app with `split = { v1 = 1 }` and one match that sends to v2.
fn matched(split: bool, strict: bool) -> App {
    let named = topology::Named { name: "x".into(), value: topology::ValueMatch::Present };
    let entry = topology::RequestMatch {
        name: "canary".into(),
        conditions: vec![topology::Condition::Header(named)],
        effect: topology::MatchEffect::Version { version: VersionId::parse("v2").unwrap(), strict },
    };
    let mut app = app("shop", &["h.test"], &["/"], 1);
    let spec = Arc::make_mut(&mut app.spec);
    spec.matches = Some(vec![entry].into());
    let v1 = VersionId::parse("v1").unwrap();
    spec.split = split.then(|| Split::new(vec![(v1, 1)]).unwrap());
    app.endpoints = vec![endpoint("v1", "c1", 1), endpoint("v2", "c1", 2)];
    app
}

#[test]
fn a_match_sends_to_its_version_and_then_where_the_others_go() {
    for (split, strict, wanted) in [
        (true, false, &[Some("v2"), Some("v1")][..]),
        (false, false, &[Some("v2"), None]),
        (true, true, &[Some("v2")]),
    ] {
        let table = table([matched(split, strict)]);
        let shop = table.app(&AppId::parse("shop").unwrap()).unwrap();
        let (spread, cursor) = shop.way(Some(0));
        for _ in 0..3 {
            let versions: Vec<_> = spread
                .choose(spread.next_turn(cursor))
                .map(|pool| pool.version.as_ref().map(VersionId::as_str))
                .collect();
            assert_eq!(versions, wanted);
        }
        assert_eq!(shop.way(None).0.pools.len(), 1);
    }
}

/// Workers keep a rotation per pool: two lists under one identity would make them forget it at every request.
#[test]
fn pools_of_matches_keep_their_identity_and_share_it_with_no_other_list() {
    let mut former = table([matched(false, false)]);
    let id = AppId::parse("shop").unwrap();
    let canary = |table: &RoutingTable| table.app(&id).unwrap().way(Some(0)).0.pools[0].id;
    let first = canary(&former);
    for step in [matched(false, true), matched(true, false), matched(true, true), matched(false, false)] {
        let (next, _) = compile(&settings(), &former, snapshot([step]));
        assert_eq!(canary(&next), first);
        let shop = next.app(&id).unwrap();
        let spreads = [&*shop.http, &*shop.tcp, shop.way(Some(0)).0];
        let mut lists: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for pool in spreads.iter().flat_map(|spread| &spread.pools) {
            let members: Vec<_> = pool.endpoints.iter().map(|endpoint| endpoint.live.id).collect();
            assert_eq!(lists.entry(pool.id).or_insert_with(|| members.clone()), &members);
        }
        former = next;
    }
}

fn told(state: AdminState, weight: Option<u16>) -> OperatorWord {
    OperatorWord { state, weight }
}

#[test]
fn whom_an_operator_withdraws_is_picked_by_nobody_not_even_where_nobody_else_is_left() {
    let mut shop = app("shop", &["h.test"], &["/"], 1);
    shop.endpoints = vec![endpoint("v1", "c1", 1), endpoint("v1", "c2", 2), endpoint("v1", "c3", 3)];
    let mut former = table([shop.clone()]);
    for (words, eligible, states) in [
        (
            [told(AdminState::Drain, None), told(AdminState::Maintenance, None), OperatorWord::default()],
            &[2][..],
            ["drain", "maintenance", "unknown"],
        ),
        (
            [
                told(AdminState::Drain, Some(9)),
                told(AdminState::Drain, None),
                told(AdminState::Maintenance, None),
            ],
            &[],
            ["drain", "drain", "maintenance"],
        ),
        (
            [OperatorWord::default(), told(AdminState::Ready, Some(0)), told(AdminState::Ready, Some(7))],
            &[0, 1, 2],
            ["unknown"; 3],
        ),
    ] {
        for (endpoint, word) in shop.endpoints.iter_mut().zip(words) {
            endpoint.word = word;
        }
        let (next, changes) = compile(&settings(), &former, snapshot([shop.clone()]));
        let app = next.app(&shop.id).unwrap();
        assert_eq!((changes.len(), &*app.http.pools[0].ranks(app).ranks[0].eligible), (1, eligible));
        assert_eq!(app.endpoints.iter().map(|endpoint| endpoint.state()).collect::<Vec<_>>(), states);
        let weights: Vec<_> = app.endpoints.iter().map(|endpoint| endpoint.weight).collect();
        assert_eq!(weights, words.map(|word| word.weight.unwrap_or(1)));
        for (endpoint, before) in app.endpoints.iter().zip(&former.app(&shop.id).unwrap().endpoints) {
            assert!(Arc::ptr_eq(&endpoint.live, &before.live), "what is known of it stays");
            assert_eq!(endpoint.out().is_some(), endpoint.weight == 0 || !endpoint.word.state.admits());
        }
        former = next;
    }
}

#[test]
fn in_a_panic_all_are_used_but_those_that_operators_have_withdrawn() {
    let mut shop = app("shop", &["shop.test"], &["/"], 1);
    shop.endpoints = (1..=4).map(|at| endpoint("v1", &format!("c{at}"), at)).collect();
    shop.endpoints[3].word = OperatorWord { state: AdminState::Drain, ..OperatorWord::default() };
    let cause = healthcheck::outlier::Cause::Failures;
    let ejects = topology::Outliers::default();
    // Of three that count: percent that is asked for, how many are out, whether all are used.
    for (threshold, out, panics) in [
        (0, 3, false),
        (50, 1, false),
        (50, 2, true),
        (50, 3, true),
        (100, 0, false),
        (100, 1, true),
        (1, 2, false),
        (1, 3, true),
    ] {
        let health = topology::HealthSettings { panic_threshold: threshold, ..Default::default() };
        let spec = AppSpec { health: Some(Arc::new(health)), ..(*shop.spec).clone() };
        let table = table([App { spec: Arc::new(spec), ..shop.clone() }]);
        let app = table.app(&shop.id).unwrap();
        for endpoint in &app.endpoints[..out] {
            endpoint.live.ejection.eject(std::time::Instant::now(), cause, "", &ejects).unwrap();
        }
        assert_eq!(app.strength().primaries, Level { healthy: 3 - out, of: 3 }, "{threshold} {out}");
        assert_eq!(app.stage() == Stage::Panic, panics);
        // Where nobody is left the ejected ones are used in any case.
        let eligible = &app.http.pools[0].ranks(app).ranks[0].eligible;
        let wanted: Vec<u32> = if panics || out == 3 { vec![0, 1, 2] } else { (out as u32..3).collect() };
        assert_eq!(*eligible, wanted, "{threshold} {out}");
    }
}

/// By rank: why it is asked when it is, and who is in it.
fn ranks(app: &CompiledApp) -> Vec<(Place, Vec<u32>)> {
    let ranks = app.http.pools[0].ranks(app).ranks;
    ranks.into_iter().map(|rank| (rank.place, rank.eligible)).collect()
}

fn eject(app: &CompiledApp, position: usize) {
    let cause = healthcheck::outlier::Cause::Failures;
    let ejection = &app.endpoints[position].live.ejection;
    ejection.eject(std::time::Instant::now(), cause, "", &topology::Outliers::default()).unwrap();
}

#[test]
fn backups_help_before_anybody_panics() {
    let mut shop = app("shop", &["shop.test"], &["/"], 1);
    let mut endpoints: Vec<_> = (1..=4).map(|at| endpoint("v1", &format!("c{at}"), at)).collect();
    endpoints[2].is_backup = true;
    endpoints[3].is_backup = true;
    shop.endpoints = endpoints;
    let health = topology::HealthSettings { panic_threshold: 60, ..Default::default() };
    shop.spec = Arc::new(AppSpec { health: Some(Arc::new(health)), ..(*shop.spec).clone() });
    let table = table([shop.clone()]);
    let app = table.app(&shop.id).unwrap();
    let (first, backups) = (Place::First, Place::Backups);
    assert_eq!((app.stage(), ranks(app)), (Stage::Usual, vec![(first, vec![0, 1]), (backups, vec![2, 3])]));
    // One of two is less than 60 %, and the backups are whole.
    eject(app, 0);
    assert_eq!((app.stage(), ranks(app)), (Stage::Helped, vec![(first, vec![1, 2, 3])]));
    // Nor are the backups enough by themselves.
    eject(app, 2);
    assert_eq!((app.stage(), ranks(app)), (Stage::Panic, vec![(first, vec![0, 1, 2, 3])]));
}

#[test]
fn zones_help_each_other_before_anybody_panics_and_count_for_nothing_then() {
    let mut shop = app("shop", &["shop.test"], &["/"], 1);
    shop.endpoints = (1..=4).map(|at| endpoint("v1", &format!("c{at}"), at)).collect();
    for (endpoint, zone) in shop.endpoints.iter_mut().zip(["a", "a", "b", "b"]) {
        endpoint.zone = Some(zone.into());
    }
    let health = topology::HealthSettings { panic_threshold: 50, ..Default::default() };
    shop.spec = Arc::new(AppSpec { health: Some(Arc::new(health)), ..(*shop.spec).clone() });
    let settings = Settings { zone: Some("a".into()), ..settings() };
    let (table, _) = compile(&settings, &RoutingTable::default(), snapshot([shop.clone()]));
    let app = table.app(&shop.id).unwrap();
    assert_eq!(ranks(app), [(Place::First, vec![0, 1]), (Place::OtherZones, vec![2, 3])]);
    // Nobody at home: the other zone takes everything, though half of all are out.
    eject(app, 0);
    eject(app, 1);
    assert_eq!((app.stage(), ranks(app)), (Stage::Usual, vec![(Place::First, vec![2, 3])]));
    eject(app, 2);
    assert_eq!((app.stage(), ranks(app)), (Stage::Panic, vec![(Place::First, vec![0, 1, 2, 3])]));
}
