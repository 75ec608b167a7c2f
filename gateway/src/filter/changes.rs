//! What filters leave behind.

use std::sync::Arc;
use std::time::Duration;

use topology::filters::{Coding, Respond};

use super::compression::{CompressionMetrics, Plan, Room, Wanted};
use super::{Filters, Page};
use crate::message::{NO_NAMES, Names, RequestEdits, ResponseEdits, ResponseHead};

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
    /// How our answer looks.
    pub page: Option<Page>,
    /// What it is, whatever it looks like otherwise.
    pub fixed: Option<Arc<Respond>>,
    /// Whether one of `always` is Retry-After.
    pub has_retry_after: bool,
    /// How long the request is held up, on purpose.
    pub delay: Option<Duration>,
    /// Whether a copy of it goes elsewhere.
    pub is_mirrored: bool,
    /// How the response's content may be coded for its client.
    pub coding: Option<Coding>,
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
        let Self {
            always: mut lines,
            response,
            status,
            consumer,
            page,
            fixed,
            has_retry_after,
            delay,
            coding,
            ..
        } = self;
        let always = lines.len();
        lines.extend_from_slice(&response);
        Filtered { filters, lines, always, status, consumer, page, fixed, has_retry_after, delay, coding }
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
    pub page: Option<Page>,
    pub fixed: Option<Arc<Respond>>,
    pub has_retry_after: bool,
    pub delay: Option<Duration>,
    coding: Option<Coding>,
}

impl Filtered {
    /// For an endpoint's final response.
    pub fn response_edits(&self) -> ResponseEdits<'_> {
        let strips = self.filters.as_ref().map_or(&NO_NAMES, |filters| &filters.response_strips);
        ResponseEdits { strips, added: &self.lines, recoding: None }
    }

    /// What compression makes of an endpoint's final response; `wanted` is what is known otherwise of the
    /// request.
    pub fn recode(&self, response: &ResponseHead, head: &[u8], wanted: Wanted, room: &Room) -> Option<Plan> {
        let compression = self.filters.as_ref()?.compression()?;
        compression.plan(response, head, Wanted { coding: self.coding, ..wanted }, room)
    }

    pub fn compression_metrics(&self) -> Option<&CompressionMetrics> {
        Some(&self.filters.as_ref()?.compression()?.metrics)
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
