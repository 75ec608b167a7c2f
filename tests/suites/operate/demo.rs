//! `sluice demo`: the first thing that anybody runs.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::{DEADLINE, RawClient, eventually, finish, sluice, yields};

use crate::folder;

/// A demo takes a port that it saw free, and another demo may be faster.
const MAX_STARTS: usize = 5;

/// A running demo that keeps its temporary files in a folder of ours.
struct Demo {
    child: Child,
    folder: TempDir,
    introduction: String,
}

impl Demo {
    /// Returns when it has said what to try.
    fn start() -> Self {
        for _ in 0..MAX_STARTS {
            let mut demo = Self::launch();
            let is_up = yields(DEADLINE, "the demo says what to try, or ends", || demo.is_up_or_gone());
            if is_up {
                return demo;
            }
            let words = demo.read("stderr");
            assert!(words.contains("in use"), "the demo did not start:\n{words}");
        }
        panic!("no free port in {MAX_STARTS} attempts")
    }

    fn launch() -> Self {
        let folder = folder(&[("temporary/.keep", "")]);
        let output = |name| File::create(folder.path().join(name)).expect("the folder is ours");
        let child = sluice()
            .arg("demo")
            .env("TMPDIR", folder.path().join("temporary"))
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("the binary can be started");
        Self { child, folder, introduction: String::new() }
    }

    fn is_up_or_gone(&mut self) -> Option<bool> {
        if self.child.try_wait().expect("it is our child").is_some() {
            return Some(false);
        }
        self.introduction = self.read("stdout");
        self.introduction.contains("Ctrl-C").then_some(true)
    }

    fn read(&self, output: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(output)).unwrap_or_default()
    }

    /// The commands that it proposes and that begin with `word`.
    fn commands(&self, word: &str) -> Vec<&str> {
        self.introduction.lines().map(str::trim).filter(|line| line.starts_with(word)).collect()
    }

    /// The processes of its instances.
    fn instances(&self) -> Vec<PathBuf> {
        let pids = self.introduction.lines().filter_map(|line| line.split_once("  pid "));
        pids.map(|(_, pid)| Path::new("/proc").join(pid.trim())).collect()
    }

    fn web(&self) -> SocketAddr {
        self.address_in("curl -H 'Host: shop.localhost' http://")
    }

    fn admin(&self) -> SocketAddr {
        self.address_in("curl -s 'http://")
    }

    fn address_in(&self, before: &str) -> SocketAddr {
        let (_, rest) = self.introduction.split_once(before).expect("the introduction has such a line");
        let address = rest.split('/').next().and_then(|address| address.parse().ok());
        address.expect("an address follows")
    }

    fn left_behind(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("temporary")).expect("the folder is ours");
        let paths = entries.map(|entry| entry.expect("the folder is ours").path());
        paths.filter(|path| !path.ends_with(".keep")).collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // In good order, so that it ends its instances; it may have ended already.
        kill_process(Pid::from_child(&self.child), Signal::INT).ok();
        self.child.wait().ok();
    }
}

fn run(command: &str) -> String {
    let done = finish(Command::new("sh").args(["-c", command]), "", DEADLINE);
    assert_eq!(done.code, Some(0), "{command}: {}", done.text());
    done.stdout
}

#[test]
fn every_proposed_curl_line_answers() {
    let demo = Demo::start();
    let lines = demo.commands("curl");
    assert!(lines.len() >= 5, "{}", demo.introduction);
    for line in lines {
        assert!(!run(line).is_empty(), "{line}");
    }
    for (line, app) in demo.commands("curl -H").iter().zip(["shop", "blog"]) {
        assert!(run(line).starts_with(app), "{line}");
    }
}

#[test]
fn the_split_is_visible() {
    let demo = Demo::start();
    let counted = run(demo.commands("for")[0]);
    let counts: Vec<&str> = counted.lines().map(str::trim).collect();
    assert_eq!(counts, ["90 shop v1", "10 shop v2"]);
}

#[test]
fn a_killed_instance_is_noticed_and_fails_no_request() {
    let demo = Demo::start();
    run(demo.commands("kill")[0]);
    let mut client = RawClient::connect(demo.web());
    for _ in 0..200 {
        let response = client.get("shop.localhost", "/");
        assert_eq!(response.status, 200, "{}", response.text());
    }
    eventually(DEADLINE, "the report says that it is down", || {
        let report = RawClient::connect(demo.admin()).get("localhost", "/v1/endpoints?app=shop").text();
        report.contains("\"down\"") && report.contains("refused")
    });
    let metrics = RawClient::connect(demo.admin()).get("localhost", "/metrics").text();
    let down = tests::Metrics::parse(&metrics).sum("sluice_endpoints", &[("app", "shop"), ("state", "down")]);
    assert_eq!(down, Some(1.0), "{metrics}");
}

#[test]
fn an_interrupt_leaves_no_process_and_no_file_behind() {
    let mut demo = Demo::start();
    let instances = demo.instances();
    assert!(instances.len() >= 5 && instances.iter().all(|path| path.exists()), "{}", demo.introduction);
    assert!(!demo.left_behind().is_empty(), "its files are not where this test looks for them");
    kill_process(Pid::from_child(&demo.child), Signal::INT).expect("the demo runs");
    let status = yields(DEADLINE, "the demo ends", || demo.child.try_wait().expect("it is our child"));
    assert_eq!(status.code(), Some(0));
    assert_eq!(instances.iter().filter(|path| path.exists()).count(), 0);
    assert_eq!(demo.left_behind(), Vec::<PathBuf>::new());
}
