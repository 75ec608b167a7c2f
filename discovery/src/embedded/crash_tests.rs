//! A child process writes; we kill it at random moments and look at what it left.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Embedded;
use crate::registry::{Expect, Key, Lifetime, Registry, RegistryError};

const DIRECTORY: &str = "SLUICE_CRASH_TEST_DIRECTORY";
const ROUNDS: u64 = 20;
/// Writers in the child, so that commits hold several changes.
const WRITERS: u64 = 8;
/// Keys that each writer goes round.
const KEYS: u64 = 50;
/// The longest life of a child: starting, opening and some hundreds of commits.
const MAX_LIFE: Duration = Duration::from_millis(150);

/// How long a fork may take to become another program.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the child was told is durable: the version and the value of each key, in the order of versions.
type Acknowledged = BTreeMap<String, (u64, String)>;

#[test]
fn kill_9_at_any_moment_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    println!("seed {seed}");
    let mut random = seed | 1;
    let mut acknowledged = Acknowledged::new();
    let mut total = 0;
    for _ in 0..ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let micros = u64::try_from(MAX_LIFE.as_micros()).unwrap();
        let before = acknowledged.values().map(|(version, _)| *version).max().unwrap_or(0);
        run_and_kill(dir.path(), Duration::from_micros((random >> 33) % micros), &mut acknowledged);
        total += acknowledged.values().filter(|(version, _)| *version > before).count();
        verify(dir.path(), &acknowledged);
    }
    assert!(total > 0, "no child lived long enough to write");
}

fn run_and_kill(dir: &Path, life: Duration, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::crash_tests::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || output.lines().map_while(Result::ok).collect::<Vec<_>>());
    // The length of the child's life is what is tested; nothing is waited for.
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    for line in reader.join().unwrap() {
        // The last line may be torn; one without its end mark was not said.
        let words: Vec<_> = line.split(' ').collect();
        if let ["acknowledged", key, version, value, "."] = words[..] {
            let version = version.parse().unwrap();
            let known = acknowledged.entry(key.to_owned()).or_default();
            if version > known.0 {
                *known = (version, value.to_owned());
            }
        }
    }
}

/// Other tests of this process start children too, and between its fork and its exec each has our lock.
fn open(dir: &Path) -> Arc<Embedded> {
    let began = Instant::now();
    loop {
        match Embedded::open(dir) {
            Err(RegistryError::InUse { .. }) if began.elapsed() < PATIENCE => std::thread::yield_now(),
            opened => return opened.expect("a killed process leaves an openable registry"),
        }
    }
}

fn verify(dir: &Path, acknowledged: &Acknowledged) {
    let registry = open(dir);
    let state = registry.watch().borrow().clone();
    for (key, (version, value)) in acknowledged {
        let entry = state.entries.get(key.as_str()).unwrap_or_else(|| panic!("{key} is lost"));
        // A later write of the same key may have been committed without its acknowledgement being read.
        assert!(entry.version >= *version, "{key} fell back to {} from {version}", entry.version);
        if entry.version == *version {
            assert_eq!(entry.value, value.as_bytes(), "{key}");
        }
        assert!(state.revision >= entry.version);
    }
}

#[test]
#[ignore = "the child of the crash test, which starts it"]
fn child() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let registry = Embedded::open(Path::new(&dir)).unwrap();
        let writers = (0..WRITERS).map(|writer| write_forever(Arc::clone(&registry), writer));
        futures::future::join_all(writers).await;
    });
}

async fn write_forever(registry: Arc<Embedded>, writer: u64) {
    for n in 0_u64.. {
        let key = format!("app/w{writer}-{}", n % KEYS);
        let value = format!("{n}-{}", "x".repeat(usize::try_from(n % 700).unwrap()));
        let parsed = Key::parse(&key).unwrap();
        let version =
            registry.write(&parsed, value.clone().into(), Expect::Any, Lifetime::Persistent).await.unwrap();
        println!("acknowledged {key} {version} {value} .");
    }
}
