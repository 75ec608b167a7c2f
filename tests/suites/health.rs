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

/// As the report has it.
fn last_result(gateway: &Gateway, instance: &str) -> String {
    let report = gateway.admin_json("/v1/endpoints");
    let items = report["items"].as_array().expect("a page has items");
    let item = items.iter().find(|item| item["instance"] == instance).expect("the endpoint is there");
    item["last_probe_result"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_probes_request_and_its_answer_are_what_the_app_asks_for() {
    let endpoint = Endpoint::behaving("a", |request| {
        let is_asked = request.method == "OPTIONS"
            && request.fields.get("x-probe") == Some("1")
            && request.fields.get("host") == Some("inner.test");
        match request.target.as_str() {
            "/ready" if is_asked => Reply::Answer(418, Vec::new(), b"all is well".to_vec()),
            "/ready" => Reply::Answer(500, Vec::new(), Vec::new()),
            _ => Reply::ok("a"),
        }
    });
    let app = |body: &str| {
        let app = App::new("shop").host(HOST).probed().endpoint("v1", "a", endpoint.address());
        let app =
            app.health(r#"path = "/ready""#).health(r#"method = "OPTIONS""#).health(r#"host = "inner.test""#);
        app.health(r#"headers = { X-Probe = "1" }"#)
            .health(r#"status = ["200-299", 418]"#)
            .health(&format!("body = {body:?}"))
    };
    let gateway = Gateway::start(&Config::new().app(&app("is well")));
    eventually(DEADLINE, "it has passed", || last_result(&gateway, "a") == "pass");
    assert_eq!(gateway.get(HOST, "/").text(), "a");
    gateway.put_app(&app("is ill"));
    eventually(DEADLINE, "it lacks the marker", || last_result(&gateway, "a") == "body");
    eventually(DEADLINE, "it is ejected", || gateway.get(HOST, "/").status == 503);
    assert!(gateway.metrics().count("sluice_probes_total", &[("result", "body")]) > 0);
}

#[test]
fn an_endpoint_that_is_down_is_probed_at_its_own_interval() {
    let a = Endpoint::start("a");
    let app = App::new("shop").host(HOST).endpoint("v1", "a", a.address());
    let app = app.health(r#"interval = "1h""#).health(r#"unhealthy_interval = "100ms""#).health("rise = 1");
    a.set_healthy(false);
    let gateway = Gateway::start(&Config::new().app(&app));
    eventually(DEADLINE, "it is down", || gateway.get(HOST, "/").status == 503);
    a.set_healthy(true);
    eventually(DEADLINE, "it is back within the hour", || gateway.get(HOST, "/").text() == "a");
}

#[test]
fn in_a_panic_all_endpoints_are_used_and_it_is_said() {
    let endpoints: Vec<_> = ["a", "b", "c"].map(Endpoint::start).into();
    let app = shop(&endpoints.iter().collect::<Vec<_>>()).health("panic_threshold = 50");
    let gateway = Gateway::start(&Config::new().app(&app));
    settle_on(&gateway, &["a", "b", "c"]);
    let panics = || gateway.metrics().count("sluice_panic", &[("app", "shop")]);
    assert_eq!(panics(), 0);
    endpoints[0].set_healthy(false);
    settle_on(&gateway, &["b", "c"]);
    assert_eq!(panics(), 0);
    endpoints[1].set_healthy(false);
    settle_on(&gateway, &["a", "b", "c"]);
    assert_eq!(panics(), 1);
    let report = gateway.admin_json("/v1/endpoints").to_string();
    let down = report.matches(r#""state":"down""#).count();
    assert_eq!(down, 2, "who is down stays down: {report}");
    assert_eq!(gateway.admin_json("/v1/apps")["items"][0]["panics"], true);
    endpoints[1].set_healthy(true);
    settle_on(&gateway, &["b", "c"]);
    assert_eq!(panics(), 0);
    assert_eq!(gateway.admin_json("/v1/apps")["items"][0]["panics"], false);
}

#[test]
fn an_endpoint_that_is_to_be_restarted_is_said_again_until_it_passes() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let app = shop(&[&a, &b]).health(r#"on_failure = "restart""#);
    let gateway = Gateway::start(&Config::new().app(&app));
    settle_on(&gateway, &["a", "b"]);
    let told = |action| {
        let counts = gateway.metrics();
        ["yes", "no"].map(|heard| {
            counts.count("sluice_endpoint_failures_total", &[("action", action), ("heard", heard)])
        })
    };
    assert_eq!(told("restart"), [0, 0]);
    a.set_healthy(false);
    eventually(DEADLINE, "it is said again and again", || told("restart").iter().sum::<u64>() >= 3);
    settle_on(&gateway, &["b"]);
    assert_eq!(told("stop"), [0, 0]);
    a.set_healthy(true);
    settle_on(&gateway, &["a", "b"]);
}
