//! What there is of a stage's instances, by whatever can tell: the registry on its disk, the runtime's folders, the kernel's
//! processes and ports. Not by the API, which could believe itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use discovery::embedded::Embedded;
use discovery::registry::Registry;
use serde_json::Value;
use tests::{DEADLINE, yields};

use crate::stage::Stage;

/// What the registry has of an app named `shop`, and of its host.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Instance → phase.
    pub phases: BTreeMap<String, String>,
    /// Instance → address, by its record.
    pub addresses: BTreeMap<String, String>,
    /// The same by what gateways read.
    pub registrations: BTreeMap<String, String>,
    /// Port → instance.
    pub ports: BTreeMap<u16, String>,
    /// Instances in hosts' ledgers.
    pub given: BTreeSet<String>,
}

impl Registered {
    /// Of a stage whose gateway is not running.
    pub fn read(stage: &Stage) -> Self {
        let folder = stage.gateway.folder().join("registry");
        let registry = yields(DEADLINE, "the registry can be opened", || Embedded::open(&folder).ok());
        let state = registry.watch().borrow().clone();
        let mut found = Self::default();
        for (key, entry) in &state.entries {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            let value: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
            let member = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            let segments: Vec<&str> = key.segments().collect();
            match segments[..] {
                ["instance", "shop", instance] => {
                    found.phases.insert(instance.to_owned(), member("phase"));
                    found.addresses.insert(instance.to_owned(), member("address"));
                }
                ["service", "address", "shop", _, instance] => {
                    let address = if value.is_object() { member("address") } else { text };
                    found.registrations.insert(instance.to_owned(), address);
                }
                ["port", _, port] => {
                    let owner = text.trim_start_matches("shop/").to_owned();
                    found.ports.insert(port.parse().expect("a port is a number"), owner);
                }
                ["allocation", _] => {
                    let given = value["given"].as_object().cloned().unwrap_or_default();
                    found.given.extend(given.keys().map(|name| name.trim_start_matches("shop/").to_owned()));
                }
                _ => {}
            }
        }
        found
    }

    /// # Panics
    /// Unless exactly `number` instances serve and nothing else has a port, room or a registration.
    #[track_caller]
    pub fn assert_at_rest(&self, number: usize) {
        assert_eq!(self.phases.len(), number, "{self:?}");
        assert!(self.phases.values().all(|phase| phase == "serving"), "{self:?}");
        assert_eq!(self.addresses, self.registrations, "{self:?}");
        let names: BTreeSet<&String> = self.phases.keys().collect();
        assert_eq!(self.given.iter().collect::<BTreeSet<_>>(), names, "{self:?}");
        let claimed: BTreeMap<String, String> = self
            .ports
            .iter()
            .map(|(port, instance)| (instance.clone(), format!("127.0.0.1:{port}")))
            .collect();
        assert_eq!(claimed, self.addresses, "{self:?}");
    }
}

/// Processes, ports and folders of a stage whose gateway is not running.
#[derive(Debug, PartialEq, Eq)]
pub struct Running {
    /// Whatever was started for an instance and has not ended.
    pub commands: usize,
    /// Whoever looks after one: it holds its lock.
    pub shims: usize,
    pub folders: usize,
    pub listening: BTreeSet<u16>,
}

impl Running {
    pub fn look(stage: &Stage, ports: [u16; 2]) -> Self {
        let state = stage.gateway.folder().join("instances");
        let mark = [b"SLUICE_INSTANCE_DIR=", state.as_os_str().as_bytes()].concat();
        let contains = |path: &Path| {
            let text = fs::read(path.join("environ")).unwrap_or_default();
            text.windows(mark.len()).any(|window| window == mark)
        };
        let holds = |path: &Path| {
            let open = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
            open.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file.starts_with(&state))
        };
        let entries = fs::read_dir("/proc").expect("the kernel has it").flatten().map(|entry| entry.path());
        let processes: Vec<_> = entries.filter(|path| path.join("environ").exists()).collect();
        let listening =
            (ports[0]..=ports[1]).filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err());
        Self {
            commands: processes.iter().filter(|path| contains(path)).count(),
            shims: processes.iter().filter(|path| !contains(path) && holds(path)).count(),
            folders: stage.folders().len(),
            listening: listening.collect(),
        }
    }
}
