//! MariaDB and its client, through a TCP listener.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

use tempfile::TempDir;
use tests::{App, Config, DEADLINE, Finished, Gateway, HeldPort, Program, eventually, finish};

use crate::front::{PATIENCE, await_probe, run, text_of};

/// A server with data of its own, reached by name and without a password.
struct MariaDb {
    program: Program,
    port: HeldPort,
    folder: TempDir,
}

impl MariaDb {
    fn start() -> Self {
        let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
        let port = HeldPort::tcp();
        let data = format!("--datadir={}", folder.path().join("data").display());
        // Of its own: a server that starts removes what others have in theirs.
        let tmp = format!("--tmpdir={}", folder.path().display());
        // Told to be who we are: root is what it otherwise refuses to be.
        let user = format!("--user={}", run(Command::new("id").arg("-un"), "").stdout.trim());
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        // As when a package is installed: nothing but the data is touched, and no owner of it is changed.
        install.arg("--rpm");
        run(install.args([&data, &tmp, &user]), "");
        let mut server = Command::new("mariadbd");
        server.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", &data, &tmp, &user]);
        server.arg(format!("--port={}", port.port()));
        server.arg(format!("--socket={}", folder.path().join("socket").display()));
        server.arg(format!("--pid-file={}", folder.path().join("pid").display()));
        // Nothing of it outlives the test: neither is a crash to be survived, nor memory to be used well.
        server.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M"]);
        server.args(["--skip-log-bin", "--max-allowed-packet=32M"]);
        let program = Program::start(&mut server);
        let mut server = Self { program, port, folder };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&mut self) {
        let port = self.port.port();
        self.program.wait_for("the database answers", |_| {
            let report = finish(client(port).arg("--execute=SELECT 1"), "", PATIENCE);
            (report.code == Some(0)).then_some(())
        });
    }

    fn gateway(&self) -> Gateway {
        let app = App::new("db").tcp_endpoint("v1", "c1", self.port.address());
        let lines = [r#"protocol = "tcp""#, r#"app = "db""#];
        Gateway::start(&Config::new().app(&app).listener("db", &lines))
    }
}

fn client(port: u16) -> Command {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--host=127.0.0.1", "--protocol=tcp", "--user=root", "--batch"]);
    command.args(["--skip-column-names", "--max-allowed-packet=32M", &format!("--port={port}")]);
    command
}

#[track_caller]
fn sql(gateway: &Gateway, script: &str) -> Finished {
    run(&mut client(gateway.listener("db").port()), script)
}

#[test]
fn ten_thousand_rows_are_written_and_read() {
    let server = MariaDb::start();
    let gateway = server.gateway();
    let rows: Vec<String> = (1..=10_000).map(|id| format!("({id}, 'row {id}')")).collect();
    let mut script =
        "CREATE DATABASE shop; USE shop; CREATE TABLE item (id INT PRIMARY KEY, name TEXT);\n".to_owned();
    // A hundred statements, so that there is a hundred times to and fro.
    for part in rows.chunks(100) {
        script.push_str(&format!("INSERT INTO item VALUES {};\n", part.join(", ")));
    }
    script.push_str("SELECT COUNT(*), SUM(id), SUM(LENGTH(name)) FROM item;\n");
    let answer = sql(&gateway, &script);
    let letters: usize = (1..=10_000).map(|id| format!("row {id}").len()).sum();
    assert_eq!(answer.stdout, format!("10000\t50005000\t{letters}\n"));
    let read = sql(&gateway, "SELECT id, name FROM shop.item ORDER BY id;");
    let expected: String = (1..=10_000).map(|id| format!("{id}\trow {id}\n")).collect();
    assert!(read.stdout == expected, "{} bytes came", read.stdout.len());
    let count = |name, labels: &[_]| gateway.metrics().count(name, labels);
    eventually(DEADLINE, "both connections are counted", || {
        count("sluice_requests_total", &[("app", "db"), ("method", "tcp")]) == 2
    });
    assert_eq!(count("sluice_connections_open", &[("listener", "db")]), 0);
}

#[test]
fn a_large_value_passes_whole_in_both_directions() {
    let server = MariaDb::start();
    let gateway = server.gateway();
    let text = text_of(12 << 20);
    let file = server.folder.path().join("dump.sql");
    let insert = "CREATE DATABASE shop; CREATE TABLE shop.big (body LONGTEXT); INSERT INTO shop.big VALUES ";
    let script = format!("{insert}('{text}');\nSELECT LENGTH(body), MD5(body) FROM shop.big;\n");
    let answer = sql(&gateway, &script);
    std::fs::write(&file, &text).expect("the folder is ours");
    // A program that is neither ours nor the database's says what the sum is.
    let sum = run(Command::new("md5sum").arg(&file), "").stdout;
    let sum = sum.split(' ').next().expect("the sum comes first");
    assert_eq!(answer.stdout, format!("{}\t{sum}\n", 12 << 20));
    let mut raw = client(gateway.listener("db").port());
    let read = run(raw.args(["--raw", "--execute=SELECT body FROM shop.big"]), "");
    assert!(read.stdout.strip_suffix('\n') == Some(&text), "{} bytes came", read.stdout.len());
}

#[test]
fn a_connection_that_the_server_kills_is_lost_for_its_client() {
    let mut server = MariaDb::start();
    let gateway = server.gateway();
    let port = gateway.listener("db").port();
    let mut waiting = Program::start(client(port).args(["--unbuffered", "--skip-reconnect"]));
    waiting.say("SELECT 'connected', CONNECTION_ID();");
    let id = waiting.wait_for_line("it is connected", |line| {
        line.strip_prefix("connected\t").and_then(|id| id.parse::<u64>().ok())
    });
    sql(&gateway, &format!("KILL {id};"));
    // The client looks at its connection when it next needs it.
    waiting.say("SELECT 'still there';");
    eventually(DEADLINE, "the client gives up", || waiting.exited().is_some_and(|status| !status.success()));
    let open = || gateway.metrics().count("sluice_connections_open", &[("listener", "db")]);
    eventually(DEADLINE, "its connection is closed", || open() == 0);
    assert!(!waiting.lines().iter().any(|line| line.contains("still there")));
    // No client gets further than the gateway when the server is gone.
    server.program.kill();
    let refused = finish(&mut client(port), "SELECT 1;", PATIENCE);
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    assert!(refused.stderr.contains("Lost connection to"), "{}", refused.stderr);
}

/// The server's own count.
#[track_caller]
fn status(server: &MariaDb, name: &str) -> u64 {
    let script = format!("SHOW GLOBAL STATUS LIKE '{name}';");
    let answer = run(&mut client(server.port.port()), &script).stdout;
    answer.split_whitespace().last().and_then(|count| count.parse().ok()).expect("a count is there")
}

#[test]
fn probes_log_in_so_that_the_server_never_blocks_the_gateway() {
    let server = MariaDb::start();
    let probed = App::new("db").tcp_endpoint("v1", "c1", server.port.address()).probed();
    let gateway = Gateway::start(&Config::new().app(&probed.clone().health(r#"kind = "mysql""#)));
    await_probe(&gateway, "pass_no_login", "up");
    run(&mut client(server.port.port()), "CREATE USER monitor;");
    let probed = probed.health(r#"kind = "mysql""#).health(r#"user = "monitor""#);
    gateway.put_app(&probed);
    await_probe(&gateway, "pass", "up");
    let aborted = || ["Aborted_connects", "Aborted_clients"].map(|name| status(&server, name));
    let passes = || gateway.metrics().count("sluice_probes_total", &[("result", "pass")]);
    // What the last probe without a login left is counted when the server comes to it.
    eventually(DEADLINE * 2, "each is a login and a farewell", || {
        let (before, passed) = (aborted(), passes());
        eventually(DEADLINE, "many probes pass", || passes() > passed + 20);
        aborted() == before
    });
}

#[test]
fn probes_tell_what_a_server_says_that_lets_nobody_in() {
    let mut server = MariaDb::start();
    let probed = App::new("db").tcp_endpoint("v1", "c1", server.port.address()).probed();
    let gateway = Gateway::start(&Config::new().app(&probed.health(r#"kind = "mysql""#)));
    await_probe(&gateway, "pass_no_login", "up");
    run(
        &mut client(server.port.port()),
        "SET GLOBAL connect_timeout = 3600; SET GLOBAL max_connections = 10;",
    );
    // Who was greeted and says nothing holds a connection; the first that is refused ends this.
    let mut held = Vec::new();
    eventually(DEADLINE, "no connection is left", || {
        let mut stream = TcpStream::connect(server.port.address()).expect("it listens");
        let mut head = [0; 5];
        let is_refused = stream.read_exact(&mut head).is_ok() && head[4] == 0xff;
        held.push(stream);
        is_refused
    });
    let error = await_probe(&gateway, "refused", "down");
    assert_eq!(error, "refused: Too many connections (1040)");
    drop(held);
    await_probe(&gateway, "pass_no_login", "up");
    server.program.kill();
    await_probe(&gateway, "connect_refused", "down");
}
