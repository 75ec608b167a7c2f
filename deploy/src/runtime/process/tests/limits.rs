use super::*;
use crate::runtime::{ExecRequest, Fault};

const MEBIBYTE: u64 = 1 << 20;

/// Whether this machine can limit that; where not, the test has nothing to see and says so.
fn can_limit(fixture: &Fixture, what: &str) -> bool {
    let limitation = fixture.runtime.shared.cgroups.limitations.iter().find(|found| found.starts_with(what));
    if let Some(limitation) = limitation {
        eprintln!("SKIPPED: {limitation}");
    }
    limitation.is_none()
}

#[tokio::test]
async fn instance_that_outgrows_its_memory_is_killed_and_says_so() {
    let fixture = Fixture::new();
    if !can_limit(&fixture, "memory") {
        return;
    }
    let mut spec = script("c1", "exec python3 -c 'x = bytearray(512 << 20)'");
    spec.resources.memory = Some(64 * MEBIBYTE);
    fixture.start(&spec).await;
    let ended = fixture.ended(&spec.id).await;
    assert_eq!(ended.state, InstanceState::OutOfMemory, "{}", ended.reason);
    assert!(ended.reason.contains("memory limit"));
}

#[tokio::test]
async fn instance_has_no_more_processes_than_it_may() {
    let fixture = Fixture::new();
    if !can_limit(&fixture, "pids") {
        return;
    }
    let mut spec = script("c1", "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo all; exec sleep 1000");
    spec.resources.pids = Some(4);
    fixture.start(&spec).await;
    let ended = fixture.ended(&spec.id).await;
    assert_ne!(ended.state, exited(0));
    assert!(!fixture.output(&spec.id).await.contains(&"all".to_owned()));
}

#[tokio::test]
async fn resources_of_a_running_instance_change_and_cannot_shrink_below_use() {
    let fixture = Fixture::new();
    if !can_limit(&fixture, "memory") || !can_limit(&fixture, "cpu") {
        return;
    }
    let mut spec =
        script("c1", "exec python3 -uc 'x = bytearray(64 << 20); print(\"ready\"); input()' </dev/zero");
    spec.resources =
        Resources { memory: Some(256 * MEBIBYTE), cpu_millis: Some(1500), ..Resources::default() };
    fixture.start(&spec).await;
    fixture.writes(&spec.id, "ready").await;
    let cgroup = fixture.runtime.shared.cgroup(&spec.id);
    let limits = || {
        let folders = cgroup.folders();
        let read =
            |name: &str| folders.iter().find_map(|folder| std::fs::read_to_string(folder.join(name)).ok());
        let memory = read("memory.max").or_else(|| read("memory.limit_in_bytes")).unwrap();
        let cpu = read("cpu.max").or_else(|| read("cpu.cfs_quota_us")).unwrap();
        let cpu = cpu.split_whitespace().next().unwrap().parse::<u64>().unwrap();
        (memory.trim().parse::<u64>().unwrap(), cpu)
    };
    assert_eq!(limits(), (256 * MEBIBYTE, 150_000));
    let more = Resources { memory: Some(512 * MEBIBYTE), cpu_millis: Some(250), ..Resources::default() };
    fixture.runtime.update(&spec.id, &more).await.unwrap();
    assert_eq!(limits(), (512 * MEBIBYTE, 25_000));
    let fewer = Resources { memory: Some(16 * MEBIBYTE), ..more };
    let error = fixture.runtime.update(&spec.id, &fewer).await.unwrap_err();
    assert_eq!(error.fault, Fault::OutOfResources, "{error}");
    assert_eq!(fixture.runtime.inspect(&spec.id).await.unwrap().unwrap().state, InstanceState::Running);
    let gone = fixture.runtime.update(&id("c2"), &more).await.unwrap_err();
    assert_eq!(gone.fault, Fault::NoSuchInstance);
}

#[tokio::test]
async fn hooks_live_within_the_instances_limits() {
    let fixture = Fixture::new();
    if !can_limit(&fixture, "pids") {
        return;
    }
    let spec = script("c1", "exec sleep 1000");
    fixture.start(&spec).await;
    let command = ["cat", "/proc/self/cgroup"].map(str::to_owned).to_vec();
    let request = ExecRequest { command, environment: BTreeMap::new(), timeout: DEADLINE };
    let ran = fixture.runtime.exec(&spec.id, &request).await.unwrap();
    let output = String::from_utf8(ran.output.to_vec()).unwrap();
    assert!(output.contains("/sluice/shop-c1-"), "{output}");
}

#[tokio::test]
async fn machine_without_cgroups_runs_instances_and_says_what_it_cannot() {
    let fixture = Fixture::unlimited();
    let limitations = fixture.runtime.host_facts().await.unwrap().limitations;
    for limit in ["memory", "cpu_shares and cpu_millis", "pids"] {
        assert!(
            limitations.iter().any(|text| text.starts_with(&format!("{limit}: no limit"))),
            "{limitations:?}"
        );
    }
    let mut spec = script("c1", "exec sleep 1000");
    spec.resources.memory = Some(MEBIBYTE);
    assert_eq!(fixture.start(&spec).await.state, InstanceState::Running);
    let error = fixture.runtime.update(&spec.id, &spec.resources).await.unwrap_err();
    assert_eq!((error.fault, error.reason.contains("memory")), (Fault::Unsupported, true), "{error}");
}
