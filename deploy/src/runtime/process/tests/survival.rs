use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

const AS_SLUICE: &str = "TEST_ACTS_AS_SLUICE";

/// No test of its own: a Sluice that starts an instance, and another, and another, until it is killed.
#[test]
fn acts_as_sluice() {
    let Some(state) = std::env::var_os(AS_SLUICE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let sluice = ProcessRuntime::open(config(Path::new(&state))).unwrap();
        println!();
        for number in 0..1000 {
            let spec = script(
                &format!("c{number}"),
                "echo ready; while [ ! -s $SLUICE_FILES/../go ]; do sleep 0.01; done; exit 5",
            );
            println!("starting");
            sluice.start(&spec).await.unwrap();
            println!("started");
        }
    });
}

fn sluice(state: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(again("survival::acts_as_sluice")).env(AS_SLUICE, state).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn read_until(output: &mut impl BufRead, wanted: &str) {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if line.trim() == wanted {
            return;
        }
        line.clear();
    }
    panic!("it never wrote {wanted}");
}

#[tokio::test]
async fn instance_outlives_a_killed_sluice_and_the_next_one_learns_how_it_ended() {
    let mut fixture = Fixture::new();
    let (mut child, mut output) = sluice(fixture.state.path());
    read_until(&mut output, "started");
    child.kill().unwrap();
    child.wait().unwrap();

    fixture.reopen();
    let id = id("c0");
    let found = fixture.runtime.inspect(&id).await.unwrap().unwrap();
    assert_eq!(found.state, InstanceState::Running);
    fixture.writes(&id, "ready").await;
    std::fs::write(fixture.runtime.shared.folder(&id).path.join("go"), "now").unwrap();
    let ended = fixture.ended(&id).await;
    assert_eq!(ended.state, exited(5));
    assert_eq!(ended.runtime_id, found.runtime_id);
}

/// Kills at every point of a start that a clock can hit.
#[tokio::test]
async fn sluice_killed_at_any_point_leaves_nothing_unknown() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut fixture = Fixture::new();
    let mut states = Vec::new();
    for _ in 0..15 {
        let (mut child, mut output) = sluice(fixture.state.path());
        read_until(&mut output, "starting");
        std::thread::sleep(Duration::from_micros(random.u64(..60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        fixture.reopen();
        for found in fixture.runtime.list().await.unwrap() {
            states.push(found.state);
            fixture.runtime.remove(&found.id).await.unwrap();
        }
        assert_eq!(fixture.runtime.list().await.unwrap(), []);
        eventually("no process is left", || fixture.processes() == 0);
    }
    println!("{states:?}");
    assert!(states.contains(&InstanceState::Running));
}

#[tokio::test]
async fn instance_dies_with_its_supervisor_and_is_found_ended() {
    for fixture in [Fixture::new(), Fixture::unlimited()] {
        let spec = script("c1", "setsid sleep 1000 & echo ready; exec sleep 1000");
        fixture.start(&spec).await;
        fixture.writes(&spec.id, "ready").await;
        let shim = fixture.runtime.shared.folder(&spec.id).read_shim().unwrap().unwrap();
        shim.shim.kill();
        let ended = fixture.ended(&spec.id).await;
        assert_eq!(ended.state, InstanceState::Exited { code: None, signal: None });
        assert!(ended.reason.contains("supervisor was killed"), "{}", ended.reason);
        eventually("no process is left", || fixture.processes() == 0);
    }
}

#[tokio::test]
async fn process_of_a_forgotten_instance_is_ended_at_the_next_start() {
    let mut fixture = Fixture::unlimited();
    let folder = fixture.state.path().canonicalize().unwrap().join("shop/v1/gone");
    let mut stray = Command::new("sleep").arg("1000").env(strays::MARK, &folder).spawn().unwrap();
    assert_eq!(fixture.processes(), 1);
    fixture.reopen();
    let status = stray.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[tokio::test]
async fn start_that_was_cut_off_before_anything_ran_can_be_repeated_or_stopped() {
    let fixture = Fixture::new();
    for (name, repeat) in [("c1", true), ("c2", false)] {
        let spec = script(name, "exit 3");
        let folder = fixture.runtime.shared.folder(&spec.id);
        folder.create().unwrap();
        let address = (spec.port.address, spec.port.host_port).into();
        let record =
            super::super::state::Record { address, working_dir: "/".into(), user: None, created_at: 1 };
        folder.write_record(&record).unwrap();
        let found = fixture.runtime.inspect(&spec.id).await.unwrap().unwrap();
        assert_eq!(found.state, InstanceState::Created);
        if repeat {
            fixture.start(&spec).await;
            assert_eq!(fixture.ended(&spec.id).await.state, exited(3));
        } else {
            let stopped = fixture.runtime.stop(&spec.id, DEADLINE).await.unwrap().unwrap();
            assert!(stopped.reason.contains("before it was started"), "{stopped:?}");
        }
    }
}
