//! What filters leave behind.

use std::sync::Arc;

use super::Filters;
use crate::message::{NO_NAMES, Names, RequestEdits, ResponseEdits};

/// Of one request, while its chain runs.
#[derive(Debug, Default)]
pub struct Changes {
    /// Field lines for the endpoint.
    pub request: Vec<u8>,
    /// Path and query that the endpoint is asked for.
    pub target: Option<Box<[u8]>>,
    /// Sent as Host.
    pub host: Option<Arc<str>>,
    /// Field lines for whatever response the client gets, our own answers included.
    pub always: Vec<u8>,
    /// Field lines for the endpoint's response only.
    pub response: Vec<u8>,
    /// Whom a filter found the client to be.
    pub consumer: Option<Arc<str>>,
    /// What our answer says where a filter refuses, if that is not the reason's own.
    pub status: Option<u16>,
}

impl Changes {
    /// What they are for the request, with the names that the app's filters strip.
    pub fn request_edits<'a>(&'a self, strips: &'a Names) -> RequestEdits<'a> {
        RequestEdits {
            strips,
            added: &self.request,
            target: self.target.as_deref(),
            host: self.host.as_deref().map(str::as_bytes),
        }
    }

    /// What is left for the response.
    pub fn into_filtered(self, filters: Option<Arc<Filters>>) -> Filtered {
        let Self { always: mut lines, response, status, consumer, .. } = self;
        let always = lines.len();
        lines.extend_from_slice(&response);
        Filtered { filters, lines, always, status, consumer }
    }
}

/// What a request's response gains, and loses.
#[derive(Debug)]
pub struct Filtered {
    /// `None`: only the gateway's own limits had a say.
    filters: Option<Arc<Filters>>,
    lines: Vec<u8>,
    always: usize,
    status: Option<u16>,
    consumer: Option<Arc<str>>,
}

impl Filtered {
    /// For an endpoint's final response.
    pub fn response_edits(&self) -> ResponseEdits<'_> {
        let strips = self.filters.as_ref().map_or(&NO_NAMES, |filters| &filters.response_strips);
        ResponseEdits { strips, added: &self.lines }
    }

    /// Whom a filter found the client to be.
    pub fn consumer(&self) -> Option<&str> {
        self.consumer.as_deref()
    }

    /// Whether there are fields that no client may send.
    pub fn strips_requests(&self) -> bool {
        self.filters.as_ref().is_some_and(|filters| !filters.request_strips.is_empty())
    }

    /// For an answer of our own.
    pub fn answer_lines(&self) -> &[u8] {
        &self.lines[..self.always]
    }

    /// Of an answer of our own, where a filter chose another than its reason's.
    pub fn status(&self) -> Option<u16> {
        self.status
    }
}
