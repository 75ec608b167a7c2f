//! The description is what is served, and the server keeps to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::{
    App, Config, DEADLINE, Endpoint, Gateway, RawClient, RawEndpoint, certificate, eventually, finish,
};

use crate::api::Api;

/// Of each operation and phase. A thousand requests in all.
const EXAMPLES: &str = "25";
/// So that a failure can be had again.
const SEED: &str = "20261126";
/// For all of it, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where `scripts/install-test-deps` puts it.
fn schemathesis() -> PathBuf {
    let place = std::env::var_os("SLUICE_SCHEMATHESIS").map(PathBuf::from);
    place.unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-deps/schemathesis/bin/schemathesis")
    })
}

#[test]
fn the_copy_in_the_docs_is_what_a_gateway_serves() {
    let gateway = Gateway::start(&Config::new());
    let copy =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json")).unwrap();
    assert_eq!(Api::of(&gateway).get("/v1/openapi.json").expect(200).text, copy);
}

/// A gateway that has something to show of nearly everything, and what is in front of and behind it.
struct Stage {
    gateway: Gateway,
    _endpoint: Endpoint,
    _echo: RawEndpoint,
    _tunnel: RawClient,
}

/// Says what it is told.
fn echoing() -> RawEndpoint {
    RawEndpoint::start_unrecorded(|wire, _| {
        loop {
            let bytes = wire.some()?;
            if bytes.is_empty() {
                return Ok(());
            }
            wire.send(&bytes)?;
        }
    })
}

/// All of it is this gateway's own: whatever is closed, drained or accepted concerns nobody else. Its virtual IPs are shown by
/// the suite `vip_lab`, which has networks of its own.
fn stage() -> Stage {
    let (endpoint, echo) = (Endpoint::start("c1"), echoing());
    let shop = App::new("shop")
        .host("shop.test")
        .line("split = { v1 = 9, v2 = 1 }")
        .line("sticky = { cookie = \"home\" }")
        .line("balance = { kind = \"hash\", key = \"header:x-user\" }")
        .line("statistics = { enabled = true }")
        .line("filters.addresses = { deny = [\"203.0.113.0/24\"] }")
        .probed()
        .endpoint("v1", "c1", endpoint.address())
        .endpoint("v2", "c2", SocketAddr::from(([127, 0, 0, 1], 9)));
    // Whoever comes later has neither the host nor what it refers to.
    let late =
        App::new("zebra").host("shop.test").line("filters.addresses = { deny_file = \"missing.txt\" }");
    let db = App::new("db").tcp_endpoint("v1", "d1", echo.address());
    let zone = "[dns]\nlisten = [\"127.0.0.1:0\"]\nzone = \"apps.test\"\nhostmaster = \"dns@example.com\"\n\
                addresses = [\"192.0.2.10\"]\n\
                [[dns.nameserver]]\nname = \"ns1.apps.test\"\naddresses = [\"192.0.2.53\"]\n";
    let folder = tempfile::tempdir().expect("a folder can be made");
    let config = Config::new()
        .app(&shop.endpoint_line("backup = true"))
        .app(&late)
        .app(&db)
        .listener("db", &["protocol = \"tcp\"", "app = \"db\""])
        .listener("web-tls", &["protocol = \"http\"", "tls = { certificates = [\"shop.pem\"] }"])
        .file("apps/broken.toml", "id = \"broken\"\nhsots = []\n")
        .file("shop.pem", &certificate(folder.path(), "shop.test"))
        .section(zone);
    let gateway = Gateway::start(&config);
    let mut tunnel = RawClient::connect(gateway.listener("db"));
    tunnel.send("open");
    assert_eq!(tunnel.wire.exactly(4).expect("the echo comes"), b"open");
    assert_eq!(gateway.get("shop.test", "/").status, 200);
    let api = Api::of(&gateway);
    api.put("/v1/config/operators/shop/v1/c9", &json!({ "state": "drain" })).expect(201);
    for (target, list) in [
        ("/v1/traffic?app=shop", "items"),
        ("/v1/tunnels", "items"),
        ("/v1/revisions", "gateways"),
        ("/v1/endpoints", "idle_words"),
        ("/v1/table", "rejections"),
        ("/v1/dns", "items"),
        ("/v1/certificates", "listeners"),
        ("/v1/filters", "items"),
    ] {
        eventually(DEADLINE, &format!("{target} has {list}"), || {
            gateway.admin_json(target)[list].as_array().is_some_and(|items| !items.is_empty())
        });
    }
    Stage { gateway, _endpoint: endpoint, _echo: echo, _tunnel: tunnel }
}

/// Who waits for what never comes is told so at once, by the 504 that is described.
const SETTINGS: &str = "[[operations]]\ninclude-path = \"/v1/revisions\"\nparameters = { timeout = 0 }\n\
                        checks = { not_a_server_error = { enabled = false } }\n";

#[test]
fn generated_requests_find_no_answer_that_is_not_described() {
    let program = schemathesis();
    assert!(program.is_file(), "no {}: run scripts/install-test-deps", program.display());
    let stage = stage();
    let gateway = &stage.gateway;
    gateway.put_file("schemathesis.toml", SETTINGS);
    let mut command = Command::new(program);
    command
        .current_dir(gateway.folder())
        .args(["--config-file", "schemathesis.toml"])
        .args(["run", &format!("http://{}/v1/openapi.json", gateway.admin())])
        .args(["--seed", SEED, "--max-examples", EXAMPLES, "--no-shrink", "--workers", "1"])
        .args(["--request-timeout", "10", "--suppress-health-check", "all", "--warnings", "off"])
        // What an app's spec may say is more than its schema says: what is no spec is refused with 422.
        .args(["--exclude-checks", "positive_data_acceptance"])
        .args(["--continue-on-failure"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let report = finish(&mut command, "", PATIENCE);
    assert_eq!(report.code, Some(0), "{}", report.text());
    assert_eq!(gateway.admin_get("/ready").status, 200);
}
