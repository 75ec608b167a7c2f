//! A client of the deploy API, and of the admin API beside it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;
use tests::RawClient;

use crate::stage::{PATIENCE, Stage};

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub json: Value,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    pub fn text_of(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }
}

/// Fields are whole lines, without their ends.
#[track_caller]
pub fn ask(address: SocketAddr, method: &str, target: &str, fields: &[&str], body: Option<&Value>) -> Answer {
    let mut client = RawClient::connect(address);
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for field in fields {
        head.push_str(&format!("{field}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    client.send(format!("{head}\r\n{body}"));
    let response = client.receive_for(method);
    let text = response.text();
    Answer { status: response.status, json: serde_json::from_str(&text).unwrap_or_default(), text }
}

/// What the deploy API tells of what happens, from now on.
pub struct Events {
    wire: TcpStream,
    heard: String,
}

impl Events {
    pub fn of(stage: &Stage) -> Self {
        let mut wire = TcpStream::connect(stage.gateway.deploy()).expect("it listens");
        wire.set_read_timeout(Some(PATIENCE)).expect("it is no zero");
        wire.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
        let mut events = Self { wire, heard: String::new() };
        events.until("\r\n\r\n");
        events
    }

    /// All that was heard, once `wanted` is in it.
    #[track_caller]
    pub fn until(&mut self, wanted: &str) -> &str {
        let end = Instant::now() + PATIENCE;
        let mut piece = [0; 4096];
        while !self.heard.contains(wanted) {
            let read = self.wire.read(&mut piece).unwrap_or_default();
            assert!(read > 0 && Instant::now() < end, "no {wanted:?} in {}", self.heard);
            self.heard.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        &self.heard
    }
}
