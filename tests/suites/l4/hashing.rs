//! One client, one endpoint: of connections and of datagrams.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};

use tests::{App, Config, DEADLINE, Gateway, RawClient, RawEndpoint};

const POLICIES: [&str; 2] = [
    r#"balance = { kind = "hash", key = "client" }"#,
    r#"balance = { kind = "hash", key = "client", algorithm = "ketama" }"#,
];
const CLIENTS: u8 = 40;

/// Who has each client, twice, and on another gateway.
#[track_caller]
fn assert_kept(start: impl Fn() -> Gateway, ask: impl Fn(&Gateway, u8) -> String) {
    let gateway = start();
    let first: Vec<_> = (1..=CLIENTS).map(|client| ask(&gateway, client)).collect();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "{first:?}");
    assert!((1..=CLIENTS).map(|client| ask(&gateway, client)).eq(first.iter().cloned()));
    drop(gateway);
    let gateway = start();
    assert!((1..=CLIENTS).map(|client| ask(&gateway, client)).eq(first));
}

#[test]
fn connections_of_one_client_go_to_one_endpoint() {
    let endpoints: Vec<_> = (0..3)
        .map(|number| RawEndpoint::start(move |wire, _| wire.send(format!("c{number}").as_bytes())))
        .collect();
    for policy in POLICIES {
        let app =
            endpoints.iter().enumerate().fold(App::new("db").line(policy), |app, (number, endpoint)| {
                app.tcp_endpoint("v1", &format!("c{number}"), endpoint.address())
            });
        let lines = [r#"protocol = "tcp""#, r#"app = "db""#, r#"proxy_protocol = "required""#];
        let config = Config::new().app(&app).listener("db", &lines).trusting("127.0.0.1");
        assert_kept(
            || Gateway::start(&config),
            |gateway, client| {
                let mut wire = RawClient::connect(gateway.listener("db"));
                wire.send(format!("PROXY TCP4 192.0.2.{client} 198.51.100.1 4711 443\r\n"));
                String::from_utf8(wire.wire.rest().expect("it says who it is")).expect("a name")
            },
        );
    }
}

#[test]
fn datagrams_of_one_client_go_to_one_endpoint_whatever_their_ports() {
    let responders: Vec<_> = ["c0", "c1", "c2"].into_iter().map(crate::udp::Responder::echo).collect();
    for policy in POLICIES {
        let app =
            responders.iter().enumerate().fold(App::new("dns").line(policy), |app, (number, responder)| {
                app.udp_endpoint("v1", &format!("c{number}"), responder.address())
            });
        let config = Config::new().app(&app).listener("dns", &[r#"protocol = "udp""#, r#"app = "dns""#]);
        assert_kept(
            || Gateway::start(&config),
            |gateway, client| {
                let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 7, client), 0))
                    .expect("the loopback is a network");
                socket.connect(gateway.listener("dns")).expect("a datagram socket always connects");
                socket.set_read_timeout(Some(DEADLINE)).expect("the socket is ours");
                socket.send(b"!").expect("the listener is there");
                let mut buffer = [0; 16];
                let count = socket.recv(&mut buffer).expect("it answers");
                String::from_utf8_lossy(&buffer[..count]).trim_end_matches('!').to_owned()
            },
        );
    }
}
