//! Network namespaces: hosts with interfaces, addresses and firewalls of their own, on a switch that can
//! be cut. Needs root, or CAP_NET_ADMIN and CAP_SYS_ADMIN, and iproute2.
//!
//! Everything is removed when it is dropped. What a killed test left is removed by the next one.

use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::DEADLINE;
use crate::command::finish;

const PREFIX: &str = "sluice-test-";
/// Where iproute2 keeps namespaces that have a name.
const NAMED: &str = "/run/netns";

/// A network namespace, empty but for a loopback interface that is up.
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// `None` where the kernel or our rights do not allow it, which is said on standard error past the
    /// test runner's capture: a suite that was skipped must not look like one that passed.
    pub fn available() -> bool {
        let attempt = || {
            if rustix::process::geteuid().is_root() {
                ip(&["netns", "list"]).map(|_| ())
            } else {
                Err("it needs root".to_owned())
            }
        };
        let Err(why) = attempt() else { return true };
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        writeln!(std::io::stderr(), "SKIPPED {test}: no network namespaces here: {why}").ok();
        false
    }

    /// # Panics
    /// When it cannot be made: ask [`Self::available`] first.
    #[track_caller]
    pub fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{count}-{role}", std::process::id());
        must(&["netns", "add", &name]);
        let handle = File::open(format!("{NAMED}/{name}")).expect("the namespace was made");
        let namespace = Self { name, handle };
        namespace.ip("link set lo up");
        // An address can be used when it is there.
        namespace.set("ipv6/conf/all/accept_dad", "0");
        namespace.set("ipv6/conf/default/accept_dad", "0");
        namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `task` on a thread inside. Sockets that it opens stay inside wherever they are used.
    ///
    /// # Panics
    /// As `task` does.
    #[track_caller]
    pub fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("we may enter our own namespace");
                task()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A program that is to run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// `ip` with the words of `arguments`, inside; returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split_whitespace());
        must(&all)
    }

    /// A setting under /proc/sys/net.
    ///
    /// # Panics
    /// When there is no such setting.
    #[track_caller]
    pub fn set(&self, setting: &str, value: &str) {
        let path = format!("/proc/sys/net/{setting}");
        self.run(|| fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its interfaces, and the other ends of its cables, go with it.
        ip(&["netns", "del", &self.name]).ok();
    }
}

/// A bridge in a namespace of its own. Hosts are connected by cables that can be pulled or, unnoticed, cut.
pub struct Switch {
    namespace: Namespace,
}

impl Switch {
    /// # Panics
    /// When it cannot be made: ask [`Namespace::available`] first.
    #[track_caller]
    pub fn new() -> Self {
        let namespace = Namespace::new("switch");
        // Forwards at once, and all multicast to everybody.
        namespace.ip("link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0");
        namespace.ip("link set br0 up");
        Self { namespace }
    }

    /// A namespace with an interface `eth0` that has `addresses`, each with its prefix length.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn host(&self, role: &str, addresses: &[&str]) -> Host {
        let namespace = Namespace::new(role);
        // At most 15 bytes, and unique on the switch.
        let port = format!("p{role:.13}");
        must(&[
            "link",
            "add",
            &port,
            "netns",
            &self.namespace.name,
            "type",
            "veth", //
            "peer",
            "name",
            "eth0",
            "netns",
            &namespace.name,
        ]);
        self.namespace.ip(&format!("link set {port} master br0 up"));
        namespace.ip("link set eth0 up");
        for address in addresses {
            let no_detection = if address.contains(':') { "nodad" } else { "" };
            namespace.ip(&format!("address add {address} dev eth0 {no_detection}"));
        }
        Host { namespace, port }
    }

    /// Pulls the cable: both ends lose their carrier.
    pub fn pull(&self, host: &Host) {
        self.namespace.ip(&format!("link set {} down", host.port));
    }

    /// Puts the cable back.
    pub fn plug(&self, host: &Host) {
        self.namespace.ip(&format!("link set {} up", host.port));
    }

    /// Passes nothing to or from the host any more; it does not notice.
    pub fn cut(&self, host: &Host) {
        self.port_state(host, "0");
    }

    /// Passes everything again.
    pub fn mend(&self, host: &Host) {
        self.port_state(host, "3");
    }

    fn port_state(&self, host: &Host, state: &str) {
        let mut command = self.namespace.command("bridge");
        command.args(["link", "set", "dev", &host.port, "state", state]);
        let finished = finish(&mut command, "", DEADLINE);
        assert_eq!(finished.code, Some(0), "{}", finished.text());
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

/// A host on a [`Switch`].
pub struct Host {
    namespace: Namespace,
    port: String,
}

impl Host {
    /// The hardware address of `eth0`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn mac(&self) -> [u8; 6] {
        let shown = self.ip("-o link show dev eth0");
        let text = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        let bytes: Vec<u8> = text
            .unwrap_or_default()
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hexadecimal"))
            .collect();
        bytes.try_into().unwrap_or_else(|_| panic!("no hardware address: {shown}"))
    }

    /// Whether `eth0` has `ip`.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.ip("-o address show dev eth0").contains(&format!(" {ip}/"))
    }
}

impl std::ops::Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// Removes namespaces of test processes that are gone.
fn sweep() {
    for entry in fs::read_dir(NAMED).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true)) {
            ip(&["netns", "del", &name]).ok();
        }
    }
}

#[track_caller]
fn must(arguments: &[&str]) -> String {
    ip(arguments).unwrap_or_else(|error| panic!("ip {}: {error}", arguments.join(" ")))
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    let finished = finish(Command::new("ip").args(arguments), "", DEADLINE);
    if finished.code == Some(0) { Ok(finished.stdout) } else { Err(finished.text().trim().to_owned()) }
}
