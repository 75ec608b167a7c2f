//! Docker Engines and an image registry, each a real process of the test: `dockerd` with folders, a
//! socket and a bridge of its own, and Debian's `docker-registry` behind a password.
//!
//! Engines do not touch the packet filter: published ports are carried by their proxy. They need root.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::comes_true;

/// Of the registry. The password's base64 has characters that not every alphabet of base64 has.
pub const USERNAME: &str = "builder";
pub const PASSWORD: &str = "s~~>>??ecret";

/// Why engines cannot be run here; `None`: they can.
pub fn no_docker() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("a Docker Engine needs root");
    }
    let lacks = |program: &str| Command::new(program).arg("--version").output().is_err();
    if ["dockerd", "docker-registry", "htpasswd", "busybox"].into_iter().any(lacks) {
        return Some("run scripts/install-test-deps");
    }
    (!Path::new("/sys/fs/cgroup").exists()).then_some("the kernel has no cgroups")
}

/// A Docker Engine that ends with this value.
#[derive(Debug)]
pub struct DockerHost {
    process: Child,
    folder: TempDir,
    _bridge: Bridge,
    tcp: Option<u16>,
}

/// PEM files for an engine that listens on TCP: authority, certificate, key.
#[derive(Debug, Clone)]
pub struct EngineTls {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl DockerHost {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Listens on TCP as well, for clients with a certificate of the same authority.
    pub fn start_with(tls: Option<&EngineTls>) -> Self {
        let folder = tempfile::Builder::new().prefix("dockerd").tempdir().expect("a folder");
        let bridge = Bridge::create();
        let inside = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new("dockerd");
        command.args(["--data-root", &inside("data"), "--exec-root", &inside("exec")]);
        command.args(["--pidfile", &inside("pid"), "--host", &format!("unix://{}", inside("sock"))]);
        command.args(["--bridge", &bridge.name, "--iptables=false", "--ip6tables=false"]);
        // Not the machine's own settings.
        fs::write(folder.path().join("config.json"), "{}").expect("a file");
        command.args(["--ip-forward=false", "--ip-masq=false", "--config-file", &inside("config.json")]);
        let tcp = tls.map(|tls| {
            let port = free_port();
            command.args(["--host", &format!("tcp://127.0.0.1:{port}"), "--tlsverify"]);
            command.arg("--tlscacert").arg(&tls.authority).arg("--tlscert").arg(&tls.certificate);
            command.arg("--tlskey").arg(&tls.key);
            port
        });
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().expect("dockerd");
        let host = Self { process, folder, _bridge: bridge, tcp };
        let up = comes_true(crate::DEADLINE, || host.docker(&["version"]).status.success());
        assert!(up, "{}", fs::read_to_string(host.folder.path().join("log")).unwrap_or_default());
        host
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    /// Its port on 127.0.0.1, of one that has TLS.
    pub fn port(&self) -> u16 {
        self.tcp.expect("an engine with TLS")
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed()).expect("a process")
    }

    /// The command of that name, asked of this engine.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        self.docker_with(arguments, &[])
    }

    fn docker_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new("/usr/bin/docker");
        command.arg("--host").arg(format!("unix://{}", self.socket().display())).args(arguments);
        command.env("DOCKER_CONFIG", self.folder.path()).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("docker");
        let _it_may_not_read = child.stdin.take().expect("its input").write_all(input);
        child.wait_with_output().expect("its output")
    }

    fn succeeds(&self, arguments: &[&str], input: &[u8]) {
        let done = self.docker_with(arguments, input);
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Makes an image of Debian's static busybox, which answers with `page`, pushes it as
    /// `{registry}/{app}:{version}`, and forgets it: the next to run it must pull.
    pub fn push_web(&self, registry: &ImageRegistry, app: &str, version: &str, page: &str) {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["bin", "www", "tmp", "etc"] {
            fs::create_dir(root.path().join(folder)).expect("a folder");
        }
        fs::copy("/usr/bin/busybox", root.path().join("bin/busybox")).expect("busybox-static");
        std::os::unix::fs::symlink("busybox", root.path().join("bin/sh")).expect("a link");
        fs::write(root.path().join("www/index.html"), page).expect("a page");
        let tar = Command::new("tar").arg("-C").arg(root.path()).args(["-c", "."]).output().expect("tar");
        let name = format!("{}/{app}:{version}", registry.address());
        let command = r#"CMD ["/bin/sh", "-c", "exec /bin/busybox httpd -f -p $PORT -h /www"]"#;
        self.succeeds(&["import", "--change", command, "--change", "ENV PATH=/bin", "-", &name], &tar.stdout);
        let login = ["login", "--username", USERNAME, "--password-stdin", &registry.address()];
        self.succeeds(&login, PASSWORD.as_bytes());
        self.succeeds(&["push", &name], &[]);
        self.succeeds(&["rmi", &name], &[]);
    }
}

impl Drop for DockerHost {
    fn drop(&mut self) {
        let listed = self.docker(&["ps", "--all", "--quiet"]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for container in listed.split_whitespace() {
            self.docker(&["rm", "--force", "--volumes", container]);
        }
        let _ended = kill_process(self.pid(), Signal::TERM);
        let _ended = self.process.wait();
    }
}

/// A network that one engine's containers are in.
#[derive(Debug)]
struct Bridge {
    name: String,
}

impl Bridge {
    fn create() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        // Other tests' are there too; a name can be taken once.
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            assert!(number < 250, "no name left for a bridge");
            let bridge = Self { name: format!("sluice-t{number}") };
            if ip(&["link", "add", &bridge.name, "type", "bridge"]) {
                let address = format!("172.31.{number}.1/24");
                assert!(ip(&["address", "add", &address, "dev", &bridge.name]), "{address}");
                assert!(ip(&["link", "set", &bridge.name, "up"]), "{}", bridge.name);
                return bridge;
            }
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        ip(&["link", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().is_ok_and(|done| done.status.success())
}

/// A private image registry that ends with this value.
#[derive(Debug)]
pub struct ImageRegistry {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl ImageRegistry {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let users = Command::new("htpasswd").args(["-Bbn", USERNAME, PASSWORD]).output().expect("htpasswd");
        let file = folder.path().join("users");
        fs::write(&file, users.stdout).expect("a file");
        let port = free_port();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n\
             auth: {{htpasswd: {{realm: images, path: {}}}}}\n",
            folder.path().join("data").display(),
            file.display(),
        );
        fs::write(folder.path().join("config.yml"), config).expect("a file");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(folder.path().join("config.yml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("docker-registry");
        let registry = Self { process, port, _folder: folder };
        let up = comes_true(crate::DEADLINE, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        assert!(up, "docker-registry does not listen");
        registry
    }

    /// As images' names have it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for ImageRegistry {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|free| free.local_addr())
        .expect("a free port")
        .port()
}
