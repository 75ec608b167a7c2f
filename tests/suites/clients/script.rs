//! Servers and clients in Python.

use std::net::SocketAddr;

use serde_json::Value;
use tests::{DEADLINE, Program, eventually, python};

use crate::front::run;

/// A server that says where it listens, and then what it sees.
pub struct ScriptServer {
    pub program: Program,
    pub address: SocketAddr,
}

impl ScriptServer {
    #[track_caller]
    pub fn start(script: &str, arguments: &[&str]) -> Self {
        let mut program = Program::start(python(&path(script)).args(arguments));
        let port = program.wait_for_line("the server listens", |line| {
            line.strip_prefix("listening ").and_then(|port| port.parse::<u16>().ok())
        });
        Self { program, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Waits until the server has reported something that `is_it`.
    #[track_caller]
    pub fn wait_for_event(&self, what: &str, is_it: impl Fn(&Value) -> bool) {
        eventually(DEADLINE, what, || {
            let lines = self.program.lines();
            lines.iter().filter_map(|line| serde_json::from_str(line).ok()).any(|event| is_it(&event))
        });
    }
}

/// Runs a client to its end. What it saw is one value of JSON.
#[track_caller]
pub fn client(script: &str, arguments: &[String]) -> Value {
    let report = run(python(&path(script)).args(arguments), "");
    match serde_json::from_str(&report.stdout) {
        Ok(value) => value,
        Err(error) => panic!("{script} {arguments:?}: {error}: {}", report.text()),
    }
}

pub fn path(script: &str) -> String {
    format!("clients/python/{script}")
}
