//! Listeners at a virtual IP that is not held.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use tests::{App, Config, DEADLINE, Endpoint, Gateway, eventually, sluice};
use vip::net::Addresses;

use crate::{LONG, Lab, VIP4, VIP6, eth0, vips};

#[test]
fn listeners_wait_for_an_address_and_serve_when_it_comes() {
    let Some(lab) = Lab::new() else { return };
    lab.gateway.run(|| {
        let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::start("a");
        let mut config = Config::in_front_of(endpoint.address());
        config = config.app(&App::new("dns").udp_endpoint("v1", "c0", echo.local_addr().unwrap()));
        for (name, ip) in [("4", VIP4.to_owned()), ("6", format!("[{VIP6}]"))] {
            for (kind, port, lines) in [
                ("http", 80, &["protocol = \"http\"", "freebind = true"][..]),
                ("tcp", 81, &["protocol = \"tcp\"", "app = \"all\"", "freebind = true"]),
                ("udp", 53, &["protocol = \"udp\"", "app = \"dns\"", "freebind = true"]),
            ] {
                config = config.listener_at(&format!("{kind}{name}"), &format!("{ip}:{port}"), lines);
            }
        }
        let _gateway = Gateway::start(&config);
        std::thread::spawn(move || {
            let mut bytes = [0; 16];
            while let Ok((length, from)) = echo.recv_from(&mut bytes) {
                echo.send_to(&bytes[..length], from).ok();
            }
        });
        let (interface, mut addresses) = (eth0(), Addresses::open().unwrap());
        vips().iter().for_each(|ip| addresses.put(&interface, *ip, LONG).unwrap());
        lab.client.run(|| {
            for ip in vips() {
                for port in [80, 81] {
                    eventually(DEADLINE, &format!("{ip}:{port} answers"), || {
                        answers(SocketAddr::new(ip, port))
                    });
                }
                let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).unwrap();
                socket.connect((ip, 53)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                eventually(DEADLINE, &format!("{ip}:53 answers"), || {
                    socket.send(b"?").is_ok() && socket.recv(&mut [0; 4]).is_ok()
                });
            }
        });
    });
}

fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, DEADLINE) else { return false };
    let mut answer = String::new();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n")
        .expect("it has just connected");
    stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

#[test]
fn an_address_that_is_not_there_is_refused_with_the_key_that_allows_it() {
    let Some(lab) = Lab::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluice.toml");
    let text = format!(
        "[registry]\nkind = \"embedded\"\npath = \"registry\"\n[gateway]\nid = \"gw\"\n\
         [[gateway.listener]]\nname = \"web\"\naddress = \"{VIP4}:80\"\nprotocol = \"http\"\n"
    );
    std::fs::write(&path, text).unwrap();
    let finished = lab.gateway.run(|| {
        let mut command = sluice();
        tests::finish(command.arg("run").arg("--config").arg(&path), "", DEADLINE)
    });
    let said = finished.text();
    assert_ne!(finished.code, Some(0), "{said}");
    assert!(said.contains("this host does not have the address; freebind = true"), "{said}");
}
