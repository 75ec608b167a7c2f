//! Registers of virtual IPs in the registry, whichever that is: `vip/{address}`, one persistent key each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use discovery::registry::{Expect, Key, Lifetime, Registry, RegistryError, State};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vip::lease::{Entries, Entry, Lease, LeaseError};
use vip::register::{Register, Versioned};

/// Where the registers lie.
const FAMILY: &str = "vip/";

/// Compare-and-set is the registry's: ZooKeeper's `setData` with a version (`mzxid`es for versions, which no other write ever
/// has), etcd's transaction on `mod_revision`, one transaction of the embedded registry.
pub struct RegistryLease {
    registry: Arc<dyn Registry>,
    entries: watch::Receiver<Entries>,
    follower: JoinHandle<()>,
}

impl RegistryLease {
    /// Follows the registers of `ips`. Must be called within a tokio runtime.
    pub fn new(registry: Arc<dyn Registry>, ips: Vec<IpAddr>) -> Self {
        let (sender, entries) = watch::channel(Entries::default());
        let follower = tokio::spawn(follow(registry.watch(), ips, sender));
        Self { registry, entries, follower }
    }
}

impl Drop for RegistryLease {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

async fn follow(mut states: watch::Receiver<State>, ips: Vec<IpAddr>, entries: watch::Sender<Entries>) {
    loop {
        let found = registers(&states.borrow_and_update(), &ips);
        entries.send_if_modified(|known| {
            let differs = **known != found;
            if differs {
                *known = Arc::new(found);
            }
            differs
        });
        if states.changed().await.is_err() {
            return;
        }
    }
}

fn registers(state: &State, ips: &[IpAddr]) -> BTreeMap<IpAddr, Entry> {
    let found = ips.iter().filter_map(|ip| {
        let entry = state.entries.get(format!("{FAMILY}{ip}").as_str())?;
        Some((*ip, read(entry)))
    });
    found.collect()
}

fn read(entry: &discovery::registry::Entry) -> Entry {
    let version = entry.version;
    match Register::parse(&entry.value) {
        Ok(register) => Entry::Register(Versioned { version, register }),
        Err(wrong) => Entry::Unreadable { version, why: wrong.to_string() },
    }
}

fn failed(doing: &'static str, ip: IpAddr, error: RegistryError) -> LeaseError {
    let may_have_happened = matches!(error, RegistryError::Failed { may_have_happened: true, .. });
    match error {
        RegistryError::Conflict { .. } => LeaseError::Conflict(ip),
        error => LeaseError::Failed { doing, ip, may_have_happened, source: Box::new(error) },
    }
}

#[async_trait]
impl Lease for RegistryLease {
    async fn read(&self, ip: IpAddr) -> Result<Option<Entry>, LeaseError> {
        let found = async { self.registry.read(&Key::parse(&format!("{FAMILY}{ip}"))?).await };
        Ok(found.await.map_err(|error| failed("read", ip, error))?.as_ref().map(read))
    }

    async fn write(&self, ip: IpAddr, register: &Register, expected: Option<u64>) -> Result<u64, LeaseError> {
        let expect = expected.map_or(Expect::Absent, Expect::Version);
        let value = Bytes::from(register.to_bytes());
        let written = async {
            let key = Key::parse(&format!("{FAMILY}{ip}"))?;
            self.registry.write(&key, value, expect, Lifetime::Persistent).await
        };
        written.await.map_err(|error| failed("write", ip, error))
    }

    fn watch(&self) -> watch::Receiver<Entries> {
        self.entries.clone()
    }
}

#[cfg(test)]
mod tests {
    use discovery::embedded::Embedded;
    use vip::identity::{BootId, GatewayId};

    use super::*;

    fn register(epoch: u64) -> Register {
        Register {
            holder: GatewayId::parse("gw-1").unwrap(),
            boot_id: BootId::from_bytes([1; 16]),
            epoch,
            released: false,
            successor: None,
            grantors: Vec::new(),
        }
    }

    async fn shows(lease: &RegistryLease, ip: IpAddr, wanted: &Entry) {
        let mut entries = lease.watch();
        entries.wait_for(|entries| entries.get(&ip) == Some(wanted)).await.unwrap();
    }

    #[tokio::test]
    async fn registers_change_by_compare_and_set_and_are_watched() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Embedded::open(dir.path()).unwrap();
        let ips = ["10.0.0.200", "2001:db8::200"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let lease = RegistryLease::new(registry, ips.to_vec());
        for ip in ips {
            assert_eq!(lease.read(ip).await.unwrap(), None);
            let version = lease.write(ip, &register(1), None).await.unwrap();
            let entry = Entry::Register(Versioned { version, register: register(1) });
            assert_eq!(lease.read(ip).await.unwrap(), Some(entry.clone()));
            shows(&lease, ip, &entry).await;
            assert!(matches!(lease.write(ip, &register(2), None).await, Err(LeaseError::Conflict(_))));
            let later = lease.write(ip, &register(2), Some(version)).await.unwrap();
            assert!(later > version);
            assert!(matches!(
                lease.write(ip, &register(3), Some(version)).await,
                Err(LeaseError::Conflict(_))
            ));
        }
    }

    #[tokio::test]
    async fn what_is_no_register_is_seen_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Embedded::open(dir.path()).unwrap();
        let ip = "10.0.0.200".parse::<IpAddr>().unwrap();
        let key = Key::parse("vip/10.0.0.200").unwrap();
        let value = Bytes::from_static(b"10.0.0.1");
        let version = registry.write(&key, value, Expect::Any, Lifetime::Persistent).await.unwrap();
        let lease = RegistryLease::new(registry, vec![ip]);
        let found = lease.read(ip).await.unwrap();
        assert!(
            matches!(&found, Some(Entry::Unreadable { version: seen, .. }) if *seen == version),
            "{found:?}"
        );
    }
}
