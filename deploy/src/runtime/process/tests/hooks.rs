use super::*;
use crate::runtime::{ExecEnd, ExecRequest, Fault};

fn hook(script: &str) -> ExecRequest {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    ExecRequest { command, environment: BTreeMap::from([("EXTRA".into(), "more".into())]), timeout: DEADLINE }
}

#[tokio::test]
async fn hook_sees_what_its_instance_sees() {
    let fixture = Fixture::new();
    let mut spec = script("c1", "exec sleep 1000");
    spec.environment.insert("COLOUR".into(), "blue = sky".into());
    spec.working_dir = Some("/usr".into());
    fixture.start(&spec).await;
    let ran =
        fixture.runtime.exec(&spec.id, &hook("echo $COLOUR $PORT $EXTRA; pwd; echo no >&2; exit 5")).await;
    let ran = ran.unwrap();
    assert_eq!((ran.end, ran.truncated), (ExecEnd::Exited(5), false));
    let output = String::from_utf8(ran.output.to_vec()).unwrap();
    for line in [format!("blue = sky {} more\n", spec.port.host_port), "/usr\n".into(), "no\n".into()] {
        assert!(output.contains(&line), "{output}");
    }
}

#[tokio::test]
async fn hook_is_bounded_in_time_and_output() {
    let fixture = Fixture::new();
    let spec = script("c1", "exec sleep 1000");
    fixture.start(&spec).await;
    let slow =
        ExecRequest { timeout: Duration::from_millis(200), ..hook("echo begun; sleep 1000 & sleep 1000") };
    let ran = fixture.runtime.exec(&spec.id, &slow).await.unwrap();
    assert_eq!((ran.end, &ran.output[..]), (ExecEnd::TimedOut, &b"begun\n"[..]));
    eventually("its processes are dead", || fixture.processes() == 1);
    let ran = fixture.runtime.exec(&spec.id, &hook("yes | head -c 1000000")).await.unwrap();
    assert_eq!((ran.end, ran.output.len(), ran.truncated), (ExecEnd::Exited(0), 64 << 10, true));
    // What holds the output open is not waited for.
    let ran = fixture.runtime.exec(&spec.id, &hook("sleep 1000 & echo ok")).await.unwrap();
    assert_eq!((ran.end, &ran.output[..]), (ExecEnd::Exited(0), &b"ok\n"[..]));
    let ran = fixture.runtime.exec(&spec.id, &hook("kill -9 $$")).await.unwrap();
    assert_eq!(ran.end, ExecEnd::Signalled(9));
}

#[tokio::test]
async fn hook_that_cannot_run_says_why() {
    let fixture = Fixture::new();
    let spec = script("c1", "exit 0");
    let none = fixture.runtime.exec(&spec.id, &hook("true")).await.unwrap_err();
    assert_eq!(none.fault, Fault::NoSuchInstance);
    fixture.start(&spec).await;
    fixture.ended(&spec.id).await;
    let ended = fixture.runtime.exec(&spec.id, &hook("true")).await.unwrap_err();
    assert_eq!(ended.fault, Fault::NotRunning);
    let running = script("c2", "exec sleep 1000");
    fixture.start(&running).await;
    let lacking = ExecRequest { command: vec!["no-such-hook".into()], ..hook("") };
    let error = fixture.runtime.exec(&running.id, &lacking).await.unwrap_err();
    assert_eq!(
        (error.fault, error.reason.contains("`no-such-hook`")),
        (Fault::CommandNotFound, true),
        "{error}"
    );
}
