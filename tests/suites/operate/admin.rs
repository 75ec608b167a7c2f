//! What the admin listener says.

use std::process::Command;

use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually, finish};

fn gateway() -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    let app = App::new("shop").host("shop.test").path("/api").probed();
    let config = Config::new().app(&app.endpoint("v1", "c1", endpoint.address()));
    (Gateway::start(&config), endpoint)
}

#[test]
fn live_and_ready_say_so() {
    let (gateway, _endpoint) = gateway();
    for target in ["/live", "/ready"] {
        assert_eq!(gateway.admin_get(target).status, 200, "{target}");
    }
    assert_eq!(gateway.admin_get("/elsewhere").status, 404);
}

#[test]
fn the_reports_name_apps_endpoints_and_routes() {
    let (gateway, endpoint) = gateway();
    let address = endpoint.address().to_string();
    for (target, words) in [
        ("/v1/apps", &["shop", "shop.test"][..]),
        ("/v1/endpoints", &["shop", "v1", "c1", &address]),
        ("/v1/table", &["shop.test", "/api", "shop"]),
    ] {
        let text = gateway.admin_json(target).to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{target}: {words:?} in {text}");
    }
}

#[test]
fn requests_are_counted_by_app_version_status_and_reason() {
    let (gateway, _endpoint) = gateway();
    for _ in 0..3 {
        assert_eq!(gateway.get("shop.test", "/api").status, 200);
    }
    gateway.get("shop.test", "/other");
    // A request is counted when it is over, which its client may notice first.
    eventually(DEADLINE, "every request is counted where it belongs", || {
        let metrics = gateway.metrics();
        let total = |labels: &[_]| metrics.count("sluice_requests_total", labels);
        total(&[("app", "shop"), ("version", "v1"), ("status", "2xx"), ("reason", "")]) == 3
            && total(&[("status", "4xx"), ("reason", "unknown_path")]) == 1
            && total(&[]) == 4
    });
}

#[test]
fn the_metrics_that_operators_rely_on_are_there() {
    let (gateway, endpoint) = gateway();
    eventually(DEADLINE, "a probe was counted", || endpoint.pings() > 1);
    assert_eq!(gateway.get("shop.test", "/api").status, 200);
    // A request is counted when it is over, which its client may know first.
    let counted = || gateway.metrics().count("sluice_requests_total", &[("app", "shop")]);
    eventually(DEADLINE, "the request was counted", || counted() == 1);
    let text = gateway.metrics().text().to_owned();
    for name in [
        "sluice_request_seconds_bucket",
        "sluice_upstream_seconds_bucket",
        "sluice_added_seconds_bucket",
        "sluice_connections_open",
        "sluice_received_bytes_total",
        "sluice_sent_bytes_total",
        "sluice_upstream_connects_total",
        "sluice_endpoints",
        "sluice_probes_total",
        "sluice_registry_connected",
        "sluice_registry_revision",
        "sluice_table_revision",
        "sluice_config_rejects",
        "sluice_build_info",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(&format!("\n{name}")), "no {name} in:\n{text}");
    }
}

#[test]
fn promtool_finds_nothing_to_criticise() {
    let (gateway, _endpoint) = gateway();
    assert_eq!(gateway.get("shop.test", "/api").status, 200);
    gateway.get("unheard-of.test", "/");
    let scrape = gateway.metrics().text().to_owned();
    let report = finish(Command::new("promtool").args(["check", "metrics"]), &scrape, DEADLINE);
    assert_eq!((report.code, report.text().as_str()), (Some(0), ""), "{scrape}");
}

#[test]
fn series_of_a_removed_app_go_away() {
    let (gateway, _endpoint) = gateway();
    assert_eq!(gateway.get("shop.test", "/api").status, 200);
    assert!(gateway.metrics().text().contains("app=\"shop\""));
    gateway.remove_app("shop");
    eventually(DEADLINE, "no series names it", || !gateway.metrics().text().contains("app=\"shop\""));
}
