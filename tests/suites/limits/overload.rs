//! More than the gateway can carry: it gives up the cheapest things first, says so, and recovers.

use std::time::Duration;

use tests::{App, Config, DEADLINE, Endpoint, Gateway, RawClient, Response, Wire, comes_true, eventually};

/// A stalled response has five seconds, and what was given up comes back after one.
const RECOVERY: Duration = DEADLINE.saturating_mul(2);
/// What they hold is more than the budget: a large buffer each, and usual ones for those that find none.
const STALLED: usize = 80;

fn shed(gateway: &Gateway, step: &str) -> u64 {
    gateway.metrics().count("sluice_shed_total", &[("step", step)])
}

fn sheds(gateway: &Gateway) -> u64 {
    gateway.metrics().count("sluice_shedding", &[])
}

/// The least budget that there is, for one worker.
fn small() -> (Gateway, tests::RawEndpoint) {
    let endpoint = crate::endless();
    let config = Config::with_workers(1).app(&App::everything(endpoint.address()));
    (crate::limited(config, "max_buffers = \"16MiB\""), endpoint)
}

/// Clients that ask for what they never read, all at once.
fn stall(gateway: &Gateway) -> Vec<RawClient> {
    let mut clients: Vec<_> = (0..STALLED).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    clients
}

/// `None`: the connection was refused.
fn try_get(gateway: &Gateway) -> Option<Response> {
    let mut wire = Wire::connect(gateway.web(), DEADLINE).ok()?;
    wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    Response::read(&mut wire, "GET").ok()
}

fn is_served(gateway: &Gateway) -> bool {
    try_get(gateway).is_some_and(|response| response.status == 200)
}

#[test]
fn responses_that_nobody_takes_give_their_memory_to_others() {
    let (gateway, _endpoint) = small();
    let clients = stall(&gateway);
    eventually(DEADLINE, "it is noticed", || {
        gateway.metrics().count("sluice_shedding", &[("step", "stalled_responses")]) == 1
    });
    eventually(RECOVERY, "they are cut", || shed(&gateway, "stalled_responses") > 0);
    eventually(RECOVERY, "nothing is given up any more", || sheds(&gateway) == 0);
    assert!(is_served(&gateway));
    assert_eq!(gateway.admin_get("/ready").status, 200);
    assert!(gateway.output().contains("overloaded: giving up stalled_responses"), "{}", gateway.output());
    let cut = gateway.metrics().count("sluice_requests_total", &[("reason", "overload")]);
    assert!(cut >= shed(&gateway, "stalled_responses"), "{cut}");
    drop(clients);
}

#[test]
fn a_budget_that_is_used_up_refuses_requests_and_readiness_says_so() {
    let (gateway, _endpoint) = small();
    // Once memory is short, each answer ends its connection; so they are asked only when the gateway says that it refuses.
    let mut kept: Vec<_> = (0..100).map(|_| gateway.connect()).collect();
    let clients = stall(&gateway);
    let refused = comes_true(DEADLINE, || {
        if gateway.metrics().count("sluice_shedding", &[("step", "new_requests")]) == 0 {
            return false;
        }
        let Some(mut client) = kept.pop() else { return false };
        let response = client.get("a", "/");
        if !response.fields.lists("connection", "close") {
            kept.push(client);
        }
        match response.status {
            200 => false,
            status => {
                assert_eq!((status, response.reason()), (503, Some("overload")));
                assert_eq!(response.fields.get("retry-after"), Some("1"));
                true
            }
        }
    });
    assert!(refused, "with {} connections left", kept.len());
    eventually(DEADLINE, "readiness says so", || gateway.admin_get("/ready").text() == "overloaded\n");
    drop(clients);
    eventually(RECOVERY, "requests are served again", || is_served(&gateway));
    eventually(RECOVERY, "readiness too", || gateway.admin_get("/ready").status == 200);
}

#[test]
fn idle_connections_make_room_before_the_last_socket_is_gone() {
    // Half of what is left beside the 512 that the process keeps for itself.
    const FILES: u64 = 512 + 2 * 100;
    let endpoint = Endpoint::start("c1");
    let config = Config::with_workers(1).app(&App::everything(endpoint.address())).open_files(FILES);
    let gateway = Gateway::start(&config);
    let mut idle: Vec<_> = (0..96).map(|_| gateway.connect()).collect();
    assert!(idle.iter_mut().all(|client| client.get("a", "/").status == 200));
    eventually(DEADLINE, "they are closed", || shed(&gateway, "idle_connections") >= 90);
    assert!(idle.iter_mut().all(RawClient::is_ended));
    assert_eq!(gateway.get("a", "/").status, 200);
    eventually(DEADLINE, "it is over", || sheds(&gateway) == 0);
    let mut client = gateway.connect();
    for _ in 0..3 {
        assert!(!client.get("a", "/").fields.lists("connection", "close"));
    }
}
