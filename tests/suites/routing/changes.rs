//! Saved, broken and removed files, while requests go on.

use rustix::process::Signal;
use tests::{App, Config, DEADLINE, Endpoint, Gate, Gateway, Load, eventually};

use crate::{answers, refusal, unknown_host};

fn shop(endpoint: &Endpoint) -> App {
    App::new("shop").host("shop.test").endpoint("v1", "c1", endpoint.address())
}

fn apps_text(gateway: &Gateway) -> String {
    gateway.admin_json("/v1/apps").to_string()
}

#[test]
fn a_saved_file_is_live_without_a_signal() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&Config::new());
    assert_eq!(refusal(&gateway, "shop.test", "/"), unknown_host());
    gateway.put_app(&shop(&endpoint));
    eventually(DEADLINE, "the app answers", || gateway.get("shop.test", "/").status == 200);
}

#[test]
fn a_removed_file_is_a_404() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint)));
    answers(&gateway, "shop.test", "/");
    gateway.remove_app("shop");
    eventually(DEADLINE, "the app is gone", || gateway.get("shop.test", "/").status == 404);
    assert_eq!(refusal(&gateway, "shop.test", "/"), unknown_host());
}

#[test]
fn a_changed_address_moves_the_requests_of_a_connection_that_stays() {
    let (old, new) = (Endpoint::start("old"), Endpoint::start("new"));
    let gateway = Gateway::start(&Config::new().app(&shop(&old)));
    let mut client = gateway.connect();
    assert_eq!(client.get("shop.test", "/").text(), "old");
    gateway.put_app(&shop(&new));
    eventually(DEADLINE, "the new endpoint answers", || client.get("shop.test", "/").text() == "new");
    let before = old.requests();
    for _ in 0..20 {
        assert_eq!(client.get("shop.test", "/").text(), "new");
    }
    assert_eq!(old.requests(), before);
}

#[test]
fn a_file_saved_broken_keeps_what_was_good_and_says_so() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint)));
    gateway.put_file("apps/shop.toml", "id = \"shop\"\nhosts = [\"shop.test\"]\nhostz = [\n");
    let rejected = || gateway.metrics().sum("sluice_config_rejects", &[("app", "shop")]) == Some(1.0);
    eventually(DEADLINE, "the metric counts the reject", rejected);
    assert_eq!(answers(&gateway, "shop.test", "/"), "c1");
    assert!(apps_text(&gateway).contains("shop.toml"), "{}", apps_text(&gateway));
    gateway.put_app(&shop(&endpoint).host("more.test"));
    eventually(DEADLINE, "the mended file is live", || gateway.get("more.test", "/").status == 200);
    eventually(DEADLINE, "the reject is gone", || !rejected());
}

#[test]
fn a_reject_names_the_file_the_line_and_the_key() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint)));
    gateway.put_file("apps/shop.toml", "id = \"shop\"\nhostz = [\"shop.test\"]\n");
    eventually(DEADLINE, "the reject is visible", || apps_text(&gateway).contains("hostz"));
    let text = apps_text(&gateway);
    assert!(text.contains("shop.toml:2") && text.contains("hosts"), "{text}");
}

#[test]
fn one_bad_app_harms_one_app() {
    let endpoint = Endpoint::start("c1");
    let config = Config::new().app(&shop(&endpoint)).file("apps/bad.toml", "id = \"bad\"\nhosts = [7]\n");
    let gateway = Gateway::start(&config);
    assert_eq!(answers(&gateway, "shop.test", "/"), "c1");
    assert_eq!(refusal(&gateway, "bad.apps.test", "/"), unknown_host());
    // It never was an app, so the table's report is the one that has it.
    let rejections = gateway.admin_json("/v1/table")["rejections"].to_string();
    assert!(rejections.contains("bad.toml:2"), "{rejections}");
}

#[test]
fn sighup_reads_the_files_again_and_disturbs_nothing() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint)));
    let load = Load::start(gateway.web(), "shop.test", 2);
    gateway.put_app(&shop(&endpoint).host("more.test"));
    for _ in 0..5 {
        let before = load.ok();
        gateway.signal(Signal::HUP);
        eventually(DEADLINE, "requests go on", || load.ok() > before + 20);
    }
    eventually(DEADLINE, "the file is live", || gateway.get("more.test", "/").status == 200);
    load.stop().assert_undisturbed();
}

#[test]
fn continuous_changes_fail_no_request_and_close_no_connection() {
    let endpoints = [Endpoint::start("a"), Endpoint::start("b")];
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoints[0])));
    let load = Load::start(gateway.web(), "shop.test", 4);
    for round in 0..50 {
        let before = load.ok();
        gateway.put_app(&shop(&endpoints[round % 2]).host(&format!("h{round}.test")));
        gateway.put_app(&App::new("other").host(&format!("o{round}.test")));
        eventually(DEADLINE, "requests go on", || load.ok() > before + 10);
    }
    load.stop().assert_undisturbed();
    assert!(endpoints.iter().all(|endpoint| endpoint.requests() > 0));
}

#[test]
fn a_request_under_way_survives_the_removal_of_its_app() {
    let gate = Gate::default();
    let endpoint = Endpoint::gated("c1", &gate);
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint)));
    let mut client = gateway.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    eventually(DEADLINE, "the endpoint is asked", || endpoint.requests() == 1);
    gateway.remove_app("shop");
    eventually(DEADLINE, "the app is gone", || gateway.get("shop.test", "/").status == 404);
    gate.open();
    assert_eq!(client.receive().text(), "finished");
    assert_eq!(client.get("shop.test", "/").status, 404);
}
