//! Python's ZooKeeper client in a process of its own: what writes the layout in real life is not ours.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::ZooKeeperServer;
use crate::python::PYTHON;

const SCRIPT: &str = include_str!("kazoo_client.py");

/// A connected client. Dropping it ends its session as a client in good order does.
pub struct Kazoo {
    child: Child,
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

/// What the servers hold at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KazooNode {
    pub value: Vec<u8>,
    /// The session that it ends with; 0 for a persistent node.
    pub owner: i64,
}

/// The name of kazoo's exception and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KazooError(pub String);

/// When the client had its answer: seconds of `CLOCK_MONOTONIC`.
pub type AnsweredAt = f64;

impl Kazoo {
    /// # Panics
    /// When the interpreter or its package is missing, or the server does not answer.
    pub fn connect(server: &ZooKeeperServer, session_timeout: Duration) -> Self {
        Self::start(&[&server.address().to_string(), &session_timeout.as_secs_f64().to_string()])
    }

    /// To whichever of `servers` answers, and with a limit to how long an operation may take: what is not answered by then
    /// may still be done.
    ///
    /// # Panics
    /// As [`Self::connect`].
    pub fn connect_to(servers: &[SocketAddr], session_timeout: Duration, answer_timeout: Duration) -> Self {
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let [session, answer] = [session_timeout, answer_timeout].map(|time| time.as_secs_f64().to_string());
        Self::start(&[&servers.join(","), &session, &answer])
    }

    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(PYTHON)
            .args(["-c", SCRIPT])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("apt install python3-kazoo");
        let requests = child.stdin.take();
        let replies = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut kazoo = Self { child, requests, replies };
        kazoo.reply().expect("kazoo connects");
        kazoo
    }

    /// Makes the nodes above it too.
    ///
    /// # Errors
    /// [`KazooError`], as for the other operations, with what kazoo raised.
    pub fn create(&mut self, path: &str, value: &[u8], ephemeral: bool) -> Result<AnsweredAt, KazooError> {
        let value = text(value);
        self.ask(&json!({"operation": "create", "path": path, "value": value, "ephemeral": ephemeral}))
            .map(|(at, _)| at)
    }

    /// # Errors
    /// [`KazooError`].
    pub fn set(&mut self, path: &str, value: &[u8]) -> Result<AnsweredAt, KazooError> {
        self.ask(&json!({"operation": "set", "path": path, "value": text(value)})).map(|(at, _)| at)
    }

    /// # Errors
    /// [`KazooError`].
    pub fn delete(&mut self, path: &str) -> Result<AnsweredAt, KazooError> {
        self.ask(&json!({"operation": "delete", "path": path})).map(|(at, _)| at)
    }

    /// # Errors
    /// [`KazooError`].
    pub fn get(&mut self, path: &str) -> Result<Option<KazooNode>, KazooError> {
        let (_, result) = self.ask(&json!({"operation": "get", "path": path}))?;
        Ok(result["value"].as_str().map(|value| KazooNode {
            value: bytes(value),
            owner: result["owner"].as_i64().expect("the script sends the owner"),
        }))
    }

    /// Nobody may read or change the node any more.
    ///
    /// # Errors
    /// [`KazooError`].
    pub fn forbid(&mut self, path: &str) -> Result<AnsweredAt, KazooError> {
        self.ask(&json!({"operation": "forbid", "path": path})).map(|(at, _)| at)
    }

    /// As this `name:password` from now on.
    ///
    /// # Errors
    /// [`KazooError`].
    pub fn authenticate(&mut self, credentials: &str) -> Result<AnsweredAt, KazooError> {
        self.ask(&json!({"operation": "authenticate", "value": credentials})).map(|(at, _)| at)
    }

    /// Who may do what with the node, such as `world READ`, sorted.
    ///
    /// # Errors
    /// [`KazooError`].
    ///
    /// # Panics
    /// When the script sends something else.
    pub fn acls(&mut self, path: &str) -> Result<Vec<String>, KazooError> {
        let (_, result) = self.ask(&json!({"operation": "acls", "path": path}))?;
        let lines = result.as_array().expect("the script sends a list").iter();
        let mut acls: Vec<_> =
            lines.map(|line| line.as_str().expect("the script sends text").to_owned()).collect();
        acls.sort();
        Ok(acls)
    }

    /// Every node below `path`, itself left out, with its value.
    ///
    /// # Errors
    /// [`KazooError`].
    ///
    /// # Panics
    /// When the script sends something else.
    pub fn tree(&mut self, path: &str) -> Result<BTreeMap<String, Vec<u8>>, KazooError> {
        let (_, result) = self.ask(&json!({"operation": "tree", "path": path}))?;
        let nodes = result.as_object().expect("the script sends an object").iter();
        let bytes = |value: &Value| bytes(value.as_str().expect("the script sends text"));
        Ok(nodes.map(|(path, value)| (path.clone(), bytes(value))).collect())
    }

    /// Writes `value` to the node so many times, without waiting for one answer before the next write.
    ///
    /// # Errors
    /// [`KazooError`]: not all of them were answered.
    pub fn storm(&mut self, path: &str, value: &[u8], writes: usize) -> Result<AnsweredAt, KazooError> {
        self.ask(&json!({"operation": "storm", "path": path, "value": text(value), "writes": writes}))
            .map(|(at, _)| at)
    }

    /// Ends as a crash does: the servers keep its session until that times out.
    pub fn crash(mut self) {
        // It fails only when it has ended by itself.
        self.child.kill().ok();
    }

    fn ask(&mut self, request: &Value) -> Result<(AnsweredAt, Value), KazooError> {
        let requests = self.requests.as_mut().expect("it is there until the drop");
        writeln!(requests, "{request}").expect("the script reads");
        self.reply()
    }

    fn reply(&mut self) -> Result<(AnsweredAt, Value), KazooError> {
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("the script writes text");
        let mut reply: Value = serde_json::from_str(&line).expect("the script answers with JSON");
        match reply["error"].as_str() {
            Some(error) => Err(KazooError(format!("{error}: {}", reply["message"]))),
            None => Ok((reply["at"].as_f64().expect("the script sends the time"), reply["result"].take())),
        }
    }
}

impl Drop for Kazoo {
    fn drop(&mut self) {
        // The end of its input is its signal to leave.
        drop(self.requests.take());
        if std::thread::panicking() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn text(value: &[u8]) -> String {
    value.iter().map(|byte| char::from(*byte)).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).expect("the script sends bytes")).collect()
}
