//! Lines that go over a socket: to whoever reads, and past whoever does not.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tests::{Config, DEADLINE, Endpoint, Gateway, Process, eventually};

fn gateway(lines: &[&str]) -> (Gateway, Endpoint) {
    let endpoint = Endpoint::start("c1");
    let config = Config::in_front_of(endpoint.address()).access_log_lines(lines);
    (Gateway::start(&config), endpoint)
}

/// A place for a socket, outside the gateway's folder: it is there before the gateway.
fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    let path = folder.path().join("log");
    (folder, path)
}

fn path_of(line: &str) -> String {
    let entry: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    entry["path"].as_str().expect("it has a path").to_owned()
}

/// The message of RFC 5424 section 6, in its parts: priority, and the line.
#[track_caller]
fn parse_syslog(message: &str) -> (u32, String) {
    let (priority, rest) =
        message.strip_prefix('<').and_then(|rest| rest.split_once('>')).expect("a priority");
    let parts: Vec<&str> = rest.splitn(8, ' ').collect();
    let [version, time, host, program, process, kind, data, line] = parts[..] else { panic!("{message}") };
    assert_eq!((version, host, program, kind, data), ("1", "gw-test", "sluice", "access", "-"), "{message}");
    assert!(process.parse::<u32>().is_ok(), "{message}");
    let entry: serde_json::Value = serde_json::from_str(line).expect("the message is the line");
    assert_eq!(entry["time"], time, "{message}");
    (priority.parse().expect("a number"), line.to_owned())
}

fn accept(listener: &UnixListener) -> BufReader<UnixStream> {
    let (stream, _) = listener.accept().expect("the gateway connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
    BufReader::new(stream)
}

fn next_line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line comes in time");
    line
}

#[test]
fn a_receiver_gets_every_line_and_again_after_it_was_away() {
    let (_folder, path) = place();
    let listener = UnixListener::bind(&path).expect("the folder is ours");
    let (gateway, _endpoint) = gateway(&[&format!("socket = \"unix:{}\"", path.display())]);
    gateway.get("a", "/first");
    let mut reader = accept(&listener);
    assert_eq!(path_of(&next_line(&mut reader)), "/first");
    // Away, name and all; and nothing is listening while the next lines are made.
    drop((reader, listener));
    std::fs::remove_file(&path).expect("the folder is ours");
    for number in 1..=3 {
        gateway.get("a", &format!("/away/{number}"));
    }
    eventually(DEADLINE, "the log has noticed", || gateway.metrics().count("sluice_access_log_up", &[]) == 0);
    let listener = UnixListener::bind(&path).expect("the folder is ours");
    let mut reader = accept(&listener);
    // Each worker's in its order; two of them have no common one.
    let mut paths: Vec<_> = (1..=3).map(|_| path_of(&next_line(&mut reader))).collect();
    paths.sort();
    assert_eq!(paths, ["/away/1", "/away/2", "/away/3"]);
    eventually(DEADLINE, "the log is up again", || gateway.metrics().count("sluice_access_log_up", &[]) == 1);
    assert_eq!(gateway.metrics().count("sluice_access_log_dropped_lines_total", &[]), 0);
}

#[test]
fn a_gateway_starts_and_serves_without_its_receiver() {
    let (_folder, path) = place();
    let (mut gateway, _endpoint) = gateway(&[&format!("socket = \"unix:{}\"", path.display())]);
    assert_eq!(gateway.get("a", "/").status, 200);
    eventually(DEADLINE, "that is seen", || {
        gateway.metrics().count("sluice_access_log_errors_total", &[]) > 0
    });
    // Nor does it wait for it at the end.
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait(DEADLINE).success());
    assert!(gateway.output().contains("lines of the access log are lost"));
}

/// Long enough for a few hundred to fill every buffer on the way.
fn long_request(number: usize) -> String {
    format!("GET /{number} HTTP/1.1\r\nHost: a\r\nUser-Agent: {}\r\n\r\n", "x".repeat(8_000))
}

/// Asks until lines are dropped; every request is answered all the while.
fn ask_until_dropped(gateway: &Gateway) -> u64 {
    let mut client = gateway.connect();
    let mut number = 0;
    let dropped = || gateway.metrics().count("sluice_access_log_dropped_lines_total", &[]);
    eventually(DEADLINE, "lines are dropped", || {
        for _ in 0..50 {
            number += 1;
            client.send(long_request(number));
            assert_eq!(client.receive().status, 200);
        }
        dropped() > 0
    });
    let waiting = gateway.metrics().count("sluice_access_log_backlog_bytes", &[]);
    assert!(waiting <= 256 << 10, "{waiting} bytes wait");
    dropped()
}

#[test]
fn a_receiver_that_stops_reading_holds_no_request_up() {
    let (_folder, path) = place();
    let listener = UnixListener::bind(&path).expect("the folder is ours");
    let (gateway, _endpoint) =
        gateway(&[&format!("socket = \"unix:{}\"", path.display()), "buffer = \"256KiB\""]);
    gateway.get("a", "/first");
    let mut reader = accept(&listener);
    assert_eq!(path_of(&next_line(&mut reader)), "/first");
    let dropped = ask_until_dropped(&gateway);
    // It reads on: every line that comes is whole, and those that were made meanwhile are not mixed up.
    gateway.get("a", "/last");
    let mut last = 0;
    loop {
        let path = path_of(&next_line(&mut reader));
        let Ok(number) = path[1..].parse::<u64>() else {
            if path == "/last" {
                break;
            }
            panic!("{path}");
        };
        assert!(number > last, "{number} after {last}");
        last = number;
        if last > 0 {
            // What did not fit is gone for good, so this one may be too: it is asked for again.
            gateway.get("a", "/last");
        }
    }
    assert!(dropped > 0 && last > 0);
}

#[test]
fn a_syslog_daemon_that_stops_reading_holds_no_request_up() {
    let (_folder, path) = place();
    let daemon = UnixDatagram::bind(&path).expect("the folder is ours");
    let (gateway, _endpoint) =
        gateway(&[&format!("syslog = \"unix:{}\"", path.display()), "buffer = \"256KiB\""]);
    ask_until_dropped(&gateway);
    daemon.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
    let mut buffer = vec![0; 64 << 10];
    let length = daemon.recv(&mut buffer).expect("what it had is there");
    parse_syslog(&String::from_utf8_lossy(&buffer[..length]));
}

#[test]
fn a_tcp_receiver_that_stops_reading_holds_no_request_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (gateway, _endpoint) = gateway(&[&format!("syslog = \"tcp:{address}\""), "buffer = \"256KiB\""]);
    let (_silent, _) = {
        gateway.get("a", "/");
        listener.accept().expect("the gateway connects")
    };
    ask_until_dropped(&gateway);
}

#[test]
fn syslog_gets_one_datagram_for_each_line() {
    let (_folder, path) = place();
    let unix = UnixDatagram::bind(&path).expect("the folder is ours");
    unix.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    udp.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
    let address = udp.local_addr().expect("it is bound");
    let receive_unix = |buffer: &mut [u8]| unix.recv(buffer);
    let receive_udp = |buffer: &mut [u8]| udp.recv(buffer);
    type Receive<'a> = &'a dyn Fn(&mut [u8]) -> std::io::Result<usize>;
    let cases: [(String, Receive<'_>); 2] =
        [(format!("unix:{}", path.display()), &receive_unix), (format!("udp:{address}"), &receive_udp)];
    for (target, receive) in cases {
        let (gateway, endpoint) = gateway(&[&format!("syslog = \"{target}\""), "facility = \"local2\""]);
        gateway.get("a", "/well");
        let next = || {
            let mut buffer = [0; 4096];
            let length = receive(&mut buffer).expect("a datagram comes in time");
            parse_syslog(std::str::from_utf8(&buffer[..length]).expect("it is text"))
        };
        let (priority, line) = next();
        // local2 is 18; what went well is informational.
        assert_eq!((priority, path_of(&line).as_str()), (18 * 8 + 6, "/well"));
        endpoint.stop();
        eventually(DEADLINE, "the endpoint refuses", || gateway.get("a", "/ill").status == 502);
        let (mut priority, mut line) = next();
        while !line.contains("\"status\":502") {
            (priority, line) = next();
        }
        assert_eq!((priority, path_of(&line).as_str()), (18 * 8 + 4, "/ill"));
    }
}

#[test]
fn syslog_over_tcp_counts_its_octets() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (gateway, _endpoint) = gateway(&[&format!("syslog = \"tcp:{address}\"")]);
    for number in 0..3 {
        gateway.get("a", &format!("/{number}"));
    }
    let (mut stream, _) = listener.accept().expect("the gateway connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
    let mut byte = [0];
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut digits = String::new();
        loop {
            stream.read_exact(&mut byte).expect("a frame comes in time");
            match byte[0] {
                b' ' => break,
                digit => digits.push(char::from(digit)),
            }
        }
        let mut message = vec![0; digits.parse().expect("a frame begins with its length")];
        stream.read_exact(&mut message).expect("as much as was counted");
        let (_, line) = parse_syslog(std::str::from_utf8(&message).expect("it is text"));
        seen.push(path_of(&line));
    }
    seen.sort();
    assert_eq!(seen, ["/0", "/1", "/2"]);
    // Nothing stands between two frames.
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("it is a socket");
    assert!(stream.read(&mut byte).is_err());
}

/// Debian's rsyslogd, with a socket in the file system and one for octet-counted frames, which writes every
/// message in its parts to a file.
struct Daemon {
    folder: TempDir,
    _process: Process,
}

impl Daemon {
    fn start() -> Self {
        let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            r#"global(workDirectory="{here}")
               module(load="imuxsock" SysSock.Use="off")
               module(load="imtcp")
               input(type="imuxsock" Socket="{socket}" UseSpecialParser="off" ParseHostname="on")
               input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{port}")
               template(name="parts" type="string"
                   string="%pri% %protocol-version% %hostname% %app-name% %msgid% %structured-data% %msg%\n")
               action(type="omfile" file="{out}" template="parts" asyncWriting="off")
            "#,
            here = folder.path().display(),
            socket = path("socket"),
            port = path("port"),
            out = path("out"),
        );
        std::fs::write(folder.path().join("conf"), config).expect("the folder is ours");
        let mut command = Command::new("/usr/sbin/rsyslogd");
        command.args(["-n", "-f", &path("conf"), "-i", &path("pid")]);
        let daemon = Self { _process: Process::start(&mut command), folder };
        eventually(DEADLINE, "it listens", || daemon.port().is_some() && daemon.socket().exists());
        daemon
    }

    fn port(&self) -> Option<u16> {
        std::fs::read_to_string(self.folder.path().join("port")).ok()?.trim().parse().ok()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn written(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("out")).unwrap_or_default()
    }
}

#[test]
fn a_real_syslog_daemon_takes_every_line_apart_as_it_was_meant() {
    let daemon = Daemon::start();
    let port = daemon.port().expect("it listens");
    let targets = [format!("unix:{}", daemon.socket().display()), format!("tcp:127.0.0.1:{port}")];
    let asked = |number: u32| format!("/{number}?q=%22[a=\\b]");
    let mut expected = 0;
    for target in targets {
        let (gateway, _endpoint) = gateway(&[&format!("syslog = \"{target}\""), "facility = \"local3\""]);
        for number in 1..=20 {
            // Quotes, brackets and percent signs mean something to syslog, too.
            gateway.get("a", &asked(number));
        }
        expected += 20;
        let own = || daemon.written().lines().filter(|line| line.contains("\"path\":\"/")).count();
        eventually(DEADLINE, "all lines have come", || own() == expected);
    }
    let mut paths = Vec::new();
    for line in daemon.written().lines().filter(|line| line.contains(" sluice access ")) {
        let parts: Vec<&str> = line.splitn(7, ' ').collect();
        // local3 (19) times eight, and informational (6).
        assert_eq!(parts[..6], ["158", "1", "gw-test", "sluice", "access", "-"], "{line}");
        paths.push(path_of(parts[6].trim_start()));
    }
    paths.sort();
    let mut wanted: Vec<_> = (1..=20).flat_map(|number| [asked(number), asked(number)]).collect();
    wanted.sort();
    assert_eq!(paths, wanted);
}
