//! Operators' words on endpoints, over a registry that two gateways share.

use std::collections::BTreeSet;

use tests::{Config, DEADLINE, Endpoint, EtcdServer, Gate, Gateway, RawClient, eventually};

use crate::ask::{ask, json, line, shown};

const HOST: &str = "shop.apps.test";

fn gateway(server: &EtcdServer, id: &str) -> Gateway {
    Gateway::start(&Config::new().id(id).etcd(&server.address().to_string()))
}

/// Who answers twelve requests.
fn serving(gateway: &Gateway) -> BTreeSet<String> {
    (0..12).map(|_| gateway.get(HOST, "/").text()).collect()
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

fn register(server: &EtcdServer, instance: &str, value: &str) {
    server.ctl(&["put", &format!("/caas/service/address/shop/v1/{instance}"), value]);
}

#[test]
fn words_hold_on_every_gateway_once_they_are_waited_for_and_outlive_registrars() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let server = EtcdServer::start();
    register(&server, "c1", &a.address().to_string());
    register(&server, "c2", &b.address().to_string());
    let (one, two) = (gateway(&server, "gw-1"), gateway(&server, "gw-2"));
    eventually(DEADLINE, "both serve, and both report", || {
        serving(&one) == names(&["a", "b"])
            && serving(&two) == names(&["a", "b"])
            && one.admin_json("/v1/revisions")["gateways"].as_array().is_some_and(|all| all.len() == 2)
    });

    let said = shown(&one, 0, &["endpoints", "drain", "shop/v1/c1", "--wait", "-m", "disk is full"]);
    assert_eq!(said, "shop/v1/c1  drain\napplied by 2 of 2 gateways\n");
    for gateway in [&one, &two] {
        assert_eq!(serving(gateway), names(&["b"]));
    }
    let listed = shown(&two, 0, &["endpoints", "ls", "shop"]);
    assert!(line(&listed, "shop v1 c1").ends_with("operator: drain"), "{listed}");
    let metrics = two.metrics();
    let labels = [("app", "shop"), ("version", "v1"), ("state", "drain")];
    assert_eq!(metrics.count("sluice_endpoints", &labels), 1);

    // Its registrar writes its node again, with another weight: the word stands beside.
    register(&server, "c1", &format!("{{\"address\": \"{}\", \"weight\": 9}}", a.address()));
    eventually(DEADLINE, "the node is seen", || {
        json(&one, 0, &["endpoints", "ls"])["items"][0]["weight"] == 9
    });
    assert_eq!(serving(&one), names(&["b"]));

    // Nobody is left: who is on call sees that it was a colleague.
    shown(&one, 0, &["endpoints", "maintenance", "shop/v1/c2", "--wait"]);
    let refused = one.get(HOST, "/");
    assert_eq!((refused.status, refused.reason()), (503, Some("endpoints_withdrawn")));
    let told = shown(&one, 0, &["routes", "explain", &format!("http://{HOST}/")]);
    assert!(told.contains("answered 503 endpoints_withdrawn by app shop"), "{told}");
    assert!(line(&told, "v1/c2").ends_with("maintenance 1 operator: maintenance"), "{told}");

    // Probes go on and decide nothing.
    let pings = b.pings();
    b.set_healthy(false);
    eventually(DEADLINE * 2, "it is probed", || b.pings() > pings + 1);
    let state = |gateway: &Gateway| json(gateway, 0, &["endpoints", "ls"])["items"][1]["state"].clone();
    assert_eq!(state(&one), "maintenance");
    b.set_healthy(true);

    let said = shown(&one, 0, &["endpoints", "ready", "shop/v1/c1", "shop/v1/c2", "--wait=30"]);
    assert_eq!(line(&said, "shop/v1/c1"), "shop/v1/c1 ready, with its registrar's weight");
    for gateway in [&one, &two] {
        eventually(DEADLINE * 2, "both serve again", || serving(gateway) == names(&["a", "b"]));
    }
    // Nothing is left of them.
    assert_eq!(server.ctl(&["get", "--prefix", "--keys-only", "/caas/operator"]).trim(), "");
    let again = shown(&one, 0, &["endpoints", "ready", "shop/v1/c1"]);
    assert!(again.contains("(it was already)"), "{again}");
    let history = shown(&one, 0, &["routes", "history", "--app", "shop"]);
    assert!(history.contains("disk is full") && history.contains("create operator/shop/v1/c1"), "{history}");
}

#[test]
fn what_is_under_way_ends_in_its_own_time() {
    let gate = Gate::default();
    let slow = Endpoint::gated("slow", &gate);
    let other = Endpoint::start("other");
    let gateway = Gateway::start(&Config::new().app(
        &tests::App::new("shop").host(HOST).endpoint("v1", "c1", slow.address()).endpoint(
            "v1",
            "c2",
            other.address(),
        ),
    ));
    let mut waiting = Vec::new();
    eventually(DEADLINE, "a request waits at the endpoint", || {
        let mut client = gateway.connect();
        client.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        waiting.push(client);
        slow.open() > 0
    });
    shown(&gateway, 0, &["endpoints", "drain", "shop/v1/c1", "--wait"]);
    let before = slow.requests();
    assert_eq!(serving(&gateway), names(&["other"]));
    gate.open();
    let answers: BTreeSet<_> =
        waiting.iter_mut().map(|client: &mut RawClient| client.receive().text()).collect();
    assert!(answers.contains("finished"), "{answers:?}");
    assert_eq!(serving(&gateway), names(&["other"]));
    assert!(slow.requests() <= before + waiting.len() as u64);
}

#[test]
fn weights_are_said_and_taken_back_and_words_about_nobody_are_shown() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let app = tests::App::new("shop").host(HOST);
    let app = app.weighted("v1", "c1", a.address(), 1).weighted("v1", "c2", b.address(), 1);
    let gateway = Gateway::start(&Config::with_workers(1).app(&app));
    let share = || (0..40).filter(|_| gateway.get(HOST, "/").text() == "a").count();
    assert_eq!(share(), 20);
    let said = shown(&gateway, 0, &["endpoints", "weight", "shop/v1/c1", "3", "--wait"]);
    assert_eq!(line(&said, "shop/v1/c1"), "shop/v1/c1 ready, weight 3");
    assert_eq!(share(), 30);
    let one = &json(&gateway, 0, &["endpoints", "ls", "shop"])["items"][0];
    assert_eq!((&one["weight"], &one["operator"]["weight"]), (&3.into(), &3.into()));
    shown(&gateway, 0, &["endpoints", "weight", "shop/v1/c1", "0", "--wait"]);
    assert_eq!(share(), 0);
    // A state keeps the weight that was said, and the other way about.
    shown(&gateway, 0, &["endpoints", "drain", "shop/v1/c1"]);
    let outcome = json(&gateway, 0, &["endpoints", "weight", "shop/v1/c1", "--wait"]);
    assert_eq!(outcome["outcomes"][0]["word"], serde_json::json!({ "state": "drain" }));
    assert_eq!(outcome["applied"], true);
    shown(&gateway, 0, &["endpoints", "ready", "shop/v1/c1", "--wait"]);
    assert_eq!(share(), 20);

    let said = ask(&gateway, &["endpoints", "drain", "shop/v2/c9", "--wait"]);
    assert_eq!(said.code, Some(0), "{}", said.text());
    assert!(said.stderr.contains("there is no endpoint shop/v2/c9"), "{}", said.stderr);
    let listed = shown(&gateway, 0, &["endpoints", "ls"]);
    assert!(listed.contains("operator: drain; there is no such endpoint"), "{listed}");
    let idle = &json(&gateway, 0, &["endpoints", "ls", "shop"])["idle_words"][0];
    assert_eq!((&idle["instance"], &idle["state"]), (&"c9".into(), &"drain".into()));
    // When it comes, it is drained already.
    let late = Endpoint::start("late");
    gateway.put_app(&app.endpoint("v2", "c9", late.address()));
    eventually(DEADLINE, "it is there", || {
        json(&gateway, 0, &["endpoints", "ls"])["items"].as_array().is_some_and(|all| all.len() == 3)
    });
    assert_eq!(serving(&gateway), names(&["a", "b"]));

    for wrong in [
        &["endpoints", "drain", "shop"][..],
        &["endpoints", "drain", "shop/v1/.x"],
        &["endpoints", "weight", "shop/v1/c1", "65536"],
        &["endpoints", "ls", "a b"],
    ] {
        shown(&gateway, 1, wrong);
    }
}
