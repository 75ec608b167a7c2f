//! Redis and its client, through TCP listeners.

use std::process::Command;

use tempfile::TempDir;
use tests::{App, Config, DEADLINE, Gateway, HeldPort, Program, certificate, eventually, finish};

use crate::front::{PATIENCE, await_probe, path, run, text_of};

const PREFIX: &str = "sluice-test-";
const FOLDER: &str = "a temporary folder can be made";

struct Redis {
    program: Program,
    port: HeldPort,
    folder: TempDir,
}

impl Redis {
    fn start() -> Self {
        let port = HeldPort::tcp();
        let plain = ["--port".to_owned(), port.port().to_string()];
        Self::launch(port, TempDir::with_prefix(PREFIX).expect(FOLDER), &plain, &[])
    }

    /// Speaks TLS only, with a certificate for `host` that lies in its folder.
    fn with_tls(host: &str) -> Self {
        let folder = TempDir::with_prefix(PREFIX).expect(FOLDER);
        certificate(folder.path(), host);
        let port = HeldPort::tcp();
        let [chain, key] = ["crt", "key"].map(|kind| path(&folder.path().join(format!("{host}.{kind}"))));
        let tls = ["--port", "0", "--tls-port", &port.port().to_string(), "--tls-auth-clients", "no"];
        let files = ["--tls-cert-file", &chain, "--tls-key-file", &key, "--tls-ca-cert-file", &chain];
        let options: Vec<String> = tls.iter().chain(&files).map(|word| (*word).to_owned()).collect();
        Self::launch(port, folder, &options, &["--tls", "--cacert", &chain, "--sni", host])
    }

    fn launch(port: HeldPort, folder: TempDir, options: &[String], client: &[&str]) -> Self {
        let mut server = Command::new("redis-server");
        // Nothing is kept on disk.
        server.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
        let mut program = Program::start(server.arg(folder.path()).args(options));
        let number = port.port().to_string();
        program.wait_for("redis answers", |_| {
            let mut ping = Command::new("redis-cli");
            let report = finish(ping.args(["-p", &number]).args(client).arg("ping"), "", PATIENCE);
            (report.stdout == "PONG\n").then_some(())
        });
        Self { program, port, folder }
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

#[test]
fn tls_ends_at_a_listener_that_has_a_certificate() {
    let server = Redis::start();
    let folder = TempDir::with_prefix(PREFIX).expect(FOLDER);
    let pem = certificate(folder.path(), "cache.test");
    let tls = r#"tls = { certificates = ["tls/*.pem"] }"#;
    let config = Config::new().app(&server.app("cache")).file("tls/cache.pem", &pem);
    let config = config.listener("cache", &[r#"protocol = "tcp""#, r#"app = "cache""#, tls]);
    let gateway = Gateway::start(&config);
    let trusted = path(&folder.path().join("cache.test.crt"));
    let secure = ["--tls", "--cacert", &trusted, "--sni", "cache.test"];
    let with = |more: &[&'static str]| -> Vec<&str> { secure.iter().chain(more).copied().collect() };
    assert_eq!(ask(&gateway, &with(&["ping"]), ""), "PONG\n");
    let large = text_of(4 << 20);
    assert_eq!(ask(&gateway, &with(&["-x", "SET", "large"]), &large), "OK\n");
    let back = ask(&gateway, &with(&["GET", "large"]), "");
    assert!(back.strip_suffix('\n') == Some(&large), "{} bytes came", back.len());
    let commands: String = (0..20_000).map(|number| format!("SET key:{number} {number}\r\n")).collect();
    let report = ask(&gateway, &with(&["--pipe"]), &commands);
    assert!(report.contains("errors: 0, replies: 20000"), "{report}");
    // Who does not speak TLS is not let in.
    let plain = finish(client(&gateway).arg("ping"), "", PATIENCE);
    assert!(!plain.stdout.contains("PONG"), "{}", plain.text());
}

#[test]
fn tls_passes_to_the_server_that_the_client_names() {
    let (one, two) = (Redis::with_tls("one.test"), Redis::with_tls("two.test"));
    let names = r#"sni = { "one.test" = "one", "two.test" = "two" }"#;
    let config = Config::new().app(&one.app("one")).app(&two.app("two"));
    let gateway = Gateway::start(&config.listener("cache", &[r#"protocol = "tcp""#, names]));
    for (server, name) in [(&one, "one.test"), (&two, "two.test")] {
        // Each client trusts the certificate of its own server only.
        let trusted = path(&server.folder.path().join(format!("{name}.crt")));
        let secure = ["--tls", "--cacert", &trusted, "--sni", name];
        let with = |more: &[&'static str]| -> Vec<&str> { secure.iter().chain(more).copied().collect() };
        assert_eq!(ask(&gateway, &with(&["DBSIZE"]), ""), "0\n");
        assert_eq!(ask(&gateway, &with(&["SET", "a", "1"]), ""), "OK\n");
    }
}

#[test]
fn probes_ping_and_tell_a_server_that_wants_a_password_from_one_that_lets_nobody_in() {
    let server = Redis::start();
    let app = server.app("cache").probed().health(r#"kind = "redis""#);
    let gateway = Gateway::start(&Config::new().app(&app));
    await_probe(&gateway, "pass", "up");
    let cli = |arguments: &[&str]| {
        let mut command = Command::new("redis-cli");
        let port = server.port.port().to_string();
        run(command.args(["-p", &port, "--no-auth-warning"]).args(arguments), "").stdout
    };
    assert_eq!(cli(&["CONFIG", "SET", "requirepass", "secret"]), "OK\n");
    await_probe(&gateway, "pass_no_login", "up");
    // One connection is the client's that asks for it, and none is left for the next.
    let mut holder = Program::start(Command::new("redis-cli").args(["-p", &server.port.port().to_string()]));
    for (ask, answer) in [("AUTH secret", "OK"), ("CONFIG SET maxclients 1", "OK")] {
        holder.say(ask);
        holder.wait_for_line("it is done", |line| (line == answer).then_some(()));
    }
    let error = await_probe(&gateway, "refused", "down");
    assert_eq!(error, "refused: ERR max number of clients reached");
    holder.say("CONFIG SET maxclients 100");
    await_probe(&gateway, "pass_no_login", "up");
}
