//! More than the gateway can carry: it gives up the cheapest things first, says so, and recovers.

use tests::{Config, DEADLINE, Endpoint, Gateway, RawClient, Reply, eventually};

/// Ten seconds more than a stalled response has under load.
const RECOVERY: std::time::Duration = DEADLINE.saturating_mul(2);

fn shed(gateway: &Gateway, step: &str) -> u64 {
    gateway.metrics().count("sluice_shed_total", &[("step", step)])
}

#[test]
fn responses_that_nobody_takes_give_their_memory_to_others() {
    // Large buffers for the first of them alone are as much as the budget.
    const CLIENTS: usize = 80;
    const BODY: usize = 4 << 20;
    let endpoint = Endpoint::behaving("c1", |request| match request.target.as_str() {
        "/large" => Reply::ok(vec![b'x'; BODY]),
        _ => Reply::ok("small"),
    });
    let config = Config::with_workers(1).app(&tests::App::everything(endpoint.address()));
    let gateway = crate::limited(config, "max_buffers = \"16MiB\"");
    let mut honest = gateway.connect();
    assert_eq!(honest.get("a", "/").status, 200);
    let ask = || {
        let mut client = RawClient::connect(gateway.web());
        client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| ask()).collect();
    eventually(DEADLINE, "it is noticed", || {
        gateway.metrics().count("sluice_shedding", &[("step", "stalled_responses")]) == 1
    });
    eventually(RECOVERY, "they are cut", || shed(&gateway, "stalled_responses") > 0);
    eventually(RECOVERY, "nothing is given up any more", || {
        gateway.metrics().count("sluice_shedding", &[]) == 0
    });
    assert_eq!(gateway.get("a", "/").status, 200);
    assert_eq!(gateway.admin_get("/ready").status, 200);
    assert!(gateway.output().contains("overloaded: giving up stalled_responses"), "{}", gateway.output());
    let cut = gateway.metrics().count("sluice_requests_total", &[("reason", "overload")]);
    assert!(cut >= shed(&gateway, "stalled_responses"), "{cut}");
    drop(clients);
}

#[test]
fn a_budget_that_is_used_up_refuses_requests_in_words_and_readiness() {
    const CLIENTS: usize = 80;
    const BODY: usize = 4 << 20;
    let endpoint = Endpoint::behaving("c1", |request| match request.target.as_str() {
        "/large" => Reply::ok(vec![b'x'; BODY]),
        _ => Reply::ok("small"),
    });
    let config = Config::with_workers(1).app(&tests::App::everything(endpoint.address()));
    let gateway = crate::limited(config, "max_buffers = \"16MiB\"");
    let mut honest = gateway.connect();
    let mut clients = Vec::new();
    let mut saw_unready = false;
    eventually(DEADLINE, "the gateway answers that it is overloaded", || {
        if clients.len() < CLIENTS {
            let mut client = RawClient::connect(gateway.web());
            // One that is refused already has ended.
            let _ = client.wire.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
            clients.push(client);
        }
        saw_unready |= gateway.admin_get("/ready").text() == "overloaded\n";
        let response = honest.get("a", "/");
        match response.status {
            200 => false,
            status => {
                assert_eq!((status, response.reason()), (503, Some("overload")));
                assert_eq!(response.fields.get("retry-after"), Some("1"));
                true
            }
        }
    });
    eventually(DEADLINE, "readiness says so", || {
        saw_unready |= gateway.admin_get("/ready").text() == "overloaded\n";
        saw_unready
    });
    drop(clients);
    // Its connection was kept: it has done nothing.
    eventually(RECOVERY, "it is served again", || honest.get("a", "/").status == 200);
    eventually(RECOVERY, "readiness too", || gateway.admin_get("/ready").status == 200);
}

#[test]
fn idle_connections_make_room_before_the_last_socket_is_gone() {
    // Half of what is left beside the 512 that the process keeps for itself.
    const FILES: u64 = 512 + 2 * 100;
    let endpoint = Endpoint::start("c1");
    let config = Config::with_workers(1).app(&tests::App::everything(endpoint.address())).open_files(FILES);
    let gateway = Gateway::start(&config);
    let mut idle: Vec<_> = (0..93).map(|_| gateway.connect()).collect();
    assert!(idle.iter_mut().all(|client| client.get("a", "/").status == 200));
    eventually(DEADLINE, "they are closed", || shed(&gateway, "idle_connections") >= 90);
    assert!(idle.iter_mut().all(RawClient::is_ended));
    assert_eq!(gateway.get("a", "/").status, 200);
    eventually(DEADLINE, "it is over", || gateway.metrics().count("sluice_shedding", &[]) == 0);
    let mut client = gateway.connect();
    for _ in 0..3 {
        assert!(!client.get("a", "/").fields.lists("connection", "close"));
    }
}
