//! Redis and its client, through TCP listeners.

use std::process::Command;

use tempfile::TempDir;
use tests::{App, Config, DEADLINE, Gateway, HeldPort, Program, eventually, finish};

use crate::front::{PATIENCE, run, text_of};

struct Redis {
    program: Program,
    port: HeldPort,
    _folder: TempDir,
}

impl Redis {
    fn start() -> Self {
        let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
        let port = HeldPort::tcp();
        let mut server = Command::new("redis-server");
        server.args(["--bind", "127.0.0.1", "--port", &port.port().to_string()]);
        // Nothing is kept on disk.
        server.args(["--save", "", "--appendonly", "no", "--dir"]).arg(folder.path());
        let mut program = Program::start(&mut server);
        let address = port.port().to_string();
        program.wait_for("redis answers", |_| {
            let report = finish(Command::new("redis-cli").args(["-p", &address, "ping"]), "", PATIENCE);
            (report.stdout == "PONG\n").then_some(())
        });
        Self { program, port, _folder: folder }
    }

    fn app(&self, id: &str) -> App {
        App::new(id).tcp_endpoint("v1", "c1", self.port.address())
    }

    fn gateway(&self) -> Gateway {
        let lines = [r#"protocol = "tcp""#, r#"app = "cache""#];
        Gateway::start(&Config::new().app(&self.app("cache")).listener("cache", &lines))
    }
}

fn client(gateway: &Gateway) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &gateway.listener("cache").port().to_string()]);
    command
}

#[track_caller]
fn ask(gateway: &Gateway, arguments: &[&str], input: &str) -> String {
    run(client(gateway).args(arguments), input).stdout
}

#[test]
fn values_are_set_and_read() {
    let server = Redis::start();
    let gateway = server.gateway();
    assert_eq!(ask(&gateway, &["ping"], ""), "PONG\n");
    let session = "SET greeting \"hello\\r\\nworld\"\nSTRLEN greeting\nINCR visits\nINCRBY visits 41\n";
    assert_eq!(ask(&gateway, &[], session), "OK\n12\n1\n42\n");
    // -x: the last argument is what comes on standard input.
    let large = text_of(8 << 20);
    assert_eq!(ask(&gateway, &["-x", "SET", "large"], &large), "OK\n");
    let back = ask(&gateway, &["GET", "large"], "");
    assert!(back.strip_suffix('\n') == Some(&large), "{} bytes came", back.len());
}

#[test]
fn a_hundred_thousand_commands_go_through_in_one_stream() {
    let server = Redis::start();
    let gateway = server.gateway();
    let commands: String =
        (0..100_000).map(|number| format!("SET key:{number} value:{number}\r\n")).collect();
    let report = ask(&gateway, &["--pipe"], &commands);
    assert!(report.contains("errors: 0, replies: 100000"), "{report}");
    assert_eq!(ask(&gateway, &["DBSIZE"], ""), "100000\n");
    assert_eq!(ask(&gateway, &["MGET", "key:0", "key:99999"], ""), "value:0\nvalue:99999\n");
}

#[test]
fn subscribers_get_what_is_published() {
    let server = Redis::start();
    let gateway = server.gateway();
    let mut subscriber = Program::start(client(&gateway).args(["SUBSCRIBE", "news"]));
    subscriber.wait_for_line("it is subscribed", |line| (line == "subscribe").then_some(()));
    for number in 1..=100 {
        assert_eq!(ask(&gateway, &["PUBLISH", "news", &format!("item {number}")], ""), "1\n");
    }
    subscriber.wait_for_line("the last item comes", |line| (line == "item 100").then_some(()));
    let items: Vec<String> =
        subscriber.lines().into_iter().filter(|line| line.starts_with("item ")).collect();
    let expected: Vec<String> = (1..=100).map(|number| format!("item {number}")).collect();
    assert_eq!(items, expected);
}

#[test]
fn a_server_that_dies_ends_its_connections() {
    let mut server = Redis::start();
    let gateway = server.gateway();
    let subscriber = Program::start(client(&gateway).args(["SUBSCRIBE", "news"]));
    let open = || gateway.metrics().count("sluice_connections_open", &[("listener", "cache")]);
    eventually(DEADLINE, "the subscriber is connected", || open() == 1);
    server.program.kill();
    eventually(DEADLINE, "its connection is gone", || open() == 0);
    drop(subscriber);
    let refused = finish(client(&gateway).arg("ping"), "", PATIENCE);
    assert!(!refused.stdout.contains("PONG"), "{}", refused.text());
}
