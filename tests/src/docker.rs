//! Docker Engines and an image registry, each a real process of the test: `dockerd` with folders, a
//! socket and a bridge of its own, and Debian's `docker-registry` behind a password.
//!
//! Engines do not touch the packet filter: published ports are carried by their proxy. They need root.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
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
    arguments: Vec<OsString>,
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
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        add(&["--data-root", &inside("data"), "--exec-root", &inside("exec")]);
        add(&["--pidfile", &inside("pid"), "--host", &format!("unix://{}", inside("sock"))]);
        add(&["--bridge", &bridge.name, "--iptables=false", "--ip6tables=false"]);
        // Not the machine's own settings.
        fs::write(folder.path().join("dockerd.json"), "{}").expect("a file");
        add(&["--ip-forward=false", "--ip-masq=false", "--config-file", &inside("dockerd.json")]);
        let tcp = tls.map(|tls| {
            let port = free_port();
            add(&["--host", &format!("tcp://127.0.0.1:{port}"), "--tlsverify"]);
            let files = [&tls.authority, &tls.certificate, &tls.key];
            for (name, file) in ["--tlscacert", "--tlscert", "--tlskey"].into_iter().zip(files) {
                add(&[name, &file.display().to_string()]);
            }
            port
        });
        let process = spawn(&arguments, folder.path());
        let host = Self { process, arguments, folder, _bridge: bridge, tcp };
        host.await_answer();
        host
    }

    fn await_answer(&self) {
        let up = comes_true(crate::DEADLINE, || self.docker(&["version"]).status.success());
        assert!(up, "{}", fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
    }

    /// As a crash of the engine, or of its machine: nobody answers any more, and no published port leads anywhere.
    pub fn kill(&mut self) {
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }

    /// After [`Self::kill`]: finds what it had.
    pub fn revive(&mut self) {
        self.process = spawn(&self.arguments, self.folder.path());
        self.await_answer();
    }

    /// Takes and keeps connections, and answers nothing, until [`Self::thaw`].
    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).expect("it runs");
    }

    pub fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it is there");
    }

    /// The file in which `docker login` has kept how to log in.
    pub fn logins(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    /// Names of all containers, also of those that have ended.
    pub fn containers(&self) -> Vec<String> {
        let listed = self.docker(&["ps", "--all", "--format", "{{.Names}}"]);
        String::from_utf8_lossy(&listed.stdout).split_whitespace().map(str::to_owned).collect()
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
        for name in ["index.html", "_ping", "load"] {
            fs::write(root.path().join("www").join(name), page).expect("a page");
        }
        let tar = Command::new("tar").arg("-C").arg(root.path()).args(["-c", "."]).output().expect("tar");
        let name = format!("{}/{app}:{version}", registry.address());
        let command = r#"CMD ["/bin/sh", "-c", "echo serving $SLUICE_VERSION; exec /bin/busybox httpd -f -p $PORT -h /www"]"#;
        self.succeeds(&["import", "--change", command, "--change", "ENV PATH=/bin", "-", &name], &tar.stdout);
        let login = ["login", "--username", USERNAME, "--password-stdin", &registry.address()];
        self.succeeds(&login, PASSWORD.as_bytes());
        self.succeeds(&["push", &name], &[]);
        self.succeeds(&["rmi", &name], &[]);
    }
}

impl Drop for DockerHost {
    fn drop(&mut self) {
        // One that was stopped or killed by a test that failed has containers still.
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            self.process = spawn(&self.arguments, self.folder.path());
            comes_true(crate::DEADLINE, || self.docker(&["version"]).status.success());
        } else {
            let _runs = kill_process(self.pid(), Signal::CONT);
        }
        for container in self.containers() {
            self.docker(&["rm", "--force", "--volumes", &container]);
        }
        let _ended = kill_process(self.pid(), Signal::TERM);
        let _ended = self.process.wait();
    }
}

fn spawn(arguments: &[OsString], folder: &Path) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a file");
    let mut command = Command::new("dockerd");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("dockerd")
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
