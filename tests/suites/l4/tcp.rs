//! TCP listeners.

use std::net::SocketAddr;

use tests::{App, Config, DEADLINE, Gateway, RawClient, RawEndpoint, eventually};

use crate::{log_entries, pattern, refusing};

fn gateway(endpoint: SocketAddr) -> Gateway {
    let app = App::new("db").tcp_endpoint("v1", "c1", endpoint);
    let config = Config::new().app(&app).listener("db", &[r#"protocol = "tcp""#, r#"app = "db""#]);
    Gateway::start(&config)
}

#[test]
fn bytes_pass_both_ways_as_they_come() {
    let endpoint = RawEndpoint::start(|wire, _| {
        for _ in 0..3 {
            let ping = wire.exactly(4)?;
            wire.send(&ping)?;
        }
        Ok(())
    });
    let gateway = gateway(endpoint.address());
    let mut client = RawClient::connect(gateway.listener("db"));
    for ping in [b"\x00\x01\x02\xff", b"\r\n\r\n", b"GET "] {
        client.send(ping);
        assert_eq!(client.wire.exactly(4).expect("it comes back"), ping);
    }
    assert!(client.is_ended());
}

#[test]
fn an_end_of_one_direction_leaves_the_other_open() {
    let endpoint = RawEndpoint::start(|wire, _| {
        let mut all = wire.rest()?;
        all.reverse();
        wire.send(&all)
    });
    let gateway = gateway(endpoint.address());
    let mut client = RawClient::connect(gateway.listener("db"));
    let sent: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
    client.send(&sent);
    client.wire.finish().expect("the connection is open");
    let mut received = client.wire.rest().expect("the other direction is open");
    received.reverse();
    assert!(received == sent, "{} bytes came back", received.len());
}

#[test]
fn the_endpoint_may_speak_first_and_end_first() {
    let endpoint = RawEndpoint::start(|wire, _| {
        wire.send(b"hello")?;
        wire.finish()?;
        wire.rest().map(|_| ())
    });
    let gateway = gateway(endpoint.address());
    let mut client = RawClient::connect(gateway.listener("db"));
    assert_eq!(client.wire.rest().expect("the connection ends well"), b"hello");
    client.send("bye");
    client.wire.finish().expect("our direction is open");
    eventually(DEADLINE, "the endpoint has read it", || endpoint.connection_with("bye").is_some());
    eventually(DEADLINE, "both sides are closed", || endpoint.open() == 0);
}

#[test]
fn a_client_that_is_reset_resets_nothing_else() {
    let endpoint = RawEndpoint::start(|wire, _| wire.rest().map(|_| ()));
    let gateway = gateway(endpoint.address());
    let mut staying = RawClient::connect(gateway.listener("db"));
    staying.send("stay");
    let mut leaving = RawClient::connect(gateway.listener("db"));
    leaving.send("leave");
    eventually(DEADLINE, "both arrive", || {
        endpoint.connection_with("stay").is_some() && endpoint.connection_with("leave").is_some()
    });
    leaving.wire.reset_at_end().expect("the connection is open");
    drop(leaving);
    eventually(DEADLINE, "one is closed", || endpoint.open() == 1);
    staying.send("ing");
    eventually(DEADLINE, "the other goes on", || endpoint.connection_with("staying").is_some());
}

#[test]
fn a_connection_that_no_endpoint_takes_is_closed() {
    let address = refusing();
    let gateway = gateway(address);
    let mut client = RawClient::connect(gateway.listener("db"));
    assert!(client.is_ended());
}

#[test]
fn another_endpoint_takes_what_the_first_refuses() {
    let endpoint = RawEndpoint::start(|wire, _| wire.send(b"here"));
    let app =
        App::new("db").tcp_endpoint("v1", "dead", refusing()).tcp_endpoint("v1", "c1", endpoint.address());
    let config = Config::new().app(&app).listener("db", &[r#"protocol = "tcp""#, r#"app = "db""#]);
    let gateway = Gateway::start(&config);
    for _ in 0..6 {
        let mut client = RawClient::connect(gateway.listener("db"));
        assert_eq!(client.wire.rest().expect("the connection ends well"), b"here");
    }
    assert!(gateway.metrics().count("sluice_retries_total", &[("app", "db")]) >= 1);
}

#[test]
fn a_reset_by_the_endpoint_reaches_the_client_as_one() {
    let endpoint = RawEndpoint::start(|wire, _| {
        wire.exactly(1)?;
        wire.send(b"half")?;
        wire.reset_at_end()
    });
    let gateway = gateway(endpoint.address());
    let mut client = RawClient::connect(gateway.listener("db"));
    client.send("?");
    let error = client.wire.rest().expect_err("a cut stream is no whole one");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    let labels = [("method", "tcp"), ("reason", "upstream_truncated")];
    eventually(DEADLINE, "it is counted", || gateway.metrics().count("sluice_requests_total", &labels) == 1);
}

#[test]
fn long_streams_arrive_whole_in_both_directions_at_once() {
    const BYTES: usize = 64 << 20;
    // Sends while it receives, as the client does.
    let endpoint = RawEndpoint::start_unrecorded(|wire, _| {
        let mut left = BYTES;
        while left > 0 {
            let piece = wire.some()?;
            left -= piece.len();
            wire.send(&piece)?;
        }
        Ok(())
    });
    let gateway = gateway(endpoint.address());
    let sent = pattern(BYTES);
    let stream = std::net::TcpStream::connect(gateway.listener("db")).expect("the gateway listens");
    let mut reading =
        tests::Wire::new(stream.try_clone().expect("a socket can be shared")).expect("a socket");
    reading.limit(DEADLINE * 4).expect("the socket is ours");
    let received = std::thread::scope(|scope| {
        let writer = scope.spawn(|| std::io::Write::write_all(&mut &stream, &sent));
        let received = reading.rest().expect("the connection ends well");
        writer.join().expect("no panic").expect("all is taken");
        received
    });
    assert!(received == sent, "{} bytes came back", received.len());
    let count = |family| gateway.metrics().count(family, &[("app", "db")]);
    assert_eq!(count("sluice_received_bytes_total"), BYTES as u64);
    assert_eq!(count("sluice_sent_bytes_total"), BYTES as u64);
}

#[test]
fn a_reader_that_stops_stops_the_sender_and_costs_no_memory() {
    let endpoint = RawEndpoint::start_unrecorded(|wire, _| {
        let piece = pattern(1 << 20);
        // Until the socket takes no more for good.
        while wire.send(&piece).is_ok() {}
        Ok(())
    });
    let gateway = gateway(endpoint.address());
    let before = gateway.resident_bytes();
    let clients: Vec<_> = (0..40).map(|_| RawClient::connect(gateway.listener("db"))).collect();
    let sent = || gateway.metrics().count("sluice_sent_bytes_total", &[("app", "db")]);
    tests::settled(DEADLINE * 2, std::time::Duration::from_millis(500), "nothing moves any more", sent);
    assert_eq!(gateway.metrics().count("sluice_tunnels_open", &[("app", "db")]), 40);
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes for 40 clients that do not read");
    drop(clients);
    eventually(DEADLINE, "all are gone", || {
        gateway.metrics().count("sluice_tunnels_open", &[("app", "db")]) == 0
    });
}

#[test]
fn a_tunnel_outlives_its_app_and_counts_while_it_lives() {
    let endpoint = RawEndpoint::start(|wire, _| {
        loop {
            let piece = wire.some()?;
            if piece.is_empty() {
                return Ok(());
            }
            wire.send(&piece)?;
        }
    });
    let gateway = gateway(endpoint.address());
    let mut client = RawClient::connect(gateway.listener("db"));
    client.send("one");
    assert_eq!(client.wire.exactly(3).expect("it comes back"), b"one");
    let bytes = || gateway.metrics().count("sluice_received_bytes_total", &[("app", "db")]);
    eventually(DEADLINE, "bytes are counted at once", || bytes() == 3);
    gateway.remove_app("db");
    eventually(DEADLINE, "the app is gone", || gateway.metrics().count("sluice_table_apps", &[]) == 0);
    assert!(RawClient::connect(gateway.listener("db")).is_ended(), "new connections have nowhere to go");
    client.send("two");
    assert_eq!(client.wire.exactly(3).expect("it comes back"), b"two");
}

#[test]
fn silence_ends_a_tunnel_and_a_word_in_either_direction_is_none() {
    let endpoint = RawEndpoint::start(|wire, _| wire.rest().map(|_| ()));
    let app = App::new("db").tcp_endpoint("v1", "c1", endpoint.address());
    let lines = [r#"protocol = "tcp""#, r#"app = "db""#, r#"idle_timeout = "1s""#];
    let config = Config::new().app(&app).listener("db", &lines).access_log("access.log", "json");
    let gateway = Gateway::start(&config);
    let mut client = RawClient::connect(gateway.listener("db"));
    client.send("x");
    assert!(client.is_ended());
    let entry = log_entries(&gateway, 1).remove(0);
    for (key, value) in [
        ("method", "TCP"),
        ("listener", "db"),
        ("app", "db"),
        ("version", "v1"),
        ("instance", "c1"),
        ("client", "127.0.0.1"),
        ("reason", "idle_timeout"),
    ] {
        assert_eq!(entry[key], value, "{key} in {entry}");
    }
    assert_eq!(
        (entry["received_bytes"].as_u64(), entry["sent_bytes"].as_u64()),
        (Some(1), Some(0)),
        "{entry}"
    );
    assert!(entry["seconds"].as_f64().is_some_and(|seconds| seconds >= 1.0), "{entry}");
}

#[test]
fn a_connection_leaves_a_combined_line() {
    let endpoint = RawEndpoint::start(|wire, _| wire.send(b"hello"));
    let app = App::new("db").tcp_endpoint("v1", "c1", endpoint.address());
    let lines = [r#"protocol = "tcp""#, r#"app = "db""#];
    let config = Config::new().app(&app).listener("db", &lines).access_log("access.log", "combined");
    let gateway = Gateway::start(&config);
    let mut client = RawClient::connect(gateway.listener("db"));
    assert_eq!(client.wire.rest().expect("the connection ends well"), b"hello");
    drop(client);
    let line = crate::log_lines(&gateway, 1).remove(0);
    assert!(line.ends_with(r#""TCP db -" 200 5 "-" "-""#), "{line}");
}

#[test]
fn a_silent_connection_ends_at_the_earlier_of_its_listeners_time_and_its_apps() {
    let endpoint = RawEndpoint::start(|wire, _| wire.rest().map(|_| ()));
    for (listener, app) in [("1h", "1s"), ("1s", "1h")] {
        let app = App::new("db").line(&format!("timeouts = {{ tunnel_idle = \"{app}\" }}"));
        let app = app.tcp_endpoint("v1", "c1", endpoint.address());
        let idle = format!("idle_timeout = \"{listener}\"");
        let lines = [r#"protocol = "tcp""#, r#"app = "db""#, idle.as_str()];
        let gateway = Gateway::start(&Config::new().app(&app).listener("db", &lines));
        let mut client = RawClient::connect(gateway.listener("db"));
        assert!(client.is_ended());
        let labels = [("method", "tcp"), ("reason", "idle_timeout")];
        eventually(DEADLINE, "it is counted", || {
            gateway.metrics().count("sluice_requests_total", &labels) == 1
        });
    }
}
