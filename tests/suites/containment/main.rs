//! How far the harm of a bad endpoint or a bad app goes.

mod bad_endpoints;
mod limits;
mod outliers;
mod slow_start;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::{DEADLINE, Endpoint, Gateway, RawEndpoint, Reply, eventually};

const HOST: &str = "shop.test";

/// An endpoint that can be cured, and fall ill again.
struct Patient {
    endpoint: Endpoint,
    ill: Arc<AtomicBool>,
}

impl Patient {
    /// Ill at first: what it replies then is `symptom`.
    fn with(symptom: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        let ill = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&ill);
        let endpoint = Endpoint::behaving("patient", move |_| {
            if state.load(Ordering::Acquire) { symptom() } else { Reply::ok("patient") }
        });
        Self { endpoint, ill }
    }

    fn cure(&self) {
        self.ill.store(false, Ordering::Release);
    }

    fn address(&self) -> SocketAddr {
        self.endpoint.address()
    }
}

/// What `/v1/endpoints` says of the endpoint at `address`.
#[track_caller]
fn report(gateway: &Gateway, address: SocketAddr) -> serde_json::Value {
    let all = gateway.admin_json("/v1/endpoints");
    let items = all["items"].as_array().expect("a page has items");
    let found = items.iter().find(|item| item["address"] == address.to_string());
    found.expect("the endpoint is known").clone()
}

fn is_ejected(gateway: &Gateway, address: SocketAddr) -> bool {
    report(gateway, address)["state"] == "ejected"
}

fn ejections(gateway: &Gateway, reason: &str) -> u64 {
    gateway.metrics().count("sluice_ejections_total", &[("app", "shop"), ("reason", reason)])
}

/// Asks on one connection until the endpoint is out.
#[track_caller]
fn ask_until_ejected(gateway: &Gateway, address: SocketAddr) {
    let mut client = gateway.connect();
    eventually(DEADLINE, "the endpoint is ejected", || {
        client.get(HOST, "/");
        is_ejected(gateway, address)
    });
}

/// An address at which nobody listens.
fn refusing() -> SocketAddr {
    let endpoint = RawEndpoint::answering("");
    let address = endpoint.address();
    drop(endpoint);
    eventually(DEADLINE, "the endpoint refuses", || std::net::TcpStream::connect(address).is_err());
    address
}
