//! Limits hold exactly, over all workers, and every place that is taken is given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tests::{
    App, Config, DEADLINE, Endpoint, Gate, Gateway, Load, RawClient, RawEndpoint, Reply, eventually, finish,
};

use crate::{HOST, report};

fn shop(endpoint: &Endpoint, limits: &str) -> App {
    App::new("shop").host(HOST).line(&format!("limits = {{ {limits} }}")).endpoint(
        "v1",
        "c1",
        endpoint.address(),
    )
}

fn gauge(gateway: &Gateway, name: &str) -> u64 {
    gateway.metrics().count(name, &[("app", "shop")])
}

/// A client has its answer a moment before its place is given back.
#[track_caller]
fn has_in_flight(gateway: &Gateway, count: u64) {
    eventually(DEADLINE, "so many are under way", || gauge(gateway, "sluice_in_flight") == count);
}

/// A request that `endpoint` keeps waiting, once it has arrived there.
#[track_caller]
fn ask_slowly(gateway: &Gateway, endpoint: &Endpoint) -> RawClient {
    let before = endpoint.requests();
    let mut client = gateway.connect();
    client.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually(DEADLINE, "the endpoint is asked", || endpoint.requests() > before);
    client
}

/// An endpoint that remembers how many requests it had at the same time.
fn counting(pause: Duration) -> (Endpoint, Arc<AtomicUsize>) {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let endpoint = Endpoint::behaving("counting", move |_| {
        seen.fetch_max(now.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
        thread::sleep(pause);
        now.fetch_sub(1, Ordering::AcqRel);
        Reply::ok("counted")
    });
    (endpoint, most)
}

#[test]
fn an_endpoint_never_has_more_requests_than_it_may_and_no_place_stays_empty() {
    let (endpoint, most) = counting(Duration::from_millis(2));
    let limits = r#"in_flight_per_endpoint = 2, queue_timeout = "30s""#;
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint, limits)));
    let load = Load::start(gateway.web(), HOST, 12);
    // Were a worker to wait for its own tick when another one has given a place back, this would be 20 a
    // second.
    eventually(DEADLINE, "a thousand answers", || load.ok() >= 1000);
    load.stop().assert_undisturbed();
    assert_eq!(most.load(Ordering::Acquire), 2);
    has_in_flight(&gateway, 0);
    assert_eq!(gauge(&gateway, "sluice_queued"), 0);
}

#[test]
fn a_full_endpoint_leaves_requests_to_the_others() {
    let gate = Gate::default();
    let (slow, other) = (Endpoint::gated("slow", &gate), Endpoint::start("other"));
    let app = shop(&slow, "in_flight_per_endpoint = 1, queue = 0").endpoint("v1", "c2", other.address());
    let gateway = Gateway::start(&Config::with_workers(1).app(&app));
    let mut client = gateway.connect();
    client.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    // The other one may have been first.
    let mut again = gateway.connect();
    again.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually(DEADLINE, "the slow one is asked", || slow.requests() == 1);
    for _ in 0..10 {
        assert_eq!(gateway.get(HOST, "/").text(), "other");
    }
    assert_eq!(report(&gateway, slow.address())["in_flight"], 1);
    gate.open();
    assert_eq!((client.receive().status, again.receive().status), (200, 200));
}

#[test]
fn who_came_first_is_served_first() {
    let gate = Gate::default();
    let order: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let (closed, seen) = (gate.clone(), Arc::clone(&order));
    let endpoint = Endpoint::behaving("a", move |request| {
        seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(request.target.clone());
        closed.pass();
        Reply::ok("a")
    });
    let limits = r#"in_flight = 1, queue_timeout = "30s""#;
    let gateway = Gateway::start(&Config::with_workers(1).app(&shop(&endpoint, limits)));
    let mut first = ask_slowly(&gateway, &endpoint);
    let mut waiting = Vec::new();
    for number in 1..=5 {
        let mut client = gateway.connect();
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        eventually(DEADLINE, "it waits", || gauge(&gateway, "sluice_queued") == number);
        waiting.push(client);
    }
    gate.open();
    assert_eq!(first.receive().status, 200);
    waiting.iter_mut().for_each(|client| assert_eq!(client.receive().status, 200));
    let order = order.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    assert_eq!(order, ["/slow", "/1", "/2", "/3", "/4", "/5"]);
}

#[test]
fn a_full_queue_and_a_long_wait_have_codes_of_their_own() {
    let gate = Gate::default();
    let endpoint = Endpoint::gated("a", &gate);
    let limits = r#"in_flight = 1, queue = 1, queue_timeout = "1s""#;
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint, limits)));
    let mut holding = ask_slowly(&gateway, &endpoint);
    let mut late = gateway.connect();
    late.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually(DEADLINE, "it waits", || gauge(&gateway, "sluice_queued") == 1);
    let refused = gateway.get(HOST, "/");
    assert_eq!((refused.status, refused.reason()), (503, Some("app_overloaded")));
    assert!(refused.fields.get("retry-after").is_some());
    let late = late.receive();
    assert_eq!((late.status, late.reason()), (503, Some("queue_timeout")));
    assert_eq!(gauge(&gateway, "sluice_queued"), 0);
    gate.open();
    assert_eq!(holding.receive().status, 200);
    assert_eq!(gateway.get(HOST, "/").status, 200);
    let count =
        |reason| gateway.metrics().count("sluice_requests_total", &[("app", "shop"), ("reason", reason)]);
    assert_eq!((count("app_overloaded"), count("queue_timeout")), (1, 1));
}

#[test]
fn a_client_that_goes_leaves_the_queue() {
    let gate = Gate::default();
    let endpoint = Endpoint::gated("a", &gate);
    let limits = r#"in_flight = 1, queue_timeout = "60s""#;
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint, limits)));
    let mut holding = ask_slowly(&gateway, &endpoint);
    let mut leaving = gateway.connect();
    leaving.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually(DEADLINE, "it waits", || gauge(&gateway, "sluice_queued") == 1);
    leaving.wire.reset_at_end().expect("the connection is open");
    drop(leaving);
    eventually(DEADLINE, "it waits no more", || gauge(&gateway, "sluice_queued") == 0);
    gate.open();
    assert_eq!(holding.receive().status, 200);
}

#[test]
fn a_tenant_that_hangs_takes_nothing_from_another_one() {
    let hanging = Endpoint::behaving("hanging", |_| Reply::Hang);
    let good = Endpoint::start("good");
    let app = |id: &str, host: &str, endpoint: &Endpoint| {
        App::new(id).host(host).endpoint("v1", "c1", endpoint.address())
    };
    let config = Config::new()
        .section("[[gateway.tenant]]\nname = \"acme\"\nin_flight = 3")
        .section("[[gateway.tenant]]\nname = \"*\"\nin_flight = 50")
        .app(&app("shop", HOST, &hanging).line(r#"tenant = "acme""#))
        .app(&app("blog", "blog.test", &good).line(r#"tenant = "acme""#))
        .app(&app("calm", "calm.test", &good));
    let gateway = Gateway::start(&config);
    let load = Load::start(gateway.web(), "calm.test", 4);
    let of = |name: &str| gateway.metrics().count("sluice_tenant_in_flight", &[("tenant", name)]);
    assert_eq!(gateway.get("blog.test", "/").status, 200);
    eventually(DEADLINE, "its place was given back", || of("acme") == 0);
    let held: Vec<_> = (0..3).map(|_| ask_slowly(&gateway, &hanging)).collect();
    for host in [HOST, "blog.test"] {
        let refused = gateway.get(host, "/");
        assert_eq!((refused.status, refused.reason()), (503, Some("tenant_overloaded")), "{host}");
    }
    assert_eq!(of("acme"), 3);
    let before = load.ok();
    eventually(DEADLINE, "the other tenant is served", || load.ok() > before + 100);
    held.iter().for_each(|client| client.wire.reset_at_end().expect("the connection is open"));
    drop(held);
    eventually(DEADLINE, "everything is given back", || of("acme") == 0);
    assert_eq!(gateway.get("blog.test", "/").status, 200);
    load.stop().assert_undisturbed();
}

#[test]
fn a_place_is_given_back_however_a_request_ends() {
    let endpoint = RawEndpoint::start(|wire, _| {
        while let Some(head) = tests::read_head(wire)? {
            match head[0].split(' ').nth(1).unwrap_or_default() {
                "/hang" => return wire.rest().map(|_| ()),
                "/reset" => return wire.reset_at_end(),
                "/garbage" => return wire.send(b"220 smtp.test ready\r\n\r\n"),
                "/cut" => return wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
                "/switch" => {
                    wire.send(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
                    )?;
                    return wire.rest().map(|_| ());
                }
                _ => wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?,
            }
        }
        Ok(())
    });
    let app = App::new("shop")
        .host(HOST)
        .line("limits = { in_flight = 1, in_flight_per_endpoint = 1, queue = 0 }")
        .endpoint("v1", "c1", endpoint.address());
    let gateway = Gateway::start(&Config::new().app(&app));
    let is_free = || has_in_flight(&gateway, 0);
    for target in ["/hang", "/switch"] {
        let mut client = gateway.connect();
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        ));
        has_in_flight(&gateway, 1);
        if target == "/switch" {
            assert_eq!(client.receive_head().status, 101);
            assert_eq!(gauge(&gateway, "sluice_in_flight"), 1, "a tunnel holds its place");
        }
        assert_eq!(gateway.get(HOST, "/").reason(), Some("app_overloaded"));
        client.wire.reset_at_end().expect("the connection is open");
        drop(client);
        is_free();
    }
    for target in ["/reset", "/garbage", "/cut"] {
        let mut client = gateway.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        // Whatever there is of a response.
        client.try_receive("GET").ok();
        is_free();
    }
    for _ in 0..10 {
        assert_eq!(gateway.get(HOST, "/").text(), "ok");
        is_free();
    }
    assert_eq!(report(&gateway, endpoint.address())["in_flight"], 0);
}

#[test]
fn streams_of_http2_count_as_requests() {
    let gate = Gate::default();
    let endpoint = Endpoint::gated("a", &gate);
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint, "in_flight = 1, queue = 0")));
    let curl = |target: &str| {
        let mut command = std::process::Command::new("curl");
        command.args(["-s", "-i", "--noproxy", "*", "--http2-prior-knowledge", "-H", "Host: shop.test"]);
        command.arg(format!("http://{}{target}", gateway.web()));
        finish(&mut command, "", DEADLINE).stdout
    };
    thread::scope(|scope| {
        let slow = scope.spawn(|| curl("/slow"));
        eventually(DEADLINE, "the stream holds the place", || endpoint.requests() == 1);
        let refused = curl("/");
        assert!(refused.starts_with("HTTP/2 503") && refused.contains("app_overloaded"), "{refused}");
        assert_eq!(gateway.get(HOST, "/").reason(), Some("app_overloaded"));
        gate.open();
        let slow = slow.join().expect("curl ends");
        assert!(slow.starts_with("HTTP/2 200"), "{slow}");
    });
    has_in_flight(&gateway, 0);
}

#[test]
fn tcp_connections_count_as_long_as_they_last() {
    let endpoint = RawEndpoint::start(|wire, _| {
        let ping = wire.exactly(4)?;
        wire.send(&ping)?;
        wire.rest().map(|_| ())
    });
    let app = App::new("shop")
        .line(r#"limits = { in_flight = 1, queue = 1, queue_timeout = "60s" }"#)
        .tcp_endpoint("v1", "c1", endpoint.address());
    let config = Config::new().app(&app).listener("db", &[r#"protocol = "tcp""#, r#"app = "shop""#]);
    let gateway = Gateway::start(&config);
    let connect = || {
        let mut client = RawClient::connect(gateway.listener("db"));
        client.send("ping");
        client
    };
    let mut first = connect();
    assert_eq!(first.wire.exactly(4).expect("it is carried"), b"ping");
    let mut second = connect();
    eventually(DEADLINE, "the second one waits", || gauge(&gateway, "sluice_queued") == 1);
    assert!(connect().is_ended(), "the third one is refused");
    let labels = [("app", "shop"), ("method", "tcp"), ("reason", "app_overloaded")];
    eventually(DEADLINE, "it is counted", || gateway.metrics().count("sluice_requests_total", &labels) == 1);
    assert_eq!(endpoint.accepted(), 1);
    drop(first);
    assert_eq!(second.wire.exactly(4).expect("it is carried now"), b"ping");
}

#[test]
fn connections_to_an_endpoint_are_never_more_than_there_may_be() {
    let (endpoint, most) = counting(Duration::from_millis(1));
    // Each worker keeps connections that the other one may want.
    let limits = r#"connections_per_endpoint = 2, queue_timeout = "30s""#;
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint, limits)));
    let load = Load::start(gateway.web(), HOST, 8);
    let mut seen = 0;
    eventually(DEADLINE, "some hundred answers", || {
        seen = seen.max(report(&gateway, endpoint.address())["connections"].as_u64().expect("a count"));
        load.ok() >= 300
    });
    load.stop().assert_undisturbed();
    assert_eq!(seen, 2);
    assert!(most.load(Ordering::Acquire) <= 2);
    eventually(DEADLINE, "no more are open", || endpoint.open() <= 2);
}

#[test]
fn a_changed_limit_counts_what_is_under_way() {
    let gate = Gate::default();
    let endpoint = Endpoint::gated("a", &gate);
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint, "in_flight = 1, queue = 0")));
    let mut holding = ask_slowly(&gateway, &endpoint);
    assert_eq!(gateway.get(HOST, "/").reason(), Some("app_overloaded"));
    gateway.put_app(&shop(&endpoint, "in_flight = 2, queue = 0"));
    eventually(DEADLINE, "there is room for one more", || gateway.get(HOST, "/").status == 200);
    has_in_flight(&gateway, 1);
    let mut second = ask_slowly(&gateway, &endpoint);
    assert_eq!(gateway.get(HOST, "/").reason(), Some("app_overloaded"));
    gate.open();
    assert_eq!((holding.receive().status, second.receive().status), (200, 200));
}

#[test]
fn a_limit_that_is_found_out_stays_in_its_range() {
    let (endpoint, most) = counting(Duration::from_millis(1));
    let limits = r#"adaptive = { min = 2, max = 5 }, queue_timeout = "30s""#;
    let gateway = Gateway::start(&Config::new().app(&shop(&endpoint, limits)));
    let load = Load::start(gateway.web(), HOST, 12);
    let limit = || report(&gateway, endpoint.address())["in_flight_limit"].as_u64().expect("a limit");
    eventually(DEADLINE, "a thousand answers", || {
        assert!((2..=5).contains(&limit()), "{}", limit());
        load.ok() >= 1000
    });
    load.stop().assert_undisturbed();
    assert!((1..=5).contains(&most.load(Ordering::Acquire)));
}
