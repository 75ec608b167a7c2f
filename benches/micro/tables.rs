//! Tables of many apps.

use std::sync::Arc;

use gateway::table::compile::Settings;
use gateway::table::{RoutingTable, compile};
use topology::{
    App, AppId, AppSpec, Endpoint, HostPattern, InstanceId, InstanceKey, Origin, Protocol, Snapshot,
    VersionId,
};

/// As many as the deployments that this gateway is made for give an app.
pub const ENDPOINTS: usize = 10;

pub fn settings() -> Settings {
    Settings {
        base_domain: None,
        shards: 2,
        upstream_tls: Arc::default(),
        tenants: Arc::default(),
        statistics: false,
        sources: Arc::default(),
        zone: None,
        sticky: Arc::default(),
    }
}

pub fn exact_host(app: usize) -> String {
    format!("app{app}.example.com")
}

/// A name below the wildcard that `app` claims.
pub fn wildcard_host(app: usize) -> String {
    format!("tenant.app{app}.example.net")
}

/// Each app claims one exact host and one wildcard.
pub fn table(apps: usize, endpoints: usize) -> RoutingTable {
    let apps = (0..apps).map(|number| {
        let app = app(number, endpoints);
        (app.id.clone(), Arc::new(app))
    });
    let snapshot = Snapshot { apps: apps.collect(), ..Snapshot::default() };
    compile(&settings(), &RoutingTable::default(), snapshot).0
}

pub fn app(number: usize, endpoints: usize) -> App {
    let hosts = [exact_host(number), format!("*.app{number}.example.net")];
    let hosts = hosts.iter().map(|host| HostPattern::parse(host).expect("it is a host")).collect();
    App {
        id: AppId::parse(&format!("app{number}")).expect("it is a name"),
        spec: Arc::new(AppSpec { hosts, ..AppSpec::implied() }),
        endpoints: (0..endpoints).map(endpoint).collect(),
        claimed: number as u64,
    }
}

/// Numbers below 100 are in the order of their keys.
pub fn endpoint(number: usize) -> Endpoint {
    let key = InstanceKey {
        version: VersionId::parse("v1").expect("it is a name"),
        instance: InstanceId::parse(&format!("c{number:02}")).expect("it is a name"),
    };
    Endpoint {
        key,
        address: ([192, 0, 2, number as u8], 8080).into(),
        weight: Endpoint::DEFAULT_WEIGHT,
        protocol: Protocol::Http1,
        zone: None,
        is_backup: false,
        origin: Origin::Registry,
        word: Default::default(),
    }
}
