//! What goes over the link: announcements, and claims of others.

use std::net::IpAddr;

use tests::{DEADLINE, Host, eventually, yields};
use vip::net::packet::{Claim, Frame, PacketSocket, announcement};
use vip::net::{Announcer, ConflictWatch};

use crate::prober::question;
use crate::{Lab, VIP4, VIP6, eth0, vip4, vip6, vips};

/// Everything of one protocol that arrives at `host`.
fn listen(host: &Host, ip: IpAddr) -> PacketSocket {
    let kind = if ip.is_ipv4() { 0x0806 } else { 0x86dd };
    host.run(|| PacketSocket::receiver(&eth0(), kind).expect("we are root"))
}

/// Waits for exactly `frame`.
fn see(socket: &PacketSocket, frame: &[u8]) {
    eventually(DEADLINE, "the frame arrives", || {
        let mut buffer: Frame = [0; size_of::<Frame>()];
        socket.receive(&mut buffer).expect("the link is up") == Some(frame)
    });
}

#[test]
fn an_announcement_is_seen_byte_for_byte_and_heeded() {
    let Some(lab) = Lab::new() else { return };
    let mac = lab.gateway.mac();
    for ip in vips() {
        // The client believes in another holder, and does not ask again.
        lab.client.ip(&format!("neigh replace {ip} lladdr 02:00:00:00:00:99 dev eth0 nud stale"));
        let socket = listen(&lab.client, ip);
        let announcer = lab.gateway.run(|| Announcer::open(&eth0()).unwrap());
        let frames = announcement(ip, mac);
        assert_eq!(announcer.announce(ip).unwrap(), frames.len());
        frames.iter().for_each(|frame| see(&socket, frame));
        let text = mac.map(|byte| format!("{byte:02x}")).join(":");
        eventually(DEADLINE, "the client believes it", || {
            lab.client.ip(&format!("neigh show {ip}")).contains(&text)
        });
    }
}

#[test]
fn a_claim_by_another_host_is_told_and_nothing_else_is() {
    let Some(lab) = Lab::new() else { return };
    let mut watch = lab.gateway.run(|| ConflictWatch::open(&eth0(), &vips()).unwrap());
    let mac = lab.client.mac();
    let announcer = lab.client.run(|| Announcer::open(&eth0()).unwrap());
    let own = lab.gateway.run(|| Announcer::open(&eth0()).unwrap());
    // Other addresses, questions for ours, and what we say ourselves.
    let interface = lab.client.run(eth0);
    let sender = lab.client.run(|| PacketSocket::sender(&eth0()).unwrap());
    for other in ["10.77.0.201", "fd00:77::c9"] {
        announcer.announce(other.parse().unwrap()).unwrap();
    }
    for ip in vips() {
        own.announce(ip).unwrap();
        sender.send(&question(&interface, ip)).unwrap();
        // As if a loop in the network sent it back to us.
        announcement(ip, lab.gateway.mac()).iter().for_each(|frame| sender.send(frame).unwrap());
    }
    // What follows is the first thing that is told.
    announcer.announce(vip4()).unwrap();
    announcer.announce(vip6()).unwrap();
    let mut told = Vec::new();
    eventually(DEADLINE, "both claims are told", || {
        told.extend(watch.take());
        told.len() >= 2
    });
    told.sort_unstable_by_key(|claim| claim.ip);
    told.dedup();
    assert_eq!(told, [Claim { ip: vip4(), mac }, Claim { ip: vip6(), mac }]);
}

#[test]
fn a_claim_by_arping_and_by_a_kernel_is_told() {
    let Some(lab) = Lab::new() else { return };
    let mut watch = lab.gateway.run(|| ConflictWatch::open(&eth0(), &vips()).unwrap());
    let mac = lab.client.mac();
    lab.client.ip(&format!("address add {VIP4}/32 dev eth0"));
    let mut arping = lab.client.command("arping");
    arping.args(["-A", "-c", "1", "-I", "eth0", VIP4]);
    assert_eq!(tests::finish(&mut arping, "", DEADLINE).code, Some(0));
    let told = yields(DEADLINE, "arping's claim is told", || watch.take().pop());
    assert_eq!(told, Claim { ip: vip4(), mac });

    // Its kernel asks for us as the virtual IP.
    lab.client.ip(&format!("address add {VIP6}/128 dev eth0 nodad"));
    let socket = lab.client.run(|| std::net::UdpSocket::bind((VIP6, 0)).unwrap());
    let told = yields(DEADLINE, "the kernel's claim is told", || {
        socket.send_to(b"x", "[fd00:77::1]:9").ok();
        watch.take().into_iter().find(|claim| claim.ip == vip6())
    });
    assert_eq!(told.mac, mac);
}
