//! Endpoints that are asked where nearer or better ones cannot be: other zones, backups.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tests::{App, Config, DEADLINE, Endpoint, Gate, Gateway, Reply, eventually, finish, sluice};

const HOST: &str = "shop.test";

/// An endpoint with another line in its section.
fn with(app: App, instance: &str, address: SocketAddr, line: &str) -> App {
    app.endpoint("v1", instance, address).endpoint_line(line)
}

fn shop(endpoints: &[(&Endpoint, &str)]) -> App {
    let app = App::new("shop").host(HOST);
    endpoints.iter().enumerate().fold(app, |app, (number, (endpoint, line))| {
        with(app, &format!("c{number}"), endpoint.address(), line)
    })
}

fn ask(gateway: &Gateway) -> String {
    let response = gateway.get(HOST, "/");
    assert_eq!(response.status, 200, "{}", response.text());
    response.text()
}

fn is(gateway: &Gateway, number: usize, state: &str) -> bool {
    gateway.admin_json("/v1/endpoints?app=shop")["items"][number]["state"] == state
}

fn in_flight(gateway: &Gateway, number: usize) -> u64 {
    gateway.admin_json("/v1/endpoints?app=shop")["items"][number]["in_flight"]
        .as_u64()
        .expect("it is counted")
}

const A: &str = r#"zone = "a""#;
const B: &str = r#"zone = "b""#;
const BACKUP: &str = "backup = true";

#[test]
fn a_zone_keeps_what_it_can_take_and_the_rest_goes_elsewhere() {
    let endpoints: Vec<_> = ["a0", "a1", "b0", "b1"].iter().map(|name| Endpoint::start(name)).collect();
    let zones = [A, A, B, B];
    let app = shop(&endpoints.iter().zip(zones).collect::<Vec<_>>()).probed();
    let gateway = Gateway::start(&Config::with_workers(1).gateway(r#"zone = "a""#).app(&app));
    let count = |gateway: &Gateway| (0..60).filter(|_| ask(gateway).starts_with('a')).count();
    assert_eq!(count(&gateway), 60);
    // One of three, where half would be its part: two thirds stay.
    endpoints[0].set_healthy(false);
    eventually(DEADLINE, "it is down", || is(&gateway, 0, "down"));
    assert!((39..=41).contains(&count(&gateway)));
    endpoints[1].set_healthy(false);
    eventually(DEADLINE, "it is down", || is(&gateway, 1, "down"));
    assert_eq!(count(&gateway), 0);
    endpoints[0].set_healthy(true);
    endpoints[1].set_healthy(true);
    eventually(DEADLINE, "both are back", || is(&gateway, 0, "up") && is(&gateway, 1, "up"));
    assert_eq!(count(&gateway), 60);
    let sent =
        |zone| gateway.metrics().count("sluice_zone_requests_total", &[("app", "shop"), ("zone", zone)]);
    assert_eq!(sent("own") + sent("other"), 240);
    assert!((158..=162).contains(&sent("own")), "{}", sent("own"));
}

#[test]
fn a_retry_may_leave_the_zone_and_a_full_zone_too() {
    let gate = Gate::default();
    let closed = gate.clone();
    let slow = Endpoint::behaving("a0", move |_| {
        closed.pass();
        Reply::ok("a0")
    });
    let other = Endpoint::start("b0");
    let app = shop(&[(&slow, A), (&other, B)]).line("limits = { in_flight_per_endpoint = 1, queue = 0 }");
    let gateway = Gateway::start(&Config::new().gateway(r#"zone = "a""#).app(&app));
    let mut held = gateway.connect();
    held.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually(DEADLINE, "it is asked", || slow.requests() == 1);
    assert_eq!(ask(&gateway), "b0");
    gate.open();
    assert_eq!(held.receive().text(), "a0");
    // A response is there a little before the place that it held is given back.
    eventually(DEADLINE, "both places are given back", || {
        in_flight(&gateway, 0) + in_flight(&gateway, 1) == 0
    });
    slow.stop();
    assert_eq!(ask(&gateway), "b0");
}

#[test]
fn a_key_has_one_endpoint_in_all_zones() {
    let endpoints: Vec<_> = ["a0", "b0"].iter().map(|name| Endpoint::start(name)).collect();
    let app =
        shop(&[(&endpoints[0], A), (&endpoints[1], B)]).line(r#"balance = { kind = "hash", key = "path" }"#);
    let of = |zone: &str| {
        let gateway = Gateway::start(&Config::new().gateway(&format!("zone = {zone:?}")).app(&app));
        (0..30).map(|key| gateway.get(HOST, &format!("/{key}")).text()).collect::<Vec<_>>()
    };
    let first = of("a");
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(of("b"), first);
}

#[test]
fn backups_wait_until_nobody_else_is_left() {
    for policy in [
        r#"balance = "round_robin""#,
        r#"balance = "random""#,
        r#"balance = "least_requests""#,
        r#"balance = "peak_ewma""#,
        r#"balance = { kind = "hash", key = "path" }"#,
        r#"balance = { kind = "hash", key = "path", algorithm = "ketama" }"#,
    ] {
        let endpoints: Vec<_> = ["c0", "c1", "spare"].iter().map(|name| Endpoint::start(name)).collect();
        let app =
            shop(&[(&endpoints[0], ""), (&endpoints[1], ""), (&endpoints[2], BACKUP)]).probed().line(policy);
        let gateway = Gateway::start(&Config::new().app(&app));
        (0..20).for_each(|_| assert_ne!(ask(&gateway), "spare", "{policy}"));
        endpoints[0].set_healthy(false);
        eventually(DEADLINE, "it is down", || is(&gateway, 0, "down"));
        (0..10).for_each(|_| assert_eq!(ask(&gateway), "c1", "{policy}"));
        endpoints[1].set_healthy(false);
        eventually(DEADLINE, "it is down", || is(&gateway, 1, "down"));
        (0..10).for_each(|_| assert_eq!(ask(&gateway), "spare", "{policy}"));
        endpoints[0].set_healthy(true);
        eventually(DEADLINE, "it is back", || is(&gateway, 0, "up"));
        (0..10).for_each(|_| assert_eq!(ask(&gateway), "c0", "{policy}"));
        assert_eq!(gateway.admin_json("/v1/endpoints?app=shop")["items"][2]["backup"], true);
    }
}

#[test]
fn a_backup_answers_for_one_that_refuses_and_not_for_one_that_is_full() {
    let gate = Gate::default();
    let closed = gate.clone();
    let slow = Endpoint::behaving("c0", move |_| {
        closed.pass();
        Reply::ok("c0")
    });
    let spare = Endpoint::start("spare");
    let app =
        shop(&[(&slow, ""), (&spare, BACKUP)]).line("limits = { in_flight_per_endpoint = 1, queue = 0 }");
    let gateway = Gateway::start(&Config::new().app(&app));
    let mut held = gateway.connect();
    held.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually(DEADLINE, "it is asked", || slow.requests() == 1);
    assert_eq!(gateway.get(HOST, "/").reason(), Some("app_overloaded"));
    gate.open();
    assert_eq!(held.receive().text(), "c0");
    eventually(DEADLINE, "its place is given back", || in_flight(&gateway, 0) == 0);
    slow.stop();
    // The first is told by a refused connection, the others before it.
    for _ in 0..5 {
        assert_eq!(ask(&gateway), "spare");
        // A client has its response a moment before the place is free, and this one has one place too.
        eventually(DEADLINE, "its place is given back", || in_flight(&gateway, 1) == 0);
    }
}

/// Who answers, in some requests.
fn names(gateway: &Gateway) -> BTreeSet<String> {
    (0..12).map(|_| ask(gateway)).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn backups_help_before_anybody_panics() {
    let endpoints: Vec<_> = ["c0", "c1", "spare"].iter().map(|name| Endpoint::start(name)).collect();
    let app = shop(&[(&endpoints[0], ""), (&endpoints[1], ""), (&endpoints[2], BACKUP)]);
    let gateway = Gateway::start(&Config::new().app(&app.probed().health("panic_threshold = 60")));
    let is_told = |key: &str| gateway.admin_json("/v1/apps")["items"][0][key] == true;
    let panics = || gateway.metrics().count("sluice_panic", &[("app", "shop")]);
    assert_eq!(names(&gateway), set(["c0", "c1"]));
    endpoints[0].set_healthy(false);
    eventually(DEADLINE, "it is down", || is(&gateway, 0, "down"));
    assert_eq!(names(&gateway), set(["c1", "spare"]));
    assert!(is_told("backups_help") && !is_told("panics") && panics() == 0);
    endpoints[1].set_healthy(false);
    eventually(DEADLINE, "it is down", || is(&gateway, 1, "down"));
    assert_eq!(names(&gateway), set(["spare"]));
    endpoints[2].set_healthy(false);
    eventually(DEADLINE, "it is down", || is(&gateway, 2, "down"));
    assert_eq!(names(&gateway), set(["c0", "c1", "spare"]));
    assert!(is_told("panics") && !is_told("backups_help") && panics() == 1);
    endpoints[0].set_healthy(true);
    endpoints[1].set_healthy(true);
    eventually(DEADLINE, "both are back", || is(&gateway, 0, "up") && is(&gateway, 1, "up"));
    assert_eq!(names(&gateway), set(["c0", "c1"]));
    assert!(!is_told("panics") && !is_told("backups_help") && panics() == 0);
}

#[test]
fn a_zone_that_is_down_is_not_asked_in_a_panic_alone() {
    let endpoints: Vec<_> = ["a0", "a1", "b0", "b1"].iter().map(|name| Endpoint::start(name)).collect();
    let app = shop(&endpoints.iter().zip([A, A, B, B]).collect::<Vec<_>>());
    let app = app.probed().health("panic_threshold = 60");
    let gateway = Gateway::start(&Config::with_workers(1).gateway(r#"zone = "a""#).app(&app));
    assert_eq!(names(&gateway), set(["a0", "a1"]));
    for at in [0, 1] {
        endpoints[at].set_healthy(false);
        eventually(DEADLINE, "it is down", || is(&gateway, at, "down"));
    }
    // By their weights those at home would keep everything.
    assert_eq!(names(&gateway), set(["a0", "a1", "b0", "b1"]));
}

#[test]
fn zones_and_tiers_are_explained() {
    let endpoints: Vec<_> = ["a0", "b0", "spare"].iter().map(|name| Endpoint::start(name)).collect();
    let app = shop(&[(&endpoints[0], A), (&endpoints[1], B), (&endpoints[2], BACKUP)]).probed();
    let gateway = Gateway::start(&Config::new().gateway(r#"zone = "a""#).app(&app));
    let told = gateway.admin_json(&format!("/v1/explain?url=http://{HOST}/"));
    let rows = told["versions"][0]["endpoints"].as_array().expect("a list");
    let shown: Vec<_> = rows.iter().map(|row| (row["tier"].as_str(), row["percent"].as_f64())).collect();
    let out = Some(0.0);
    assert_eq!(shown, [(Some("first"), Some(100.0)), (Some("other_zones"), out), (Some("backups"), out)]);
    let mut command = sluice();
    command.args(["routes", "explain", &format!("http://{HOST}/")]);
    command.env("SLUICE_ADMIN", format!("http://{}", gateway.admin()));
    let report = finish(&mut command, "", DEADLINE).text();
    for row in [["ZONE", "ASKED"], ["v1/c0", "first"], ["v1/c1", "other zones"], ["v1/c2", "backups"]] {
        assert!(report.lines().any(|line| row.iter().all(|word| line.contains(word))), "{row:?}: {report}");
    }
}
