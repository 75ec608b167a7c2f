use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;

use super::*;
use crate::runtime::{Fault, InjectedFile, Volume};

#[tokio::test]
async fn instance_serves_on_its_port_until_it_is_stopped() {
    let fixture = Fixture::new();
    let spec = script("c1", "exec python3 -u -m http.server --bind $SLUICE_ADDRESS --directory / $PORT");
    let started = fixture.start(&spec).await;
    assert_eq!(started.state, InstanceState::Running);
    let address = started.address.unwrap();
    assert_eq!(address.port(), spec.port.host_port);
    let mut stream = None;
    eventually("it listens", || {
        stream = TcpStream::connect(address).ok();
        stream.is_some()
    });
    let mut stream = stream.unwrap();
    stream.write_all(b"GET /etc/hostname HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200"));

    let stopped = fixture.runtime.stop(&spec.id, DEADLINE).await.unwrap().unwrap();
    assert_eq!(stopped.state, killed(15));
    assert!(stopped.ended_at.is_some() && stopped.started_at <= stopped.ended_at);
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(fixture.runtime.stop(&spec.id, DEADLINE).await.unwrap(), Some(stopped));

    fixture.runtime.remove(&spec.id).await.unwrap();
    fixture.runtime.remove(&spec.id).await.unwrap();
    assert_eq!(fixture.runtime.inspect(&spec.id).await.unwrap(), None);
    assert_eq!(fixture.runtime.stop(&spec.id, DEADLINE).await.unwrap(), None);
    assert_eq!(fixture.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn second_start_finds_the_first() {
    let fixture = Fixture::new();
    let spec = script("c1", "exec sleep 1000");
    let (first, second) = tokio::join!(fixture.start(&spec), fixture.start(&spec));
    assert_eq!(first, second);
    assert_eq!(fixture.processes(), 1);
    // Its own listener is no stranger's.
    let _listener = TcpListener::bind((spec.port.address, spec.port.host_port)).unwrap();
    assert_eq!(fixture.start(&spec).await, first);
}

#[tokio::test]
async fn ended_instance_is_started_again_only_after_its_removal() {
    let fixture = Fixture::new();
    let spec = script("c1", "exit 3");
    fixture.start(&spec).await;
    let ended = fixture.ended(&spec.id).await;
    assert_eq!((ended.state, ended.reason.as_str()), (exited(3), "ended with code 3"));
    assert_eq!(fixture.start(&spec).await, ended);
    fixture.runtime.remove(&spec.id).await.unwrap();
    let again = InstanceSpec { command: script("c1", "exit 4").command, ..spec };
    fixture.start(&again).await;
    assert_eq!(fixture.ended(&again.id).await.state, exited(4));
}

#[tokio::test]
async fn stop_lets_an_instance_finish_within_its_grace_and_no_longer() {
    let fixture = Fixture::new();
    let polite = script("polite", "trap 'echo done; exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    let deaf = script("deaf", "trap '' TERM; echo ready; while :; do sleep 0.01; done");
    for spec in [&polite, &deaf] {
        fixture.start(spec).await;
        fixture.writes(&spec.id, "ready").await;
    }
    let stopped = fixture.runtime.stop(&polite.id, DEADLINE).await.unwrap().unwrap();
    assert_eq!(stopped.state, exited(7));
    // The shell may add a word on the death of what it ran, before or after.
    let output = fixture.output(&polite.id).await;
    assert!(output.iter().any(|line| line == "done"), "{output:?}");
    let stopped = fixture.runtime.stop(&deaf.id, Duration::from_millis(200)).await.unwrap().unwrap();
    assert_eq!(stopped.state, killed(9));
    assert_eq!(fixture.processes(), 0);
}

#[tokio::test]
async fn nothing_that_an_instance_started_survives_it() {
    for fixture in [Fixture::new(), Fixture::unlimited()] {
        // One that left the group and the session and lost its parent; one that hides its mark as well.
        let hide =
            "setsid sh -c 'sleep 1000 & echo $!' & env -i setsid /bin/sh -c '/bin/sleep 1000 & echo $!' &";
        let spec = script("c1", &format!("{hide} wait; echo ready; exec sleep 1000"));
        fixture.start(&spec).await;
        fixture.writes(&spec.id, "ready").await;
        let pids = fixture.output(&spec.id).await;
        let left: Vec<i32> = pids.iter().filter_map(|pid| pid.parse().ok()).collect();
        assert_eq!(left.len(), 2, "{pids:?}");
        let left: Vec<_> = left.into_iter().map(|pid| strays::Identity::of(pid).unwrap()).collect();
        assert!(left.iter().all(|process| process.open().is_some()));
        fixture.runtime.stop(&spec.id, DEADLINE).await.unwrap();
        for process in left {
            eventually("what was left is dead", || process.open().is_none());
        }
    }
}

#[tokio::test]
async fn start_that_cannot_be_says_why_and_leaves_nothing() {
    let fixture = Fixture::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let plain = script("c1", "exit");
    let command = |command: &[&str]| InstanceSpec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        ..plain.clone()
    };
    let port = |port: PortBinding| InstanceSpec { port, ..plain.clone() };
    let busy = PortBinding { host_port: taken.local_addr().unwrap().port(), ..plain.port };
    let elsewhere = PortBinding { address: Ipv4Addr::new(192, 0, 2, 1).into(), ..plain.port };
    let file = InjectedFile { path: "/../x".into(), content: Bytes::new() };
    let volume = Volume { source: "/srv".into(), target: "/data".into(), read_only: false };
    let log = LogOptions { driver: Some("journald".into()), ..LogOptions::default() };
    let cases = [
        (command(&["no-such-program"]), Fault::CommandNotFound, "there is no program `no-such-program`"),
        (command(&["/etc/passwd"]), Fault::CommandNotFound, "`/etc/passwd` may not be run"),
        (command(&[]), Fault::InvalidSpec, "command:"),
        (port(busy), Fault::PortTaken, "somebody else listens"),
        (port(PortBinding { host_port: 0, ..plain.port }), Fault::InvalidSpec, "port.host_port:"),
        (port(elsewhere), Fault::InvalidSpec, "port.address:"),
        (InstanceSpec { user: Some("nosuchuser".into()), ..plain.clone() }, Fault::InvalidSpec, "user:"),
        (
            InstanceSpec { working_dir: Some("/none".into()), ..plain.clone() },
            Fault::InvalidSpec,
            "working_dir:",
        ),
        (InstanceSpec { files: vec![file], ..plain.clone() }, Fault::InvalidSpec, "files:"),
        (InstanceSpec { volumes: vec![volume], ..plain.clone() }, Fault::InvalidSpec, "volumes:"),
        (InstanceSpec { log, ..plain.clone() }, Fault::Unsupported, "log.driver:"),
    ];
    for (spec, fault, reason) in cases {
        let error = fixture.runtime.start(&spec).await.unwrap_err();
        assert_eq!(error.fault, fault, "{error}");
        assert!(error.to_string().starts_with("cannot start shop/v1/c1 on here: "), "{error}");
        assert!(error.reason.contains(reason) && !error.may_have_happened, "{error}");
        assert_eq!(fixture.runtime.list().await.unwrap(), []);
    }
}

#[tokio::test]
async fn secrets_reach_the_instance_and_not_the_disk() {
    let fixture = Fixture::new();
    let show = "echo $PASSWORD; cat $SLUICE_FILES/etc/app/key; stat -c %a $SLUICE_FILES/etc/app/key; id -u";
    let mut spec = script("c1", &format!("{show}; exec sleep 1000"));
    spec.environment.insert("PASSWORD".into(), "open-sesame".into());
    spec.files = vec![InjectedFile { path: "/etc/app/key".into(), content: Bytes::from("PEM\n") }];
    let is_root = rustix::process::geteuid().is_root();
    spec.user = is_root.then(|| "nobody".to_owned());
    fixture.start(&spec).await;
    eventually("it wrote all", || futures::executor::block_on(fixture.output(&spec.id)).len() == 4);
    let output = fixture.output(&spec.id).await;
    assert_eq!(output[..3], ["open-sesame", "PEM", "600"]);
    assert_eq!(output[3] != "0", is_root);
    let records =
        ["record.json", "shim.json"].map(|name| fixture.runtime.shared.folder(&spec.id).path.join(name));
    for record in records {
        let text = std::fs::read_to_string(&record).unwrap();
        assert!(!text.contains("open-sesame"));
        assert_eq!(std::fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn wait_returns_with_the_state_as_it_is() {
    let fixture = Fixture::new();
    let spec = script("c1", "exec sleep 1000");
    assert_eq!(fixture.runtime.wait(&spec.id, DEADLINE).await.unwrap(), None);
    fixture.start(&spec).await;
    let waited = fixture.runtime.wait(&spec.id, Duration::from_millis(20)).await.unwrap().unwrap();
    assert_eq!(waited.state, InstanceState::Running);
    let facts = fixture.runtime.host_facts().await.unwrap();
    assert!(facts.cpus > 0 && facts.memory_available.unwrap() <= facts.memory && facts.load.is_some());
}
