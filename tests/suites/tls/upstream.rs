//! TLS to endpoints, which here is another gateway's listener.

use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually};

use crate::pki::Authority;

const TLS: &str = "web-tls";

/// A gateway that answers by TLS as shop.internal and wants to see a certificate.
fn behind(ca: &Authority) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    let tls = r#"tls = { certificates = ["tls.pem"], client_ca = "clients.crt" }"#;
    let config = Config::in_front_of(endpoint.address())
        .listener(TLS, &[r#"protocol = "http""#, tls])
        .file("tls.pem", &ca.issue("shop.internal"))
        .file("clients.crt", &ca.pem());
    (Gateway::start(&config), endpoint)
}

/// With a profile `internal` that trusts `ca`.
fn in_front(ca: &Authority, app: &App) -> Gateway {
    let profile =
        "[[gateway.upstream_tls]]\nname = \"internal\"\nca = \"roots.crt\"\ncertificate = \"client.pem\"";
    let config = Config::new()
        .app(app)
        .file("roots.crt", &ca.pem())
        .file("client.pem", &ca.issue("gateway.test"))
        .section(profile);
    Gateway::start(&config)
}

fn accepted(gateway: &Gateway) -> u64 {
    gateway.metrics().count("sluice_connections_accepted_total", &[("listener", TLS)])
}

fn health(gateway: &Gateway) -> (String, String) {
    let view = gateway.admin_json("/v1/endpoints");
    let text = |key: &str| view["items"][0][key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("why"))
}

#[test]
fn probes_go_the_way_that_requests_go() {
    let ca = Authority::new();
    let (behind, endpoint) = behind(&ca);
    let app = |tls: &str| {
        App::new("shop").host("shop.test").line(tls).probed().endpoint("v1", "c1", behind.listener(TLS))
    };
    let gateway = in_front(&ca, &app(r#"tls = { profile = "internal", server_name = "shop.internal" }"#));
    eventually(DEADLINE, "the endpoint is up", || health(&gateway).0 == "up");
    let (pings, connections) = (endpoint.pings(), accepted(&behind));
    eventually(DEADLINE, "more probes", || endpoint.pings() >= pings + 5);
    // On the connection that the first one made, as far as it lasts.
    assert!(accepted(&behind) <= connections + 1, "{connections} before");
    // Without a name of its own the app's first host must be proved, which it is not.
    gateway.put_app(&app(r#"tls = { profile = "internal" }"#));
    eventually(DEADLINE, "the endpoint is down", || {
        let (state, why) = health(&gateway);
        state == "down" && why.contains("no TLS with the endpoint") && why.contains("certificate")
    });
    // Nor does an endpoint for TLS answer in clear text.
    gateway.put_app(&app("balance = \"round_robin\""));
    eventually(DEADLINE, "the endpoint is down for another reason", || {
        let (state, why) = health(&gateway);
        state == "down" && !why.contains("no TLS")
    });
    let expiry = [("profile", "internal")];
    let until = gateway.metrics().sum("sluice_upstream_certificate_expiry_timestamp_seconds", &expiry);
    assert_eq!(until, Some(3_786_912_000.0));
}

#[test]
fn an_app_with_an_unknown_profile_keeps_its_former_spec() {
    let ca = Authority::new();
    let endpoint = Endpoint::start("c1");
    let app = |id: &str| App::new(id).host(&format!("{id}.test")).endpoint("v1", "c1", endpoint.address());
    let gateway = in_front(&ca, &app("shop"));
    assert_eq!(gateway.get("shop.test", "/").status, 200);
    gateway.put_app(&app("shop").host("more.test").line(r#"tls = { profile = "nowhere" }"#));
    let rejects = |id: &str| gateway.metrics().count("sluice_config_rejects", &[("app", id)]);
    eventually(DEADLINE, "the spec is refused", || rejects("shop") == 1);
    assert_eq!((gateway.get("shop.test", "/").status, gateway.get("more.test", "/").status), (200, 404));
    let view = gateway.admin_json("/v1/apps?app=shop").to_string();
    assert!(view.contains("has no [[gateway.upstream_tls]] named") && view.contains("nowhere"), "{view}");
    // A new app has no former spec, and clear text is no substitute.
    let asked = endpoint.requests();
    gateway.put_app(&app("blog").line(r#"tls = { profile = "nowhere" }"#));
    eventually(DEADLINE, "the app is refused", || rejects("blog") == 1);
    let answer = gateway.get("blog.test", "/");
    assert_eq!((answer.status, answer.fields.get("x-sluice-reason")), (502, Some("upstream_tls_unknown")));
    assert_eq!(endpoint.requests(), asked);
    // Put right, everything is.
    gateway.put_app(&app("shop").host("more.test"));
    eventually(DEADLINE, "the spec is taken", || gateway.get("more.test", "/").status == 200);
    assert_eq!(rejects("shop"), 0);
}
