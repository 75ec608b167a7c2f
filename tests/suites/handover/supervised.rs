//! The service manager's protocols, with a service manager that is the test.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;
use tests::{Config, DEADLINE, Endpoint, Gateway, RawClient, eventually, sluice};

/// Hears what a service says of itself.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("the folder is ours");
        socket.set_read_timeout(Some(DEADLINE)).expect("the socket is ours");
        Self { socket, folder }
    }

    fn environment(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        command
    }

    /// The next message that is no sign of life.
    #[track_caller]
    fn hear(&self) -> String {
        loop {
            let message = self.hear_any();
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }

    #[track_caller]
    fn hear_any(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).expect("the service says something");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

#[test]
fn the_service_manager_is_told_each_step_and_who_is_the_main_process() {
    let endpoint = Endpoint::start("c1");
    let manager = Manager::new();
    let config = Config::in_front_of(endpoint.address()).handover();
    let mut gateway = Gateway::start_as(&config, |command| manager.environment(command));
    assert_eq!(manager.hear(), "READY=1\nSTATUS=serving, generation 1");
    assert!(gateway.reload());
    let reloading = manager.hear();
    let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").map(str::parse::<u64>);
    assert!(matches!(micros, Some(Ok(1..))), "{reloading}");
    assert_eq!(manager.hear(), "READY=1\nSTATUS=serving, generation 1");
    // The next process is started by somebody else, and learns of the manager from the former one.
    let mut former = gateway.hand_over();
    assert_eq!(manager.hear(), format!("MAINPID={}", gateway.pid()));
    assert_eq!(manager.hear(), "READY=1\nSTATUS=serving, generation 2");
    assert_eq!(former.wait(DEADLINE).code(), Some(0));
    gateway.signal(Signal::TERM);
    assert_eq!(manager.hear(), "STOPPING=1\nSTATUS=draining");
    assert_eq!(gateway.wait(DEADLINE).code(), Some(0));
}

#[test]
fn the_watchdog_hears_of_the_process_that_serves() {
    let manager = Manager::new();
    let endpoint = Endpoint::start("c1");
    let config = Config::in_front_of(endpoint.address()).handover();
    let mut gateway = Gateway::start_as(&config, |mut command| {
        command.env("WATCHDOG_USEC", "100000");
        manager.environment(command)
    });
    eventually(DEADLINE, "it gives signs of life", || manager.hear_any() == "WATCHDOG=1");
    let mut former = gateway.hand_over();
    assert_eq!(former.wait(DEADLINE).code(), Some(0));
    while manager.socket.set_nonblocking(true).is_ok() && manager.socket.recv(&mut [0; 1024]).is_ok() {}
    manager.socket.set_nonblocking(false).expect("the socket is ours");
    eventually(DEADLINE, "the next process does so too", || manager.hear_any() == "WATCHDOG=1");
    // One that stands still gives none.
    gateway.signal(Signal::STOP);
    let silent = || {
        manager.socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).expect("the socket is ours");
        manager.socket.recv(&mut [0; 1024]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    eventually(DEADLINE, "there is silence", silent);
}

/// Starts `command` with `sockets` as a service manager passes them: from descriptor 3 on, by name.
fn activated(command: &Command, sockets: [TcpListener; 2], names: &str, output: &Path) -> Command {
    let [first, second] = sockets.map(OwnedFd::from);
    let mut shell = Command::new("sh");
    let script = r#"exec 3<&0 4>&1 </dev/null >>"$0"; LISTEN_PID=$$ exec "$@""#;
    shell.arg("-c").arg(script).arg(output).arg(command.get_program()).args(command.get_args());
    shell.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names);
    shell.stdin(Stdio::from(first)).stdout(Stdio::from(second));
    shell
}

fn listening() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports")
}

#[test]
fn sockets_of_the_service_manager_are_served_by_name_or_address() {
    let endpoint = Endpoint::start("c1");
    let (web, more) = (listening(), listening());
    let address = |socket: &TcpListener| socket.local_addr().expect("it is bound");
    let (web_address, more_address) = (address(&web), address(&more));
    // Here before the process is.
    let mut early = RawClient::connect(web_address);
    early.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let config = Config::in_front_of(endpoint.address()).handover().workers(3).listener_at(
        "more",
        &more_address.to_string(),
        &[r#"protocol = "http""#],
    );
    let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    let output = folder.path().join("output");
    let mut gateway = Gateway::start_as(&config, |command| {
        let errors = std::fs::File::options().append(true).open(
            Path::new(command.get_args().last().expect("it has a configuration")).with_file_name("stderr"),
        );
        let mut shell = activated(&command, [web, more], "web:whatever", &output);
        shell.stderr(errors.expect("it was made"));
        shell
    });
    assert_eq!((gateway.web(), gateway.listener("more")), (web_address, more_address));
    assert_eq!(early.receive().status, 200);
    // One socket and three workers: all read it.
    let mut clients: Vec<_> = (0..32).map(|_| RawClient::connect(more_address)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("a", "/").status, 200));
    // And they are handed over as any other.
    drop((early, clients));
    let mut former = gateway.hand_over();
    for _ in 0..32 {
        assert_eq!(gateway.get("a", "/").status, 200);
    }
    assert_eq!(former.wait(DEADLINE).code(), Some(0));
}

#[test]
fn a_socket_that_no_listener_wants_is_refused() {
    let folder = TempDir::with_prefix("sluice-test-").expect("a temporary folder can be made");
    let (web, stray) = (listening(), listening());
    let text = "[registry]\npath = \"registry\"\n[gateway]\nid = \"g\"\n\
                [[gateway.listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n";
    std::fs::write(folder.path().join("sluice.toml"), text).expect("the folder is ours");
    let mut command = sluice();
    command.args(["run", "--config"]).arg(folder.path().join("sluice.toml"));
    let port = stray.local_addr().expect("it is bound").to_string();
    let mut shell = activated(&command, [web, stray], "web:stray", &folder.path().join("output"));
    let errors = std::fs::File::create(folder.path().join("errors")).expect("the folder is ours");
    let status = shell.stderr(errors).status().expect("a shell is there");
    assert_eq!(status.code(), Some(1));
    let said = std::fs::read_to_string(folder.path().join("errors")).expect("it was made");
    assert!(said.contains(&port) && said.contains("stray"), "{said}");
}

#[test]
fn what_is_passed_to_another_process_is_left_alone() {
    let endpoint = Endpoint::start("c1");
    let gateway = Gateway::start_as(&Config::in_front_of(endpoint.address()), |mut command| {
        // Of whoever started the one that started us.
        command
            .env("LISTEN_PID", "1")
            .env("LISTEN_FDS", "7")
            .env("WATCHDOG_PID", "1")
            .env("WATCHDOG_USEC", "1");
        command.env("NOTIFY_SOCKET", "/nowhere/notify");
        command
    });
    assert_eq!(gateway.get("a", "/").status, 200);
    assert!(gateway.output().contains("the service manager does not listen"), "{}", gateway.output());
}
