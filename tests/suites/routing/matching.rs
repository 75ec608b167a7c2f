//! Hosts and paths.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually};

use crate::{answers, refusal, unknown_host};

/// One app per line of `apps`: id, hosts, paths; each with one endpoint that answers with the app's id.
fn gateway(apps: &[(&str, &[&str], &[&str])]) -> (Gateway, Vec<Endpoint>) {
    let mut config = Config::new();
    let mut endpoints = Vec::new();
    for (id, hosts, paths) in apps {
        let endpoint = Endpoint::start(id);
        let app = App::new(id).endpoint("v1", "c1", endpoint.address());
        let app = hosts.iter().fold(app, |app, host| app.host(host));
        config = config.app(&paths.iter().fold(app, |app, path| app.path(path)));
        endpoints.push(endpoint);
    }
    (Gateway::start(&config), endpoints)
}

#[test]
fn an_exact_host_beats_the_longest_wildcard_beats_the_default() {
    let (gateway, _endpoints) = gateway(&[
        ("exact", &["a.shop.test"], &[]),
        ("short", &["*.shop.test"], &[]),
        ("long", &["*.eu.shop.test"], &[]),
        ("default", &["*"], &[]),
    ]);
    for (host, app) in [
        ("a.shop.test", "exact"),
        ("b.shop.test", "short"),
        ("b.a.shop.test", "short"),
        ("eu.shop.test", "short"),
        ("a.eu.shop.test", "long"),
        ("b.a.eu.shop.test", "long"),
        ("shop.test", "default"),
        ("xshop.test", "default"),
        ("elsewhere.test", "default"),
        ("127.0.0.1", "default"),
    ] {
        assert_eq!(answers(&gateway, host, "/"), app, "{host}");
    }
}

#[test]
fn hosts_are_compared_without_case_port_and_trailing_dot() {
    let (gateway, _endpoints) = gateway(&[("shop", &["Shop.test", "*.Wild.test"], &[])]);
    for host in ["shop.test", "SHOP.TEST:8080", "shop.test.", "shop.test.:80", "A.wild.TEST:1"] {
        assert_eq!(answers(&gateway, host, "/"), "shop", "{host}");
    }
    assert_eq!(refusal(&gateway, "shop.test.test", "/"), unknown_host());
}

#[test]
fn an_exact_path_beats_the_longest_prefix() {
    let (gateway, _endpoints) = gateway(&[
        ("root", &["shop.test"], &["/"]),
        ("api", &["shop.test"], &["/api"]),
        ("v2", &["shop.test"], &["/api/v2/"]),
        ("exact", &["shop.test"], &["=/api/login"]),
    ]);
    for (target, app) in [
        ("/", "root"),
        ("/apis", "root"),
        ("/ap", "root"),
        ("/API", "root"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api?x=/api/v2", "api"),
        ("/api/v22", "api"),
        ("/api/v2", "v2"),
        ("/api/v2/x", "v2"),
        ("/api/login", "exact"),
        ("/api/login?next=/", "exact"),
        ("/api/login/", "api"),
        ("/api/logins", "api"),
    ] {
        assert_eq!(answers(&gateway, "shop.test", target), app, "{target}");
    }
}

#[test]
fn paths_are_compared_after_dot_segments_and_needless_escapes_are_resolved() {
    let (gateway, _endpoints) =
        gateway(&[("root", &["shop.test"], &["/"]), ("api", &["shop.test"], &["/api"])]);
    for (target, app) in [
        ("/x/../api/y", "api"),
        ("/./api", "api"),
        ("/%61pi", "api"),
        ("/api/../x", "root"),
        ("/api/%2e%2e/x", "root"),
    ] {
        assert_eq!(answers(&gateway, "shop.test", target), app, "{target}");
    }
}

#[test]
fn a_path_that_climbs_out_of_the_root_is_refused() {
    let (gateway, _endpoints) = gateway(&[("root", &["shop.test"], &["/"])]);
    for target in ["/..", "/../api", "/a/../../b", "/%2e%2e/%2e%2e/etc"] {
        assert_eq!(gateway.get("shop.test", target).status, 400, "{target}");
    }
}

#[test]
fn a_host_that_nobody_claims_is_a_404() {
    let (gateway, _endpoints) = gateway(&[("shop", &["shop.test"], &[])]);
    assert_eq!(refusal(&gateway, "unheard-of.test", "/"), unknown_host());
    // A request is counted when it is over, which its client may know first.
    let counted = || gateway.metrics().count("sluice_requests_total", &[("reason", "unknown_host")]);
    eventually(DEADLINE, "it is counted", || counted() == 1);
    let metrics = gateway.metrics();
    // Whoever makes up hosts must not make up series.
    assert!(!metrics.text().contains("unheard-of"));
}

#[test]
fn a_path_that_nobody_claims_is_a_404_of_its_own() {
    let (gateway, _endpoints) = gateway(&[("api", &["shop.test"], &["/api"])]);
    assert_eq!(refusal(&gateway, "shop.test", "/other"), (404, "unknown_path".to_owned()));
}

#[test]
fn an_app_without_endpoints_is_a_503() {
    let gateway = Gateway::start(&Config::new().app(&App::new("shop").host("shop.test")));
    assert_eq!(refusal(&gateway, "shop.test", "/"), (503, "no_endpoint".to_owned()));
    let labels = [("app", "shop"), ("reason", "no_endpoint")];
    let counted = || gateway.metrics().count("sluice_requests_total", &labels);
    eventually(DEADLINE, "it is counted", || counted() == 1);
}

#[test]
fn an_app_without_hosts_answers_below_the_base_domain() {
    let (gateway, _endpoints) = gateway(&[("shop", &[], &[])]);
    assert_eq!(answers(&gateway, "shop.apps.test", "/"), "shop");
    assert_eq!(refusal(&gateway, "apps.test", "/"), unknown_host());
}

#[test]
fn of_two_apps_that_claim_the_same_the_smaller_id_keeps_it() {
    let (gateway, _endpoints) = gateway(&[("b", &["shop.test"], &[]), ("a", &["shop.test"], &[])]);
    assert_eq!(answers(&gateway, "shop.test", "/"), "a");
}

#[test]
fn an_app_is_served_by_the_listeners_that_it_names() {
    let endpoint = Endpoint::start("c1");
    let app = App::new("inner").host("inner.test").line(r#"listeners = ["internal"]"#);
    let config = Config::new().listener("internal", &[r#"protocol = "http""#]).app(&app.endpoint(
        "v1",
        "c1",
        endpoint.address(),
    ));
    let gateway = Gateway::start(&config);
    assert_eq!(refusal(&gateway, "inner.test", "/"), unknown_host());
    let mut client = tests::RawClient::connect(gateway.listener("internal"));
    assert_eq!(client.get("inner.test", "/").text(), "c1");
}
