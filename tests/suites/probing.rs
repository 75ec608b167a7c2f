//! A fleet of gateways that shares its probes, on a real ZooKeeper.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tests::{Config, CuttableProxy, DEADLINE, Endpoint, Gateway, Kazoo, ZooKeeperServer, eventually, yields};

const ENDPOINTS: usize = 12;
/// A session has to expire, and what was heard last holds for a while.
const PATIENCE: std::time::Duration = DEADLINE.saturating_mul(3);
const SPEC: &[u8] =
    br#"{"hosts": ["shop.test"], "health": {"interval": "200ms", "timeout": "200ms", "rise": 1, "fall": 1}}"#;

struct Fleet {
    endpoints: Vec<Endpoint>,
    gateways: Vec<Gateway>,
    /// Between each gateway and the registry.
    cuts: Vec<CuttableProxy>,
    _server: ZooKeeperServer,
}

fn instance(number: usize) -> String {
    format!("c{number:02}")
}

impl Fleet {
    /// Three gateways, of which so many probe an endpoint.
    fn start(probers: usize) -> Self {
        let server = ZooKeeperServer::start();
        let endpoints: Vec<_> = (0..ENDPOINTS).map(|number| Endpoint::start(&instance(number))).collect();
        let mut registrar = Kazoo::connect(&server, DEADLINE);
        yields(DEADLINE, "the app is there", || registrar.create("/caas/app/shop", SPEC, false).ok());
        for (number, endpoint) in endpoints.iter().enumerate() {
            let path = format!("/caas/service/address/shop/v1/{}", instance(number));
            let address = endpoint.address().to_string();
            registrar.create(&path, address.as_bytes(), false).expect("it is registered");
        }
        let cuts: Vec<_> = (0..3).map(|_| CuttableProxy::to(server.address())).collect();
        let start = |(number, cut): (usize, &CuttableProxy)| {
            let config = Config::with_workers(1).id(&format!("gw-{number}"));
            let config = config.zookeeper(&cut.address().to_string());
            Gateway::start(&config.gateway(&format!("shared_probes = {probers}")))
        };
        let gateways = cuts.iter().enumerate().map(start).collect();
        Self { endpoints, gateways, cuts, _server: server }
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

    /// Whether each endpoint has so many probers among `gateways`, by what those say and by the connections that they keep.
    fn share(&self, gateways: &[usize], probers: usize) -> bool {
        let own: Vec<_> = gateways.iter().map(|gateway| self.own(*gateway)).collect();
        self.endpoints.iter().enumerate().all(|(number, endpoint)| {
            let by = own.iter().filter(|own| own.contains(&instance(number))).count();
            by == probers && endpoint.open() == probers
        })
    }

    fn all_say(&self, number: usize, state: &str) -> bool {
        (0..self.gateways.len()).all(|gateway| self.says(gateway)[&instance(number)]["state"] == state)
    }
}

#[test]
fn each_endpoint_is_probed_by_as_many_as_asked_for_and_all_learn_of_its_death() {
    let fleet = Fleet::start(2);
    eventually(PATIENCE, "two gateways probe each endpoint", || fleet.share(&[0, 1, 2], 2));
    for number in [0, 7] {
        fleet.endpoints[number].set_healthy(false);
        eventually(DEADLINE, "all know that it is down", || fleet.all_say(number, "down"));
        let heard: Vec<_> = (0..3).map(|gateway| fleet.says(gateway)[&instance(number)].clone()).collect();
        let listener = heard.iter().find(|told| told.get("verdict_of").is_some()).expect("a third gateway");
        assert_eq!(listener["verdict_of"].as_array().map(Vec::len), Some(2), "{listener}");
        let why = listener["why"].as_str().expect("it is out");
        assert!(why.contains("503"), "the probers' words: {why}");
    }
    let metrics: Vec<_> = fleet.gateways.iter().map(Gateway::metrics).collect();
    let sum = |name: &str, labels: &[(&str, &str)]| -> u64 {
        metrics.iter().map(|metrics| metrics.count(name, labels)).sum()
    };
    assert_eq!(sum("sluice_endpoints_probed_elsewhere", &[]), ENDPOINTS as u64);
    assert_eq!((sum("sluice_probe_sharers", &[]), sum("sluice_probe_sharers_silent", &[])), (6, 0));
    assert!(sum("sluice_verdicts_received_total", &[("state", "down")]) >= 2);
    assert!(sum("sluice_probes_saved_total", &[]) > 0);
    fleet.endpoints[0].set_healthy(true);
    eventually(DEADLINE, "all know that it is back", || fleet.all_say(0, "up"));
}

#[test]
fn what_a_gateway_that_died_has_probed_is_probed_by_the_others() {
    let mut fleet = Fleet::start(1);
    eventually(PATIENCE, "one gateway probes each endpoint", || fleet.share(&[0, 1, 2], 1));
    let before = [fleet.own(0), fleet.own(1)];
    fleet.gateways[2].kill();
    eventually(PATIENCE, "one of those that are left does", || fleet.share(&[0, 1], 1));
    for (at, before) in before.iter().enumerate() {
        assert!(fleet.own(at).is_superset(before), "what they had before stays with them");
    }
}

#[test]
fn without_the_registry_a_gateway_probes_everything_itself() {
    let fleet = Fleet::start(1);
    eventually(PATIENCE, "one gateway probes each endpoint", || fleet.share(&[0, 1, 2], 1));
    let foreign = (0..ENDPOINTS).find(|number| !fleet.own(0).contains(&instance(*number)));
    let foreign = foreign.expect("gateway 0 does not probe everything");
    fleet.cuts[0].cut();
    eventually(PATIENCE, "it probes everything", || fleet.own(0).len() == ENDPOINTS);
    assert!(fleet.gateways[0].metrics().count("sluice_verdicts_stale_total", &[]) > 0);
    fleet.endpoints[foreign].set_healthy(false);
    eventually(DEADLINE, "all know that it is down", || fleet.all_say(foreign, "down"));
    fleet.cuts[0].restore();
    eventually(PATIENCE, "they share again", || fleet.share(&[0, 1, 2], 1));
    assert!(fleet.all_say(foreign, "down"));
}
