//! Listeners that change while the gateway runs.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tests::{
    App, Config, DEADLINE, Endpoint, Gate, Gateway, Load, RawClient, RawEndpoint, Reply, Wire, certificate,
    curl, eventually,
};

use crate::folder;

/// Between two connections of a hammer: leaves the gateway a share of the machine. Orders nothing.
const PACE: Duration = Duration::from_millis(1);
pub const HTTP: &[&str] = &[r#"protocol = "http""#];

fn tcp(app: &str) -> Vec<String> {
    vec![r#"protocol = "tcp""#.to_owned(), format!("app = \"{app}\"")]
}

/// `config` with one more TCP listener.
pub fn with_tcp(config: &Config, name: &str, app: &str) -> Config {
    let lines = tcp(app);
    config.clone().listener(name, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// An endpoint that says `name` to whoever connects and then sends back what it gets.
fn greeter(name: &'static str) -> RawEndpoint {
    RawEndpoint::start(move |wire, _| {
        wire.send(name.as_bytes())?;
        loop {
            let bytes = wire.some()?;
            if bytes.is_empty() {
                return Ok(());
            }
            wire.send(&bytes)?;
        }
    })
}

/// Two greeters, "a" and "b", each with an app of its name.
pub fn greeters() -> (Config, [RawEndpoint; 2]) {
    let endpoints = [greeter("a"), greeter("b")];
    let app = |id: &str, at: usize| App::new(id).tcp_endpoint("v1", "c1", endpoints[at].address());
    (Config::new().app(&app("a", 0)).app(&app("b", 1)), endpoints)
}

#[track_caller]
fn assert_echoes(client: &mut RawClient) {
    client.send("ping");
    assert_eq!(client.wire.exactly(4).expect("the tunnel is open"), b"ping");
}

/// Connects again and again; no connection may fail.
struct Hammer {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Hammer {
    /// `expect` is what each connection has to see.
    fn start(address: SocketAddr, expect: fn(&mut Wire) -> io::Result<()>) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopped);
        let thread = thread::spawn(move || {
            let mut connections = 0;
            while !told.load(Ordering::Acquire) {
                expect(&mut Wire::connect(address, DEADLINE)?)?;
                connections += 1;
                thread::sleep(PACE);
            }
            Ok(connections)
        });
        Self { stopped, thread }
    }

    #[track_caller]
    fn assert_undisturbed(self) {
        self.stopped.store(true, Ordering::Release);
        let connections = self.thread.join().expect("a hammer does not panic");
        assert!(connections.expect("every connection is accepted and served") > 0);
    }
}

pub fn listening_lines(gateway: &Gateway, name: &str) -> usize {
    let name = format!("\"listener\":\"{name}\"");
    let output = gateway.output();
    output.lines().filter(|line| line.contains("\"listening\"") && line.contains(&name)).count()
}

#[test]
fn listeners_come_and_go_without_disturbing_another() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address());
    let mut gateway = Gateway::start(&base);
    let web = gateway.web();
    let load = Load::start(web, "a", 4);
    // An address that no other test is given a port of.
    assert!(gateway.reconfigure(&base.clone().listener_at("more", "127.0.0.3:0", HTTP)));
    let address = gateway.listener("more");
    let more = base.clone().listener_at("more", &address.to_string(), HTTP);
    for _ in 0..10 {
        assert!(gateway.reconfigure(&more));
        assert_eq!(RawClient::connect(address).get("a", "/").status, 200);
        // Its address is free at once, for us and for others.
        assert!(gateway.reconfigure(&base));
        assert!(TcpStream::connect(address).is_err());
    }
    load.stop().assert_undisturbed();
    // Its port was 0 all the time, and stayed the one that it had got.
    assert_eq!((gateway.web(), listening_lines(&gateway, "web")), (web, 1));
    assert_eq!(listening_lines(&gateway, "more"), 10);
}

#[test]
fn a_removed_listener_finishes_what_is_under_way_and_keeps_nothing_alive() {
    let gate = Gate::default();
    let endpoint = Endpoint::gated("c1", &gate);
    let base = Config::in_front_of(endpoint.address());
    let mut gateway = Gateway::start(&base.clone().listener("more", HTTP));
    let address = gateway.listener("more");
    let mut elsewhere = gateway.connect();
    assert_eq!(elsewhere.get("a", "/").status, 200);
    let mut idle = RawClient::connect(address);
    assert_eq!(idle.get("a", "/").status, 200);
    let mut busy = RawClient::connect(address);
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "the endpoint is asked", || endpoint.requests() == 3);
    assert!(gateway.reconfigure(&base));
    eventually(DEADLINE, "nothing is accepted there", || TcpStream::connect(address).is_err());
    assert!(idle.is_ended());
    let open = |gateway: &Gateway| gateway.metrics().sum("sluice_connections_open", &[("listener", "more")]);
    eventually(DEADLINE, "one connection is left", || open(&gateway) == Some(1.0));
    gate.open();
    let response = busy.receive();
    assert_eq!(response.text(), "finished");
    assert!(response.fields.lists("connection", "close"), "{response:?}");
    assert!(busy.is_ended());
    eventually(DEADLINE, "no series names it", || open(&gateway).is_none());
    assert_eq!(elsewhere.get("a", "/").status, 200);
}

#[test]
fn what_is_left_on_a_removed_listener_is_cut_after_the_drain_timeout() {
    const DRAIN: Duration = Duration::from_secs(3);
    let (base, _greeters) = greeters();
    let endpoint = Endpoint::behaving("c1", |_| Reply::Hang);
    let base = base.app(&App::everything(endpoint.address())).gateway(r#"drain_timeout = "3s""#);
    let base = with_tcp(&base, "staying", "a");
    let mut gateway = Gateway::start(&with_tcp(&base, "leaving", "b").listener("more", HTTP));
    let mut staying = RawClient::connect(gateway.listener("staying"));
    let mut leaving = RawClient::connect(gateway.listener("leaving"));
    for (client, name) in [(&mut staying, b"a"), (&mut leaving, b"b")] {
        assert_eq!(client.wire.exactly(1).expect("a greeting"), name);
    }
    let mut clients = [gateway.connect(), RawClient::connect(gateway.listener("more"))];
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    eventually(DEADLINE, "the endpoint is asked", || endpoint.requests() == 2);
    let began = Instant::now();
    assert!(gateway.reconfigure(&base));
    assert_echoes(&mut leaving);
    assert!(leaving.is_ended());
    assert!(began.elapsed() >= DRAIN, "{:?}", began.elapsed());
    let [mut kept, mut cut] = clients;
    let response = cut.receive();
    assert_eq!((response.status, response.reason()), (503, Some("shutdown")));
    assert!(cut.is_ended());
    assert_echoes(&mut staying);
    eventually(DEADLINE, "every series of them is gone", || {
        let metrics = gateway.metrics();
        let gone = |name| metrics.sum("sluice_connections_open", &[("listener", name)]).is_none();
        gone("leaving") && gone("more")
    });
    assert_eq!(gateway.metrics().count("sluice_connections_open", &[("listener", "web")]), 1);
    kept.wire.finish().expect("the other connection is open");
}

#[test]
fn other_settings_keep_the_socket_and_the_connections() {
    let (base, endpoints) = greeters();
    let mut gateway = Gateway::start(&with_tcp(&base, "db", "a"));
    let address = gateway.listener("db");
    let mut first = RawClient::connect(address);
    assert_eq!(first.wire.exactly(1).expect("a greeting"), b"a");
    let hammer = Hammer::start(address, |wire| wire.exactly(1).map(drop));
    for round in 0..20 {
        let app = ["b", "a"][round % 2];
        assert!(gateway.reconfigure(&with_tcp(&base, "db", app)));
        // Each worker hears of it on its own, a moment later.
        eventually(DEADLINE, "new connections go to the new app", || {
            (0..8).all(|_| {
                let mut client = RawClient::connect(address);
                client.wire.exactly(1).expect("a greeting") == app.as_bytes()
            })
        });
    }
    hammer.assert_undisturbed();
    assert_echoes(&mut first);
    assert!(endpoints.iter().all(|endpoint| endpoint.accepted() > 10));
    assert_eq!(listening_lines(&gateway, "db"), 1);
}

#[test]
fn other_certificates_refuse_no_connection_and_are_forgotten_with_their_listener() {
    let endpoint = Endpoint::start("c1");
    let folder = folder(&[]);
    let mut base = Config::in_front_of(endpoint.address());
    for host in ["a.test", "b.test"] {
        base = base.file(&format!("tls/{host}.pem"), &certificate(folder.path(), host));
    }
    let with = |host: &str| {
        let tls = format!("tls = {{ certificates = [\"tls/{host}.pem\"] }}");
        base.clone().listener("web-tls", &[r#"protocol = "http""#, &tls])
    };
    let mut gateway = Gateway::start(&with("a.test"));
    let address = gateway.listener("web-tls");
    let hammer = Hammer::start(address, |_| Ok(()));
    for round in 0..10 {
        let host = ["b.test", "a.test"][round % 2];
        assert!(gateway.reconfigure(&with(host)));
        eventually(DEADLINE, "the new certificate is shown", || {
            curl(gateway.listener("web-tls"), folder.path(), host, host, &[]).stdout == "c1"
        });
    }
    hammer.assert_undisturbed();
    assert_eq!(gateway.listener("web-tls"), address);
    assert!(gateway.reconfigure(&base));
    gateway.put_file("tls/a.test.pem", "no certificate");
    assert!(gateway.reload());
    assert!(!gateway.output().contains("certificates rejected"), "{}", gateway.output());
}

#[test]
fn a_new_name_takes_over_the_address() {
    let endpoint = Endpoint::start("c1");
    let app = |id: &str| {
        App::new(id).host("*").line(&format!("listeners = [\"{id}\"]")).endpoint(
            "v1",
            "c1",
            endpoint.address(),
        )
    };
    let base = Config::new().app(&app("old")).app(&app("new"));
    let mut gateway = Gateway::start(&base.clone().listener("old", HTTP));
    let address = gateway.listener("old");
    let mut before = RawClient::connect(address);
    assert_eq!(before.get("a", "/").status, 200);
    assert!(gateway.reconfigure(&base.listener_at("new", &address.to_string(), HTTP)));
    let counted = |gateway: &Gateway, app: &str| {
        gateway.metrics().count("sluice_requests_total", &[("app", app), ("status", "2xx")])
    };
    eventually(DEADLINE, "new connections have the new name", || {
        assert_eq!(RawClient::connect(address).get("a", "/").status, 200);
        counted(&gateway, "new") > 0
    });
    let old = counted(&gateway, "old");
    assert_eq!(before.get("a", "/").status, 200);
    eventually(DEADLINE, "the old connection has the old one", || counted(&gateway, "old") > old);
    drop(before);
    eventually(DEADLINE, "the old name's series is gone", || {
        gateway.metrics().sum("sluice_connections_accepted_total", &[("listener", "old")]).is_none()
    });
}

#[test]
fn another_address_is_opened_before_the_former_one_is_closed() {
    let endpoint = Endpoint::start("c1");
    let base = Config::in_front_of(endpoint.address());
    let mut gateway = Gateway::start(&base.clone().listener_at("more", "127.0.0.1:0", HTTP));
    let former = gateway.listener("more");
    let mut idle = RawClient::connect(former);
    assert_eq!(idle.get("a", "/").status, 200);
    assert!(gateway.reconfigure(&base.listener_at("more", "127.0.0.2:0", HTTP)));
    let now = gateway.listener("more");
    assert_ne!(now.ip(), former.ip());
    assert_eq!(RawClient::connect(now).get("a", "/").status, 200);
    eventually(DEADLINE, "nothing is accepted there", || TcpStream::connect(former).is_err());
    assert!(idle.is_ended());
    // One name, one count.
    let accepted = || gateway.metrics().count("sluice_connections_accepted_total", &[("listener", "more")]);
    assert!(accepted() >= 2, "{}", accepted());
}
