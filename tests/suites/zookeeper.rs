//! The layout in a real ZooKeeper, written by a client that is not ours.
//!
//! Outages and runs of changes are shorter than what the promises name, so that everybody runs them;
//! `SLUICE_LONG=1` runs them in full.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tests::{
    AnsweredAt, App, Config, CuttableProxy, DEADLINE, Endpoint, Gateway, Kazoo, KazooError, Load,
    ZooKeeperServer, eventually, yields,
};

const HOST: &str = "shop.apps.test";
const SESSION: Duration = Duration::from_secs(4);
/// Sessions of the test server last 4 s at most; after this, an unseen one has expired.
const BEYOND_SESSION: Duration = Duration::from_secs(6);
/// The first probe after a recovery, and the client's backoff before it.
const RECOVERY: Duration = Duration::from_secs(30);

fn in_full(full: u64, short: u64) -> Duration {
    Duration::from_secs(if std::env::var_os("SLUICE_LONG").is_some() { full } else { short })
}

fn node(app: &str, version: &str, instance: &str) -> String {
    format!("/caas/service/address/{app}/{version}/{instance}")
}

struct Fleet {
    gateway: Gateway,
    kazoo: Kazoo,
    server: ZooKeeperServer,
}

impl Fleet {
    /// A gateway on an empty ZooKeeper.
    fn start() -> Self {
        let server = ZooKeeperServer::start();
        let gateway = Gateway::start(&Config::new().zookeeper(&server.address().to_string()));
        let kazoo = Kazoo::connect(&server, SESSION);
        Self { gateway, kazoo, server }
    }

    fn register(&mut self, instance: &str, value: &str) {
        let path = node("shop", "v1", instance);
        self.insist("NodeExistsError", |kazoo| kazoo.create(&path, value.as_bytes(), false));
    }

    fn unregister(&mut self, instance: &str) {
        let path = node("shop", "v1", instance);
        self.insist("NoNodeError", |kazoo| kazoo.delete(&path));
    }

    fn specify(&mut self, spec: &str) {
        let path = "/caas/app/shop";
        self.insist("NodeExistsError", |kazoo| kazoo.create(path, spec.as_bytes(), false));
        self.insist("nothing", |kazoo| kazoo.set(path, spec.as_bytes()));
    }

    /// Writes until the servers have answered: a slow disk or an outage ends a client's connection, and
    /// then the write may have happened, as `done` says at the next attempt.
    #[track_caller]
    fn insist(&mut self, done: &str, mut write: impl FnMut(&mut Kazoo) -> Result<AnsweredAt, KazooError>) {
        yields(RECOVERY, "ZooKeeper takes the write", || match write(&mut self.kazoo) {
            Ok(_) => Some(()),
            Err(error) if error.0.starts_with(done) => Some(()),
            Err(error) if is_outage(&error) => None,
            Err(error) => panic!("{error:?}"),
        });
    }

    /// A gateway with one endpoint that answers.
    fn serving(endpoint: &Endpoint) -> Self {
        let mut fleet = Self::start();
        fleet.register("c1", &endpoint.address().to_string());
        answers_from(&fleet.gateway, &["a"]);
        fleet
    }

    fn is_connected(&self) -> bool {
        self.gateway.metrics().sum("sluice_registry_connected", &[]) == Some(1.0)
    }
}

fn is_outage(error: &KazooError) -> bool {
    ["ConnectionLoss", "SessionExpired", "ConnectionClosed", "OperationTimeout"]
        .iter()
        .any(|name| error.0.starts_with(name))
}

/// Waits until ten requests in a row are answered by `ids` and by all of them.
#[track_caller]
fn answers_from(gateway: &Gateway, ids: &[&str]) {
    let mut client = gateway.connect();
    eventually(RECOVERY, &format!("exactly {ids:?} answer"), || {
        let answers: Vec<String> = (0..10).map(|_| client.get(HOST, "/").text()).collect();
        answers.iter().all(|answer| ids.contains(&answer.as_str()))
            && ids.iter().all(|id| answers.iter().any(|answer| answer == id))
    });
}

#[test]
fn a_plain_address_gets_traffic_until_it_is_deleted() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let mut fleet = Fleet::serving(&a);
    fleet.register("c2", &b.address().to_string());
    answers_from(&fleet.gateway, &["a", "b"]);
    fleet.unregister("c1");
    answers_from(&fleet.gateway, &["b"]);
    let before = a.requests();
    answers_from(&fleet.gateway, &["b"]);
    assert_eq!(a.requests(), before, "a deleted endpoint was asked");
}

#[test]
fn an_ephemeral_node_goes_with_its_session() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let fleet = Fleet::serving(&a);
    let mut registrar = Kazoo::connect(&fleet.server, SESSION);
    registrar
        .create(&node("shop", "v1", "c2"), b.address().to_string().as_bytes(), true)
        .expect("it is created");
    answers_from(&fleet.gateway, &["a", "b"]);
    drop(registrar);
    answers_from(&fleet.gateway, &["a"]);
}

#[test]
fn a_json_value_carries_a_weight() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let mut fleet = Fleet::serving(&a);
    fleet.register("c2", &format!(r#"{{"address": "{}", "weight": 3, "zone": "x"}}"#, b.address()));
    answers_from(&fleet.gateway, &["a", "b"]);
    let mut client = fleet.gateway.connect();
    let from_b = (0..40).filter(|_| client.get(HOST, "/").text() == "b").count();
    assert_eq!(from_b, 30);
}

#[test]
fn a_changed_value_moves_traffic() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let mut fleet = Fleet::serving(&a);
    let (path, value) = (node("shop", "v1", "c1"), b.address().to_string());
    fleet.insist("nothing", |kazoo| kazoo.set(&path, value.as_bytes()));
    answers_from(&fleet.gateway, &["b"]);
}

#[test]
fn a_bad_value_harms_only_itself_and_is_reported() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let mut fleet = Fleet::serving(&a);
    let values = ["10.0.0.1", "nowhere:80", "{", r#"{"address": 7}"#, "10.0.0.1:99999", "\u{ff}\u{0}"];
    for (at, bad) in values.iter().enumerate() {
        fleet.register(&format!("bad{at}"), bad);
    }
    fleet.register("c2", &b.address().to_string());
    answers_from(&fleet.gateway, &["a", "b"]);
    let reports = || fleet.gateway.admin_json("/v1/apps").to_string();
    eventually(DEADLINE, "every bad node is reported", || {
        let text = reports();
        (0..values.len()).all(|at| text.contains(&format!("service/address/shop/v1/bad{at}")))
    });
    assert_eq!(
        fleet.gateway.metrics().sum("sluice_config_rejects", &[("app", "shop")]),
        Some(values.len() as f64)
    );
}

#[test]
fn nodes_where_none_belong_harm_nobody() {
    let a = Endpoint::start("a");
    let mut fleet = Fleet::serving(&a);
    for path in [
        "/caas/service/address/lonely",
        "/caas/service/address/shop/v1/c1/below",
        "/caas/unheard/of",
        "/other",
    ] {
        fleet.insist("NodeExistsError", |kazoo| kazoo.create(path, b"anything", false));
    }
    let b = Endpoint::start("b");
    fleet.register("c2", &b.address().to_string());
    answers_from(&fleet.gateway, &["a", "b"]);
}

#[test]
fn an_app_spec_names_hosts_and_a_bad_one_keeps_the_last_good() {
    let a = Endpoint::start("a");
    let mut fleet = Fleet::serving(&a);
    fleet.specify(r#"{"hosts": ["shop.example.test"]}"#);
    let status = |host| fleet.gateway.get(host, "/").status;
    eventually(DEADLINE, "the named host answers", || status("shop.example.test") == 200);
    fleet.specify(r#"{"hostz": []}"#);
    eventually(DEADLINE, "the reject is visible", || {
        fleet.gateway.admin_json("/v1/apps").to_string().contains("hostz")
    });
    assert_eq!(fleet.gateway.get("shop.example.test", "/").text(), "a");
    fleet.insist("NoNodeError", |kazoo| kazoo.delete("/caas/app/shop"));
    eventually(DEADLINE, "the implied host answers", || fleet.gateway.get(HOST, "/").status == 200);
}

#[test]
fn a_write_after_an_outage_is_seen_and_no_request_is_lost() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let mut fleet = Fleet::serving(&a);
    let load = Load::start(fleet.gateway.web(), HOST, 2);
    fleet.server.kill();
    eventually(DEADLINE, "the metric says disconnected", || !fleet.is_connected());
    fleet.server.restart();
    fleet.register("c2", &b.address().to_string());
    answers_from(&fleet.gateway, &["a", "b"]);
    load.stop().assert_undisturbed();
}

#[test]
fn what_was_written_while_the_session_expired_is_seen_and_no_request_is_lost() {
    let (a, b) = (Endpoint::start("a"), Endpoint::start("b"));
    let server = ZooKeeperServer::start();
    let link = CuttableProxy::to(server.address());
    let gateway = Gateway::start(&Config::new().zookeeper(&link.address().to_string()));
    let kazoo = Kazoo::connect(&server, SESSION);
    let mut fleet = Fleet { gateway, kazoo, server };
    fleet.register("c1", &a.address().to_string());
    answers_from(&fleet.gateway, &["a"]);
    let load = Load::start(fleet.gateway.web(), HOST, 2);
    link.cut();
    let cut = Instant::now();
    fleet.register("c2", &b.address().to_string());
    fleet.unregister("c1");
    eventually(BEYOND_SESSION * 2, "the session has expired", || cut.elapsed() > BEYOND_SESSION);
    assert!(!fleet.is_connected());
    assert_eq!(fleet.gateway.get(HOST, "/").text(), "a");
    link.restore();
    answers_from(&fleet.gateway, &["b"]);
    assert!(fleet.is_connected());
    load.stop().assert_undisturbed();
}

#[test]
fn an_outage_of_the_registry_fails_no_request() {
    let a = Endpoint::start("a");
    let mut fleet = Fleet::serving(&a);
    let load = Load::start(fleet.gateway.web(), HOST, 4);
    fleet.server.kill();
    let killed = Instant::now();
    let outage = in_full(30, 8);
    eventually(DEADLINE, "the metric says disconnected", || !fleet.is_connected());
    // Everything that the outage could take along: probes, new connections, a change from a file.
    let c = Endpoint::start("c");
    fleet.gateway.put_app(&App::new("filed").host("filed.test").endpoint("v1", "c1", c.address()));
    eventually(DEADLINE, "files go on", || fleet.gateway.get("filed.test", "/").status == 200);
    eventually(outage * 2, "the outage is over", || killed.elapsed() > outage);
    fleet.server.restart();
    eventually(RECOVERY, "the metric says connected", || fleet.is_connected());
    load.stop().assert_undisturbed();
}

#[test]
fn a_registry_that_hangs_fails_no_request() {
    let a = Endpoint::start("a");
    let fleet = Fleet::serving(&a);
    let load = Load::start(fleet.gateway.web(), HOST, 2);
    fleet.server.pause();
    eventually(DEADLINE, "the metric says disconnected", || !fleet.is_connected());
    fleet.server.resume();
    eventually(RECOVERY, "the metric says connected", || fleet.is_connected());
    load.stop().assert_undisturbed();
}

/// One step of an operator who never stops: an app's spec, an endpoint that comes, one that goes.
fn change(fleet: &mut Fleet, round: usize, spare: SocketAddr) {
    if round.is_multiple_of(2) {
        fleet.register("spare", &spare.to_string());
    } else {
        fleet.unregister("spare");
    }
    let spec = format!(r#"{{"hosts": ["{HOST}", "h{round}.test"]}}"#);
    fleet.specify(&spec);
}

#[test]
fn continuous_changes_fail_no_request_and_close_no_connection() {
    let (a, spare) = (Endpoint::start("a"), Endpoint::start("spare"));
    let mut fleet = Fleet::serving(&a);
    fleet.specify(&format!(r#"{{"hosts": ["{HOST}"]}}"#));
    let load = Load::start(fleet.gateway.web(), HOST, 4);
    let (start, duration) = (Instant::now(), in_full(60, 10));
    let mut round = 0;
    while start.elapsed() < duration {
        change(&mut fleet, round, spare.address());
        round += 1;
    }
    let last = format!("h{}.test", round - 1);
    eventually(DEADLINE, "the last change is live", || fleet.gateway.get(&last, "/").status == 200);
    load.stop().assert_undisturbed();
    assert!(spare.requests() > 0);
}
