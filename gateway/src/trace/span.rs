//! A request's spans in the making: one of the request, one of each attempt.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::message::Version;
use crate::message::trace_context::{Parent, SpanId, TRACEPARENT_BYTES, TraceId};
use crate::reason::Reason;
use crate::table::PooledEndpoint;

/// What a request knows of its trace.
#[derive(Debug)]
pub struct Trace {
    pub id: TraceId,
    /// The caller's span; `None`: the trace begins here.
    pub parent: Option<SpanId>,
    /// Ours.
    pub span: SpanId,
    /// Whether spans are recorded.
    pub is_sampled: bool,
    /// Whether the `tracestate` that came with it goes on.
    pub keeps_state: bool,
    /// The span of the attempt under way: who the endpoint is called by.
    pub attempt: Cell<SpanId>,
    pub attempts: RefCell<SmallVec<[Attempted; 1]>>,
}

impl Trace {
    /// What the endpoint is told.
    pub fn traceparent(&self) -> [u8; TRACEPARENT_BYTES] {
        Parent { trace: self.id, span: self.attempt.get(), is_sampled: self.is_sampled }.write()
    }

    /// The attempt under way is over.
    pub fn note(&self, endpoint: &Arc<PooledEndpoint>, began: Instant, status: u16, failure: Option<Reason>) {
        if self.is_sampled {
            let (span, ended, endpoint) = (self.attempt.get(), Instant::now(), endpoint.clone());
            self.attempts.borrow_mut().push(Attempted { span, endpoint, began, ended, status, failure });
        }
    }
}

/// One endpoint was asked.
#[derive(Debug)]
pub struct Attempted {
    pub span: SpanId,
    pub endpoint: Arc<PooledEndpoint>,
    pub began: Instant,
    pub ended: Instant,
    /// 0: none came.
    pub status: u16,
    pub failure: Option<Reason>,
}

/// All that is told of a request, once it is over.
#[derive(Debug)]
pub struct Finished {
    pub trace: TraceId,
    pub parent: Option<SpanId>,
    pub span: SpanId,
    /// Since 1970.
    pub began: Duration,
    pub took: Duration,
    pub method: Box<[u8]>,
    pub target: Box<[u8]>,
    pub host: Box<[u8]>,
    pub agent: Box<[u8]>,
    pub version: Version,
    pub is_tls: bool,
    pub peer: SocketAddr,
    pub client: IpAddr,
    pub status: u16,
    pub reason: Option<Reason>,
    pub app: Option<Box<str>>,
    /// With the time since the request began, and how long each took.
    pub attempts: Vec<(Attempted, Duration, Duration)>,
}
