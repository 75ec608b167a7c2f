//! Who takes traffic, and why not.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, Load, RawEndpoint, Reply, eventually};

const HOST: &str = "shop.test";

fn shop(endpoints: &[&Endpoint]) -> App {
    let app = App::new("shop").host(HOST).probed();
    endpoints
        .iter()
        .enumerate()
        .fold(app, |app, (at, endpoint)| app.endpoint("v1", &format!("c{at}"), endpoint.address()))
}

fn pair() -> (Gateway, Endpoint, Endpoint) {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let gateway = Gateway::start(&Config::new().app(&shop(&[&a, &b])));
    (gateway, a, b)
}

/// Waits until twenty requests in a row are answered by one of `ids`, and by each of them.
#[track_caller]
fn settle_on(gateway: &Gateway, ids: &[&str]) {
    let mut client = gateway.connect();
    eventually(DEADLINE, &format!("only {ids:?} answer"), || {
        let answers: Vec<String> = (0..20).map(|_| client.get(HOST, "/").text()).collect();
        answers.iter().all(|answer| ids.contains(&answer.as_str()))
            && ids.iter().all(|id| answers.iter().any(|answer| answer == id))
    });
}

#[test]
fn an_endpoint_that_fails_its_ping_is_routed_around_and_comes_back() {
    let (gateway, a, _b) = pair();
    settle_on(&gateway, &["a", "b"]);
    for _ in 0..2 {
        a.set_healthy(false);
        settle_on(&gateway, &["b"]);
        let before = a.requests();
        settle_on(&gateway, &["b"]);
        assert_eq!(a.requests(), before, "an ejected endpoint was asked");
        a.set_healthy(true);
        settle_on(&gateway, &["a", "b"]);
    }
}

#[test]
fn an_endpoint_that_was_killed_is_routed_around_and_comes_back() {
    let (gateway, a, _b) = pair();
    settle_on(&gateway, &["a", "b"]);
    let address = a.address();
    a.stop();
    settle_on(&gateway, &["b"]);
    let _again = Endpoint::start_at("a", address);
    settle_on(&gateway, &["a", "b"]);
}

#[test]
fn an_endpoint_that_fails_its_ping_fails_no_request() {
    let (gateway, a, _b) = pair();
    let load = Load::start(gateway.web(), HOST, 4);
    for _ in 0..3 {
        a.set_healthy(false);
        settle_on(&gateway, &["b"]);
        a.set_healthy(true);
        settle_on(&gateway, &["a", "b"]);
    }
    load.stop().assert_undisturbed();
}

#[test]
fn an_app_with_nothing_healthy_is_a_503_of_its_own() {
    let (gateway, a, b) = pair();
    a.set_healthy(false);
    b.set_healthy(false);
    eventually(DEADLINE, "nothing is healthy", || gateway.get(HOST, "/").status == 503);
    let response = gateway.get(HOST, "/");
    assert_eq!((response.status, response.reason()), (503, Some("no_healthy_endpoint")));
    // The client's connection has done nothing wrong.
    let mut client = gateway.connect();
    assert_eq!(client.get(HOST, "/").status, 503);
    b.set_healthy(true);
    eventually(DEADLINE, "one is healthy again", || client.get(HOST, "/").text() == "b");
}

#[test]
fn the_report_says_why_an_endpoint_takes_no_traffic() {
    let (gateway, a, _b) = pair();
    a.set_healthy(false);
    settle_on(&gateway, &["b"]);
    let report = gateway.admin_json("/v1/endpoints").to_string();
    assert!(report.contains(&a.address().to_string()) && report.contains("503"), "{report}");
}

#[test]
fn a_ping_without_an_answer_fails_in_time() {
    let silent = RawEndpoint::start(|wire, _| wire.rest().map(|_| ()));
    let good = Endpoint::start("good");
    let app = App::new("shop")
        .host(HOST)
        .probed()
        .health(r#"timeout = "50ms""#)
        .endpoint("v1", "silent", silent.address())
        .endpoint("v1", "good", good.address());
    let gateway = Gateway::start(&Config::new().app(&app));
    let ejected = || gateway.admin_json("/v1/endpoints").to_string().contains("within 50ms");
    eventually(DEADLINE, "the report says how long it was waited for", ejected);
    let mut client = gateway.connect();
    for _ in 0..20 {
        assert_eq!(client.get(HOST, "/").text(), "good");
    }
}

#[test]
fn health_survives_a_change_of_the_app() {
    let (gateway, a, b) = pair();
    a.set_healthy(false);
    settle_on(&gateway, &["b"]);
    let before = a.requests();
    gateway.put_app(&shop(&[&a, &b]).host("more.test"));
    eventually(DEADLINE, "the change is live", || gateway.get("more.test", "/").status == 200);
    settle_on(&gateway, &["b"]);
    assert_eq!(a.requests(), before);
}

#[test]
fn fewer_failures_than_asked_for_eject_nobody() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let app = App::new("shop")
        .host(HOST)
        .health(r#"interval = "100ms""#)
        .health("rise = 2")
        .health("fall = 100")
        .endpoint("v1", "a", a.address())
        .endpoint("v1", "b", b.address());
    let gateway = Gateway::start(&Config::new().app(&app));
    // An endpoint that fails its very first probe has never been well: nothing is forgiven it.
    eventually(DEADLINE, "both have passed a probe", || {
        let report = gateway.admin_json("/v1/endpoints");
        let items = report["items"].as_array().expect("a page has items");
        items.len() == 2 && items.iter().all(|item| item["state"] == "up")
    });
    a.set_healthy(false);
    let before = a.pings();
    eventually(DEADLINE, "several pings fail", || a.pings() > before + 5);
    settle_on(&gateway, &["a", "b"]);
}

#[test]
fn probes_use_their_connections_again() {
    let (gateway, a, _b) = pair();
    eventually(DEADLINE, "many pings", || a.pings() >= 20);
    // One for the probes, one for each worker that sent it a request.
    assert!(a.accepted() <= 3, "{} connections for {} pings", a.accepted(), a.pings());
    drop(gateway);
}

#[test]
fn probes_go_to_the_path_that_the_app_names() {
    let endpoint = Endpoint::behaving("a", |request| match request.target.as_str() {
        "/healthz" => Reply::Answer(500, Vec::new(), Vec::new()),
        _ => Reply::ok("a"),
    });
    let app = App::new("shop").host(HOST).probed().health(r#"path = "/healthz""#);
    let gateway = Gateway::start(&Config::new().app(&app.endpoint("v1", "a", endpoint.address())));
    eventually(DEADLINE, "it is ejected", || gateway.get(HOST, "/").status == 503);
    assert_eq!(endpoint.pings(), 0);
}

#[test]
fn metrics_count_endpoints_by_state() {
    let (gateway, a, _b) = pair();
    a.set_healthy(false);
    settle_on(&gateway, &["b"]);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("sluice_endpoints", &[("app", "shop")]), Some(2.0), "{}", metrics.text());
    assert!(metrics.count("sluice_probes_total", &[]) > 0);
}
