//! Fifty gateways' worth of watchers on one ZooKeeper: what they ask of it when they start, when one endpoint changes, when changes never
//! end, and when it is back after a restart.
//!
//! They are handles of the registry in this process, without tables, so that a machine of two cores has room for fifty.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use benches::clock::millis;
use benches::distribution::Distribution;
use discovery::registry::{Registry, State};
use discovery::zookeeper::{Settings as ZooKeeperSettings, ZooKeeper};
use futures::future::try_join_all;
use serde_json::json;
use tests::yields;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::changes::storm;
use super::endpoint::Endpoints;
use super::site::{Site, address_key};
use super::{Goals, Settings};

const GATEWAYS: usize = 50;
/// For fifty whole reads by two cores that serve them, too.
const PATIENCE: Duration = Duration::from_secs(240);
/// One after the other.
const CHANGES: u32 = 20;
const LOOK: Duration = Duration::from_millis(20);
/// What may be under way at the server at a time, of each: what `discovery/zookeeper` promises and a heartbeat.
const UNDER_WAY_GOAL: f64 = 5.0 * GATEWAYS as f64;

struct Fleet {
    watchers: Vec<Arc<dyn Registry>>,
    server: SocketAddr,
}

/// What `srvr` says.
#[derive(Debug, Clone, Copy)]
struct Load {
    received: u64,
    outstanding: u64,
}

impl Load {
    fn of(server: SocketAddr) -> Option<Self> {
        let mut stream = TcpStream::connect(server).ok()?;
        stream.write_all(b"srvr").ok()?;
        let mut told = String::new();
        stream.read_to_string(&mut told).ok()?;
        let number = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Some(Self { received: number("Received:")?, outstanding: number("Outstanding:")? })
    }
}

/// The most that was under way at once while `work` went on.
fn watching<T>(server: SocketAddr, work: impl FnOnce() -> T) -> (T, u64) {
    let (ends, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Relaxed) {
                most.fetch_max(Load::of(server).map_or(0, |load| load.outstanding), Relaxed);
                thread::sleep(LOOK);
            }
        });
        let result = work();
        ends.store(true, Relaxed);
        result
    });
    (result, most.load(Relaxed))
}

impl Fleet {
    fn received(&self) -> u64 {
        yields(PATIENCE, "the server says what it has received", || Load::of(self.server)).received
    }

    /// Until all of them see that.
    async fn all(&self, sees: impl Fn(&State) -> bool + Copy) -> anyhow::Result<()> {
        let waiting =
            self.watchers.iter().map(|watcher| async move { watcher.watch().wait_for(sees).await.map(drop) });
        timeout(PATIENCE, try_join_all(waiting)).await.context("not all of them came to see it")??;
        Ok(())
    }
}

pub fn measure(
    settings: &Settings,
    runtime: &Runtime,
    (mut site, endpoints): (Site, &Endpoints),
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    let server = site.zookeeper().context("it is a ZooKeeper")?.address();
    let mut fleet = Fleet { watchers: Vec::new(), server };
    let shape = settings.shape();
    let entries = (shape.apps + shape.endpoints()) as usize;
    let is_read = |state: &State| state.link.is_connected() && state.entries.len() >= entries;
    starts(runtime, &mut fleet, entries, is_read, goals)?;
    one_by_one(runtime, &fleet, &site, endpoints, goals)?;
    without_pause(settings, runtime, &fleet, (&site, endpoints), goals)?;
    comes_back(runtime, &fleet, &mut site, is_read, goals)
}

fn starts(
    runtime: &Runtime,
    fleet: &mut Fleet,
    entries: usize,
    is_read: impl Fn(&State) -> bool + Copy,
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    let (began, before) = (Instant::now(), fleet.received());
    let inside = runtime.enter();
    fleet.watchers = (0..GATEWAYS)
        .map(|_| {
            ZooKeeper::connect(ZooKeeperSettings::new(vec![fleet.server.to_string()])) as Arc<dyn Registry>
        })
        .collect();
    drop(inside);
    let (done, most) = watching(fleet.server, || runtime.block_on(fleet.all(is_read)));
    done?;
    let requests = (fleet.received() - before) as f64 / GATEWAYS as f64;
    goals.figure("50 watchers: until all have read everything", began.elapsed().as_secs_f64(), "s", None);
    goals.figure(
        "50 watchers: requests of each for it, of its entries",
        requests / entries as f64 * 100.0,
        "%",
        Some(100.0),
    );
    goals.figure(
        "50 watchers: most requests under way at the server meanwhile",
        most as f64,
        "",
        Some(UNDER_WAY_GOAL),
    );
    Ok(())
}

fn one_by_one(
    runtime: &Runtime,
    fleet: &Fleet,
    site: &Site,
    endpoints: &Endpoints,
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    let before = fleet.received();
    let mut took = Vec::new();
    for number in 0..CHANGES {
        let key = address_key(0, "c0");
        let value = format!(r#"{{"address": "{}", "weight": {}}}"#, endpoints.address(0), number + 1);
        let revision = runtime.block_on(site.put(&key, value))?;
        let written = Instant::now();
        runtime.block_on(fleet.all(|state| state.revision >= revision))?;
        took.push(millis(written.elapsed()));
    }
    let requests = (fleet.received() - before) as f64 / f64::from(CHANGES) / GATEWAYS as f64;
    let took = Distribution::from_iter(took);
    goals.figure("50 watchers: until all have seen one change, median", took.median(), "ms", None);
    goals.figure("50 watchers: requests of each for a change", requests, "", Some(3.0));
    Ok(())
}

fn without_pause(
    settings: &Settings,
    runtime: &Runtime,
    fleet: &Fleet,
    (site, endpoints): (&Site, &Endpoints),
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    let (began, before) = (Instant::now(), fleet.received());
    let (written, most) = watching(fleet.server, || {
        storm(settings, runtime, endpoints, |key, value| async move { site.put(&key, value).await })
    });
    let (changes, revision) = written?;
    let last = Instant::now();
    let writing = (last - began).as_secs_f64();
    runtime.block_on(fleet.all(|state| state.revision >= revision))?;
    let requests = (fleet.received() - before) as f64 / f64::from(changes) / GATEWAYS as f64;
    goals.figure("50 watchers: changes a second that were written", f64::from(changes) / writing, "", None);
    goals.figure("50 watchers: from the last of them to all", millis(last.elapsed()), "ms", None);
    goals.figure("50 watchers: requests of each for a change among these", requests, "", Some(1.2));
    goals.figure(
        "50 watchers: most requests under way at the server meanwhile",
        most as f64,
        "",
        Some(UNDER_WAY_GOAL + 64.0),
    );
    Ok(())
}

fn comes_back(
    runtime: &Runtime,
    fleet: &Fleet,
    site: &mut Site,
    is_read: impl Fn(&State) -> bool + Copy,
    goals: &mut Goals<'_>,
) -> anyhow::Result<()> {
    let server = site.zookeeper().context("it is a ZooKeeper")?;
    server.kill();
    runtime.block_on(fleet.all(|state| !state.link.is_connected()))?;
    server.restart();
    let began = Instant::now();
    let (done, most) = watching(fleet.server, || runtime.block_on(fleet.all(is_read)));
    done?;
    goals.figure(
        "50 watchers: from a restart's end until all have read everything again",
        began.elapsed().as_secs_f64(),
        "s",
        None,
    );
    goals.figure(
        "50 watchers: most requests under way at the server meanwhile",
        most as f64,
        "",
        Some(UNDER_WAY_GOAL),
    );
    goals.line("fleet", json!({"watchers": GATEWAYS, "under_way": most}));
    Ok(())
}
