//! Who may ask, and how often.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually};

use crate::{config, curl, field, start, status};

#[test]
fn denied_addresses_are_refused_before_anything_else() {
    let (gateway, endpoint) = start("[filters.addresses]\ndeny = [\"127.0.0.0/8\"]");
    let answer = curl(&gateway, "/", &[]);
    assert_eq!((status(&answer), field(&answer, "x-sluice-reason")), (403, vec!["address_denied"]));
    assert_eq!(endpoint.requests(), 0);
    let metrics = gateway.metrics();
    let labels = [("app", "all"), ("filter", "addresses"), ("result", "refused")];
    assert_eq!(metrics.count("sluice_filter_requests_total", &labels), 1);
    assert_eq!(metrics.count("sluice_requests_total", &[("reason", "address_denied")]), 1);
}

#[test]
fn the_client_that_a_trusted_proxy_names_is_the_one_that_counts() {
    let endpoint = Endpoint::start("c1");
    let filters = "[filters.addresses]\nallow = [\"203.0.113.0/24\"]";
    let gateway = Gateway::start(&config(&endpoint, filters).trusting("127.0.0.0/8"));
    let named = |client: &str| {
        status(&curl(&gateway, "/", &["-H", &format!("X-Forwarded-For: 198.51.100.1, {client}")]))
    };
    assert_eq!((named("203.0.113.9"), named("198.51.100.1")), (200, 403));
    // Nobody believes a client that is not trusted.
    let gateway = Gateway::start(&config(&endpoint, filters));
    assert_eq!(status(&curl(&gateway, "/", &["-H", "X-Forwarded-For: 203.0.113.9"])), 403);
}

#[test]
fn a_list_of_100_000_changes_while_the_gateway_runs() {
    let endpoint = Endpoint::start("c1");
    let filters = "[filters.addresses]\ndeny_file = \"denied.txt\"";
    let networks: String = (0..100_000u32)
        .map(|at| format!("10.{}.{}.{}/31\n", at >> 15, at >> 7 & 255, (at & 127) << 1))
        .collect();
    let gateway = Gateway::start(&config(&endpoint, filters).file("apps/denied.txt", &networks));
    assert_eq!(status(&curl(&gateway, "/", &[])), 200);
    gateway.put_file("apps/denied.txt", &format!("{networks}127.0.0.1 # us\n"));
    eventually(DEADLINE, "the list is in force", || status(&curl(&gateway, "/", &[])) == 403);
    let shown = gateway.admin_json("/v1/filters?app=all");
    assert_eq!(shown["items"][0]["settings"], "allow all, deny 100001");
    // A bad list changes nothing, and says so.
    gateway.put_file("apps/denied.txt", "127.0.0.1.5\n");
    eventually(DEADLINE, "the bad list is reported", || {
        gateway.metrics().count("sluice_config_rejects", &[("app", "all")]) == 1
    });
    assert_eq!(status(&curl(&gateway, "/", &[])), 403);
    let apps = gateway.admin_json("/v1/apps?app=all");
    let why = apps["items"][0]["rejections"][0]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("denied.txt: line 1: \"127.0.0.1.5\" is no network"), "{why}");
    gateway.put_file("apps/denied.txt", "");
    eventually(DEADLINE, "the list is empty", || status(&curl(&gateway, "/", &[])) == 200);
}

#[test]
fn a_list_that_was_never_there_lets_nobody_pass() {
    let (gateway, _endpoint) = start("[filters.addresses]\ndeny_file = \"missing.txt\"");
    let answer = curl(&gateway, "/", &[]);
    assert_eq!((status(&answer), field(&answer, "x-sluice-reason")), (503, vec!["filter_unavailable"]));
    gateway.put_file("apps/missing.txt", "10.0.0.0/8");
    eventually(DEADLINE, "the list is read", || status(&curl(&gateway, "/", &[])) == 200);
}

const LIMIT: &str = "[[filters.rate_limits]]\nname = \"few\"\nby = \"header\"\nheader = \"X-Tenant\"\n\
                     requests = 3\nper = \"1h\"";

#[test]
fn a_limit_counts_every_worker_and_tells_its_clients() {
    let (gateway, endpoint) = start(LIMIT);
    let ask =
        |tenant: &str, version: &str| curl(&gateway, "/", &[version, "-H", &format!("X-Tenant: {tenant}")]);
    let versions = ["--http1.1", "--http2-prior-knowledge"];
    for (left, version) in [(2, 0), (1, 1), (0, 0)] {
        let answer = ask("a", versions[version]);
        assert_eq!(status(&answer), 200, "{answer}");
        assert_eq!(field(&answer, "ratelimit-policy"), ["\"few\";q=3;w=3600"]);
        let told = field(&answer, "ratelimit");
        assert!(told[0].starts_with(&format!("\"few\";r={left};t=")), "{told:?}");
    }
    for version in versions {
        let answer = ask("a", version);
        assert_eq!((status(&answer), field(&answer, "x-sluice-reason")), (429, vec!["rate_limited"]));
        let wait: u64 = field(&answer, "retry-after")[0].parse().expect("seconds");
        assert!((1_100..=1_200).contains(&wait), "a third of an hour, not {wait}");
    }
    assert_eq!(status(&ask("b", versions[0])), 200);
    assert_eq!(endpoint.requests(), 4);
    let labels = [("app", "all"), ("limit", "few")];
    assert_eq!(gateway.metrics().count("sluice_rate_limited_total", &labels), 2);
}

#[test]
fn a_change_of_the_app_forgets_nothing_that_was_counted() {
    let (gateway, endpoint) = start(LIMIT);
    let ask = |more: &[&str]| status(&curl(&gateway, "/", more));
    assert_eq!([ask(&[]), ask(&[]), ask(&[]), ask(&[])], [200, 200, 200, 429]);
    let more = format!("{LIMIT}\n[filters.response_headers]\nset = {{ X-Changed = \"yes\" }}");
    gateway.put_app(&App::everything(endpoint.address()).line(&more));
    eventually(DEADLINE, "the change is in force", || {
        let answer = curl(&gateway, "/", &["-H", "X-Tenant: other"]);
        !field(&answer, "x-changed").is_empty() || status(&answer) == 429
    });
    assert_eq!(ask(&[]), 429);
}

#[test]
fn the_gateway_has_limits_of_its_own() {
    let endpoint = Endpoint::start("c1");
    let limit = "[[gateway.rate_limits]]\nname = \"all\"\nby = \"gateway\"\nrequests = 2\nper = \"1h\"";
    let gateway = Gateway::start(&Config::in_front_of(endpoint.address()).section(limit));
    let ask = || status(&curl(&gateway, "/", &[]));
    assert_eq!([ask(), ask(), ask()], [200, 200, 429]);
    assert_eq!(gateway.metrics().count("sluice_rate_limited_total", &[("app", ""), ("limit", "all")]), 1);
}
