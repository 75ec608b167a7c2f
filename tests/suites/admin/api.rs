//! A client of the admin API.

use std::net::SocketAddr;

use serde_json::Value;
use tests::{Gateway, RawClient};

/// A client, with what it always sends.
pub struct Api {
    address: SocketAddr,
    fields: Vec<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub etag: Option<String>,
    pub kind: Option<String>,
    pub json: Value,
    pub text: String,
}

impl Api {
    pub fn of(gateway: &Gateway) -> Self {
        Self { address: gateway.admin(), fields: Vec::new() }
    }

    /// As somebody who shows a token.
    pub fn with_token(gateway: &Gateway, token: &str) -> Self {
        Self { address: gateway.admin(), fields: vec![format!("Authorization: Bearer {token}")] }
    }

    #[track_caller]
    pub fn send(&self, method: &str, target: &str, fields: &[&str], body: Option<&Value>) -> Answer {
        let mut client = RawClient::connect(self.address);
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for field in self.fields.iter().map(String::as_str).chain(fields.iter().copied()) {
            head.push_str(&format!("{field}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        client.send(format!("{head}\r\n{body}"));
        let response = client.receive_for(method);
        let text = response.text();
        Answer {
            status: response.status,
            etag: response.fields.get("etag").map(str::to_owned),
            kind: response.fields.get("content-type").map(str::to_owned),
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], None)
    }

    #[track_caller]
    pub fn put(&self, target: &str, body: &Value) -> Answer {
        self.send("PUT", target, &[], Some(body))
    }

    #[track_caller]
    pub fn post(&self, target: &str, body: &Value) -> Answer {
        self.send("POST", target, &[], Some(body))
    }

    #[track_caller]
    pub fn delete(&self, target: &str) -> Answer {
        self.send("DELETE", target, &[], None)
    }
}

impl Answer {
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        if status >= 400 {
            assert_eq!(self.kind.as_deref(), Some("application/problem+json"), "{}", self.text);
            assert_eq!(self.json["status"], status);
        }
        self
    }

    /// The mistakes, as entry and field.
    pub fn mistakes(&self) -> Vec<(&str, &str)> {
        let told = self.json["mistakes"].as_array().into_iter().flatten();
        told.map(|one| (one["entry"].as_str().unwrap_or(""), one["field"].as_str().unwrap_or(""))).collect()
    }
}
