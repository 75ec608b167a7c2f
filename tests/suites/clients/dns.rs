//! dig and dnsmasq, through a UDP listener and a TCP listener on the same port.

use std::collections::BTreeSet;
use std::process::Command;

use tests::{App, Config, DEADLINE, Gateway, HeldPort, Program, eventually, finish};

use crate::front::{PATIENCE, run};

/// Twelve strings of 250 letters: too much for the 512 bytes of a client without EDNS, and for a packet.
const STRINGS: usize = 12;
const LETTERS: usize = 250;

struct Dns {
    _program: Program,
    port: HeldPort,
}

impl Dns {
    fn start() -> Self {
        let port = HeldPort::tcp_and_udp();
        let number = port.port().to_string();
        let mut server = Command::new("dnsmasq");
        // What it says is here, whatever this machine's own names are.
        server.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--no-poll",
        ]);
        server.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", "--log-facility=-"]);
        server.args(["--edns-packet-max=4096", "--local=/test/", "--host-record=one.test,192.0.2.1"]);
        // n-10-0-0-7.pool.test has the address 10.0.0.7.
        server.arg("--synth-domain=pool.test,10.0.0.0,10.0.0.255,n-");
        server.arg(format!("--txt-record=big.test,{}", strings().join(",")));
        server.arg(format!("--user={}", run(Command::new("id").arg("-un"), "").stdout.trim()));
        let mut program = Program::start(server.arg(format!("--port={number}")));
        program.wait_for("dnsmasq answers", |_| {
            let report = finish(dig(port.port()).args(["+short", "one.test"]), "", PATIENCE);
            (report.stdout == "192.0.2.1\n").then_some(())
        });
        Self { _program: program, port }
    }

    /// A gateway whose port is the same for both transports, as clients expect it of DNS.
    fn gateway(&self) -> (Gateway, u16) {
        let app = App::new("dns");
        let app = app.udp_endpoint("v1", "udp", self.port.address());
        let app = app.tcp_endpoint("v1", "tcp", self.port.address());
        let port = HeldPort::tcp_and_udp();
        let (address, number) = (port.address().to_string(), port.port());
        // Given up at the last moment: a gateway shares a UDP port with nobody but its own workers.
        drop(port);
        let config = Config::new().app(&app);
        let config = config.listener_at("dns", &address, &[r#"protocol = "udp""#, r#"app = "dns""#]);
        let config = config.listener_at("dns-tcp", &address, &[r#"protocol = "tcp""#, r#"app = "dns""#]);
        (Gateway::start(&config), number)
    }
}

fn strings() -> Vec<String> {
    (0..STRINGS).map(|number| format!("{number:02}{}", "x".repeat(LETTERS - 2))).collect()
}

/// One question, asked once: what is lost is to be seen.
fn dig(port: u16) -> Command {
    let mut command = Command::new("dig");
    command.args(["-4", "-r", "@127.0.0.1", "-p", &port.to_string(), "+tries=1", "+time=10"]);
    command
}

#[track_caller]
fn ask(port: u16, question: &[&str]) -> String {
    run(dig(port).args(question), "").stdout
}

#[test]
fn a_name_is_found_and_one_that_does_not_exist_is_not() {
    let server = Dns::start();
    let (_gateway, port) = server.gateway();
    assert_eq!(ask(port, &["+short", "one.test"]), "192.0.2.1\n");
    let answer = ask(port, &["nobody.test"]);
    assert!(answer.contains("status: NXDOMAIN") && answer.contains("(UDP)"), "{answer}");
}

#[test]
fn two_hundred_questions_at_once_get_their_own_answers() {
    let server = Dns::start();
    let (gateway, port) = server.gateway();
    let script = format!(
        "seq 0 199 | xargs -P 200 -I % dig -4 -r @127.0.0.1 -p {port} +tries=1 +time=20 +noall +answer n-10-0-0-%.pool.test"
    );
    let report = run(Command::new("sh").args(["-c", &script]), "");
    let answers: BTreeSet<(String, String)> = report
        .stdout
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            Some((words.next()?.to_owned(), words.nth(3)?.to_owned()))
        })
        .collect();
    let expected = (0..200).map(|n| (format!("n-10-0-0-{n}.pool.test."), format!("10.0.0.{n}")));
    assert_eq!(answers, expected.collect(), "{}", report.text());
    for what in ["sluice_udp_received_total", "sluice_udp_sent_total"] {
        let counted = || gateway.metrics().count(what, &[("listener", "dns")]);
        eventually(DEADLINE, "each datagram is counted", || counted() == 200);
    }
}

#[test]
fn a_large_answer_comes_in_one_datagram_to_a_client_that_takes_it() {
    let server = Dns::start();
    let (_gateway, port) = server.gateway();
    let answer = ask(port, &["+bufsize=4096", "+ignore", "big.test", "TXT"]);
    assert!(answer.contains("(UDP)") && !answer.contains("Truncated"), "{answer}");
    for string in strings() {
        assert!(answer.contains(&string), "{string}: {answer}");
    }
}

#[test]
fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let server = Dns::start();
    let (_gateway, port) = server.gateway();
    let answer = ask(port, &["+noedns", "big.test", "TXT"]);
    assert!(answer.contains("Truncated, retrying in TCP mode") && answer.contains("(TCP)"), "{answer}");
    for string in strings() {
        assert!(answer.contains(&string), "{string}: {answer}");
    }
}
