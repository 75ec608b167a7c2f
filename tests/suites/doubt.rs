//! A registry that is away at a start, that loses most of an app at once, or that went back in time: what a healthy
//! endpoint can serve is served.

use std::time::Duration;

use tests::{Config, CuttableProxy, DEADLINE, Endpoint, EtcdServer, Gateway, RawClient, eventually, yields};

const HOST: &str = "shop.apps.test";
/// The first probe after a recovery, and the backoff before it.
const RECOVERY: Duration = Duration::from_secs(30);
/// Probed often, so that an endpoint that is gone is found out soon.
const SPEC: &str = r#"{"health": {"path": "/", "interval": "200ms", "timeout": "200ms", "fall": 1}}"#;

fn path(app: &str, instance: &str) -> String {
    format!("/caas/service/address/{app}/v1/{instance}")
}

fn config(server: &str, lines: &str) -> Config {
    let registry = format!(
        "kind = \"etcd\"\nservers = [\"{server}\"]\nprefix = \"/caas\"\nsession_timeout = \"4s\"\n{lines}\n"
    );
    Config::new().registry(&registry)
}

#[track_caller]
fn answers_from(gateway: &Gateway, ids: &[&str]) {
    let mut client = gateway.connect();
    eventually(RECOVERY, &format!("exactly {ids:?} answer"), || {
        let answers: Vec<String> = (0..12).map(|_| client.get(HOST, "/").text()).collect();
        answers.iter().all(|answer| ids.contains(&answer.as_str()))
            && ids.iter().all(|id| answers.iter().any(|answer| answer == id))
    });
}

fn held(gateway: &Gateway) -> Option<f64> {
    gateway.metrics().sum("sluice_registry_held_keys", &[])
}

fn doubted(gateway: &Gateway, reason: &str) -> Option<f64> {
    gateway.metrics().sum("sluice_registry_doubted", &[("reason", reason)])
}

#[track_caller]
fn accept(gateway: &Gateway) {
    let mut admin = RawClient::connect(gateway.admin());
    admin.send("POST /v1/registry/accept HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(admin.receive().status, 200);
}

#[test]
fn a_gateway_that_starts_without_its_registry_serves_what_the_last_one_saw() {
    let a = Endpoint::start("a");
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("deep/saved");
    let mut server = EtcdServer::start();
    let config = config(&server.address().to_string(), &format!("saved = {saved:?}"));
    let mut first = Gateway::start(&config);
    server.ctl(&["put", &path("shop", "c1"), &a.address().to_string()]);
    server.ctl(&["put", "/caas/app/shop", SPEC]);
    answers_from(&first, &["a"]);
    // Not only at an orderly end.
    eventually(DEADLINE, "the last good entries are saved", || {
        std::fs::read_to_string(&saved).is_ok_and(|text| text.contains("/shop") && text.contains("200ms"))
    });
    first.kill();
    server.kill();

    let second = Gateway::start(&config);
    assert_eq!(second.get(HOST, "/").text(), "a");
    assert_eq!(second.metrics().sum("sluice_registry_connected", &[]), Some(0.0));
    server.restart();
    server.ctl(&["del", &path("shop", "c1")]);
    eventually(RECOVERY, "the registry is obeyed again", || second.get(HOST, "/").status == 503);
    assert_eq!(doubted(&second, "went_back"), Some(0.0));
}

/// Instances of the shop, as long as a lease lives. Returns the lease.
fn register(server: &EtcdServer, instances: &[(&str, &Endpoint)]) -> String {
    let granted = server.ctl(&["lease", "grant", "600"]);
    let lease = granted.split_whitespace().nth(1).expect("a grant names its lease").to_owned();
    for (instance, endpoint) in instances {
        let lease = format!("--lease={lease}");
        server.ctl(&["put", &lease, &path("shop", instance), &endpoint.address().to_string()]);
    }
    lease
}

#[test]
fn most_of_an_app_that_goes_with_one_session_stays_while_it_passes_its_probes() {
    let (a, b, c) = (Endpoint::start("a"), Endpoint::start("b"), Endpoint::start("c"));
    let server = EtcdServer::start();
    let gateway = Gateway::start(&config(&server.address().to_string(), "mass_loss_grace = \"1h\""));
    server.ctl(&["put", "/caas/app/shop", SPEC]);
    let lease = register(&server, &[("c1", &a), ("c2", &b), ("c3", &c)]);
    answers_from(&gateway, &["a", "b", "c"]);
    server.ctl(&["lease", "revoke", &lease]);
    eventually(DEADLINE, "all three are held", || held(&gateway) == Some(3.0));
    answers_from(&gateway, &["a", "b", "c"]);
    let shown = gateway.admin_json("/v1/table");
    assert_eq!(shown["held"][0], "service/address/shop/v1/c1");
    // One is really gone, one has come back, and the last one is let go by hand.
    drop(a);
    server.ctl(&["put", &path("shop", "c2"), &b.address().to_string()]);
    eventually(RECOVERY, "one is held", || held(&gateway) == Some(1.0));
    answers_from(&gateway, &["b", "c"]);
    accept(&gateway);
    answers_from(&gateway, &["b"]);
    assert_eq!(held(&gateway), Some(0.0));
}

/// Kills the gateway and starts it again with the same files, after `meanwhile`.
#[track_caller]
fn restart(gateway: &mut Gateway, meanwhile: impl FnOnce()) {
    gateway.kill();
    meanwhile();
    let mut process = Some(gateway.intruder());
    yields(DEADLINE * 2, "the gateway is ready again", || {
        process = gateway.try_revive(process.take()?).err();
        process.is_none().then_some(())
    });
}

#[track_caller]
fn await_saved(gateway: &Gateway, texts: &[&str]) {
    eventually(DEADLINE * 2, "the last good entries are saved", || {
        let saved = std::fs::read_to_string(gateway.folder().join("saved")).unwrap_or_default();
        texts.iter().all(|text| saved.contains(text))
    });
}

#[test]
fn a_session_that_is_lost_while_the_gateway_is_restarted_takes_nothing_that_serves() {
    let (a, b, c) = (Endpoint::start("a"), Endpoint::start("b"), Endpoint::start("c"));
    let server = EtcdServer::start();
    let lines = "mass_loss_grace = \"1h\"\nsaved = \"saved\"";
    let mut gateway = Gateway::start(&config(&server.address().to_string(), lines));
    server.ctl(&["put", "/caas/app/shop", SPEC]);
    let lease = register(&server, &[("c1", &a), ("c2", &b), ("c3", &c)]);
    answers_from(&gateway, &["a", "b", "c"]);
    await_saved(&gateway, &["app/shop", "shop/v1/c1", "shop/v1/c2", "shop/v1/c3"]);
    // One of the three ends with its registrar; the place of another one is given to another app.
    restart(&mut gateway, || {
        server.ctl(&["lease", "revoke", &lease]);
        server.ctl(&["put", &path("cart", "c9"), &b.address().to_string()]);
        drop(a);
    });
    eventually(RECOVERY, "one is held", || held(&gateway) == Some(1.0));
    assert_eq!(gateway.admin_json("/v1/table")["held"][0], "service/address/shop/v1/c3");
    answers_from(&gateway, &["c"]);
    assert_eq!(doubted(&gateway, "went_back"), Some(0.0));
    assert_eq!(doubted(&gateway, "emptied"), Some(0.0));
}

#[test]
fn a_registry_that_was_emptied_and_filled_again_behind_a_gateways_back_is_doubted() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let (good, other) = (EtcdServer::start(), EtcdServer::start());
    let proxy = CuttableProxy::to(good.address());
    let mut gateway = Gateway::start(&config(&proxy.address().to_string(), "saved = \"saved\""));
    for app in ["shop", "blog", "news"] {
        good.ctl(&["put", &format!("/caas/app/{app}"), SPEC]);
    }
    good.ctl(&["put", &path("shop", "c1"), &a.address().to_string()]);
    answers_from(&gateway, &["a"]);
    await_saved(&gateway, &["app/shop", "app/blog", "app/news", "shop/v1/c1"]);
    restart(&mut gateway, || {
        // More happens there than ever happened here: no revision tells.
        while other.revision() <= good.revision() + 5 {
            other.ctl(&["put", "/elsewhere", "x"]);
        }
        other.ctl(&["put", "/caas/app/blog", SPEC]);
        proxy.cut();
        proxy.forward_to(other.address());
    });
    assert_eq!(doubted(&gateway, "emptied"), Some(1.0));
    answers_from(&gateway, &["a"]);
    other.ctl(&["put", &path("shop", "c2"), &b.address().to_string()]);
    answers_from(&gateway, &["a", "b"]);
    accept(&gateway);
    answers_from(&gateway, &["b"]);
}

#[test]
fn without_a_grace_a_lost_session_takes_its_endpoints_at_once() {
    let a = Endpoint::start("a");
    let server = EtcdServer::start();
    let gateway = Gateway::start(&config(&server.address().to_string(), "mass_loss_grace = \"0s\""));
    server.ctl(&["put", "/caas/app/shop", SPEC]);
    let lease = register(&server, &[("c1", &a)]);
    answers_from(&gateway, &["a"]);
    server.ctl(&["lease", "revoke", &lease]);
    eventually(DEADLINE, "it is gone", || gateway.get(HOST, "/").status == 503);
}

#[test]
fn a_registry_that_comes_back_empty_and_younger_takes_nothing_away() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let (good, empty) = (EtcdServer::start(), EtcdServer::start());
    let proxy = CuttableProxy::to(good.address());
    let gateway = Gateway::start(&config(&proxy.address().to_string(), ""));
    good.ctl(&["put", "/caas/app/shop", SPEC]);
    good.ctl(&["put", &path("shop", "c1"), &a.address().to_string()]);
    for _ in 0..20 {
        good.ctl(&["put", "/elsewhere", "x"]);
    }
    good.ctl(&["put", "/caas/app/other", "{}"]);
    answers_from(&gateway, &["a"]);
    let seen = good.revision() as f64;
    eventually(DEADLINE, "everything was seen", || {
        gateway.metrics().sum("sluice_registry_revision", &[]).is_some_and(|revision| revision >= seen)
    });
    proxy.cut();
    proxy.forward_to(empty.address());
    eventually(RECOVERY, "the registry is doubted", || doubted(&gateway, "went_back") == Some(1.0));
    answers_from(&gateway, &["a"]);
    assert_eq!(gateway.admin_json("/v1/table")["doubt"], "went_back");
    // What happens from then on is believed.
    empty.ctl(&["put", &path("shop", "c2"), &b.address().to_string()]);
    answers_from(&gateway, &["a", "b"]);
    accept(&gateway);
    answers_from(&gateway, &["b"]);
    eventually(DEADLINE, "it is believed", || doubted(&gateway, "went_back") == Some(0.0));
}
