//! A fleet of gateways that shares its probes, on a real ZooKeeper and a real etcd; and one that is alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use serde_json::Value;
use tests::{
    App, Config, CuttableProxy, DEADLINE, Endpoint, EtcdServer, Gateway, Kazoo, Reply, ZooKeeperServer,
    eventually, yields,
};

const ENDPOINTS: usize = 12;
const GATEWAYS: usize = 3;
/// A session has to expire, and what was heard last holds for a while.
const PATIENCE: Duration = DEADLINE.saturating_mul(3);
const SPEC: &str = r#"{"hosts": ["shop.test"], "health": {"interval": "200ms", "timeout": "200ms", "rise": 1, "fall": 1, "panic_threshold": 50}}"#;
const HOST: &str = "shop.test";

enum Store {
    ZooKeeper(ZooKeeperServer),
    Etcd(EtcdServer),
}

impl Store {
    fn fill(&self, endpoints: &[Endpoint]) {
        let addresses = endpoints.iter().enumerate().map(|(number, endpoint)| {
            (format!("/caas/service/address/shop/v1/{}", instance(number)), endpoint.address().to_string())
        });
        let all: Vec<_> =
            std::iter::once(("/caas/app/shop".to_owned(), SPEC.to_owned())).chain(addresses).collect();
        match self {
            Self::ZooKeeper(server) => {
                let mut registrar = Kazoo::connect(server, DEADLINE);
                for (path, value) in all {
                    yields(DEADLINE, "it is there", || registrar.create(&path, value.as_bytes(), false).ok());
                }
            }
            Self::Etcd(server) => all.iter().for_each(|(path, value)| {
                server.ctl(&["put", path, value]);
            }),
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        match self {
            Self::ZooKeeper(server) => server.address(),
            Self::Etcd(server) => server.address(),
        }
    }

    /// Of a gateway that reaches it at `address`.
    fn config(&self, number: usize, probers: usize, address: &str) -> Config {
        let config = Config::with_workers(1).id(&format!("gw-{number}"));
        let config = config.gateway(&format!("shared_probes = {probers}"));
        match self {
            Self::ZooKeeper(_) => config.zookeeper(address),
            Self::Etcd(_) => config.etcd(address),
        }
    }
}

fn instance(number: usize) -> String {
    format!("c{number:02}")
}

struct Fleet {
    endpoints: Vec<Endpoint>,
    gateways: Vec<Gateway>,
    /// Between each gateway and the registry.
    cuts: Vec<CuttableProxy>,
    probers: usize,
    store: Store,
}

impl Fleet {
    fn on_zookeeper(probers: usize) -> Self {
        Self::start(Store::ZooKeeper(ZooKeeperServer::start()), probers, Endpoint::start)
    }

    /// Three gateways, of which so many probe an endpoint.
    fn start(store: Store, probers: usize, endpoint: impl Fn(&str) -> Endpoint) -> Self {
        let endpoints: Vec<_> = (0..ENDPOINTS).map(|number| endpoint(&instance(number))).collect();
        store.fill(&endpoints);
        let cuts: Vec<_> = (0..GATEWAYS).map(|_| CuttableProxy::to(store.address())).collect();
        let start = |(number, cut): (usize, &CuttableProxy)| {
            Gateway::start(&store.config(number, probers, &cut.address().to_string()))
        };
        let gateways = cuts.iter().enumerate().map(start).collect();
        Self { endpoints, gateways, cuts, probers, store }
    }

    fn says(&self, gateway: usize) -> BTreeMap<String, Value> {
        let told = self.gateways[gateway].admin_json("/v1/endpoints?app=shop");
        let items = told["items"].as_array().expect("a list").iter();
        items.map(|item| (item["instance"].as_str().expect("a name").to_owned(), item.clone())).collect()
    }

    /// What a gateway probes itself.
    fn own(&self, gateway: usize) -> BTreeSet<String> {
        let told = self.says(gateway).into_iter();
        told.filter(|(_, item)| item.get("verdict_of").is_none()).map(|(name, _)| name).collect()
    }

    /// An endpoint that others probe for the gateway.
    fn foreign(&self, gateway: usize) -> usize {
        let own = self.own(gateway);
        (0..ENDPOINTS).find(|number| !own.contains(&instance(*number))).expect("it does not probe everything")
    }

    /// Whether each endpoint has as many probers among `gateways` as asked for, by what those say.
    fn share(&self, gateways: &[usize]) -> bool {
        let own: Vec<_> = gateways.iter().map(|gateway| self.own(*gateway)).collect();
        let probers = |number| own.iter().filter(|own| own.contains(&instance(number))).count();
        (0..ENDPOINTS).all(|number| probers(number) == self.probers)
    }

    /// The same by the connections that probers keep, too.
    fn share_connections(&self) -> bool {
        self.share(&[0, 1, 2]) && self.endpoints.iter().all(|endpoint| endpoint.open() == self.probers)
    }

    fn all_say(&self, number: usize, state: &str) -> bool {
        (0..GATEWAYS).all(|gateway| self.says(gateway)[&instance(number)]["state"] == state)
    }

    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.gateways.iter().map(|gateway| gateway.metrics().count(name, labels)).sum()
    }
}

fn deaths_are_shared(fleet: &Fleet) {
    eventually(PATIENCE, "two gateways probe each endpoint", || fleet.share_connections());
    for number in [0, 7] {
        fleet.endpoints[number].set_healthy(false);
        eventually(DEADLINE, "all know that it is down", || fleet.all_say(number, "down"));
        let said = || (0..GATEWAYS).map(|gateway| fleet.says(gateway)[&instance(number)].clone());
        let listener = || said().find(|told| told.get("verdict_of").is_some());
        // It has looked for itself, and leaves it to the others again.
        let told = yields(DEADLINE, "the third gateway relies on two", listener);
        assert_eq!(told["verdict_of"].as_array().map(Vec::len), Some(2), "{told}");
        let why = told["why"].as_str().expect("it is out");
        assert!(why.contains("503"), "what its own probe met: {why}");
    }
    eventually(DEADLINE, "everything is shared again", || fleet.share_connections());
    let elsewhere = || fleet.sum("sluice_endpoints_probed_elsewhere", &[]) == ENDPOINTS as u64;
    eventually(DEADLINE, "the metrics say so", elsewhere);
    let colleagues = (fleet.sum("sluice_probe_sharers", &[]), fleet.sum("sluice_probe_sharers_silent", &[]));
    assert_eq!(colleagues, (6, 0));
    assert_eq!(fleet.sum("sluice_endpoints_disputed", &[]), 0);
    assert!(fleet.sum("sluice_verdicts_received_total", &[("state", "down")]) >= 2);
    assert!(fleet.sum("sluice_probes_saved_total", &[]) > 0);
    fleet.endpoints[0].set_healthy(true);
    eventually(DEADLINE, "all know that it is back", || fleet.all_say(0, "up"));
}

#[test]
fn each_endpoint_is_probed_by_as_many_as_asked_for_and_all_learn_of_its_death() {
    deaths_are_shared(&Fleet::on_zookeeper(2));
}

#[test]
fn the_same_on_etcd() {
    deaths_are_shared(&Fleet::start(Store::Etcd(EtcdServer::start()), 2, Endpoint::start));
}

#[test]
fn a_verdict_on_all_endpoints_leads_every_gateway_into_its_panic() {
    let fleet = Fleet::on_zookeeper(1);
    eventually(PATIENCE, "one gateway probes each endpoint", || fleet.share(&[0, 1, 2]));
    let panics = |gateway: &Gateway| gateway.metrics().count("sluice_panic", &[("app", "shop")]);
    assert!(fleet.gateways.iter().all(|gateway| panics(gateway) == 0));
    fleet.endpoints.iter().for_each(|endpoint| endpoint.set_healthy(false));
    let all_down = || (0..ENDPOINTS).all(|number| fleet.all_say(number, "down"));
    eventually(DEADLINE, "all are down everywhere", all_down);
    for gateway in &fleet.gateways {
        assert_eq!((panics(gateway), gateway.get(HOST, "/").status), (1, 200));
    }
    fleet.endpoints.iter().for_each(|endpoint| endpoint.set_healthy(true));
    let no_panic = || fleet.gateways.iter().all(|gateway| panics(gateway) == 0);
    eventually(DEADLINE, "the panic is over everywhere", no_panic);
}

#[test]
fn what_a_gateway_that_died_has_probed_is_probed_by_the_others_until_it_is_back() {
    let mut fleet = Fleet::on_zookeeper(1);
    eventually(PATIENCE, "one gateway probes each endpoint", || fleet.share_connections());
    let before = [fleet.own(0), fleet.own(1), fleet.own(2)];
    fleet.gateways[2].kill();
    eventually(PATIENCE, "one of those that are left does", || fleet.share(&[0, 1]));
    for (at, before) in before[..2].iter().enumerate() {
        assert!(fleet.own(at).is_superset(before), "what they had before stays with them");
    }
    let config = fleet.store.config(2, 1, &fleet.cuts[2].address().to_string());
    fleet.gateways[2] = Gateway::start(&config);
    eventually(PATIENCE, "it has its part again", || fleet.share_connections());
    assert_eq!([fleet.own(0), fleet.own(1), fleet.own(2)], before, "the same as before: nobody decides it");
    // Its former session lives on for a while: a process that is there again at once is no other gateway.
    fleet.gateways[2].kill();
    fleet.gateways[2] = Gateway::start(&config);
    eventually(PATIENCE, "it has its part again", || fleet.share_connections());
    assert_eq!(fleet.own(2), before[2]);
}

#[test]
fn without_the_registry_a_gateway_probes_everything_itself() {
    let fleet = Fleet::on_zookeeper(1);
    eventually(PATIENCE, "one gateway probes each endpoint", || fleet.share(&[0, 1, 2]));
    let foreign = fleet.foreign(0);
    fleet.cuts[0].cut();
    eventually(PATIENCE, "it probes everything", || fleet.own(0).len() == ENDPOINTS);
    assert!(fleet.gateways[0].metrics().count("sluice_verdicts_stale_total", &[]) > 0);
    fleet.endpoints[foreign].set_healthy(false);
    eventually(DEADLINE, "all know that it is down", || fleet.all_say(foreign, "down"));
    fleet.cuts[0].restore();
    eventually(PATIENCE, "they share again", || fleet.share_connections());
    assert!(fleet.all_say(foreign, "down"));
}

#[test]
fn a_gateway_whose_requests_fail_probes_for_itself_although_others_call_the_endpoint_up() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let endpoint = |id: &str| {
        let (id, is_broken) = (id.to_owned(), is_broken.clone());
        // Probes are answered by the harness.
        Endpoint::behaving(&id.clone(), move |_| match is_broken.load(SeqCst) {
            true => Reply::Reset,
            false => Reply::ok(id.clone()),
        })
    };
    let fleet = Fleet::start(Store::ZooKeeper(ZooKeeperServer::start()), 1, endpoint);
    eventually(PATIENCE, "one gateway probes each endpoint", || fleet.share(&[0, 1, 2]));
    let before = fleet.own(0);
    is_broken.store(true, SeqCst);
    eventually(DEADLINE, "it probes more than its part", || {
        fleet.gateways[0].get(HOST, "/");
        fleet.own(0).len() > before.len()
    });
    let is_up = |gateway| fleet.says(gateway).values().all(|item| item["state"] == "up");
    assert!(is_up(1) && is_up(2), "nobody's probe has failed");
    is_broken.store(false, SeqCst);
    eventually(PATIENCE, "it leaves the rest to the others again", || fleet.own(0) == before);
}

#[test]
fn an_embedded_registry_has_no_fleet_and_nothing_is_written_for_one() {
    let endpoint = Endpoint::start("c1");
    let config =
        Config::new().app(&App::everything(endpoint.address()).probed()).gateway("shared_probes = 2");
    let gateway = Gateway::start(&config);
    eventually(DEADLINE, "it probes", || endpoint.pings() > 0);
    assert!(gateway.output().contains("gateway.shared_probes"), "{}", gateway.output());
}

#[test]
fn a_gateway_that_is_alone_probes_everything() {
    let endpoint = Endpoint::start("c1");
    let server = ZooKeeperServer::start();
    let store = Store::ZooKeeper(server);
    store.fill(std::slice::from_ref(&endpoint));
    let gateway = Gateway::start(&store.config(0, 2, &store.address().to_string()));
    eventually(DEADLINE, "it probes", || endpoint.pings() > 3);
    let metrics = gateway.metrics();
    let shared = ["sluice_probe_sharers", "sluice_endpoints_probed_elsewhere", "sluice_verdicts_stale_total"];
    assert!(shared.iter().all(|name| metrics.count(name, &[]) == 0));
}
