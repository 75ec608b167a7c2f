//! Real servers and their own clients, with the gateway between them.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tests::{App, Config, DEADLINE, Finished, Gateway, finish, yields};

/// A server process, killed when it is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Server {
    /// Starts what `command` makes of a free port and an empty folder, and waits until it accepts.
    fn start(command: impl FnOnce(u16, &Path) -> Command) -> Self {
        let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
        // These servers cannot say which port they took; the one that was free a moment ago is.
        let free = TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports");
        let address = free.local_addr().expect("a bound socket has an address");
        drop(free);
        let mut command = command(address.port(), folder.path());
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => panic!("cannot run {command:?} (scripts/install-test-deps installs it): {error}"),
        };
        yields(DEADLINE * 2, "the server accepts", || {
            let ended = child.try_wait().expect("the server is our child");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            TcpStream::connect(address).ok()
        });
        Self { child, address, _folder: folder }
    }

    fn gateway(&self) -> Gateway {
        let app = App::new("db").tcp_endpoint("v1", "c1", self.address);
        let lines = [r#"protocol = "tcp""#, r#"app = "db""#];
        Gateway::start(&Config::new().app(&app).listener("db", &lines))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn run(command: &mut Command, input: &str) -> Finished {
    let report = finish(command, input, DEADLINE * 2);
    assert_eq!(report.code, Some(0), "{}", report.text());
    report
}

#[test]
fn redis_and_its_client() {
    let server = Server::start(|port, folder| {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(folder);
        command
    });
    let gateway = server.gateway();
    let port = gateway.listener("db").port().to_string();
    let asked = run(Command::new("redis-cli").args(["-p", &port]), "SET a 1\nINCR a\nGET a\n");
    assert_eq!(asked.stdout.lines().collect::<Vec<_>>(), ["OK", "2", "2"]);
    // Pipelines from many clients, each answer checked by the client.
    let mut load = Command::new("redis-benchmark");
    load.args(["-p", &port, "-n", "5000", "-c", "20", "-P", "10", "-d", "10000", "-t", "set,get", "-q"]);
    let report = run(&mut load, "");
    assert!(report.stdout.contains("GET:") && !report.text().contains("Error"), "{}", report.text());
}

#[test]
fn mariadb_and_its_client() {
    let server = Server::start(|port, folder| {
        let data = folder.join("data");
        let user = run(Command::new("id").arg("-un"), "").stdout.trim().to_owned();
        let user = format!("--user={user}");
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", &user]);
        run(install.arg(format!("--datadir={}", data.display())), "");
        let mut command = Command::new("mariadbd");
        command.args(["--no-defaults", "--bind-address=127.0.0.1", &user, &format!("--port={port}")]);
        command.arg(format!("--socket={}", folder.join("socket").display()));
        command.arg(format!("--datadir={}", data.display()));
        command
    });
    let gateway = server.gateway();
    let port = format!("--port={}", gateway.listener("db").port());
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--host=127.0.0.1", "--protocol=tcp", &port, "--user=root", "--batch"]);
    let script = "CREATE DATABASE shop; CREATE TABLE shop.big (id INT, body LONGTEXT);
        INSERT INTO shop.big VALUES (1, REPEAT('x', 4000000));
        SELECT LENGTH(body), MD5(body) = MD5(REPEAT('x', 4000000)) FROM shop.big;
        SELECT body FROM shop.big;";
    let answer = run(client.args(["--skip-column-names", "--max-allowed-packet=16M"]), script);
    let mut lines = answer.stdout.lines();
    assert_eq!(lines.next(), Some("4000000\t1"));
    assert_eq!(lines.next().map(|body| body.bytes().filter(|byte| *byte == b'x').count()), Some(4_000_000));
}
