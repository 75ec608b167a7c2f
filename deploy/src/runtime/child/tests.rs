use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Instant;

use super::*;

/// A test that waits for this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn spec(program: &str, arguments: &[&str]) -> ProcessSpec {
    ProcessSpec {
        program: program.into(),
        arguments: arguments.iter().map(OsString::from).collect(),
        environment: Vec::new(),
        output: Output::Discard,
    }
}

fn shell(script: &str) -> ProcessSpec {
    spec("sh", &["-c", script])
}

async fn start(spec: &ProcessSpec) -> Process {
    ChildRuntime::new().unwrap().start(spec).await.unwrap()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "not within {PATIENCE:?}: {what}");
}

/// Neither running nor a zombie.
fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn content(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test]
async fn stopped_process_ends_by_the_first_signal() {
    let mut process = start(&spec("sleep", &["1000"])).await;
    let status = process.stop(PATIENCE).await.unwrap();
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    assert!(is_gone(process.pid()));
    assert_eq!(process.stop(PATIENCE).await.unwrap(), status, "stopping twice");
    assert_eq!(process.wait().await.unwrap(), status);
}

#[tokio::test]
async fn process_that_ignores_the_request_is_killed_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let script = format!("trap '' TERM; echo > {}; while :; do sleep 1000; done", ready.display());
    let mut process = start(&shell(&script)).await;
    eventually("its trap is set", || ready.exists()).await;
    let (asked, grace) = (Instant::now(), Duration::from_millis(100));
    let status = process.stop(grace).await.unwrap();
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
    assert!(asked.elapsed() >= grace);
    assert!(is_gone(process.pid()));
}

#[tokio::test]
async fn children_of_a_process_go_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("child");
    let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; wait; exit 3", file.display());
    let mut process = start(&shell(&script)).await;
    eventually("the child's number", || content(&file).ends_with('\n')).await;
    let child: u32 = content(&file).trim().parse().unwrap();
    process.stop(Duration::from_millis(50)).await.unwrap();
    eventually("the child is gone", || is_gone_or_zombie(child)).await;
}

#[tokio::test]
async fn exit_status_is_told() {
    let mut process = start(&shell("exit 7")).await;
    assert_eq!(process.wait().await.unwrap().code(), Some(7));
    assert!(is_gone(process.pid()));
}

#[tokio::test]
async fn waiting_can_be_given_up_and_taken_up_again() {
    let mut process = start(&spec("sleep", &["1000"])).await;
    assert!(tokio::time::timeout(Duration::from_millis(20), process.wait()).await.is_err());
    assert!(process.stop(PATIENCE).await.unwrap().signal().is_some());
}

#[tokio::test]
async fn dropped_process_is_killed_and_reaped() {
    let process = start(&spec("sleep", &["1000"])).await;
    let pid = process.pid();
    drop(process);
    eventually("it is gone", || is_gone(pid)).await;
}

#[tokio::test]
async fn missing_program_is_named() {
    let runtime = ChildRuntime::new().unwrap();
    let error = runtime.start(&spec("/no/such/program", &["--flag"])).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start `/no/such/program --flag`");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("No such file"), "{cause}");
}

#[tokio::test]
async fn process_sees_only_the_environment_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("environment");
    let mut spec = shell(&format!("env > {}", file.display()));
    spec.environment = vec![("PORT".into(), "25701".into())];
    start(&spec).await.wait().await.unwrap();
    let seen = content(&file);
    let mut names: Vec<_> = seen.lines().filter_map(|line| line.split('=').next()).collect();
    // What the shell sets itself.
    names.retain(|name| !matches!(*name, "PWD" | "SHLVL" | "_" | "OLDPWD"));
    names.sort_unstable();
    assert_eq!(names, ["PATH", "PORT"]);
    assert!(seen.contains("PORT=25701"));
}

#[tokio::test]
async fn process_leads_a_group_of_its_own() {
    let mut process = start(&spec("sleep", &["1000"])).await;
    let group = rustix::process::getpgid(Some(process.pid)).unwrap();
    assert_eq!(group, process.pid);
    process.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn process_outlives_the_runtime_handle_that_started_it() {
    let runtime = ChildRuntime::new().unwrap();
    let mut process = runtime.start(&spec("sleep", &["1000"])).await.unwrap();
    drop(runtime);
    let waited = tokio::time::timeout(Duration::from_millis(100), process.wait()).await;
    assert!(waited.is_err(), "it ended with the handle: {waited:?}");
    process.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn process_dies_with_the_thread_that_started_it() {
    let launcher = Launcher::start().unwrap();
    let mut child = launcher.launch(spec("sleep", &["1000"]).to_command()).await.unwrap();
    drop(launcher);
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
}

#[test]
fn long_command_lines_are_shortened_in_errors() {
    let line = spec("é", &[&"x".repeat(1000)]).to_string();
    assert_eq!(line.chars().count(), MAX_NAME_CHARS + 1);
}

/// An orphan is reaped by whoever adopts it, which may take its time.
fn is_gone_or_zombie(pid: u32) -> bool {
    let stat = content(Path::new(&format!("/proc/{pid}/stat")));
    stat.is_empty() || stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}
