//! Hand-overs in a row, with clients of every kind.

use tests::{App, Config, DEADLINE, Endpoint, Gate, Gateway, Load, Process, eventually};

use crate::traffic::{connections, http2, streams};
use crate::{assert_echoes, config, echo, tunnel, websocket};

/// More than anybody makes in a night; with `SLUICE_LONG=1` until more processes drain than are shown.
fn rounds() -> usize {
    if std::env::var_os("SLUICE_LONG").is_some() { 70 } else { 20 }
}

#[test]
fn hand_overs_under_load_fail_nothing_and_tunnels_live_to_their_own_end() {
    let (gate, echo) = (Gate::default(), echo());
    let endpoint = Endpoint::gated("c1", &gate);
    let mut gateway = Gateway::start(&config(&endpoint, &echo).workers(2));
    let (web, db) = (gateway.web(), gateway.listener("db"));
    let load = Load::start(web, "a", 4);
    let clients =
        [("new connections", connections(web)), ("HTTP/2", http2(web)), ("TCP connections", streams(db))];
    let (mut former, mut tunnels): (Vec<Process>, _) = (Vec::new(), Vec::new());
    // Begins in the first process and is answered when all others have come and gone.
    let mut slow = gateway.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    for round in 0..rounds() {
        tunnels.extend([websocket(&gateway, "ws.test"), tunnel(&gateway)]);
        let before: Vec<u64> = clients.iter().map(|(_, client)| client.done()).collect();
        former.push(gateway.hand_over());
        tunnels.iter_mut().for_each(assert_echoes);
        eventually(DEADLINE, "every client goes on", || {
            clients.iter().zip(&before).all(|((what, client), before)| {
                assert!(!client.is_over(), "{what} failed in round {round}");
                client.done() > before + 10
            })
        });
    }
    let generation = gateway.metrics().count("sluice_generation", &[]);
    assert_eq!(generation, rounds() as u64 + 1);
    gate.open();
    assert_eq!(slow.receive().text(), "finished");
    for (what, client) in clients {
        println!("{what}: {}", client.stop(what));
    }
    let report = load.stop();
    println!("{report:?}");
    assert!(report.ok > 0 && report.failed == 0, "{report:?}");
    // Each of them drains for its tunnels, and ends with them.
    for process in &mut former {
        assert_eq!(process.exited(), None);
    }
    tunnels.iter_mut().for_each(assert_echoes);
    drop((tunnels, slow));
    for process in &mut former {
        assert_eq!(process.wait(DEADLINE).code(), Some(0));
    }
    assert!(!gateway.output().contains("\"ERROR\""), "{}", gateway.output());
}

/// A wave of new connections while the number of workers goes up and down: each socket of the former process
/// has a reader in the next one, or its share of the clients would wait for nobody.
#[test]
fn any_number_of_workers_follows_any_other() {
    let endpoint = Endpoint::start("c1");
    let app = App::everything(endpoint.address());
    let base = Config::new().app(&app).handover();
    let mut gateway = Gateway::start(&base.clone().workers(2));
    let web = gateway.web();
    let client = connections(web);
    let mut former = Vec::new();
    for workers in [4, 1, 3, 2] {
        gateway.put_config(&base.clone().workers(workers));
        former.push(gateway.hand_over());
        let mut open: Vec<_> = (0..64).map(|_| gateway.connect()).collect();
        for client in &mut open {
            assert_eq!(client.get("a", "/").status, 200, "with {workers} workers");
        }
    }
    client.stop("new connections");
    for process in &mut former {
        assert_eq!(process.wait(DEADLINE).code(), Some(0));
    }
}
